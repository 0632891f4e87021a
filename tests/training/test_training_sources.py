"""What the sources of a training can teach: teachers' scores, guides, labels."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_data import make_mining

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.shards import write_vectors
from nv_retriever.errors import InputError
from nv_retriever.training.blend import BlendConfig
from nv_retriever.training.build import run_training_job
from nv_retriever.training.config import DistillationConfig, GuideConfig, TrainingConfig
from nv_retriever.training.job import Mined, TrainingJob
from nv_retriever.training.labelled import class_samples, write_labelled
from nv_retriever.training.source_reader import SourceReader
from nv_retriever.training.student import open_model

RUNTIME = Runtime(device="cpu", workers=1)


@pytest.mark.parametrize("loss", ["kl", "margin-mse"])
def test_scores_of_two_teachers_in_one_sample_are_not_distilled(
    animals: Dataset, bert: Path, tmp_path: Path, loss: str
) -> None:
    mining = make_mining(tmp_path / "mining", animals)
    table = pq.read_table(mining / "triples.parquet")
    for column, allowed in (("positive_id", True), ("negative_id", False)):  # a teacher a sample, a teacher a negative
        places = np.unique(table[column].to_numpy(zero_copy_only=False), return_inverse=True)[1]
        names = pa.array([f"teacher {place % 2}" for place in places.tolist()])
        pq.write_table(
            table.set_column(table.schema.get_field_index("teacher"), "teacher", names), mining / "triples.parquet"
        )
        config = TrainingConfig(batch_size=4, max_steps=1, distillation={"loss": loss})
        job = TrainingJob([Mined(animals, "train", mining)], bert, config, 0, RUNTIME)
        if allowed:
            assert run_training_job(tmp_path / "allowed", job)["steps"] == 1
        else:
            with pytest.raises(InputError, match="negatives of one teacher in a sample"):
                run_training_job(tmp_path / "refused", job)


def test_a_teacher_guides_a_blend_with_labels(animals: Dataset, mined: Path, bert: Path, tmp_path: Path) -> None:
    """Samples from labels have no in-batch negatives, so their batches need no guide."""
    texts = [f"text {i}" for i in range(12)]
    write_labelled(tmp_path / "classes", class_samples(texts, [str(i % 2) for i in range(12)], 3, 0), "classes")
    random = np.random.default_rng(0)
    for name, count in (("documents", animals.n_documents), ("queries", len(animals.query_rows("train")))):
        vectors = random.standard_normal((count, 8)).astype(np.float32)
        write_vectors(tmp_path / name, count, 8, lambda a, b, v=vectors: v[a:b], {"score_kind": "dot"})
    classes = Dataset.open(tmp_path / "classes" / "dataset")
    sources = [
        Mined(animals, "train", mined, guide=(tmp_path / "documents", tmp_path / "queries")),
        Mined(classes, "train", tmp_path / "classes", in_batch_negatives=False),
    ]
    config = TrainingConfig(batch_size=4, guide=GuideConfig(scores="teacher"))
    info = run_training_job(tmp_path / "out", TrainingJob(sources, bert, config, 0, RUNTIME))
    assert info["samples"] > 12 and np.isfinite(info["loss"])
    with pytest.raises(InputError, match="a teacher without vectors"):
        job = TrainingJob([Mined(animals, "train", mined), sources[1]], bert, config, 0, RUNTIME)
        run_training_job(tmp_path / "without", job)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (TrainingConfig(negatives=0), "negatives is 0"),
        (TrainingConfig(distillation=DistillationConfig()), "no teacher scores"),
        (TrainingConfig(early_stopping={}), "has none"),
    ],
)
def test_a_stage_whose_labels_would_teach_nothing_is_refused(training: TrainingConfig, message: str) -> None:
    labels = {"name": "labels", "source": "labels.csv", "task": "classification"}
    pairs = {"name": "pairs", "source": "pairs"}
    stage = {"name": "stage", "tasks": ["classification", "retrieval"], "training": training}
    both = {"sources": [labels, pairs], "stages": [stage]}
    if training.early_stopping:
        assert BlendConfig.model_validate(both)
        both = {"sources": [labels], "stages": [{**stage, "tasks": ["classification"]}]}
    with pytest.raises(ValueError, match=message):
        BlendConfig.model_validate(both)
    if not training.early_stopping:
        assert BlendConfig.model_validate({"sources": [pairs], "stages": [{**stage, "tasks": ["retrieval"]}]})


def test_a_sample_without_anything_to_tell_it_from_is_refused(animals: Dataset, bert: Path, tmp_path: Path) -> None:
    mining = make_mining(tmp_path / "mining", animals)
    labels = animals.positives("train")
    ids = zip(animals.query_ids[labels.query_rows], animals.document_ids[labels.document_rows], strict=True)
    short = [{"query_id": query, "positive_id": positive, "written": 0, "reason": "exhausted"} for query, positive in ids]
    pq.write_table(pq.read_table(mining / "triples.parquet").slice(0, 0), mining / "triples.parquet")
    pq.write_table(pa.Table.from_pylist(short), mining / "shortfall.parquet")
    config = TrainingConfig(batch_size=4, max_steps=1)
    for samples, in_batch in ((None, False), (1, True)):
        source = Mined(animals, "train", mining, in_batch_negatives=in_batch, samples=samples)
        with pytest.raises(InputError, match="mined negatives, or other samples' passages as negatives"):
            run_training_job(tmp_path / f"refused-{samples}", TrainingJob([source], bert, config, 0, RUNTIME))
    source = Mined(animals, "train", mining)
    assert run_training_job(tmp_path / "trained", TrainingJob([source], bert, config, 0, RUNTIME))["steps"] == 1


def test_what_a_judge_did_not_keep_is_no_negative_of_its_query_in_the_batch(
    animals: Dataset, bert: Path, tmp_path: Path
) -> None:
    mining = make_mining(tmp_path / "mining", animals)
    reader = SourceReader(tmp_path, TrainingConfig(), open_model(bert), rank=0)
    mined = Mined(animals, "train", mining)
    samples = reader.samples(mined)
    query, positive = samples.query_rows[:1], samples.positive_rows[:1]
    plain = reader.source("plain", mined, samples).known
    free = np.flatnonzero(~plain.mask(query, positive, np.arange(animals.n_documents, dtype=np.int32))[0])[:3]
    said = {"document_id": animals.document_ids[free].tolist(), "verdict": ["keep", "drop", "positive"]}
    said["query_id"] = animals.query_ids[query].tolist() * len(free)
    pq.write_table(pa.table(said), mining / "verdicts.parquet")
    judged = reader.source("judged", mined, samples).known
    assert judged.mask(query, positive, free).tolist() == [[False, True, True]]
