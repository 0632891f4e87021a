import numpy as np
from audit_world import World, exclusions, id_keys_of, random_world
from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever.audit.ranked import Table, rank
from nv_retriever.audit.samples import Samples, draw

worlds = st.builds(
    random_world,
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.integers(1, 25),
    st.integers(0, 12),
    st.booleans(),
)


def drawn(world: World, **options: int) -> Samples:
    return draw(world.labelled(), id_keys_of(*world.scores.shape), options.pop("seed", 0), **options)


def table_of(world: World) -> Table:
    return Table(*world.table(), exclusions(world), world.scores.shape[1], np.empty(0, np.float32))


@given(worlds)
@settings(max_examples=150, deadline=None)
def test_samples_are_the_positives_of_queries_with_two_distinct_positives(world: World) -> None:
    expected = [
        (q, d)
        for q in range(world.n_queries)
        for d in sorted(world.positives[q])
        if np.isfinite(world.scores[q, d])
        and len(
            {
                world.groups[p]
                for p in world.excluded(q)
                if np.isfinite(world.scores[q, p]) and world.groups[p] in {world.groups[x] for x in world.positives[q]}
            }
        )
        > 1
    ]
    samples = drawn(world)
    assert list(zip(samples.queries.tolist(), samples.documents.tolist(), strict=True)) == expected


@given(worlds)
@settings(max_examples=300, deadline=None)
def test_ranked_is_a_prefix_of_the_true_ranking_and_knows_its_end(world: World) -> None:
    samples, table = drawn(world), table_of(world)
    ranked = rank(samples, world.labelled(), table)
    for i in range(len(samples)):
        q, visible = int(samples.queries[i]), int(samples.documents[i])
        truth = world.sample_ranking(q, visible)
        found = [int(d) for d in ranked.documents[i] if d >= 0]
        assert found == truth[: len(found)]
        assert len(found) >= min(world.depth, len(truth))
        if ranked.exhausted[i]:
            assert found == truth
        positives = {world.groups[p] for p in world.positives[q]}
        for column, document in enumerate(found):
            assert ranked.scores[i, column] == world.scores[q, document]
            assert ranked.hidden[i, column] == (world.groups[document] in positives)
        assert not ranked.hidden[i, len(found) :].any()


def test_draw_depends_on_ids_and_seed() -> None:
    world = random_world(3, 12, 60, 10)
    labelled, keys = world.labelled(), id_keys_of(12, 60)
    some = draw(labelled, keys, seed=1, per_query=1, limit=6)
    assert len(some) == 6
    assert len(set(some.queries.tolist())) == 6
    again = draw(labelled, keys, seed=1, per_query=1, limit=6)
    assert np.array_equal(some.documents, again.documents)
    pairs = {tuple(x) for s in range(8) for x in zip(*_pairs(draw(labelled, keys, s, 1)), strict=True)}
    assert len(pairs) > len(some)


def _pairs(samples: Samples) -> tuple[list[int], list[int]]:
    return samples.queries.tolist(), samples.documents.tolist()


def test_limited_draw_is_nested_in_the_larger_one() -> None:
    world = random_world(5, 12, 60, 10)
    small = set(zip(*_pairs(drawn(world, limit=5)), strict=True))
    large = set(zip(*_pairs(drawn(world, limit=9)), strict=True))
    assert small < large


def test_single_positives_give_no_samples() -> None:
    world = World(np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32), [{1}, {2}, {3}, {4}], np.arange(9), 3)
    assert len(drawn(world)) == 0
    assert rank(drawn(world), world.labelled(), table_of(world)).documents.shape == (0, 0)


def test_duplicate_of_the_visible_positive_stays_excluded_and_that_of_a_hidden_one_comes_back() -> None:
    scores = np.array([[0.9, 0.89, 0.8, 0.79, 0.5]], np.float32)
    world = World(scores, [{0, 2}], np.array([0, 0, 1, 1, 2], np.int32), 3)
    samples = drawn(world)
    assert samples.documents.tolist() == [0, 2]
    ranked = rank(samples, world.labelled(), table_of(world))
    assert ranked.documents.tolist() == [[2, 3, 4], [0, 1, 4]]
    assert ranked.hidden.tolist() == [[True, True, False], [True, True, False]]
