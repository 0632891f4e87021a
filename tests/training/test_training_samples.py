import pyarrow as pa
import pyarrow.parquet as pq
from training_data import make_mining

from nv_retriever.training.samples import Samples, first_samples, read_samples, sample_keys


def rows_of(samples: Samples) -> list[tuple]:
    negatives = [samples.negative_rows[a:b].tolist() for a, b in zip(samples.offsets[:-1], samples.offsets[1:], strict=True)]
    columns = (samples.query_rows.tolist(), samples.positive_rows.tolist(), negatives, samples.keys.tolist())
    return list(zip(*columns, strict=True))


def test_samples_without_negatives_are_kept_in_order_unless_dropped(animals, tmp_path):
    folder = make_mining(tmp_path / "mining", animals, ragged=True)
    mined = rows_of(read_samples(animals, folder))
    labels = animals.positives("test")
    short = [
        {"query_id": animals.query_ids[query], "positive_id": animals.document_ids[document], "written": 0, "reason": None}
        for query, document in zip(labels.query_rows.tolist(), labels.document_rows.tolist(), strict=True)
    ]
    short[0]["reason"], short[1]["written"], short[2]["reason"] = "exhausted: drop", 2, "exhausted"
    pq.write_table(pa.Table.from_pylist(short), folder / "shortfall.parquet")
    keys = sample_keys(animals, labels.query_rows, labels.document_rows).tolist()
    bare = list(zip(labels.query_rows.tolist(), labels.document_rows.tolist(), [[]] * len(keys), keys, strict=True))
    found = read_samples(animals, folder)
    assert rows_of(found) == sorted([*mined, *bare[2:]])
    smallest = sorted(rows_of(found), key=lambda row: row[3])[:7]
    assert rows_of(first_samples(found, 7)) == sorted(smallest)
