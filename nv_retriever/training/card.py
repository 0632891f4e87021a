"""The model card: what the checkpoint is, and the whole recipe that made it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml


def is_hub_name(model: str) -> bool:
    """Return whether a model is named as on the hub (ORG/NAME), and is no folder here: hubs refuse other base models."""
    return re.fullmatch(r"\w[\w.-]*/[\w.-]+", model) is not None and not Path(model).is_dir()


def model_card(title: str, base: str, facts: dict[str, Any], recipe: dict[str, Any]) -> str:
    """Return a README.md with the front matter that model hubs read, the facts as a table, and the recipe as JSON."""
    head = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "retrieval", "nv-retriever"],
    }
    if base == "minilm":
        head["base_model"] = "sentence-transformers/all-MiniLM-L6-v2"
    elif is_hub_name(base):
        head["base_model"] = base
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""---
{yaml.safe_dump(head, sort_keys=False).strip()}
---

# {title}

A retriever trained by NV-Retriever on mined hard negatives.

| | |
|---|---|
{rows}

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("THIS FOLDER")
scores = model.similarity(model.encode_query(["a question"]), model.encode_document(["a passage"]))
```

## Recipe

```json
{json.dumps(recipe, indent=1, ensure_ascii=False)}
```
"""
