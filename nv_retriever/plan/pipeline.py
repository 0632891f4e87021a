"""The plan of a whole run: its specifications, in order; a pure function of the configuration and the inputs' content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.specifications import dataset_spec, evaluation_spec
from nv_retriever.plan.stages import BlendedCheckpointSpec, EvaluationSpec, MiningSpec, Spec, TrainedSpec
from nv_retriever.plan.trained_specifications import trained_spec
from nv_retriever.teachers.config import TeacherConfig


@dataclass(frozen=True)
class Plan:
    """The artifacts of a whole run."""

    checkpoint: TrainedSpec
    base: EvaluationSpec
    bm25: EvaluationSpec
    trained: EvaluationSpec
    earlier: tuple[EvaluationSpec, ...] = ()
    """Of a blend: what the stages before the last one reached."""

    @property
    def evaluations(self) -> tuple[EvaluationSpec, ...]:
        """Every system that is measured."""
        return (self.base, self.bm25, *self.earlier, self.trained)

    def specs(self) -> list[Spec]:
        """Return every specification once, each after what it reads from."""
        return ordered([self.checkpoint, *self.evaluations])


def trainings(spec: TrainedSpec) -> tuple[TrainedSpec, ...]:
    """Return the trainings that lead to a checkpoint, the first one first."""
    return spec.stages() if isinstance(spec, BlendedCheckpointSpec) else (spec,)


def minings(spec: TrainedSpec) -> list[MiningSpec]:
    """Return every mining that the trainings of a checkpoint read from, each once."""
    found = {str(one.ref): one for stage in trainings(spec) for one in stage.sources if isinstance(one, MiningSpec)}
    return list(found.values())


def plan_run(config: PipelineConfig) -> Plan:
    """Return the plan of the whole pipeline; raises InputError where inputs are missing or settings contradict."""
    dataset = dataset_spec(config.dataset)
    checkpoint = trained_spec(config, dataset)
    earlier = checkpoint.stages()[:-1] if isinstance(checkpoint, BlendedCheckpointSpec) else ()
    return Plan(
        checkpoint=checkpoint,
        earlier=tuple(evaluation_spec(config, dataset, f"after {one.title.stage}", one) for one in earlier),
        base=evaluation_spec(config, dataset, "base", checkpoint.student),
        bm25=evaluation_spec(config, dataset, "bm25", TeacherConfig(name="bm25")),
        trained=evaluation_spec(config, dataset, "trained", checkpoint),
    )


def ordered(specs: Sequence[Spec]) -> list[Spec]:
    """Return the specifications and all upstream ones, each once, each after what it reads from."""
    found: dict[str, Spec] = {}

    def visit(spec: Spec) -> None:
        """Add a specification after all that it reads from."""
        if str(spec.ref) not in found:
            for upstream in spec.upstream():
                visit(upstream)
            found.setdefault(str(spec.ref), spec)

    for spec in specs:
        visit(spec)
    return list(found.values())
