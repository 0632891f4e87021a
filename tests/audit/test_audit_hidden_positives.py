import numpy as np
import pytest
from audit_world import World, WorldScorer, exclusions, id_keys_of, random_world
from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever.audit.hidden_positives import sweep
from nv_retriever.audit.ranked import Table
from nv_retriever.audit.samples import draw
from nv_retriever.audit.tallies import Draw, Tally
from nv_retriever.mining.rules.parse import parse_rule
from nv_retriever.mining.selection import parse_selection

RULES = ("topk", "topk-shift(2)", "topk-abs(0.3)", "topk-marginpos(0.4)", "topk-percpos(0.9)", "topk-percpos(1.05)")


def run(world: World, scorer: WorldScorer | None = None, selection: str = "top(3)") -> list[Tally]:
    n_queries, n_documents = world.scores.shape
    labelled = world.labelled()
    keys = id_keys_of(n_queries, n_documents)
    samples = draw(labelled, keys, seed=0)
    table = Table(*world.table(), exclusions(world), n_documents, samples.scores)
    taking = Draw(parse_selection(selection), 7, keys)
    return sweep(samples, labelled, table, [parse_rule(name) for name in RULES], taking, scorer)


def limit(name: str, anchor: np.float32) -> float:
    wide = float(anchor)
    return {
        "topk": np.inf,
        "topk-shift(2)": np.inf,
        "topk-abs(0.3)": float(np.float32(0.3)),
        "topk-marginpos(0.4)": float(np.float32(wide - 0.4)),
        "topk-percpos(0.9)": float(np.float32(wide - (1 - 0.9) * abs(wide))),
        "topk-percpos(1.05)": float(np.float32(wide - (1 - 1.05) * abs(wide))),
    }[name]


def oracle(world: World, name: str, wanted: int, deepened: bool) -> dict[str, list[float]]:
    """One sample at a time, over the full ranking; without a scorer, as far down as the table proves."""
    rows: dict[str, list[float]] = {key: [] for key in ("samples", "covered", "unproven", "negatives", "false", "gaps")}
    for query in range(world.n_queries):
        groups = {world.groups[p] for p in world.positives[query] if np.isfinite(world.scores[query, p])}
        known = {world.groups[d] for d in world.excluded(query) if np.isfinite(world.scores[query, d])}
        known &= {world.groups[p] for p in world.positives[query]}
        visible = [p for p in sorted(world.positives[query]) if np.isfinite(world.scores[query, p])]
        if len(known) < 2 or not visible:
            continue
        assert groups <= known
        sums = dict.fromkeys(rows, 0.0)
        table = world.ranking(query, world.excluded(query))
        for positive in visible:
            ranking = world.sample_ranking(query, positive)
            if not deepened and len(table) > world.depth:
                last = table[world.depth - 1] if world.depth else None
                ranking = ranking[: ranking.index(last) + 1] if last is not None else []
            anchor = world.scores[query, positive]
            survivors = [
                d
                for rank, d in enumerate(ranking, 1)
                if world.scores[query, d] < limit(name, anchor) and (rank > 2 or "shift" not in name)
            ]
            chosen = survivors[:wanted]
            sums["samples"] += 1
            sums["covered"] += len(chosen) == wanted
            sums["unproven"] += len(chosen) < wanted and not deepened and len(table) > world.depth
            sums["negatives"] += len(chosen)
            sums["false"] += sum(world.groups[d] in {world.groups[p] for p in world.positives[query]} for d in chosen)
            sums["gaps"] += sum(float(anchor) - float(world.scores[query, d]) for d in chosen)
        for key, value in sums.items():
            rows[key].append(value)
    return rows


worlds = st.builds(
    random_world, st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 25), st.integers(1, 12), st.booleans()
)


@given(worlds, st.booleans())
@settings(max_examples=150, deadline=None)
def test_counts_equal_mining_one_sample_at_a_time(world: World, deepened: bool) -> None:
    tallies = run(world, WorldScorer(world) if deepened else None)
    for name, tally in zip(RULES, tallies, strict=True):
        for key, expected in oracle(world, name, 3, deepened).items():
            assert getattr(tally, key) == pytest.approx(expected, abs=1e-5), (name, key)


@given(worlds, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_deepening_gives_the_same_by_deeper_tables_and_by_limits(world: World, deeper: int) -> None:
    whole = run(world, WorldScorer(world), "sample(2, of=4)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nv_retriever.audit.hidden_positives.DEEPER", deeper)
        for a, b in zip(whole, run(world, WorldScorer(world), "sample(2, of=4)"), strict=True):
            assert np.array_equal(a.false, b.false)
            assert np.array_equal(a.negatives, b.negatives)
            assert np.array_equal(a.ranks, b.ranks)


def test_a_sweep_without_shortage_searches_nothing() -> None:
    world = random_world(1, 4, 20, 20)
    scorer = WorldScorer(world)
    run(world, scorer)
    assert scorer.searched == 0


def test_drawn_negatives_are_some_of_the_window_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    world = random_world(2, 8, 60, 60)
    whole = run(world, selection="top1+sample(2, of=6)")
    small = [slice(start, start + 1) for start in range(1000)]
    monkeypatch.setattr("nv_retriever.audit.ranked.blocks", lambda n, width, cells=0: small[:n])
    for a, b in zip(whole, run(world, selection="top1+sample(2, of=6)"), strict=True):
        assert np.array_equal(a.false, b.false)
        assert np.array_equal(a.gaps, b.gaps)
    assert whole[0].negatives.sum() == 2 * whole[0].samples.sum()


def test_without_candidates_nothing_is_found_and_nothing_breaks() -> None:
    world = World(np.array([[0.9, 0.8]], np.float32), [{0, 1}], np.arange(2, dtype=np.int32), 5)
    tally = run(world)[0]
    assert (tally.samples.sum(), tally.negatives.sum(), tally.false.sum(), tally.covered.sum()) == (2, 2, 2, 0)


def test_all_single_positives_give_empty_tallies() -> None:
    world = World(np.ones((3, 9), np.float32), [{1}, {2}, {3}], np.arange(9, dtype=np.int32), 3)
    assert [len(tally.samples) for tally in run(world)] == [0] * len(RULES)
