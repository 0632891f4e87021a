"""Settings and fixtures that all tests share."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

for _name, _value in {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_name, _value)


ANIMALS = ("otter", "heron", "badger", "lynx", "salmon", "falcon", "beetle", "hare", "viper", "newt")
FACTS = {
    "food": ("What does the {} eat?", "Its diet: the {} hunts at dusk and eats small prey, roots and berries."),
    "home": ("Where does the {} live?", "Habitat: the {} makes its home near rivers, in woods or under stones."),
    "young": ("How many young does the {} have?", "Reproduction: the {} raises two to five young every spring."),
    "voice": ("What does the {} sound like?", "Voice: the {} calls in short notes that carry over water."),
}


def write_small_beir(folder: Path) -> Path:
    """Write 40 documents, 20 train, 10 dev and 10 test queries in BEIR layout."""
    (folder / "qrels").mkdir(parents=True)
    corpus, queries, labels = [], [], {"train": [], "dev": [], "test": []}
    for number, (animal, (fact, (query, text))) in enumerate(itertools.product(ANIMALS, FACTS.items())):
        name = f"{animal}-{fact}"
        corpus.append({"_id": name, "title": animal.title(), "text": text.format(animal)})
        queries.append({"_id": f"q-{name}", "text": query.format(animal)})
        labels[("train", "dev", "train", "test")[number % 4]].append((f"q-{name}", name))
    for file, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, pairs in labels.items():
        lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{document}\t1" for query, document in pairs)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def write_beir() -> Callable[[Path], Path]:
    """The writer of the small data set."""
    return write_small_beir


@pytest.fixture
def small_beir(tmp_path: Path) -> Path:
    """A small data set in BEIR layout, written by this test's own hands so that it may be changed."""
    return write_small_beir(tmp_path / "animals")
