"""NV-Retriever-v1's config through the command line and the flow: both stages on a tiny Mistral, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from deployments.tiny_world import write_mistral
from flows.pipeline import pipeline
from flows.settings import build_config, load_config
from nv_retriever.errors import InputError
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.specifications import audit_spec, mining_spec

pytestmark = pytest.mark.usefixtures("prefect_server")

CONFIGS = Path(__file__).parents[2] / "deployments" / "configs"
LIMIT = 600


def v1() -> PipelineConfig:
    return build_config(load_config(CONFIGS / "nv-retriever-v1.yaml"), "v1")


def write_rows(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory, write_beir) -> Path:
    """The shipped config on small files: of the stages only the number of steps, the batches and the warm-up change."""
    folder = tmp_path_factory.mktemp("blend")
    animals = str(write_beir(folder / "animals"))
    write_mistral(folder / "mistral")
    classes = [{"text": f"{word} number {i}", "label": word} for i in range(6) for word in ("good", "bad", "odd")]
    clusters = [{"sentences": ["a cat", "a dog", "a car", "a bus"], "labels": ["pet", "pet", "road", "road"]}]
    pairs = [{"first": f"the {i}th", "second": f"number {i}", "score": 1 + i % 5} for i in range(20)]
    steps = {"max_steps": 4, "batch_size": 4, "accumulation": 1, "warmup_steps": 1, "learning_rate": 1e-3, "save_every": 1}
    sources = [
        {"name": "Animals", "source": animals, "samples": 12},
        {"name": "Classes", "source": write_rows(folder / "classes.jsonl", classes), "task": "classification"},
        {"name": "Clusters", "source": write_rows(folder / "clusters.jsonl", clusters), "task": "clustering"},
        {"name": "Pairs", "source": write_rows(folder / "pairs.jsonl", pairs), "task": "similarity"},
    ]
    sources[2]["columns"] = {"text": "sentences", "label": "labels"}
    tree = {
        "extends": str(CONFIGS / "nv-retriever-v1.yaml"),
        "dataset": {"source": animals},
        "teachers": [{"name": "minilm"}],
        "search": {"depth": 20},
        "student": {"encoder": {"model": str(folder / "mistral")}, "dtype": "float32"},
        "blend": {"name": "tiny", "sources": sources, "stages": {0: {"training": steps}, 1: {"training": steps}}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return folder / "config.yaml"


def start(config_file: Path, home: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment["PYTHONPATH"] = str(CONFIGS.parents[1])
    command = [sys.executable, "-m", "flows.cli", "train", "--quiet", "--config", str(config_file), "--home", str(home)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_at(process: subprocess.Popen[bytes], steps: Path, name: str) -> None:
    """Kill -9 as soon as a checkpoint of the training is there."""
    end = time.monotonic() + LIMIT
    while not (steps / name).exists():
        assert process.poll() is None and time.monotonic() < end, "the training ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_the_shipped_config_is_the_paper_s_recipe():
    config = v1()
    blend = config.blend
    assert blend is not None and config.student.encoder.model == "mistralai/Mistral-7B-v0.1"
    assert config.student.bidirectional and not config.student.pool_prompt and config.student.encoder.pooling == "mean"
    assert config.teachers[0].name == "intfloat/e5-mistral-7b-instruct" and config.mining.rule == "topk-percpos(0.95)"
    retrieval = [source for source in blend.sources if source.task == "retrieval"]
    assert len(retrieval) == 15 and sum(source.samples or 0 for source in retrieval) == 728_160
    assert len(blend.sources) == 32
    first, second = blend.stages
    assert len(blend.of(first)) == 15 and len(blend.of(second)) == 32
    assert [stage.selection for stage in blend.stages] == ["top(1)", "top(5)"]
    for stage in blend.stages:
        training = stage.training
        assert training.lora is not None and (training.lora.rank, training.lora.alpha) == (16, 32)
        assert (training.query_max_length, training.document_max_length) == (192, 512)
        assert (training.epochs, training.learning_rate, training.warmup_steps) == (12, 1e-5, 100)
    sizes = [(s.training.batch_size, s.training.accumulation, s.training.negatives) for s in blend.stages]
    assert sizes == [(32, 4, 1), (8, 16, 5)]
    assert first.training.in_batch_negatives and not second.training.in_batch_negatives
    tiny = build_config(load_config(CONFIGS / "nv-retriever-v1-tiny.yaml"), "tiny").blend
    assert tiny is not None and {source.task for source in tiny.sources} == {source.task for source in blend.sources}
    changed = {"max_steps", "accumulation", "warmup_steps", "learning_rate", "save_every", "log_every"}
    for ours, theirs in zip(tiny.stages, blend.stages, strict=True):
        assert ours.training.model_dump(exclude=changed) == theirs.training.model_dump(exclude=changed)


def test_what_works_on_one_data_set_says_so():
    for plan in (mining_spec, audit_spec):
        with pytest.raises(InputError, match="one data set"):
            plan(v1())


def test_both_stages_resume_after_a_kill_and_the_result_is_plain_and_registered(config_file, tmp_path):
    config = build_config(load_config(config_file), "test")
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    result = pipeline(config, str(plain))
    assert {"base", "bm25", "after retrieval", "trained", "difference"} == set(result["evaluation"])
    assert [run["dataset"] for run in result["mining"]["runs"]] == ["animals", "animals"]
    assert result["mining"]["samples"] == sum(run["samples"] for run in result["mining"]["runs"])
    assert sum(result["mining"]["short_reasons"].values()) == result["mining"]["short"]
    last = Path(result["checkpoint"]).parent
    kill_at(start(config_file, killed), killed / "artifacts" / "checkpoint" / last.name / "steps", "checkpoint-2")
    again = pipeline(config, str(killed))
    assert again["evaluation"] == result["evaluation"]
    for checkpoint in last.parent.glob("[!.]*"):
        other = killed / "artifacts" / "checkpoint" / checkpoint.name
        for file in ("model/model.safetensors", "log.jsonl"):
            assert (other / file).read_bytes() == (checkpoint / file).read_bytes(), f"{checkpoint.name} {file}"
    stages = [json.loads((folder / "training.json").read_text()) for folder in last.parent.glob("[!.]*")]
    assert sorted(stage["samples"] for stage in stages) == [12, 12 + 18 + 4 + 16]
    check_plain(last / "model")
    check_registered(plain, result["mlflow_run_id"])
    assert not [stage for stage in pipeline(config, str(plain))["stages"] if not stage["cached"]]


def check_plain(model: Path) -> None:
    """Plain sentence-transformers, without this project, gives the vectors of our own encoder."""
    from nv_retriever.teachers.config import EncoderConfig
    from nv_retriever.teachers.encoder import open_encoder

    program = (
        "import sys, json; from sentence_transformers import SentenceTransformer\n"
        "m = SentenceTransformer(sys.argv[1], device='cpu'); assert 'nv_retriever' not in sys.modules\n"
        "t = ['a question', 'another one']\n"
        "print(json.dumps([m.encode_query(t).tolist(), m.encode_document(t).tolist()]))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(model)], cwd="/", capture_output=True, text=True, check=True)
    encoder = open_encoder(EncoderConfig(model=str(model), precision="fp32"))
    theirs = json.loads(done.stdout.splitlines()[-1])
    for role, vectors in zip(("query", "document"), theirs, strict=True):
        np.testing.assert_allclose(encoder.encode(["a question", "another one"], role, "fp32"), vectors, atol=1e-5)
    assert json.loads((model / "config.json").read_text())["is_causal"] is False
    assert not list(model.rglob("adapter*"))


def check_registered(home: Path, run_id: str) -> None:
    """The last stage is the registered model; the first one has a run and no version."""
    from tasks.tracking.client import open_client

    client, experiment = open_client(str(home))
    (version,) = client.search_model_versions("name = 'nv-retriever-tiny'")
    assert version.run_id == run_id
    runs = client.search_runs([experiment], "tags.`nvr.blend` = 'tiny'")
    assert sorted(run.data.tags["nvr.blend_stage"] for run in runs) == ["blend", "retrieval"]
    assert all(run.data.metrics["loss"] > 0 for run in runs)
