"""Two commands that finish the same at once: MLflow has one run of it, in which nothing stands twice."""

import multiprocessing

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.files import write_json
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.pipeline import plan_run
from tasks.tracking.client import open_client
from tasks.tracking.finished import track_evaluation

SEEDS = range(6)


def evaluations(source):
    """Return evaluations of one data set, each by another seed's student."""
    configs = [PipelineConfig.model_validate({"dataset": {"source": source}, "seed": seed}) for seed in SEEDS]
    return [plan_run(config).trained for config in configs]


def track_all(source, home, backwards, barrier, results):
    """Track every evaluation at the moment in which another process does: at first the same ones, then others."""
    open_client(home)
    specs = evaluations(source)
    for spec in specs[:3] + (specs[:2:-1] if backwards else specs[3:]):
        barrier.wait()
        results.put(track_evaluation(spec, home))


def test_two_processes_make_one_run(small_beir, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    source, home = str(small_beir), str(tmp_path / "home")
    specs = evaluations(source)
    for spec in (specs[0].dataset, *specs):
        with ArtifactStore(home).build(spec.ref) as build:
            write_json(build.folder / "metrics.json", {"nDCG@10": 0.5})
            (build.folder / "per_query.parquet").touch()
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2, timeout=300), context.Queue()
    trackers = [context.Process(target=track_all, args=(source, home, one, barrier, results)) for one in (True, False)]
    for tracker in trackers:
        tracker.start()
    ids = {results.get(timeout=300) for _ in range(2 * len(SEEDS))}
    for tracker in trackers:
        tracker.join()
    client, experiment = open_client(home)
    runs = client.search_runs([experiment])
    assert {run.info.run_id for run in runs} == ids and len(runs) == len(SEEDS)
    assert {run.info.status for run in runs} == {"FINISHED"}
    history = [client.get_metric_history(run.info.run_id, "animals/nDCG_10") for run in runs]
    assert [len(points) for points in history] == [1] * len(SEEDS)
