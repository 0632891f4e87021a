"""Iterative mining as a plan: train, mine again with the student as teacher, train again."""

from __future__ import annotations

from nv_retriever.mining.teachers import check_plan, plan_of
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.specifications import embedding_specs
from nv_retriever.plan.stages import CandidatesSpec, CheckpointSpec, Location, MiningSpec, TeacherLocation
from nv_retriever.plan.trained_specifications import checkpoint_spec
from nv_retriever.teachers.config import TeacherConfig


def plan_rounds(config: PipelineConfig, rounds: int) -> list[CheckpointSpec]:
    """Return a checkpoint a round; from the second round on, the student of the round before is the only teacher.

    Every round trains the same untrained student, so that rounds differ by their negatives alone.
    """
    specs = [checkpoint_spec(config)]
    while len(specs) < rounds:
        mining = remine(config, specs[-1], f"student of round {len(specs)}")
        specs.append(specs[0].model_copy(update={"mining": mining}))
    return specs


def remine(config: PipelineConfig, teacher: CheckpointSpec, name: str) -> MiningSpec:
    """Return the mining of the same split with a trained student as the teacher; InputError where it cannot be one."""
    alone = teacher.mining.mining.model_copy(update={"ensemble": "none"})
    check_plan(plan_of(alone, config.seed), [(name, teacher.student.identity.score_kind)])
    dataset, encoder = teacher.dataset, config.student.encoder
    documents, queries = embedding_specs(dataset, config.split, teacher, Location(encoder=encoder))
    candidates = CandidatesSpec(
        dataset=dataset,
        split=config.split,
        teacher=name,
        digest="",
        documents=documents,
        queries=queries,
        search=config.search,
        location=TeacherLocation(teacher=TeacherConfig(name=encoder.model, encoder=encoder)),
    )
    return teacher.mining.model_copy(update={"candidates": (candidates,), "mining": alone})
