"""One sample as one teacher sees it: a row for each document, with all that decided about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nv_retriever.mining.miner import Miner
from nv_retriever.mining.relabelled import Relabelled
from nv_retriever.mining.types import Choice, Teacher, TripleReason
from nv_retriever.mining.vetoes import Vetoes
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import Reason

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset

_REASONS = {
    Reason.POSITIVE: "labelled positive",
    Reason.DUPLICATE: "content of a positive",
    Reason.QUERY_ID: "id of the query",
    Reason.QUERY_TEXT: "text of the query",
    Reason.SAME_QUERY: "positive of the same query text",
}


@dataclass(frozen=True)
class Row:
    """One document in the view of one (query, positive) sample and one teacher."""

    positive_id: str
    teacher: str
    document_id: str
    rank: int | None
    """Over all allowed documents, from 1; None for excluded ones, and for those drawn from below what was looked at."""
    score: float | None
    anchor: float
    """The positive score that the rule compares with."""
    limit: float | None
    """A candidate has to score below it; None where the rule sets none."""
    position: int | None
    """Place among the sample's negatives, from 0; None where it is none."""
    outcome: str
    """`kept`, `deepened`, `relaxed`, `random`, or why it is no negative."""
    judge: str | None = None
    """The judge's verdict, where it was asked."""
    text: str = ""


@dataclass(frozen=True)
class View:
    """One sample as one teacher sees it."""

    miner: Miner
    teacher: Teacher
    number: int
    sample: int
    query: int
    choice: Choice
    """Of this sample alone."""
    vetoes: Vetoes
    dataset: Dataset

    def excluded(self, table: Candidates) -> list[Row]:
        """Return the documents that were never candidates, by score."""
        all_of = table.excluded
        part = slice(int(all_of.offsets[self.query]), int(all_of.offsets[self.query + 1]))
        columns = all_of.documents[part], all_of.scores[part], all_of.reasons[part]
        order = np.argsort(-columns[1], kind="stable")
        told = [
            self._row(document, None, score, f"excluded: {_REASONS[Reason(reason)]}")
            for document, score, reason in zip(*(column[order].tolist() for column in columns), strict=True)
        ]
        return _with_texts(told, columns[0][order], self.dataset)

    def candidates(self) -> list[Row]:
        """Return the candidates down to the last one that was looked at, then what was drawn at random."""
        mine, choice = self._mine(), self.choice
        places = {int(choice.documents[0, j]): (j, TripleReason(choice.reasons[0, j]).text) for j in mine.tolist()}
        documents, scores = self._ranked(self._last())
        seen = set(documents.tolist())
        random = [j for j in mine.tolist() if int(choice.documents[0, j]) not in seen]
        told = []
        outcomes = self._outcomes(documents, scores)
        if choice.short[0] and self.miner.plan.shortfall == "drop":
            outcomes = ["dropped with its sample" if outcome == "not chosen" else outcome for outcome in outcomes]
        for i, document in enumerate(documents.tolist()):
            if outcomes[i] == "not chosen" and (other := self._giver(document)):
                outcomes[i] = f"given by {other}"
            position, outcome = places.get(document, (None, outcomes[i]))
            told.append(self._row(document, i + 1, float(scores[i]), outcome, position))
        for j in random:
            document = int(choice.documents[0, j])
            told.append(self._row(document, None, float(choice.scores[0, j]), places[document][1], j))
        return _with_texts(told, np.r_[documents, choice.documents[0, random]], self.dataset)

    def beyond(self, document: int) -> Row:
        """Return the row of a document that is neither excluded nor among the candidates that were looked at."""
        rank, score = self._place(document)
        if rank is None:
            outcome = "without a score" if np.isnan(score) else "not among the documents that the teacher ranks"
        else:
            (outcome,) = self._outcomes(np.array([document]), np.array([score]), rank)
            if outcome == "not chosen" and (other := self._giver(document)):
                outcome = f"given by {other}"
            elif outcome == "not chosen" and (last := self._last()):
                outcome = f"not chosen: the last document that was looked at has rank {last}"
        return _with_texts([self._row(document, rank, score, outcome)], np.array([document]), self.dataset)[0]

    def _mine(self) -> np.ndarray:
        """Return which of the sample's negatives this teacher gave."""
        return np.flatnonzero((self.choice.documents[0] >= 0) & (self.choice.teachers[0] == self.number))

    def _giver(self, document: int) -> str | None:
        """Return the teacher that gave the sample a document, if any."""
        given = self.choice.teachers[0, self.choice.documents[0] == document]
        return self.miner.teachers[given[0]].name if len(given) else None

    def _last(self) -> int:
        """Return the rank of the last negative, or down to which nothing else was found where the sample is short."""
        last = int(self.choice.ranks[0, self._mine()].max(initial=0))
        if self.choice.short[0]:
            last = max(last, min(int(self.choice.depth[0]), len(self.teacher.documents[self.query])))
        return last

    def _place(self, document: int) -> tuple[int | None, float]:
        """Return rank and score of an allowed document, by one search from its score on where the table does not hold it."""
        inside = np.flatnonzero(self.teacher.documents[self.query] == document)
        if len(inside):
            return int(inside[0]) + 1, float(self.teacher.scores[self.query][inside[0]])
        if self.teacher.scorer is None:
            return None, float("nan")
        scorer, query = self.teacher.scorer(), np.array([self.query])
        score = scorer.score_pairs(query, np.array([document], np.int32))
        wanted, number = 1, 0
        while np.isfinite(score[0]) and number < scorer.n_documents:
            # Of those with the same score it is as many places further as have a smaller row.
            number, excluded = wanted, self.teacher.exclusions().take(query)
            found = scorer.search(query, number, excluded, np.nextafter(score, np.float32(np.inf)))
            if len(place := np.flatnonzero(found.documents[0] == document)):
                return int(found.above[0] + place[0]) + 1, float(score[0])
            if not len(found.documents[0]) or found.documents[0, -1] < 0 or found.scores[0, -1] < score[0]:
                break
            wanted = min(2 * number, scorer.n_documents)
        return None, float(score[0])

    def _ranked(self, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the `last` best allowed documents and their scores: from the table, or by a search where that is short."""
        documents, scores = self.teacher.documents[self.query], self.teacher.scores[self.query]
        if last > len(documents) and self.teacher.scorer is not None:
            query = np.array([self.query])
            found = self.teacher.scorer().search(query, last, self.teacher.exclusions().take(query))
            documents, scores = found.documents[0], found.scores[0]
        there = np.flatnonzero(documents[:last] >= 0)
        return documents[there], scores[there]

    def _outcomes(self, documents: np.ndarray, scores: np.ndarray, first: int = 1) -> list[str]:
        """Say why each candidate from rank `first` on would not be a negative, in the order in which the miner decides."""
        plan, number = self.miner.plan, len(documents)
        pairs = np.full(number, self.sample), np.full(number, self.query, np.int32), documents
        guards = self.vetoes.hidden, self.vetoes.near_duplicates
        hidden, near = (np.zeros(number, bool) if guard is None or not number else guard(*pairs) for guard in guards)
        outcomes = []
        for i, document in enumerate(documents.tolist()):
            judged = self._verdict(document)
            if scores[i] >= self.teacher.limits[self.sample]:
                outcomes.append("at or above the limit")
            elif first + i < plan.rule.min_rank:
                outcomes.append(f"rank before {plan.rule.min_rank}")
            elif scores[i] < plan.floor:
                outcomes.append("below min_score")
            elif hidden[i]:
                outcomes.append("hidden positive (oracle)")
            elif near[i]:
                outcomes.append("near-duplicate of a positive")
            else:
                outcomes.append("judged away" if judged not in (None, "keep") else "not chosen")
        return outcomes

    def _verdict(self, document: int) -> str | None:
        """Return the verdict on this sample, else one that took the document away from the query's other samples."""
        if self.vetoes.judged is None:
            return None
        verdicts = self.vetoes.judged.verdicts
        own = verdicts.get((self.sample, document))
        others = [v.verdict for (s, d), v in verdicts.items() if d == document and v.verdict != "keep"]
        return own.verdict if own is not None and (own.verdict != "keep" or not others) else (others[0] if others else None)

    def _row(self, document: int, rank: int | None, score: float, outcome: str, position: int | None = None) -> Row:
        limit = float(self.teacher.limits[self.sample])
        return Row(
            positive_id=str(self.dataset.document_ids[self.miner.samples.positives[self.sample]]),
            teacher=self.teacher.name,
            document_id=str(self.dataset.document_ids[document]),
            rank=rank,
            score=float(score) if np.isfinite(score) else None,
            anchor=float(self.teacher.anchors[self.sample]),
            limit=limit if np.isfinite(limit) else None,
            position=position,
            outcome=outcome,
            judge=self._verdict(document),
        )


def relabelled_rows(added: Relabelled, dataset: Dataset) -> list[Row]:
    """Return the negatives of the samples that a judge added, by sample, teacher and position."""
    told, found = [], added.choice.documents
    for number, teacher in enumerate(added.teachers):
        for sample, position in np.argwhere((found >= 0) & (added.choice.teachers == number)).tolist():
            rank = int(added.choice.ranks[sample, position])
            score, limit = float(added.choice.scores[sample, position]), float(teacher.limits[sample])
            row = Row(
                positive_id=str(dataset.document_ids[added.samples.positives[sample]]),
                teacher=teacher.name,
                document_id=str(dataset.document_ids[found[sample, position]]),
                rank=rank or None,
                score=score,
                anchor=float(teacher.anchors[sample]),
                limit=limit if np.isfinite(limit) else None,
                position=position,
                outcome=TripleReason(added.choice.reasons[sample, position]).text,
            )
            told.append((sample, row, found[sample, position]))
    told.sort(key=lambda one: one[0])
    return _with_texts([row for _, row, _ in told], np.array([document for *_, document in told], np.int64), dataset)


def _with_texts(rows: list[Row], documents: np.ndarray, dataset: Dataset) -> list[Row]:
    texts = dataset.document_texts(documents.astype(np.int64))
    return [replace(row, text=text) for row, text in zip(rows, texts, strict=True)]
