"""What people read at the end of a command."""

import io

import pytest
from rich.console import Console

from flows.console import difference_cells, next_steps, show_ablation, show_audit, show_mined, show_plan, show_run, verdict

COUNTS = {"triples": 1200, "queries": 310, "samples": 320, "run_id": "abc", "database": "home/triples.duckdb"}
COUNTS |= {"empty": 0, "reasons": {"kept": 1150, "deepened": 50}}


def text(mining) -> str:
    console = Console(file=io.StringIO(), width=200)
    show_mined(console, mining)
    return console.file.getvalue()


def test_short_samples_come_with_their_reasons_in_words():
    found = text(COUNTS | {"short": 21, "short_reasons": {"exhausted": 20, "dropped: exhausted": 1}})
    assert "Mined 1,200 negatives for 310 queries; run abc in home/triples.duckdb" in found
    assert "21 of 320 samples found fewer than asked: the corpus has no more documents below their limits (20)" in found
    assert "dropped: exhausted (1)" in found and "nvr explain" in found and "filled" not in found


def test_samples_without_a_negative_are_not_counted_with_those_that_have_some():
    found = text(COUNTS | {"short": 21, "empty": 5, "short_reasons": {"exhausted": 21}})
    assert "Mined 1,200 negatives for 315 of 320 samples of 310 queries; run abc" in found


def test_what_was_filled_up_is_not_said_to_be_missing():
    filled = {"short": 21, "short_reasons": {"exhausted": 21}, "reasons": {"kept": 1130, "relaxed": 60, "random": 10}}
    assert "below their limits (21); filled up with 60 relaxed, 10 random negatives" in text(COUNTS | filled)


def test_nothing_is_said_of_shortness_where_there_is_none():
    assert "fewer" not in text(COUNTS | {"short": 0, "short_reasons": {}})


def test_a_rule_that_misses_the_target_is_not_recommended(capsys):
    teachers = [
        {"teacher": name, "recommendation": {"rule": "topk-percpos(0.5)", "met": met, "reason": "why"}}
        for name, met in (("a", True), ("b", False))
    ]
    show_audit({"rows": [], "teachers": teachers, "report": "report.html"})
    found = capsys.readouterr().out
    assert "Recommended for a: topk-percpos(0.5) (why)" in found and "Recommended for b" not in found
    assert "Nearest to the target for b: topk-percpos(0.5) (why)" in found


def test_a_difference_without_an_interval_is_shown_with_a_dash():
    one_query = {"nDCG@10": 0.25, "ci95": [None, None], "p": 1.0, "queries": 1}
    assert difference_cells("nDCG@10", one_query)["95 % interval"] == "–"
    several = difference_cells("nDCG@10", one_query | {"ci95": [-0.1, 0.6]})
    assert several == {"Δ nDCG@10 to base": "+0.2500", "95 % interval": "[-0.1000, +0.6000]", "p": "1"}


SCORES = dict.fromkeys(("nDCG@10", "R@100", "RR@10", "AP@100"), 0.25)
RUN = {
    "stages": [
        {
            "stage": "embed",
            "what": "climate-fever-sentences test queries by untrained student",
            "artifact": "embeddings/0123456789abcdef",
            "cached": False,
            "seconds": 12345.6,
        }
    ],
    "mining": COUNTS | {"database": "/long/" * 20 + "[bold]home/triples.duckdb", "short": 0, "short_reasons": {}},
    "evaluation": dict.fromkeys(("base", "bm25", "trained"), SCORES)
    | {"difference": {"nDCG@10": 0.0169, "ci95": [0.0112, 0.0244], "p": 0.0001, "queries": 431, "better": True}},
    "promoted": True,
    "checkpoint": "/home/[v2]/model",
    "mlflow_run_id": "f00d",
}


def run_shown(capsys, monkeypatch, columns: str) -> str:
    monkeypatch.setenv("COLUMNS", columns)
    show_run(RUN, "data/[v2]/pairs")
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", ["80", "40"])
def test_a_narrow_terminal_gets_every_number_whole(capsys, monkeypatch, columns):
    found = run_shown(capsys, monkeypatch, columns)
    assert max(map(len, found.splitlines()[:8])) <= 80
    cells = [line.split("│")[2].strip() for line in found.splitlines() if line.startswith("│") and line.count("│") == 6]
    assert " ".join(cells[:3]) == RUN["stages"][0]["what"]
    assert "│ embeddings/01234567 │ no     │ 12345.6 │" in found
    assert "+0.0169, 95 % interval [+0.0112, +0.0244], p 0.0001" in found
    assert "│ trained │ 0.2500  │ 0.2500 │ 0.2500 │ 0.2500 │" in found and "…" not in found


def test_names_with_brackets_and_long_paths_are_printed_as_they_are(capsys, monkeypatch):
    found = run_shown(capsys, monkeypatch, "80")
    assert RUN["mining"]["database"] in found
    assert "Retrieval on data/[v2]/pairs: 431 queries" in found and "Checkpoint: /home/[v2]/model" in found


def test_after_a_run_on_ones_own_data_the_next_steps_are_about_them(capsys, monkeypatch):
    assert "Next: nvr audit --dataset 'data/[v2]/pairs', how" in " ".join(run_shown(capsys, monkeypatch, "200").split())
    assert "nvr run --dataset FOLDER" in next_steps("stdlib", paid=True)
    assert "topk-marginpos(0.05)" in next_steps("pairs", paid=True) and "epochs" not in next_steps("pairs", paid=True)
    assert "with more training.epochs" in next_steps("pairs", paid=False)


@pytest.mark.parametrize(
    ("ci95", "champion", "bm25", "said"),
    [
        ([0.01, 0.02], True, 0.2, "Better than its base: made `champion` in MLflow"),
        (
            [0.01, 0.02],
            False,
            0.3,
            "Better than its base: a `champion` that scored higher on the same data stays; BM25 scores higher",
        ),
        ([-0.01, 0.02], False, 0.2, "Not shown to be better than its base: not made `champion`"),
        ([None, None], False, 0.2, "Not shown to be better than its base: not made `champion`"),
        ([-0.02, -0.01], False, 0.2, "Worse than its base: not made `champion`"),
    ],
)
def test_a_run_ends_with_a_verdict_in_words(ci95, champion, bm25, said):
    difference = {"ci95": ci95, "better": said.startswith("Better")}
    evaluation = {"trained": {"nDCG@10": 0.25}, "bm25": {"nDCG@10": bm25}, "difference": difference}
    assert verdict({"evaluation": evaluation, "promoted": champion}) == said


def test_a_plan_shows_what_changed_in_full(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    why = f"changed: mining: mining/{'a' * 32} → mining/{'b' * 32}; mining.rule: topk-percpos(0.95) → topk-marginpos(0.05)"
    stage = {"stage": "train", "what": "checkpoint", "artifact": f"checkpoint/{'c' * 32}", "cached": False, "why": why}
    show_plan({"stages": [stage]})
    shown = "changed: mining: mining/aaaaaaaa → mining/bbbbbbbb; mining.rule: topk-percpos(0.95) → topk-marginpos(0.05)"
    assert shown in capsys.readouterr().out


def test_means_have_no_sign_and_differences_have_one(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    row = {"name": "topk", "mean": 0.5, "ci95": [0.4, 0.6], "difference": 0.1, "difference_ci95": [-0.1, 0.3], "p": 0.2}
    show_ablation({"tables": {"methods": [row | {"false_negatives": 0.25, "paper": None}]}, "report": "report.html"})
    found = capsys.readouterr()
    assert all(text in found.out + found.err for text in ("[0.4000, 0.6000]", "+0.1000", "[-0.1000, +0.3000]", "25.0%"))
