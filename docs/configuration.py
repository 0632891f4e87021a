"""Make docs/configuration.md: every setting, its default and what it means, as the configuration models say it.

python docs/configuration.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.reads import EXCEPT, READS
from nv_retriever.plan.ablation import AblationConfig
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.report.html import Page
from nv_retriever.report.table import Table
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.training.config import TrainingConfig

ELSEWHERE = {"audit": ("rule", "selection", "seed"), "teachers.N.bm25": ("version",)}
"""Fields that a run refuses: other settings say them."""
INTRODUCTION = """\
Made from the code by `python docs/configuration.py`. A setting is a key of a YAML file (`--config FILE.yaml`), a path for
`--set`, and a field of Prefect's form; a named option (`--method`) is short for one. `--set` wins over named options, these
over the file, the file over the defaults. An unknown key is an error that lists the valid ones.

    # my.yaml: nvr run --config my.yaml --set mining.selection='sample(4, of=10)' --set teachers.0.encoder.pooling=cls
    dataset: {source: my/beir/folder}
    teachers: [{name: intfloat/e5-base-v2}, {name: bm25}]
    mining: {rule: topk-percpos(0.95), ensemble: intra-sample-dedup}
    training: {epochs: 2, early_stopping: {patience: 5}}

In `--set` a number is a place in a list, from 0. `{}` turns on a group that is off by default, with its own defaults; `null`
turns it off, or unsets a value. A file with `extends: OTHER.yaml` is laid over another one."""

SENT = ", the first that is set; it is sent to the URL that the configuration names."

ENVIRONMENT = Table(
    ("variable", "default", "what it does"),
    (
        ("`NVR_HOME`", "`.nvr`", "Where artifacts and databases are; `--home` wins."),
        ("`NVR_CACHE`", "`~/.cache/nv-retriever`", "Where a home that is a URL is worked on ([shared homes](scale.md))."),
        ("`MLFLOW_TRACKING_URI`", "`mlflow.db` in the home", "The tracking server."),
        ("`PREFECT_API_URL`", "a server that the command starts and ends", "The Prefect server."),
        ("`NVR_ENDPOINT_KEY`, `OPENAI_API_KEY`", "–", f"The key of `endpoint:` teachers{SENT}"),
        ("`NVR_ENDPOINT_BATCH`", "64", "Texts in a request to an endpoint."),
        ("`NVR_ENDPOINT_CONCURRENCY`", "4", "Requests to an endpoint at the same time."),
        ("`NVR_ENDPOINT_REQUESTS_PER_MINUTE`", "3000", "At most so many requests to an endpoint."),
        ("`NVR_JUDGE_API_KEY`, `OPENAI_API_KEY`", "–", f"The key of a `chat:` judge{SENT}"),
    ),
)


def page() -> Page:
    """Return the page."""
    made = Page("Settings").add_text(INTRODUCTION)
    single = [(name, field) for name, field in PipelineConfig.model_fields.items() if group_of(field) is None]
    made.add_heading("Beside the groups").add_table(table(single))
    for name, field in PipelineConfig.model_fields.items():
        if (group := group_of(field)) is not None:
            add_group(made, name, field, group)
    made.add_heading("encoder").add_text(
        "`teachers.N.encoder` and `student.encoder`. Unset means: as the model's own files say, or its model card for "
        "families that are known here (E5, BGE, …). A teacher's `model` is its `name`."
    )
    made.add_table(table(EncoderConfig.model_fields.items()))
    of_study = [(name, field) for name, field in AblationConfig.model_fields.items() if name != "pipeline"]
    made.add_heading("ablation").add_text("Read by `nvr ablate` only, from a file.").add_table(table(of_study))
    made.add_heading("Environment").add_table(ENVIRONMENT)
    return made


def add_group(made: Page, path: str, field: FieldInfo, group: type[BaseModel], level: int = 2) -> None:
    """Add a group of settings to the page, and those within it."""
    listed = get_origin(field.annotation) is tuple
    made.add_heading(f"{path}.N" if listed else path, level)
    off = " Off by default." if field.default is None else ""
    made.add_text(f"{sentence(field)}{off}{read_by(path) if level == 2 else ''}")
    path = f"{path}.N" if listed else path
    fields = {name: one for name, one in group.model_fields.items() if name not in ELSEWHERE.get(path, ())}
    inner = {name: of for name, one in fields.items() if (of := group_of(one)) is not None}
    made.add_table(table((name, one) for name, one in fields.items() if name not in inner))
    for name, of in inner.items():
        if of is TrainingConfig:
            made.add_text(f"`{path}.{name}` is a group like `training`. {sentence(fields[name])}")
        elif of is not EncoderConfig:
            add_group(made, f"{path}.{name}", fields[name], of, 3)


def table(fields: Any) -> Table:
    """Return settings as a table."""
    return Table(
        ("setting", "default", "what it does"), [(f"`{n}`", default(f), sentence(f) + choices(f)) for n, f in fields]
    )


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of the settings below a field, if it is a group."""
    return next((one for one in types_in(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None)


def types_in(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and all that it is made of."""
    yield annotation
    for one in get_args(annotation):
        yield from types_in(one)


def default(field: FieldInfo) -> str:
    """Return the default of a setting as YAML spells it."""
    value = field.get_default(call_default_factory=True)
    if field.is_required():
        return "needed"
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def choices(field: FieldInfo) -> str:
    """Return the words that a setting takes, where it takes no others."""
    words = [word for one in types_in(field.annotation) if get_origin(one) is Literal for word in get_args(one)]
    return f" ({' · '.join(f'`{word}`' for word in words)})" if len(words) > 1 else ""


def sentence(field: FieldInfo) -> str:
    """Return the docstring of a setting on one line."""
    return " ".join((field.description or "").split())


def read_by(group: str) -> str:
    """Return which commands read a group of settings."""
    found = []
    for command, paths in READS.items():
        whole = group in paths and not any(one.startswith(f"{group}.") for one in EXCEPT.get(command, ()))
        if any(path.split(".")[0] == group for path in paths):
            found.append(f"`{command}`" + ("" if whole else " (in part)"))
    return " Read by all commands." if found == [f"`{command}`" for command in READS] else f" Read by {', '.join(found)}."


if __name__ == "__main__":
    page().write_markdown(Path(__file__).with_suffix(".md"))
