"""Blended training in stages, as NV-Retriever-v1's (arXiv 2407.15831): which data sets, which instructions, which stages.

The recipe itself, with the paper's data sets and their hub names, is deployments/configs/nv-retriever-v1.yaml.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from nv_retriever.config import Frozen
from nv_retriever.training.config import TrainingConfig

Task = Literal["retrieval", "classification", "clustering", "similarity"]


class BlendSource(Frozen):
    """One of the data sets that a blend is made of."""

    name: str
    """Name in tables."""
    source: str
    """For retrieval what `dataset.source` takes; for the other tasks a .jsonl, .csv, .tsv or .parquet file, or
    `hf:ORG/NAME[:CONFIG]`."""
    task: Task = "retrieval"
    """How it becomes samples: mined, or drawn from its labels."""
    samples: int | None = Field(default=None, ge=1)
    """At most so many samples, chosen by their hashes (the paper's count)."""
    instruction: str = "Given a question, retrieve passages that answer the question"
    """Put before every query as `{instruction}: {query}`."""
    columns: dict[str, str] = {}  # noqa: RUF012  (pydantic copies it)
    """The column of each role: query, positive, …; text, label of classes and clusters; first, second, score of pairs.
    `title+abstract` joins two columns."""

    @property
    def query_prompt(self) -> str:
        """What stands before a query."""
        return f"{self.instruction}: "


class BlendStage(Frozen):
    """One stage: which tasks, how many mined negatives, and how it is trained."""

    name: str
    """Name in tables."""
    tasks: tuple[Task, ...] = Field(default=("retrieval",), min_length=1)
    """Tasks whose sources take part."""
    selection: str = "top(4)"
    """The negatives of a sample; as many are drawn for samples from labels."""
    training: TrainingConfig = TrainingConfig()
    """How; the stage starts from the weights of the one before, with its adapters merged."""

    @field_validator("selection")
    @classmethod
    def _canonical_selection(cls, text: str) -> str:
        from nv_retriever.mining.selection import parse_selection

        return parse_selection(text).name


class BlendConfig(Frozen):
    """Several data sets, and the stages that train one student on them, one after the other."""

    name: str = "blend"
    """Of the registered model."""
    sources: tuple[BlendSource, ...] = Field(min_length=1)
    """The data sets; every batch is of one of them."""
    stages: tuple[BlendStage, ...] = Field(min_length=1)
    """The trainings."""

    @model_validator(mode="after")
    def _names_and_tasks(self) -> Self:
        for what, names in (("sources", [s.name for s in self.sources]), ("stages", [s.name for s in self.stages])):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"{what} need different names; {twice[0]!r} is there twice")
        for stage in self.stages:
            if not self.of(stage):
                raise ValueError(f"the stage {stage.name!r} has no source of its tasks ({', '.join(stage.tasks)})")
            self._check_labelled(stage)
        unused = {source.task for source in self.sources} - {task for stage in self.stages for task in stage.tasks}
        if unused:
            raise ValueError(f"no stage takes the sources of the task {min(unused)!r}")
        return self

    def _check_labelled(self, stage: BlendStage) -> None:
        """Raise ValueError where sources from labels, without in-batch negatives and scores, would learn nothing."""
        tasks, training = {source.task for source in self.of(stage)}, stage.training
        if labelled := sorted(tasks - {"retrieval"}):
            taken = f"the stage {stage.name!r} takes sources of the task {labelled[0]!r}, which learn from"
            if training.negatives == 0:
                raise ValueError(f"{taken} their own negatives only, but negatives is 0")
            if training.distillation:
                raise ValueError(f"{taken} labels, which have no teacher scores for distillation")
        if training.guide and "retrieval" not in tasks:
            raise ValueError(f"guide masks in-batch negatives, which the sources of the stage {stage.name!r} have not")
        if training.early_stopping and "retrieval" not in tasks:
            raise ValueError(f"early_stopping measures a retrieval source, but the stage {stage.name!r} has none")

    def of(self, stage: BlendStage) -> tuple[BlendSource, ...]:
        """Return the sources of a stage."""
        return tuple(source for source in self.sources if source.task in stage.tasks)
