"""Wrong usage and wrong input: exit code 2 and one line that says where, what was expected, what was found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.utilities.callables import parameter_schema

from flows.auditing import auditing
from flows.cli import start
from flows.evaluation import evaluation
from flows.mining import mining
from flows.options import Common
from flows.pipeline import pipeline
from flows.training import training
from nv_retriever.data.config import DatasetConfig
from nv_retriever.errors import InputError
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.store.exports.export import FORMATS
from nv_retriever.teachers.config import TeacherConfig

ROOT = Path(__file__).resolve().parent.parent


def nvr(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NVR_HOME": str(home), "PREFECT_LOGGING_LEVEL": "ERROR"}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def break_corpus_json(folder: Path) -> None:
    path = folder / "corpus.jsonl"
    lines = path.read_text().splitlines()
    lines[4] = '{"_id": "x", "text": '
    path.write_text("\n".join(lines) + "\n")


def name_unknown_document(folder: Path) -> None:
    with (folder / "qrels" / "train.tsv").open("a") as file:
        file.write("q-otter-food\tnobody\t1\n")


def remove_train(folder: Path) -> None:
    (folder / "qrels" / "train.tsv").unlink()


BROKEN = {
    break_corpus_json: ("corpus.jsonl", "5"),
    name_unknown_document: ("train.tsv", "nobody", "22"),
    remove_train: ("train", "dev", "test"),
}
"""Found in the first records, by ingestion, and after it; tests/data/test_wrong_input.py has the messages of all."""


@pytest.mark.parametrize("mistake", BROKEN, ids=lambda mistake: mistake.__name__)
def test_broken_input_is_one_line_and_exit_code_2(mistake, small_beir, tmp_path):
    mistake(small_beir)
    result = nvr("mine", "--dataset", str(small_beir), "--quiet", home=tmp_path / "home")
    assert result.returncode == 2, result.stderr
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("nvr: ")
    assert all(part in message for part in BROKEN[mistake]), message
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "home" / "artifacts" / "embeddings").exists(), "found before anything is embedded"


def test_the_head_of_an_input_is_looked_at_before_a_server_starts(small_beir):
    break_corpus_json(small_beir)
    with pytest.raises(InputError, match=r"corpus\.jsonl line 5: expected a JSON object"):
        start("no.such.module:flow", Common(), PipelineConfig(dataset=DatasetConfig(source=str(small_beir))), [])


@pytest.mark.parametrize("name", ["./gone", "cross-encoder:./gone", "vectors:gone"])
def test_a_model_that_is_not_there_is_told_before_a_server_starts(small_beir, name):
    with pytest.raises(InputError, match=r"gone.*no such folder"):
        config = PipelineConfig(dataset=DatasetConfig(source=str(small_beir)))
        start("no.such.module:flow", Common(), config, [TeacherConfig(name=name)])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "--method", "topk-perc(0.9)"], ["topk-percpos", "topk-perc"]),
        (["run", "--set", "training.epoch=1"], ["training.epoch", "epochs"]),
        (["run", "--config", "missing.yaml"], ["missing.yaml"]),
        (["run", "--dataset", "/missing/folder"], ["/missing/folder"]),
        (
            ["evaluate", "--set", "student.layers=1", "--dataset", "/missing/folder"],
            ["--set student.layers has no effect: `nvr evaluate` does not read it; --model says what", "/missing/folder"],
        ),
        (["mine", "--export", "flagembedding"], ["--out"]),
        (["mine", "--export", "nonsense", "--out", "x"], ["nonsense", "triplet"]),
        (["explain", "q", "--html", "s3://bucket/page.html"], ["--html: expected a path on this machine"]),
        (["evaluate", "--mteb-results", "s3://bucket/results"], ["--mteb-results: expected a path on this machine"]),
        (["run", "--teacher", "/missing/model"], ["/missing/model"]),
        (["run", "--nonsense"], ["--nonsense"]),
        (["plan", "--home", ""], ["--home: expected a folder or a URL, found ''"]),
        (["plan", "--teacher", ""], ["model: expected a folder, a hub name", "found ''"]),
        (["plan", "--student", " "], ["model: expected a folder, a hub name", "found ' '"]),
        (["serve", "--port", "65536"], ["--port"]),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, parts, tmp_path):
    result = nvr(*arguments, home=tmp_path / "home")
    assert result.returncode == 2, result.stderr
    assert all(part in result.stderr for part in parts), result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "home").exists()


def test_a_home_that_cannot_be_made_is_named(small_beir, tmp_path):
    (tmp_path / "file").touch()
    result = nvr("mine", "--dataset", str(small_beir), "--quiet", home=tmp_path / "file" / "home")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith(f"nvr: {tmp_path / 'file'}"), result.stderr


def test_the_help_and_the_form_of_mine_name_every_export_format(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    named = f"{', '.join(list(FORMATS)[:-1])} or {list(FORMATS)[-1]}"
    assert named in nvr("mine", "--help", home=tmp_path / "home").stdout
    form = parameter_schema(mining).properties["export_format"]["description"]
    assert named in " ".join(form.split())


@pytest.mark.parametrize("flow", [auditing, evaluation, mining, pipeline, training], ids=lambda flow: str(flow.name))
def test_every_field_of_a_form_is_described(flow):
    form = parameter_schema(flow)
    groups = {"": {"properties": form.properties}} | form.definitions
    bare = [
        f"{name}.{field}"
        for name, group in groups.items()
        for field, of in group.get("properties", {}).items()
        if not of.get("description")
    ]
    assert not bare


def test_a_result_is_printed_where_the_locale_has_no_such_letters():
    code = (
        "from flows.cli import Common, emit, prepare_environment as p; p(Common()); emit({}, Common(), lambda _: print('→'))"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "?\n"), result.stderr
