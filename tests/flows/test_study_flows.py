"""Studies in Prefect's test harness: `nvr ablate` from cells to report, and the rounds of iterative mining."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.ablation import ablation
from flows.rounds import rounds_of_training
from flows.settings import build_ablation, build_config
from nv_retriever.errors import InputError
from nv_retriever.evaluation.ablation import Ablation
from nv_retriever.evaluation.ablation_cells import merged, read_cells

pytestmark = pytest.mark.usefixtures("prefect_server")

METHODS = ["topk", "oracle"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_beir):
    """The small set, in which each of an animal's documents answers all of its questions."""
    path = write_beir(tmp_path_factory.mktemp("data") / "animals")
    for split in ("train", "test"):
        file = path / "qrels" / f"{split}.tsv"
        head, *rows = file.read_text().splitlines()
        pairs = [(row.split("\t")[0], row.split("\t")[1].split("-")[0]) for row in rows]
        lines = [f"{query}\t{animal}-{fact}\t1" for query, animal in pairs for fact in ("food", "home", "young", "voice")]
        file.write_text("\n".join([head, *lines]) + "\n")
    return path


def config(folder: Path, **study):
    tree = {
        "dataset": {"source": str(folder), "known_positives": 1},
        "student": {"layers": 1},
        "search": {"depth": 20},
        "mining": {"selection": "top(2)"},
        "training": {"max_steps": 2, "batch_size": 4},
    }
    return build_ablation(build_config(tree, "test"), {"methods": METHODS, "selections": (), "seeds": (0, 1)} | study)


def test_an_ablation_from_cells_to_report(folder, tmp_path):
    home = tmp_path / "home"
    result = ablation(config(folder), str(home))
    assert result["cells"] == 4
    done = Counter(stage["artifact"].split("/")[0] for stage in result["stages"])
    assert done["candidates"] == 1 and done["checkpoint"] == 4  # searched once, trained for every cell
    (rows,) = result["tables"].values()
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == METHODS
    assert by_name["oracle"]["false_negatives"] == 0 < by_name["topk"]["false_negatives"]
    assert by_name["topk"]["difference"] is None and by_name["oracle"]["difference_ci95"][0] is not None
    json.dumps(result, allow_nan=False)
    text = Path(result["markdown"]).read_text()
    assert "untrained student" in text and "more positives hidden" in text and "Power analysis" in text
    report = Path(result["report"]).parent
    study = {title: Ablation(cells) for title, cells in read_cells(report / "cells.parquet").items()}
    (again,) = study.values()
    assert again.rows("topk")[0].estimate.mean == pytest.approx(rows[0]["mean"])
    assert Ablation(merged({"a": again.cells(), "b": again.cells()})).datasets == ("a → animals", "b → animals")

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    parent = client.get_run(result["mlflow_run_id"])
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert all("animals/nDCG_10" in child.data.metrics for child in children)
    names = sorted(child.info.run_name for child in children)
    assert names == [f"methods {method}, seed {seed}" for method in sorted(METHODS) for seed in (0, 1)]
    assert not client.search_registered_models()  # students of a study are no models to serve

    assert "| nDCG@10 |" in text and rows[0]["paper"] == 0.5407

    cached = ablation(config(folder, seeds=(0,)), str(home))
    assert all(stage["cached"] for stage in cached["stages"]) and cached["cells"] == 2

    measured = config(folder)
    evaluation = measured.pipeline.evaluation.model_copy(update={"metrics": ("R@5", "nDCG@10")})
    pipeline = measured.pipeline.model_copy(update={"evaluation": evaluation})
    other = ablation(measured.model_copy(update={"pipeline": pipeline}), str(home))
    assert other["report"] != result["report"] and other["mlflow_run_id"] != result["mlflow_run_id"]
    assert Path(result["markdown"]).read_text() == text
    labelled = Path(other["markdown"]).read_text()
    assert "| R@5 |" in labelled and "R@5 of systems that were not trained here" in labelled
    assert "nDCG@10" not in labelled and "paper |" not in labelled
    assert all(row["paper"] is None for rows in other["tables"].values() for row in rows)


def test_teachers_and_ensembles_beside_the_one_teacher(folder, tmp_path):
    questions = {
        "methods": ["topk-percpos(0.95)"],
        "teachers": [{"name": "minilm"}, {"name": "bm25"}],
        "ensembles": ["cross-sample", "intra-sample"],
        "seeds": (0,),
    }
    result = ablation(config(folder, **questions), str(tmp_path / "home"))
    by_title = {title.rsplit("(", 1)[1]: {row["name"]: row for row in rows} for title, rows in result["tables"].items()}
    teachers, ensembles = by_title["table 1)"], by_title["table 2)"]
    assert list(teachers) == ["minilm", "bm25"] and list(ensembles) == ["single", "cross-sample", "intra-sample"]
    assert ensembles["single"]["difference"] is None and ensembles["single"]["mean"] == teachers["minilm"]["mean"]
    assert ensembles["intra-sample"]["difference"] is not None and ensembles["intra-sample"]["paper"] == 0.5825
    trained = {stage["artifact"] for stage in result["stages"] if stage["artifact"].startswith("checkpoint/")}
    assert len(trained) == 4  # minilm alone answers three questions

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")
    runs = client.search_runs([client.get_run(result["mlflow_run_id"]).info.experiment_id])
    cells = {run.data.tags.get("nvr.cells", "") for run in runs}
    assert "methods topk-percpos(0.95), seed 0; teachers minilm, seed 0; ensembles single, seed 0" in cells
    study = json.loads((Path(result["report"]).parent / "study.json").read_text())
    ((one, other, overlap),) = study["overlaps"]
    assert {one, other} == {"minilm", "bm25"} and 0 <= overlap < 1


def test_an_oracle_without_a_hidden_label_ends_a_study_before_anything_is_trained(folder, tmp_path):
    home, study = tmp_path / "home", config(folder)
    dataset = study.pipeline.dataset.model_copy(update={"known_positives": 4})  # as many as there are
    pipeline = study.pipeline.model_copy(update={"dataset": dataset})
    with pytest.raises(InputError, match="oracle: expected a data set that hides labels"):
        ablation(study.model_copy(update={"pipeline": pipeline}), str(home))
    assert [path.name for path in (home / "artifacts").iterdir()] == ["dataset"]


def test_an_oracle_needs_hidden_labels(folder):
    tree = {"dataset": {"source": str(folder)}}
    with pytest.raises(InputError, match="known_positives"):
        build_ablation(build_config(tree, "test"), {"methods": ["oracle"]})
    with pytest.raises(InputError, match="baseline"):
        build_ablation(build_config(tree, "test"), {"method": ["topk"]})


def test_each_round_mines_with_the_student_of_the_one_before(small_beir, tmp_path):
    tree = {
        "dataset": {"source": str(small_beir)},
        "student": {"layers": 1},
        "search": {"depth": 20},
        "mining": {"rule": "topk", "selection": "top(2)"},
        "training": {"max_steps": 2, "batch_size": 4},
    }
    config, home = build_config(tree, "test"), tmp_path / "home"
    result = rounds_of_training(config, str(home), rounds=2)
    first, second = result["rounds"]
    assert first["jaccard"] is None and 0 <= second["jaccard"] < 1
    assert len({first["checkpoint"], second["checkpoint"]}) == 2 and result["checkpoint"] == second["checkpoint"]
    folder = next(path for path in (home / "artifacts" / "mining").iterdir() if path.name.startswith(second["mining_run"]))
    teachers = set(pq.read_table(folder / "triples.parquet", columns=["teacher"]).column("teacher").to_pylist())
    assert teachers == {"student of round 1"}

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    run = client.get_run(result["mlflow_run_id"])
    assert run.data.metrics["negatives/jaccard to the round before"] == pytest.approx(second["jaccard"])
    (model,) = client.search_registered_models()
    assert {version.run_id for version in client.search_model_versions(f"name = '{model.name}'")} == {
        result["mlflow_run_id"]
    }

    again = rounds_of_training(config, str(home), rounds=2)
    assert all(stage["cached"] for stage in again["stages"]) and again["rounds"] == result["rounds"]
    one = rounds_of_training(config, str(home), rounds=1)
    assert one["rounds"][0] == first and Path(one["checkpoint"]).exists()
