"""`nvr evaluate` by the name of a benchmark: the hub's loading code on local folders of the hub's names; mteb's files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.evaluation import evaluation
from flows.settings import build_config
from nv_retriever.errors import InputError
from nv_retriever.evaluation.beir import beir_set

pytestmark = pytest.mark.usefixtures("prefect_server")

ANIMALS = ("otter", "heron", "badger", "lynx", "salmon", "falcon")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, tmp_path_factory, monkeypatch):
    """`datasets` takes a relative folder of a repository's name for the repository."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hub-cache"))
    monkeypatch.chdir(tmp_path)


def repository(name: str, split: str, labels: str = "", wrong: int = 0) -> None:
    """Write a set in the hub's BEIR layout: a document a query; the first `wrong` labels name another document."""
    folder = Path(name)
    documents = [{"_id": f"d{i}", "title": "", "text": f"the {animal} lives here"} for i, animal in enumerate(ANIMALS)]
    queries = [{"_id": f"q{i}", "text": animal} for i, animal in enumerate(ANIMALS)]
    found = [
        {"query-id": f"q{i}", "corpus-id": f"d{(i + 1) % 6 if i < wrong else i}", "score": 1} for i in range(len(ANIMALS))
    ]
    parts = {"corpus": {"corpus": documents}, "queries": {"queries": queries}}
    if not labels:
        parts["default"] = {split: found}
    lines = ["---", "configs:"]
    for part, tables in parts.items():
        lines += [f"- config_name: {part}", "  data_files:"]
        for table, rows in tables.items():
            write_table(folder / part / f"{table}.parquet", rows)
            lines += [f"  - split: {table}", f"    path: {part}/{table}.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    if labels:
        write_table(Path(labels) / f"{split}.parquet", found)


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def measure(source: str, on_empty: str = "auto", **more):
    config = build_config({"dataset": {"source": source, "on_empty": on_empty}}, "test")
    return evaluation("bm25", config, str(Path("home").resolve()), **more)


def test_cqadupstack_is_the_mean_of_its_twelve_forums():
    forums = beir_set("CQADupstack").sources
    for number, forum in enumerate(forums):
        repository(f"mteb/{forum}", "test", wrong=6 if number < 3 else 0)
    result = measure("cqadupstack")
    mean = (3 * measure(forums[0])["metrics"]["nDCG@10"] + 9) / 12
    assert mean < 0.9, "three forums have wrong labels, in nine everything is found"
    assert len(result["per_query"]) == 12 and result["split"] == "test"
    assert result["metrics"]["nDCG@10"] == pytest.approx(mean)


def test_ms_marco_is_measured_on_dev_and_nanobeir_on_its_only_split():
    repository("BeIR/msmarco", "validation", labels="BeIR/msmarco-qrels")
    result = measure("MSMARCO")
    assert result["split"] == "dev" and result["metrics"]["nDCG@10"] == 1.0
    repository("zeta-alpha-ai/NanoNQ", "train")
    result = measure("NanoNQ")
    assert result["split"] == "train" and result["metrics"]["nDCG@10"] == 1.0


def test_empty_texts_of_a_published_set_are_skipped_and_of_an_own_file_an_error(caplog):
    repository("BeIR/fiqa", "test", labels="BeIR/fiqa-qrels")
    corpus = Path("BeIR/fiqa/corpus/corpus.parquet")
    empty = {"_id": "12229", "title": "", "text": ""}  # as FiQA has some
    write_table(corpus, [*pq.read_table(corpus).to_pylist(), empty])
    write_table(Path("own/pairs.parquet"), [{"query": animal, "positive": animal} for animal in (*ANIMALS, "")])
    assert measure("fiqa")["metrics"]["nDCG@10"] == 1.0
    assert "fiqa: 1 blank documents (skipped or noted)" in caplog.text
    with pytest.raises(InputError, match=r"expected a text that is not empty.*--set dataset.on_empty=skip"):
        measure("own/pairs.parquet")
    assert measure("own/pairs.parquet", on_empty="skip")["metrics"]["nDCG@10"] == 1.0


def test_the_files_are_mteb_s():
    mteb = pytest.importorskip("mteb")
    repository("BeIR/scifact", "test", labels="BeIR/scifact-qrels", wrong=3)
    result = measure("scifact", mteb_results=str(Path("results").resolve()))
    (path,) = result["mteb"]["results"]
    found = mteb.results.TaskResult.from_disk(Path(path))
    assert found.task_name == "SciFact" and found.get_score() == pytest.approx(result["metrics"]["nDCG@10"])
