import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_data import make_dataset

from nv_retriever.data.dataset import Dataset
from nv_retriever.training.batches import Batches, BatchOrder, Source, micro_batches, mix
from nv_retriever.training.known import KnownPositives
from nv_retriever.training.samples import Samples


class ListTokens:
    prompt_length = 0

    def take(self, rows: np.ndarray) -> list[np.ndarray]:
        return [np.arange(1, 2 + int(row) % 7, dtype=np.uint32) for row in rows]


def make_samples(queries: list[int], positives: list[int], negatives: list[list[int]]) -> Samples:
    flat = np.array([n for own in negatives for n in own], np.int32)
    offsets = np.cumsum([0, *map(len, negatives)]).astype(np.int64)
    keys = mix(np.array(queries, np.uint64) * np.uint64(1000) + np.array(positives, np.uint64), 7)
    scores = np.linspace(0, 1, len(flat), dtype=np.float32)
    return Samples(
        np.array(queries, np.int32), np.array(positives, np.int32), offsets, flat, scores + 1, scores, ("dot",), keys
    )


@pytest.fixture(scope="module")
def tangled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Duplicated documents, sibling queries, several positives, labels in three splits."""
    folder = tmp_path_factory.mktemp("tangled")
    source = folder / "source"
    (source / "qrels").mkdir(parents=True)
    texts = [
        "red fox",
        "Red  fox",
        "blue whale",
        "green frog",
        "what is a frog",
        "grey wolf",
        "brown bear",
        "blue whale",
        "owl",
        "elk",
    ]
    corpus = "".join(f'{{"_id": "d{i}", "title": "", "text": "{text}"}}\n' for i, text in enumerate(texts))
    (source / "corpus.jsonl").write_text(corpus)
    names = ["fox?", "whale?", "What is a frog", "what is a frog", "wolf?", "bear?"]
    (source / "queries.jsonl").write_text("".join(f'{{"_id": "q{i}", "text": "{name}"}}\n' for i, name in enumerate(names)))
    labels = {"train": "q0 d0,q1 d2,q2 d3,q3 d8,q4 d5,q5 d6", "dev": "q4 d9", "test": "q0 d9"}
    for split, pairs in labels.items():
        lines = ["query-id\tcorpus-id\tscore", *(pair.replace(" ", "\t") + "\t1" for pair in pairs.split(","))]
        (source / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return make_dataset(folder / "dataset", source)


KNOWN = {0: {0, 1, 9}, 1: {2, 7}, 2: {3, 4, 8}, 3: {3, 4, 8}, 4: {5, 9}, 5: {6}}
"""Positives in every split, their copies, siblings' positives (q2, q3), and the document that is the query's own text."""


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_mask_removes_exactly_the_known_positives(tangled: Dataset, data: st.DataObject) -> None:
    queries = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    own = {0: 0, 1: 2, 2: 3, 3: 8, 4: 5, 5: 6}
    negatives = [data.draw(st.lists(st.integers(0, 9), max_size=4)) for _ in queries]
    in_batch = data.draw(st.booleans())
    world = data.draw(st.integers(1, min(3, len(queries))))
    samples = make_samples(queries, [own[q] for q in queries], negatives)
    source = Source(samples, KnownPositives(tangled), ListTokens(), ListTokens(), in_batch=in_batch)
    order = BatchOrder([samples.keys], len(queries), 0)
    everything = {own[q] for q in queries} | {n for group in negatives for n in group}
    seen = 0
    for rank in range(world):
        batch = Batches([source], order, 64, 0, rank, world)[0]
        indices = np.array_split(order[0][2], world)[rank]
        gathered = [
            np.unique([own[queries[i]] for i in part] + [n for i in part for n in negatives[i]])
            for part in np.array_split(order[0][2], world)
        ]
        columns = np.concatenate(gathered)
        for row, i in enumerate(indices.tolist()):
            weights = np.exp(batch["log_weights"][row].numpy())
            assert columns[batch["positives"][row]] == own[queries[i]] and weights[batch["positives"][row]] == 1
            found = {d: float(weights[columns == d].sum()) for d in everything}
            for document, weight in found.items():
                count = negatives[i].count(document)
                expected = max(count, 1) if in_batch else count
                expected = 0 if document in KNOWN[queries[i]] else expected
                assert weight == pytest.approx(1 if document == own[queries[i]] else expected)
            seen += 1
    assert seen == len(queries)


def test_the_order_depends_on_seed_and_ids_only() -> None:
    keys = mix(np.arange(100, dtype=np.uint64), 3)
    order, shuffled = BatchOrder([keys], 8, seed=5), np.random.default_rng(1).permutation(100)
    other = BatchOrder([keys[shuffled]], 8, seed=5)
    for step in (0, 7, 12, 13, 30):
        assert set(keys[order[step][2]]) == set(keys[shuffled][other[step][2]])
    assert not np.array_equal(order[0][2], BatchOrder([keys], 8, seed=6)[0][2])
    assert not np.array_equal(order[0][2], order[order.per_epoch][2])
    epoch = np.concatenate([order[step][2] for step in range(order.per_epoch)])
    assert sorted(epoch.tolist()) == list(range(100))


def test_batches_are_homogeneous_per_data_set() -> None:
    keys = [mix(np.arange(n, dtype=np.uint64), n) for n in (20, 13)]
    order = BatchOrder(keys, 4, seed=0)
    batches = [order[step] for step in range(order.per_epoch)]
    assert sorted(len(i) for _, source, i in batches if source == 1) == [1, 4, 4, 4]
    assert [source for _, source, _ in batches] != sorted(source for _, source, _ in batches), "data sets alternate"
    assert BatchOrder(keys, 4, seed=0, smallest=2).per_epoch == order.per_epoch - 1


def test_negatives_take_turns_over_the_epochs() -> None:
    samples = make_samples([0, 1], [0, 2], [[3, 5, 6, 8], [3]])
    turns = [samples.negative_rows[samples.negatives(0, 2, epoch)].tolist() for epoch in range(3)]
    assert turns == [[3, 5], [6, 8], [3, 5]]
    assert samples.negative_rows[samples.negatives(1, 2, 5)].tolist() == [3], "fewer than wanted: all of them"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=50), st.integers(16, 200))
def test_micro_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    texts = [np.full(length, 7, np.uint32) for length in lengths]
    seen: list[int] = []
    for chunk, members in micro_batches(texts, budget, pad=0):
        assert chunk["input_ids"].numel() <= budget or len(members) == 1
        assert chunk["attention_mask"].sum(1).tolist() == [lengths[m] for m in members]
        assert ((chunk["input_ids"] == 7) == (chunk["attention_mask"] == 1)).all()
        seen += members.tolist()
    assert sorted(seen) == list(range(len(lengths)))
