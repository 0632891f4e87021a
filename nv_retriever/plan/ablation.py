"""The paper's ablation as a plan: methods × teachers × seeds, every cell a training and its evaluations."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from nv_retriever.config import MOST_SEED, Frozen
from nv_retriever.data.config import DatasetConfig
from nv_retriever.errors import InputError
from nv_retriever.mining.config import MiningConfig
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.specifications import audit_spec, dataset_spec, evaluation_spec, student_spec
from nv_retriever.plan.stages import AuditSpec, CheckpointSpec, EvaluationSpec
from nv_retriever.plan.trained_specifications import checkpoint_spec
from nv_retriever.teachers.config import TeacherConfig, choosing

logger = logging.getLogger(__name__)

RANDOM = "random"
"""Negatives drawn from the whole corpus: a rule that keeps nothing, filled up at random."""
NOTHING = "topk-marginpos(1000000)"
"""That rule: scores of no kind lie so far below a positive's."""
ORACLE = "oracle"
"""The upper bound: `topk` by a miner that also knows the labels that `dataset.known_positives` hides."""
SINGLE = "single"
"""The pipeline's own first teacher alone: what an ensemble has to beat."""
PAPER_METHODS = (RANDOM, "topk", "topk-shift(10)", "topk-abs(0.7)", "topk-marginpos(0.05)", "topk-percpos(0.95)")
PAPER_SAMPLING = ("top(4)", "sample(4, of=10)", "top1+sample(4, of=10)")


class AblationConfig(Frozen):
    """Which questions of the paper are asked, of which data."""

    pipeline: PipelineConfig = PipelineConfig()
    """What all cells share: data set, student, training, evaluation."""
    methods: tuple[str, ...] = Field(default=PAPER_METHODS, min_length=1)
    """Table 3: rules, `random` for negatives drawn from the whole corpus, `oracle` where the data set hides labels."""
    selections: tuple[str, ...] = PAPER_SAMPLING
    """Table 4: selections, under the pipeline's own rule; fewer than two ask nothing."""
    teachers: tuple[TeacherConfig, ...] = ()
    """Table 1: teachers, each alone, under the pipeline's own rule; fewer than two ask nothing."""
    ensembles: tuple[str, ...] = ()
    """Table 2: `cross-sample`, `intra-sample`, `intra-sample-dedup` over all `teachers`, beside the pipeline's first one."""
    baseline: str = "topk"
    """What the others are compared with; a table without it takes its first row."""
    seeds: tuple[Annotated[int, Field(ge=0, le=MOST_SEED)], ...] = Field(default=(0, 1, 2), min_length=1)
    """Every cell is trained once a seed."""
    evaluate_on: tuple[DatasetConfig, ...] = ()
    """Data sets beside the training data's own evaluation split: zero-shot."""
    audited: bool = True
    """Estimate every method's false negatives by an audit. Not where the data set hides labels: there they are counted."""
    references: bool = True
    """Measure the untrained student and the first teacher as well."""

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name if name in (RANDOM, ORACLE) else MiningConfig(rule=name).rule for name in methods)

    @field_validator("selections")
    @classmethod
    def _known_selections(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(MiningConfig(selection=name).selection for name in names)

    @model_validator(mode="after")
    def _every_cell_once(self) -> Self:
        for name in ("methods", "selections", "ensembles", "seeds"):
            each_once(f"ablation.{name}", getattr(self, name))
        hint = "name one of them by `alias`"
        each_once("ablation.teachers", [teacher.label for teacher in self.teachers], hint)
        return self

    @model_validator(mode="after")
    def _baseline_is_compared(self) -> Self:
        teachers = [teacher.label for teacher in self.teachers]
        names = [*self.methods, *self.selections, *teachers, *((SINGLE, *self.ensembles) if self.ensembles else ())]
        if self.differs("baseline") and self.baseline not in names:
            raise InputError("ablation.baseline", f"one of {', '.join(names)}", repr(self.baseline))
        return self

    @model_validator(mode="after")
    def _oracle_has_something_to_know(self) -> Self:
        if ORACLE in self.methods and self.pipeline.dataset.known_positives is None:
            raise ValueError("oracle knows hidden labels: set dataset.known_positives (without them it is topk)")
        return self


def each_once(where: str, names: Sequence[object], hint: str = "") -> None:
    """Raise InputError for a name that comes twice: cells are told apart by it."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(where, "every name once", f"{twice} more than once", hint)


@dataclass(frozen=True)
class CellSpec:
    """One trained model of the study, and where it is measured."""

    question: str
    """methods, selections, teachers, ensembles."""
    name: str
    """What is varied."""
    seed: int
    checkpoint: CheckpointSpec
    evaluations: tuple[EvaluationSpec, ...]


def method_config(base: MiningConfig, name: str) -> MiningConfig:
    """Return the mining configuration of a method."""
    if name == RANDOM:
        return base.model_copy(update={"rule": NOTHING, "shortfall": "random"})
    if name == ORACLE:
        return base.model_copy(update={"rule": "topk", "oracle": True})
    return base.model_copy(update={"rule": name})


def alone(pipeline: PipelineConfig, teacher: TeacherConfig) -> PipelineConfig:
    """Return the pipeline with one choosing teacher, and so without an ensemble; a cross-encoder needs the first one too."""
    teachers: tuple[TeacherConfig, ...] = (teacher,)
    if teacher.kind == "cross-encoder":
        teachers = (pipeline.teachers[0].model_copy(update={"only_retrieves": True}), teacher)
    mining = pipeline.mining.model_copy(update={"ensemble": "none"})
    return pipeline.model_copy(update={"teachers": teachers, "mining": mining})


def variants(config: AblationConfig) -> list[tuple[str, str, PipelineConfig]]:
    """Return (question, name, configuration) of everything that is compared."""
    base = config.pipeline
    found = []
    for name in config.methods:
        found.append(("methods", name, base.model_copy(update={"mining": method_config(base.mining, name)})))
    for name in config.selections if len(config.selections) > 1 else ():
        mining = base.mining.model_copy(update={"selection": name})
        found.append(("selections", name, base.model_copy(update={"mining": mining})))
    together, several = base.model_copy(update={"teachers": config.teachers}), len(choosing(config.teachers)) > 1
    for teacher in together.choosing_teachers if several else ():
        found.append(("teachers", teacher.label, alone(together, teacher)))
    ensembles = config.ensembles if several else ()
    if ensembles:
        found.append(("ensembles", SINGLE, alone(base, base.choosing_teachers[0])))
    for name in ensembles:
        mining = base.mining.model_copy(update={"ensemble": name})
        found.append(("ensembles", name, together.model_copy(update={"mining": mining})))
    return found


def meaningful(config: AblationConfig) -> AblationConfig:
    """Return the study without those of the default methods that mean nothing for the first teacher's scores (logged)."""
    from nv_retriever.mining.rules.parse import parse_rule
    from nv_retriever.teachers.names import score_kind

    if config.methods != PAPER_METHODS:
        return config
    first = config.pipeline.choosing_teachers[0]
    kind = score_kind(first)
    rules = {name: parse_rule(method_config(config.pipeline.mining, name).rule) for name in config.methods}
    out = [name for name, rule in rules.items() if kind not in rule.kinds]
    if out:
        logger.warning("left out, without a meaning for %s scores of %s: %s", kind, first.label, ", ".join(out))
    return config.model_copy(update={"methods": tuple(name for name in config.methods if name not in out)})


def plan_ablation(config: AblationConfig) -> list[CellSpec]:
    """Return every cell; cells that are equal (a method that answers two questions) share their artifacts.

    Raises InputError for data sets of the same name.
    """
    from nv_retriever.data.open import open_source

    names = [open_source(one).name for one in (config.pipeline.dataset, *config.evaluate_on)]
    each_once("data sets of the study (--dataset, --evaluate-on)", names, "rename the folder or file of one")
    dataset = dataset_spec(config.pipeline.dataset)
    measured = [dataset, *(dataset_spec(other) for other in config.evaluate_on)]
    cells = []
    for seed in config.seeds:
        for question, name, variant in variants(config):
            seeded = variant.model_copy(update={"seed": seed})
            checkpoint = checkpoint_spec(seeded, dataset)
            evaluations = tuple(evaluation_spec(seeded, one, "trained", checkpoint) for one in measured)
            cells.append(CellSpec(question, name, seed, checkpoint, evaluations))
    return cells


def plan_references(config: AblationConfig) -> list[EvaluationSpec]:
    """Return the evaluations of the untrained student and of the first teacher, on every data set."""
    if not config.references:
        return []
    pipeline = config.pipeline
    measured = [dataset_spec(one) for one in (pipeline.dataset, *config.evaluate_on)]
    student, teacher = student_spec(pipeline.untrained), pipeline.teachers[0]
    return [evaluation_spec(pipeline, one, "untrained student", student) for one in measured] + [
        evaluation_spec(pipeline, one, f"teacher {teacher.label}", teacher) for one in measured
    ]


def plan_audit(config: AblationConfig) -> AuditSpec | None:
    """Return the audit of the methods over the pipeline's own candidates, where one is wanted."""
    rules = tuple(name for name in config.methods if name not in (RANDOM, ORACLE))
    if not config.audited or not rules or config.pipeline.dataset.known_positives is not None:
        return None
    audit = config.pipeline.audit.model_copy(update={"rules": rules})
    return audit_spec(config.pipeline.model_copy(update={"audit": audit}))
