"""The whole pipeline in Prefect's test harness: the cache contract, the database, the tracking."""

import json
import os
import shutil
import signal
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import duckdb
import pytest
from prefect.exceptions import TerminationSignal
from rerankers import write_reranker

from flows.mining import mining
from flows.pipeline import pipeline
from flows.settings import build_config
from flows.training import training
from nv_retriever.artifacts import CACHE_RECORD, TRACKING_RECORD, ArtifactStore
from nv_retriever.data.dataset import Dataset
from nv_retriever.plan.pipeline import plan_run
from nv_retriever.search.candidate_table import Candidates
from tasks.tracking.champion import MEASURED_ON, SCORE, promote
from tasks.tracking.record import note_run, recorded_run
from tasks.tracking.training import TrainingRun, track_training

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_beir):
    return write_beir(tmp_path_factory.mktemp("data") / "animals")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def config(folder: Path, **changes):
    tree = {
        "dataset": {"source": str(folder)},
        "student": {"layers": 1},
        "search": {"depth": 20},
        "mining": {"rule": "topk-percpos(0.95)", "selection": "top(2)"},
        "training": {"max_steps": 2, "batch_size": 4},
    }
    for path, value in changes.items():
        group, _, key = path.partition("__")
        tree.setdefault(group, {})[key] = value
    return build_config(tree, "test")


@pytest.fixture(scope="module")
def first(folder, home):
    return pipeline(config(folder), str(home))


def ran(result) -> Counter:
    return Counter(stage["stage"] for stage in result["stages"] if not stage["cached"])


def test_first_run_runs_everything(first):
    assert set(ran(first)) == {"ingest", "embed", "index", "mine", "train", "evaluate"}
    assert first["mining"]["triples"] > 0
    assert {"base", "bm25", "trained", "difference"} == set(first["evaluation"])
    assert set(first["evaluation"]["trained"]) == {"nDCG@10", "R@100", "RR@10", "AP@100"}
    assert (Path(first["checkpoint"]) / "model.safetensors").exists()
    json.dumps(first, allow_nan=False)


def test_models_are_measured_in_fp32(first, home):
    manifests = {
        path.parent.name: json.loads(path.read_text()) for path in home.glob("artifacts/embeddings/*/manifest.json")
    }
    used = {stage["artifact"].split("/")[1] for stage in first["stages"] if stage["stage"] == "embed"}
    of_student = [found for name, found in manifests.items() if name in used and found["spec"]["precision"] == "fp32"]
    assert len(of_student) == 4 and all(found["counts"]["precision"] == "fp32" for found in of_student)


def test_the_precision_of_an_evaluation_trains_nothing_again(folder):
    usual, fast = (plan_run(config(folder, student__encoder={"precision": one})) for one in ("auto", "bf16"))
    assert fast.checkpoint.ref == usual.checkpoint.ref and fast.trained.ref != usual.trained.ref
    assert (usual.trained.documents.precision, fast.trained.documents.precision) == ("fp32", "bf16")
    assert fast.trained.documents.location.encoder.precision == "bf16"  # what the evaluation's encoder is opened with


def test_second_run_is_cached_and_notes_what_it_used(first, folder, home):
    used = {home / "artifacts" / stage["artifact"] for stage in first["stages"]}
    for artifact in used:
        os.utime(artifact, (0, 0))
    again = pipeline(config(folder), str(home))
    assert ran(again) == Counter()
    assert all(artifact.stat().st_mtime > 0 for artifact in used)
    assert again["mining"] == first["mining"] and again["evaluation"] == first["evaluation"]
    assert again["mlflow_run_id"] == first["mlflow_run_id"]


def test_another_margin_redoes_mining_and_what_follows(first, folder, home):
    changed = pipeline(config(folder, mining__rule="topk-marginpos(0.05)"), str(home))
    kinds = {stage["artifact"].split("/")[0] for stage in changed["stages"] if not stage["cached"]}
    assert kinds == {"mining", "checkpoint", "embeddings", "evaluation"}
    assert ran(changed) == Counter({"mine": 1, "train": 1, "embed": 2, "evaluate": 1})


def test_searches_below_limits_are_made_once(first, folder, home):
    """A shallow table leaves samples short; another selection, and the same mining again, find what was searched then."""

    def mine(selection):
        """Return the mining's ids and scores and the files of searches."""
        cold = config(folder, mining__rule="topk-marginpos(0.2)", mining__selection=selection, search__depth=2)
        found = mining(cold, str(home))
        query = "select query_id, positive_id, negative_id, negative_score, rank from triples where run_id = ?"
        with duckdb.connect(str(home / "triples.duckdb"), read_only=True) as connection:
            rows = connection.execute(f"{query} order by all", [found["run_id"]]).fetchall()
        return found, rows, {path: path.stat().st_ino for path in home.glob("artifacts/searches/*/*/*.npy")}

    _, _, searched = mine("sample(2, of=4)")
    made, rows, again = mine("top(3)")
    assert searched and again == searched and ran(made)["mine"] == 1 and made["stages"][-1]["stage"] == "mine"
    for kept in searched:
        kept.unlink()
    shutil.rmtree(home / "artifacts" / made["stages"][-1]["artifact"])
    searches = next(iter(searched)).parents[2]
    gone = [searches / "a table that was deleted" / "x", next(iter(searched)).parents[1] / "another content"]
    for folder_of in gone:
        folder_of.mkdir(parents=True)
    once_more, same, new = mine("top(3)")
    assert ran(once_more)["mine"] == 1 and same == rows and new
    assert not any(folder_of.exists() for folder_of in gone) and not gone[0].parent.exists()


def test_a_deleted_folder_is_made_again(first, folder, home):
    artifact = next(stage["artifact"] for stage in first["stages"] if stage["stage"] == "index")
    shutil.rmtree(home / "artifacts" / artifact)
    again = mining(config(folder), str(home))
    assert ran(again) == Counter({"index": 1})
    assert again["run_id"] == first["mining"]["run_id"]


def test_a_damaged_artifact_is_made_again_with_a_warning(first, folder, home, caplog):
    artifact = next(stage["artifact"] for stage in first["stages"] if stage["stage"] == "mine")
    path = home / "artifacts" / artifact / "triples.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    again = mining(config(folder), str(home))
    assert ran(again) == Counter({"mine": 1})
    assert "damaged" in caplog.text
    assert again["triples"] == first["mining"]["triples"]


def test_the_cache_record_lives_in_the_artifact(first, home):
    for stage in first["stages"]:
        assert (home / "artifacts" / stage["artifact"] / CACHE_RECORD).exists()


def test_one_changed_document_is_embedded_alone(first, folder, home, tmp_path):
    other = tmp_path / folder.name
    shutil.copytree(folder, other)
    path = other / "corpus.jsonl"
    path.write_text(path.read_text().replace("the otter hunts at dusk", "the otter hunts at dawn"))
    result = mining(config(other), str(home))
    encoded = 0
    for stage in result["stages"]:
        if stage["stage"] == "embed" and not stage["cached"]:
            manifest = json.loads((home / "artifacts" / stage["artifact"] / "manifest.json").read_text())
            encoded += manifest["counts"]["encoded"]
    assert encoded == 1


def test_the_database_answers_the_contract_s_query(first, home):
    with duckdb.connect(str(home / "triples.duckdb"), read_only=True) as connection:
        rows = dict(
            connection.execute(
                "select rule, count(*) from triples join mining_runs using (run_id) where run_id = ? group by 1",
                [first["mining"]["run_id"]],
            ).fetchall()
        )
    assert rows == {"topk-percpos(0.95)": first["mining"]["triples"]}


def test_a_lost_database_is_filled_again_from_the_artifact(first, folder, home):
    (home / "triples.duckdb").unlink()
    again = mining(config(folder), str(home))
    assert ran(again) == Counter()
    with duckdb.connect(str(home / "triples.duckdb"), read_only=True) as connection:
        assert connection.execute("select count(*) from triples").fetchone() == (first["mining"]["triples"],)


def test_mlflow_holds_curves_scores_inputs_and_the_registered_model(first, home):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    run = client.get_run(first["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.batch_size"] == "4"
    assert run.data.tags["nvr.mining_run"] == first["mining"]["run_id"]
    assert {"loss", "learning_rate"} <= set(run.data.metrics)
    assert run.inputs.dataset_inputs[0].dataset.name == "animals"
    versions = {version.run_id for version in client.search_model_versions("name = 'nv-retriever-animals'")}
    assert first["mlflow_run_id"] in versions
    assert client.get_model_version_by_alias("nv-retriever-animals", "newest").run_id in versions
    evaluations = client.search_runs([run.info.experiment_id], "tags.`nvr.stage` = 'evaluate'")
    assert {r.data.tags["nvr.system"] for r in evaluations} >= {"base", "bm25", "trained"}
    assert all("animals/nDCG_10" in r.data.metrics for r in evaluations)


def test_a_training_with_early_stopping_is_tracked_with_its_scores(first, folder, home):
    from mlflow.tracking import MlflowClient

    found = training(config(folder, training__early_stopping={"every": 1, "split": "test"}), str(home))
    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    assert [point.step for point in client.get_metric_history(found["mlflow_run_id"], "nDCG_10")] == [1, 2]


def test_an_alias_that_a_kill_left_out_is_given_by_the_next_run(first, folder, home):
    from mlflow.tracking import MlflowClient

    checkpoint = plan_run(config(folder)).checkpoint
    client, name = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}"), "nv-retriever-animals"
    versions = client.search_model_versions(f"name = '{name}'")
    client.delete_registered_model_alias(name, "newest")
    (ArtifactStore(home).folder(checkpoint.ref) / TRACKING_RECORD).unlink()
    assert track_training(checkpoint, str(home)) == first["mlflow_run_id"]
    assert client.get_model_version_by_alias(name, "newest").version == versions[0].version
    assert len(client.search_model_versions(f"name = '{name}'")) == len(versions)


@pytest.mark.parametrize(
    ("ending", "status"),
    [(TerminationSignal(signal.SIGTERM), "KILLED"), (ValueError(), "FAILED"), (None, "FINISHED")],
    ids=["ended", "failed", "finished"],
)
def test_a_training_s_run_is_closed_when_the_training_ends(first, folder, home, ending, status):
    """Whatever becomes of the evaluation after it; a training that someone ends has not failed."""
    from mlflow.tracking import MlflowClient

    run = TrainingRun(plan_run(config(folder).model_copy(update={"seed": 7})).checkpoint, str(home))
    with pytest.raises(type(ending)) if ending else nullcontext(), run:
        if ending:
            raise ending
    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    assert client.get_run(run.run_id).info.status == status


def test_one_test_query_gives_no_interval_and_no_champion(folder, tmp_path):
    from mlflow.tracking import MlflowClient

    one = tmp_path / "one"
    shutil.copytree(folder, one)
    labels = one / "qrels" / "test.tsv"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:2]))
    home = tmp_path / "home"
    difference = pipeline(config(one), str(home))["evaluation"]["difference"]
    assert (difference["ci95"], difference["queries"]) == ([None, None], 1)
    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    assert set(client.get_registered_model("nv-retriever-one").aliases) == {"newest"}


def test_the_champion_is_the_best_on_the_same_data(first, folder, home):
    from mlflow.tracking import MlflowClient

    changed = config(folder, mining__rule="topk-marginpos(0.05)")
    name, client = "nv-retriever-animals", MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    one, other = (plan_run(config(folder)), first), (plan_run(changed), pipeline(changed, str(home)))
    for plan, _ in (one, other):
        note_run(plan.checkpoint, str(home), recorded_run(plan.checkpoint, str(home)), promoted=None)

    def promoted(version):
        """Return whether the checkpoint is said to be the champion, and whether it is."""
        plan, result = version
        said = promote(plan.checkpoint, plan.trained, str(home))
        return said, client.get_model_version_by_alias(name, "champion").run_id == result["mlflow_run_id"]

    def say_of_champion(tag, value):
        client.set_model_version_tag(name, client.get_model_version_by_alias(name, "champion").version, tag, value)

    client.delete_registered_model_alias(name, "champion")
    assert promoted(one) == (True, True)
    say_of_champion(SCORE, "1.5")
    assert promoted(other) == (False, False)
    say_of_champion(SCORE, "0.5")
    assert promoted(other) == (False, False)  # decided once: a run from the cache changes nothing
    note_run(other[0].checkpoint, str(home), other[1]["mlflow_run_id"], promoted=None)
    assert promoted(other) == (True, True)
    assert promoted(one) == (True, False)
    say_of_champion(SCORE, "1.5")
    say_of_champion(MEASURED_ON, "the data of last month")
    note_run(one[0].checkpoint, str(home), one[1]["mlflow_run_id"], promoted=None)
    assert promoted(one) == (True, True)


def test_a_failing_input_fails_the_run(folder, home):
    from nv_retriever.errors import InputError

    with pytest.raises(InputError, match="split"):
        pipeline(config(folder).model_copy(update={"split": "validation"}), str(home))


def test_one_model_teaches_twice_under_two_names(first, folder, home):
    """With prompts and without; the vectors that are there already are not made again for a name."""
    settings = config(folder, mining__ensemble="intra-sample")
    plain, asked = ({"name": "minilm", "alias": name} for name in ("plain", "asked"))
    teachers = [plain, asked | {"encoder": {"query_prompt": "which animal: "}}]
    settings = build_config(settings.model_dump(mode="json") | {"teachers": teachers}, "test")
    found = mining(settings, str(home))
    embedded = [stage["cached"] for stage in found["stages"] if stage["stage"] == "embed"]
    assert embedded[:2] == [True, True] and not all(embedded)
    with duckdb.connect(found["database"], read_only=True) as connection:
        names = "select list(distinct teacher order by teacher) from triples where run_id = ?"
        told = "select teachers from mining_runs where run_id = ?"
        assert connection.execute(names, [found["run_id"]]).fetchone() == (["asked", "plain"],)
        assert connection.execute(told, [found["run_id"]]).fetchone() == (["plain", "asked"],)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    return write_reranker(tmp_path_factory.mktemp("models") / "tiny-reranker")


def test_a_cross_encoder_alone_chooses_among_what_another_teacher_retrieved(first, folder, home, cross_encoder):
    settings = config(folder, mining__rule="topk-marginpos(0.0)", mining__selection="top(3)")
    teachers = [{"name": "minilm", "only_retrieves": True}, {"name": f"cross-encoder:{cross_encoder}"}]
    settings = build_config(settings.model_dump(mode="json") | {"teachers": teachers}, "test")
    found = mining(settings, str(home))
    assert [stage["cached"] for stage in found["stages"] if stage["what"].endswith("by minilm")] == [True] * 3
    store, spec = ArtifactStore(home), plan_run(settings).checkpoint.mining
    (table,) = spec.candidates
    retrieved, rescored = (Candidates.open(store.open(one.ref)) for one in (table.first, table))
    dataset = Dataset.open(store.open(spec.dataset.ref))
    ids = dataset.document_ids
    with duckdb.connect(found["database"], read_only=True) as connection:
        mined = connection.execute(
            "select teacher, query_id, positive_id, list(negative_id order by position) from triples where run_id = ? "
            "group by all",
            [found["run_id"]],
        ).fetchall()
    assert {teacher for teacher, *_ in mined} == {"cross-encoder:tiny-reranker"} and len(mined) > 5
    rows = {dataset.query_ids[row]: place for place, row in enumerate(dataset.query_rows("train").tolist())}
    anchors = {(query, document): score for query, document, score in zip(*positives_of(rescored), strict=True)}
    for _, query, positive, negatives in mined:
        row = rows[query]
        limit = anchors[row, list(ids).index(positive)]
        logits = {ids[d]: s for d, s in zip(rescored.documents[row], rescored.scores[row], strict=True) if d >= 0}
        assert logits.keys() == {ids[d] for d in retrieved.documents[row] if d >= 0}
        assert negatives == [d for d in logits if logits[d] < limit][:3]


def positives_of(table: Candidates) -> tuple[list[int], list[int], list[float]]:
    found = table.split_positives
    return found.queries.tolist(), found.documents.tolist(), found.scores.tolist()


@pytest.mark.parametrize(("form", "out", "message"), [("triplet", None, "together"), ("nonsense", "there", "triplet")])
def test_an_export_that_cannot_be_written_is_said_before_anything_runs(folder, tmp_path, form, out, message):
    from nv_retriever.errors import InputError

    with pytest.raises(InputError, match=message):
        mining(config(folder), str(tmp_path / "home"), export_format=form, out=out)
    assert not (tmp_path / "home").exists()


def test_a_failed_task_leaves_nothing_among_the_artifacts(folder, tmp_path):
    from nv_retriever.errors import InputError

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "corpus.jsonl").write_text("no json\n")
    with pytest.raises(InputError, match="corpus"):
        mining(config(broken), str(tmp_path / "home"))
    assert [path.name for path in (tmp_path / "home" / "artifacts").iterdir()] == ["dataset"]


def test_a_training_that_this_machine_cannot_do_is_refused_before_anything_is_embedded(folder, tmp_path):
    from nv_retriever.errors import InputError

    tree = config(folder).model_dump(mode="json")
    tree |= {"training": {"strategy": "fsdp", "processes": 2}, "runtime": {"device": "cpu"}}
    sharded = build_config(tree, "test")
    for flow in (pipeline, training):
        with pytest.raises(InputError, match="GPUs to shard over, found fsdp on a CPU"):
            flow(sharded, str(tmp_path / "home"))
    assert not list(tmp_path.glob("home/artifacts/embeddings/*"))


def test_a_training_that_is_there_needs_no_hardware(folder, home, first, monkeypatch):
    from nv_retriever.training import job

    def none(*_):
        raise AssertionError("nothing is trained, and the hardware was asked")

    monkeypatch.setattr(job, "on_cpu", none)
    assert training(config(folder), str(home))["checkpoint"] == first["checkpoint"]
