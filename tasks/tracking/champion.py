"""The alias `champion` of a registered model: the best version among those that were measured on the same data set."""

from __future__ import annotations

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.files import read_json
from nv_retriever.fingerprint import fingerprint
from nv_retriever.plan.stages import EvaluationSpec, TrainedSpec
from tasks.tracking.client import open_client
from tasks.tracking.names import registered_name
from tasks.tracking.record import note_run, one_at_a_time, read_record
from tasks.tracking.training import track_training

ALIAS = "champion"
MEASURED_ON, SCORE = "nvr.measured_on", "nvr.score"
"""A champion's tags: the fingerprint of the data set and the metrics, and the first metric's value."""


def promote(spec: TrainedSpec, evaluation: EvaluationSpec, home: str) -> bool:
    """Return whether the checkpoint's version became the champion; asked again, what was decided the first time.

    A champion that scored higher in the same evaluation keeps its alias; one that was measured on other data gives way.
    """
    decided = read_record(spec, home).get("promoted")
    if decided is not None:
        return bool(decided)
    measured_on = fingerprint([evaluation.dataset, evaluation.evaluation])
    score = read_json(ArtifactStore(home).open(evaluation.ref) / "metrics.json")[evaluation.evaluation.metrics[0]]
    with one_at_a_time(home):
        run_id, name = track_training(spec, home), registered_name(spec)
        client, _ = open_client(home)
        versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")  # none: somebody deleted it
        champion = client.get_registered_model(name).aliases.get(ALIAS) if versions else None
        tags = client.get_model_version(name, champion).tags if champion else {}
        promoted = bool(versions) and (tags.get(MEASURED_ON) != measured_on or float(tags[SCORE]) <= score)
        if promoted:
            for tag, value in ((MEASURED_ON, measured_on), (SCORE, repr(score))):
                client.set_model_version_tag(name, versions[0].version, tag, value)
            client.set_registered_model_alias(name, ALIAS, versions[0].version)
        note_run(spec, home, run_id, promoted=promoted)
    return promoted
