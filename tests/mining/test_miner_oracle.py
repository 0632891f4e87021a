"""The miner agrees with the brute-force oracle on every rule x selection x anchor x ensemble x shortfall."""

import itertools

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix import MatrixScorer, exclusions_of

from nv_retriever.mining.anchor import anchor_scores
from nv_retriever.mining.miner import Miner
from nv_retriever.mining.randomness import IdKeys
from nv_retriever.mining.rules.parse import parse_rule
from nv_retriever.mining.selection import parse_selection
from nv_retriever.mining.types import MiningPlan, Samples, ShortReason, Teacher, TripleReason

RULES = [
    "topk",
    "topk-shift(2)",
    "topk-abs(0.5)",
    "topk-marginpos(0.1)",
    "topk-percpos(0.9)",
    "topk-percpos(1.05)",
    "topk-percentile(0.4)",
]
SEVERE = ["topk-abs(0)", "topk-marginpos(0.8)", "topk-shift(4)"]
"""Rules that leave many places to the shortfall policy."""
SELECTIONS = ["top(1)", "top(3)", "sample(2, of=4)", "top1+sample(3, of=5)"]
ANCHORS = ["each", "min", "max", "mean"]
ENSEMBLES = ["none", "cross-sample", "intra-sample", "intra-sample-dedup"]
SHORTFALLS = ["fewer", "relax", "random", "drop"]
VALUES = [-0.8, -0.2, 0.0, 0.1, 0.3, 0.45, 0.5, 0.55, 0.6, 0.9, float("nan")]


@st.composite
def worlds(draw, teachers=None):
    n_q, n_d = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    n_t = draw(st.integers(1, 3)) if teachers is None else teachers
    ties = draw(st.booleans())
    cell = st.sampled_from(VALUES) if ties else st.floats(-1, 1, width=32, allow_subnormal=False)
    matrices = [
        np.array(draw(st.lists(cell, min_size=n_q * n_d, max_size=n_q * n_d)), np.float32).reshape(n_q, n_d)
        for _ in range(n_t)
    ]
    flags = st.lists(st.integers(0, 3), min_size=n_d, max_size=n_d)
    labels = np.array([draw(flags) for _ in range(n_q)])
    positive = labels == 3
    for query in range(n_q):
        positive[query, draw(st.integers(0, n_d - 1))] = True
    allowed = ~positive & (labels != 2)
    samples = [(int(q), int(d)) for q, d in np.argwhere(positive)]
    return matrices, allowed, samples


def table(matrix, allowed, depth):
    scorer = MatrixScorer(matrix)
    found = scorer.search(np.arange(len(matrix)), depth, exclusions_of(allowed))
    return found.documents, found.scores


def choices(world, plan, anchor, depth, block_size=None, search=True, **vetoes):
    matrices, allowed, samples = world
    queries, positives = (np.array(column, np.int32) for column in zip(*samples, strict=True))
    teachers, scorers = [], []
    for number, matrix in enumerate(matrices):
        documents, scores = table(matrix, allowed, depth)
        own = matrix[queries, positives]
        anchors = anchor_scores(queries, own, anchor)
        scorers.append(MatrixScorer(matrix))
        teachers.append(
            Teacher(
                name=f"teacher {number}", score_kind="cosine", documents=documents, scores=scores, positive_scores=own,
                anchors=anchors, limits=plan.rule.limits(anchors), n_documents=allowed.shape[1],
                exclusions=lambda: exclusions_of(allowed), exhausted=allowed.sum(axis=1) <= depth,
                scorer=(lambda s=scorers[-1]: s) if search else None,
            )
        )  # fmt: skip
    ids = IdKeys(lambda: query_ids(matrices), lambda: document_ids(matrices))
    miner = Miner(Samples(queries, positives), teachers, plan, ids, block_size=block_size, **vetoes)
    return [choice for _, choice in miner.blocks()]


def run(world, plan, anchor, depth, *block_size, **options):
    matrices, _, samples = world
    results = []
    for choice in choices(world, plan, anchor, depth, *block_size, **options):
        for i in range(len(choice.documents)):
            columns = choice.documents[i], choice.teachers[i], choice.ranks[i], choice.reasons[i], choice.scores[i]
            rows = [
                (int(d), int(t), int(r), TripleReason(w).text, float(s))
                for d, t, r, w, s in zip(*columns, strict=True)
                if d >= 0
            ]
            assert all(matrices[t][samples[len(results)][0], d] == np.float32(s) for d, t, _, _, s in rows)
            assert all((why == "deepened") == (rank > depth) for _, _, rank, why, _ in rows if why in ("kept", "deepened"))
            results.append((int(choice.found[i]), [(d, t, r, "kept" if w == "deepened" else w) for d, t, r, w, _ in rows]))
    return results


def query_ids(matrices):
    return [f"q{i}" for i in range(matrices[0].shape[0])]


def document_ids(matrices):
    return [f"d{i}" for i in range(matrices[0].shape[1])]


def expected(world, rule, selection, anchor, ensemble, floor, shortfall, seed, vetoed=None):
    matrices, allowed, samples = world
    vetoed = np.zeros_like(allowed) if vetoed is None else vetoed
    ids = query_ids(matrices), document_ids(matrices)
    low = np.float32(-np.inf if floor is None else floor)
    return oracle.mine(matrices, allowed, vetoed, samples, rule, selection, anchor, ensemble, low, shortfall, seed, ids)


@settings(max_examples=250, deadline=None)
@given(
    world=worlds(), rule=st.sampled_from(RULES), selection=st.sampled_from(SELECTIONS), anchor=st.sampled_from(ANCHORS),
    ensemble=st.sampled_from(ENSEMBLES[1:]), shortfall=st.sampled_from(SHORTFALLS), floor=st.sampled_from([None, 0.05]),
    depth=st.integers(1, 11), block=st.integers(1, 5), seed=st.integers(0, 3),
)  # fmt: skip
def test_miner_equals_oracle(world, rule, selection, anchor, ensemble, shortfall, floor, depth, block, seed):
    ensemble = ensemble if len(world[0]) > 1 else "none"
    plan = MiningPlan(parse_rule(rule), parse_selection(selection), ensemble, floor, shortfall, seed)
    found = run(world, plan, anchor, depth, block)
    assert found == expected(world, rule, selection, anchor, ensemble, floor, shortfall, seed)


@settings(max_examples=150, deadline=None)
@given(
    world=worlds(), rule=st.sampled_from([*RULES, *SEVERE]), selection=st.sampled_from(SELECTIONS),
    ensemble=st.sampled_from(ENSEMBLES[1:]), shortfall=st.sampled_from(SHORTFALLS), floor=st.sampled_from([None, 0.05]),
    depth=st.integers(1, 11), seed=st.integers(0, 99), share=st.sampled_from([0, 0.4]), late=st.booleans(),
)  # fmt: skip
def test_what_is_vetoed_has_a_rank_but_fills_no_place(
    world, rule, selection, ensemble, shortfall, floor, depth, seed, share, late
):
    """A veto of every survivor, or of the chosen ones only, which is the same unless a draw or a drop looks at more."""
    ensemble = ensemble if len(world[0]) > 1 else "none"
    plan = MiningPlan(parse_rule(rule), parse_selection(selection), ensemble, floor, shortfall, seed)
    vetoed = np.random.default_rng(seed).random(world[1].shape) < share
    kind = "choice_vetoes" if late and selection.startswith("top(") and shortfall != "drop" else "pool_vetoes"
    found = run(world, plan, "each", depth, **{kind: [lambda samples, queries, documents: vetoed[queries, documents]]})
    assert found == expected(world, rule, selection, "each", ensemble, floor, shortfall, seed, vetoed)


@pytest.mark.parametrize("rule,selection", itertools.product(RULES, SELECTIONS))
def test_every_combination_once(rule, selection):
    rng = np.random.default_rng(7)
    for anchor, ensemble, shortfall in itertools.product(ANCHORS, ENSEMBLES, SHORTFALLS):
        n_t = 1 if ensemble == "none" else 2
        matrices = [rng.choice(np.array(VALUES, np.float32), (2, 7)) for _ in range(n_t)]
        positive = rng.random((2, 7)) < 0.25
        positive[:, 0] = True
        world = matrices, ~positive & (rng.random((2, 7)) < 0.9), [(int(q), int(d)) for q, d in np.argwhere(positive)]
        plan = MiningPlan(parse_rule(rule), parse_selection(selection), ensemble, None, shortfall, 5)
        assert run(world, plan, anchor, 4) == expected(world, rule, selection, anchor, ensemble, None, shortfall, 5)


@settings(max_examples=60, deadline=None)
@given(world=worlds(teachers=1), rule=st.sampled_from(RULES), selection=st.sampled_from(SELECTIONS))
def test_a_table_alone_gives_a_part_of_the_truth(world, rule, selection):
    """Without a teacher to search deeper nothing is invented: what is found without a draw is a prefix of the truth."""
    plan = MiningPlan(parse_rule(rule), parse_selection(selection))
    for short, full in zip(run(world, plan, "each", 3, search=False), run(world, plan, "each", 20), strict=True):
        assert short[0] <= full[0]
        if selection.startswith("top("):
            assert short[1] == full[1][: len(short[1])]


@settings(max_examples=120, deadline=None)
@given(
    world=worlds(teachers=1), rule=st.sampled_from(RULES), selection=st.sampled_from(["top(3)", "sample(3, of=4)"]),
    floor=st.sampled_from([None, 0.05]), search=st.booleans(),
)  # fmt: skip
def test_a_short_sample_says_whether_the_corpus_ended_and_how_deep_it_was_looked(world, rule, selection, floor, search):
    (matrix,), allowed, samples = world
    plan = MiningPlan(parse_rule(rule), parse_selection(selection), min_score=floor)
    (choice,) = choices(world, plan, "each", 3, search=search)
    for i, (query, positive) in enumerate(samples):
        scores = np.sort(matrix[query, allowed[query] & ~np.isnan(matrix[query])])[::-1]
        ended = allowed[query].sum() <= 3 or len(scores) < 3 or scores[2] < plan.floor
        if np.isnan(matrix[query, positive]):
            assert choice.short[i] == ShortReason.POSITIVE_NOT_SCORED
        elif choice.found[i] == 3:
            assert choice.short[i] == ShortReason.NONE
            assert selection != "top(3)" or choice.depth[i] == choice.ranks[i, -1]
        else:
            assert choice.short[i] == (ShortReason.EXHAUSTED if search or ended else ShortReason.NOT_SEARCHED)
            assert floor is not None or choice.depth[i] == (len(scores) if search else min(len(scores), 3))


def test_relaxed_places_go_to_the_nearest_to_the_limit_however_many_fail_the_rule():
    world = [np.linspace(0.9, 0.1, 9, dtype=np.float32)[None]], np.arange(9)[None] > 0, [(0, 0)]
    plan = MiningPlan(parse_rule("topk-abs(0)"), parse_selection("top(2)"), shortfall="relax")
    assert run(world, plan, "each", 3) == [(0, [(8, 0, 8, "relaxed"), (7, 0, 7, "relaxed")])]
    vetoed = [lambda samples, queries, documents: documents >= 5]
    assert run(world, plan, "each", 3, pool_vetoes=vetoed) == [(0, [(4, 0, 4, "relaxed"), (3, 0, 3, "relaxed")])]


def test_turns_skip_what_the_sample_has_the_first_document_too():
    matrix = np.array([[0.5, 0.4, 0.9]], np.float32)
    plan = MiningPlan(parse_rule("topk"), parse_selection("top(2)"), "intra-sample-dedup")
    found = run(([matrix, matrix], np.array([[True, True, False]]), [(0, 2)]), plan, "each", 3)
    assert found == [(2, [(0, 0, 1, "kept"), (1, 1, 2, "kept")])]


def test_a_block_holds_a_bounded_number_of_places(monkeypatch):
    monkeypatch.setattr(Miner, "mine", lambda self, samples: samples)
    rows = np.arange(5000, dtype=np.int32)
    plan = MiningPlan(parse_rule("topk"), parse_selection("top(100000)"))
    blocks = [rows for _, rows in Miner(Samples(rows, rows), [None], plan, None).blocks()]
    assert max(map(len, blocks)) * 100_000 <= 1 << 21 and sum(map(len, blocks)) == 5000
