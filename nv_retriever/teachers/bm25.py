"""BM25 as a teacher: Lucene's formula by bm25s (Lù 2024, arXiv 2407.03618), exact search with exclusions and limits.

Defaults are Anserini's k1 0.9 and b 0.4, on which the BEIR paper's BM25 rests. Words are lower-cased runs of two or more
word characters, English stop words are removed and the rest is reduced by the Snowball English stemmer. Documents without a
word of the query score 0 and are candidates like all others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.progress import progress
from nv_retriever.search.types import Exclusions, FloatArray, ScoreKind, TopK
from nv_retriever.teachers.config import BM25Config
from nv_retriever.teachers.selection import fill_row

logger = logging.getLogger(__name__)
READ_TEXTS = 8192


class BM25Scorer:
    """BM25 over a data set's documents and the queries of one split; memory is one index and one row of scores."""

    score_kind: ScoreKind = "bm25"

    def __init__(self, dataset: Dataset, split: str, config: BM25Config | None = None) -> None:
        self.config = config or BM25Config()
        self.n_documents = dataset.n_documents
        queries = dataset.query_texts(dataset.query_rows(split))
        self.n_queries = len(queries)
        tokenizer = open_tokenizer(self.config)
        self.index = _build_index(dataset, tokenizer, self.config)
        empty = tokenizer.word_to_id.get("", -1)
        # False: words that no document has are unknown unless their stem is known ("never" would lose those as well).
        known = tokenizer.tokenize(queries, update_vocab=False, return_as="ids", show_progress=False) if queries else []
        self.words = [np.array([word for word in words if word != empty], np.int64) for words in known]
        """Of every query, the ids of its words that the corpus has, in the query's order, repeats included."""

    def scores(self, query: int) -> FloatArray:
        """Return one query's scores of all documents, (n_documents,) float32: the sum over its words in their order."""
        data, indices, bounds = (self.index.scores[name] for name in ("data", "indices", "indptr"))
        found = np.zeros(self.n_documents, np.float32)
        for word in self.words[query].tolist():
            part = slice(int(bounds[word]), int(bounds[word + 1]))
            found[indices[part]] += data[part]
        return found

    def search(
        self, query_rows: npt.NDArray[np.integer], k: int, excluded: Exclusions, limits: FloatArray | None = None
    ) -> TopK:
        """Return the k best allowed documents of each query, strictly below its limit where limits are given."""
        result = TopK.empty(len(query_rows), k)
        allowed = np.ones(self.n_documents, bool)
        with progress("search bm25", len(query_rows), "queries") as bar:
            for row, query in enumerate(query_rows.tolist()):
                out = excluded.documents[excluded.offsets[row] : excluded.offsets[row + 1]]
                allowed[out] = False
                documents = np.flatnonzero(allowed)
                allowed[out] = True
                limit = None if limits is None else float(limits[row])
                fill_row(result, row, documents, self.scores(query)[documents], limit)
                bar.advance()
        return result

    def score_pairs(self, query_rows: npt.NDArray[np.integer], document_rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return the scores of pairs (n,), the very numbers that `search` gives."""
        result = np.empty(len(query_rows), np.float32)
        queries, documents = np.asarray(query_rows), np.asarray(document_rows)
        order = np.argsort(queries, kind="stable")
        borders = np.flatnonzero(np.diff(queries[order])) + 1
        for group in np.split(order, borders) if len(order) else []:
            result[group] = self.scores(int(queries[group[0]]))[documents[group]]
        return result


def open_tokenizer(config: BM25Config) -> Any:
    """Return what cuts texts into words; raises InputError for a stemmer or stop words that there are not."""
    from bm25s.tokenization import Tokenizer

    stemmer = None
    if config.stemmer is not None:
        import Stemmer

        try:
            stemmer = Stemmer.Stemmer(config.stemmer).stemWord
        except KeyError:
            raise InputError("bm25.stemmer", f"one of {', '.join(Stemmer.algorithms())}", repr(config.stemmer)) from None
    try:
        return Tokenizer(lower=True, stopwords=config.stopwords or [], stemmer=stemmer)
    except ValueError as error:
        raise InputError("bm25.stopwords", "a list of bm25s, such as english", repr(config.stopwords), str(error)) from None


def _build_index(dataset: Dataset, tokenizer: Any, config: BM25Config) -> Any:
    import bm25s

    def words() -> Iterator[list[int]]:
        """Yield the token ids of every document."""
        with progress("index bm25", dataset.n_documents, "documents") as bar:
            for _, texts in dataset.iter_document_texts(READ_TEXTS):
                yield from tokenizer.streaming_tokenize(texts, update_vocab=True)
                bar.advance(len(texts))

    index = bm25s.BM25(method="lucene", k1=config.k1, b=config.b)
    corpus = list(words())
    vocabulary = tokenizer.get_vocab_dict()
    index.index((corpus, vocabulary), show_progress=False)
    return index
