import math
from dataclasses import replace

import numpy as np

from nv_retriever.audit.config import AuditConfig
from nv_retriever.audit.grid import default_rules
from nv_retriever.audit.recommend import knee, recommend
from nv_retriever.audit.rows import RuleRow, is_positive_aware, rule_rows
from nv_retriever.audit.tallies import Tally
from nv_retriever.mining.rules.parse import parse_rule

RELATIVE = AuditConfig(target_rate=None)
NAIVE = RuleRow("t", "topk", 100, 400, 160, 0.4, 0.35, 0.45, 0.0, 0.0, 0.0, 0.1, 1.0, 2.5, 1.0, 0.0, 0.0, False)


def row(rule: str, rate: float, gap: float, fewer_low: float = 0.0, coverage: float = 1.0, drop: float = 0.1) -> RuleRow:
    return replace(
        NAIVE,
        rule=rule,
        rate=rate,
        rate_low=rate - 0.02,
        rate_high=rate + 0.02,
        fewer=1 - rate / 0.4,
        fewer_low=fewer_low,
        hardness=gap,
        coverage=coverage,
        drop=drop,
        aware=is_positive_aware(parse_rule(rule)) if rule.startswith("topk") else True,
    )


def test_the_hardest_rule_that_surely_halves_the_rate() -> None:
    rows = [
        NAIVE,
        row("topk-percpos(0.95)", 0.22, 0.15, 0.4),
        row("topk-percpos(0.9)", 0.15, 0.2, 0.55),
        row("topk-percpos(0.8)", 0.05, 0.3, 0.8),
        row("topk-percentile(0.1)", 0.01, 0.12, 0.9, coverage=0.5),
        row("topk-shift(10)", 0.01, 0.05, 0.9),
    ]
    found = recommend(rows, 100, RELATIVE)
    assert (found.rule, found.met, found.measured) == ("topk-percpos(0.9)", True, True)
    assert recommend(rows, 100, AuditConfig()).rule == "topk-percpos(0.8)"
    assert recommend(rows, 100, AuditConfig(target_rate=0.08)).rule == "topk-percpos(0.8)"
    missed = recommend(rows, 100, AuditConfig(target_rate=0.01))
    assert (missed.rule, missed.met) == ("topk-percpos(0.8)", False)


def test_coverage_is_asked_relative_to_what_any_positive_aware_rule_reaches() -> None:
    rows = [NAIVE, row("topk-percpos(1)", 0.2, 0.1, 0.5, 0.94), row("topk-percpos(0.9)", 0.05, 0.2, 0.7, 0.93)]
    assert recommend(rows, 100, AuditConfig()).rule == "topk-percpos(0.9)"
    rows[2] = replace(rows[2], coverage=0.8)
    missed = recommend(rows, 100, AuditConfig())
    assert (missed.rule, missed.met) == ("topk-percpos(1)", False)


def test_no_false_negative_at_all_recommends_the_hardest() -> None:
    rows = [replace(NAIVE, false_negatives=0, rate=0.0, rate_high=0.01), row("topk-percpos(0.9)", 0.0, 0.2, math.nan)]
    assert recommend(rows, 100, RELATIVE).rule == "topk"


def test_where_every_setting_drops_too_much_the_fall_back_takes_the_one_that_drops_least() -> None:
    rows = [NAIVE, *(row(f"topk-percpos({p})", 0.1, 0.1, drop=drop) for p, drop in ((0.5, 1.0), (0.95, 0.93), (1, 0.9)))]
    found = recommend(rows, 3, AuditConfig())
    assert (found.rule, found.met, found.measured) == ("topk-percpos(1)", False, False)


def test_few_queries_of_several_positives_fall_back_on_drop_and_coverage() -> None:
    strict = row("topk-percpos(0.8)", math.nan, 0.3, drop=0.2)
    rows = [
        replace(NAIVE, rate=math.nan),
        row("topk-percpos(1.05)", math.nan, 0.1, drop=0.0),
        row("topk-percpos(0.98)", math.nan, 0.2, drop=0.4),
        row("topk-percpos(0.95)", math.nan, 0.25, drop=0.84),
        strict,
    ]
    found = recommend(rows, 3, AuditConfig())
    assert (found.rule, found.measured) == ("topk-percpos(0.98)", False)
    assert "only 3 queries have several" in found.reason
    assert "only 1 query has several" in recommend(rows, 1, AuditConfig()).reason
    easy = [replace(r, drop=0.05) if r.rule == "topk-percpos(0.95)" else r for r in rows]
    assert recommend(easy, 3, AuditConfig()).rule == "topk-percpos(0.95)"
    logits = [replace(NAIVE, rate=math.nan), row("topk-marginpos(0.05)", math.nan, 0.1)]
    assert recommend(logits, 0, AuditConfig()).rule == "topk-marginpos(0.05)"
    assert recommend([NAIVE], 0, AuditConfig()).rule == "topk"


def test_the_fall_back_leaves_out_rules_of_several_parts() -> None:
    both = row("topk-percpos(0.95)&topk-shift(5)", math.nan, 0.2)
    assert recommend([NAIVE, both], 3, AuditConfig()).rule == "topk"
    assert (
        recommend([NAIVE, both, row("topk-marginpos(0.05)", math.nan, 0.1)], 3, AuditConfig()).rule == "topk-marginpos(0.05)"
    )


def test_the_fall_back_names_the_paper_only_where_its_setting_was_swept() -> None:
    rows = [NAIVE, row("topk-percpos(0.9)", math.nan, 0.1), row("topk-percpos(0.5)", math.nan, 0.2)]
    found = recommend(rows, 3, AuditConfig())
    assert found.rule == "topk-percpos(0.5)" and "the strictest setting that drops" in found.reason


def test_a_rule_without_negatives_is_not_the_one_of_the_lowest_rate() -> None:
    nothing = {"negatives": 0, "false_negatives": 0, "rate": math.nan, "rate_high": math.nan, "hardness": math.nan}
    empty = replace(row("topk-percpos(0.95)", 0.0, 0.1, coverage=0.0), **nothing)
    some = row("topk-percpos(1)", 0.3, 0.1, coverage=0.0)
    found = recommend([NAIVE, empty, some], 100, AuditConfig())
    assert (found.rule, found.met) == ("topk-percpos(1)", False) and "nan" not in found.reason
    none = recommend([NAIVE, empty], 100, AuditConfig())
    assert not none.measured and "no positive-aware rule of enough coverage mined a negative" in none.reason


def test_where_no_rule_meets_the_target_the_lowest_upper_bound_decides_and_is_what_the_reason_names() -> None:
    lower = replace(row("topk-percpos(0.95)", 0.2, 0.1), rate_high=0.5)
    surer = replace(row("topk-percpos(0.9)", 0.25, 0.2), rate_high=0.3)
    found = recommend([NAIVE, lower, surer], 100, AuditConfig())
    assert found.rule == "topk-percpos(0.9)" and "the lowest upper bound" in found.reason


def test_without_a_positive_aware_rule_in_the_sweep_nothing_is_called_one() -> None:
    shift = replace(row("topk-shift(10)", 0.01, 0.3), rate_high=0.02)
    found = recommend([replace(NAIVE, rate=0.04, rate_high=0.05), shift], 100, AuditConfig())
    assert (found.rule, found.met, found.measured) == ("topk", False, False)
    assert "no single positive-aware rule was swept" in found.reason


def test_the_fall_back_says_which_coverage_it_asked() -> None:
    half = row("topk-percpos(0.95)", math.nan, 0.3, coverage=0.6)
    found = recommend([NAIVE, half], 3, AuditConfig())
    wanted = "fills at least 95 % of the samples that any positive-aware rule can fill (40 % of all are left short)"
    assert found.met and wanted in found.reason
    short = row("topk-percpos(0.95)", math.nan, 0.3, coverage=0.6, drop=0.1)
    missed = recommend([NAIVE, short, row("topk-marginpos(0)", math.nan, 0.3, coverage=0.9)], 3, AuditConfig())
    assert not missed.met and "drops too much or fills too few samples" in missed.reason


def test_the_fall_back_takes_the_loosest_of_settings_that_drop_alike() -> None:
    rows = [NAIVE, *(row(f"topk-percpos({p})", 0.1, 0.1, coverage=0.0, drop=1.0) for p in (0.5, 0.9, 1))]
    assert recommend([NAIVE, *(replace(one, negatives=0) for one in rows[1:])], 100, AuditConfig()).rule == "topk-percpos(1)"


def test_the_grid_of_scores_in_millions_is_one_of_known_rules() -> None:
    assert "topk-marginpos(6000000)" in default_rules("dot", 3e6)


def test_the_knee_is_the_bend_of_the_frontier() -> None:
    rows = [row("a", 0.4, 0.1), row("b", 0.1, 0.15), row("c", 0.05, 0.5), row("worse", 0.3, 0.3)]
    assert knee(rows) == "b"
    assert knee(rows[:2]) is None


def test_rows_are_ratios_of_sums_over_queries() -> None:
    def tally(false: list[float]) -> Tally:
        full = np.full(2, 4.0)
        columns = (
            np.ones(2),
            np.array([1.0, 0.0]),
            np.zeros(2),
            full,
            np.array(false),
            full / 4,
            full * 2,
            np.ones(2),
            full,
        )
        return Tally(*columns)

    rows = rule_rows(
        "t",
        list(map(parse_rule, ("topk", "topk-percpos(1)"))),
        [tally([2, 2]), tally([1, 1])],
        0.5,
        AuditConfig(resamples=200),
    )
    assert [r.rate for r in rows] == [0.5, 0.25]
    assert (rows[1].fewer, rows[1].fewer_low, rows[1].fewer_high) == (0.5, 0.5, 0.5)
    assert (rows[0].hardness, rows[0].hardness_normalised, rows[0].mean_rank) == (0.25, 0.5, 2.0)
    assert (rows[0].coverage, rows[0].drop) == (0.5, 0.25)
    empty = rule_rows("t", [parse_rule("topk")], [Tally(*[np.empty(0)] * 9)], 0.0, AuditConfig(resamples=200))[0]
    assert math.isnan(empty.rate)
    assert empty.to_json()["rate"] is None


def test_positive_aware_rules_never_keep_a_candidate_above_the_positive() -> None:
    aware = (
        "topk-marginpos(0)",
        "topk-percpos(1)",
        "topk-percpos(0.9)",
        "topk-percentile(0.5)",
        "topk-shift(3)&topk-percpos(1)",
    )
    others = ("topk", "topk-shift(10)", "topk-abs(0.7)", "topk-percpos(1.05)")
    assert [is_positive_aware(parse_rule(name)) for name in (*aware, *others)] == [True] * 5 + [False] * 4
