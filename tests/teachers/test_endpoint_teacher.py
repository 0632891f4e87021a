"""An embedding server on this machine that fails in all the ways that real ones do."""

import gzip
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.build import write_embeddings
from nv_retriever.embedding.shards import Vectors
from nv_retriever.errors import InputError
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.endpoint import EndpointEmbedder, EndpointError, EndpointIdentity
from nv_retriever.teachers.names import teacher_digest


def vector(text, dim=5):
    return [float(byte) for byte in np.random.default_rng(sum(map(ord, text)) + len(text)).integers(1, 99, dim)]


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.troubles, self.requests, self.texts, self.lock, self.dim = [], [], [], threading.Lock(), 5
        self.broken_after = None
        self.arrivals = []


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.arrivals.append(time.monotonic())
            trouble = server.troubles.pop(0) if server.troubles else None
            server.requests.append((self.path, body["model"], self.headers.get("Authorization"), len(body["input"])))
            if server.broken_after is not None and len(server.requests) > server.broken_after:
                trouble = 400
            if trouble is None:
                server.texts.extend(body["input"])
        rows = [{"index": n, "embedding": vector(text, server.dim)} for n, text in enumerate(body["input"])][::-1]
        if isinstance(trouble, int):
            self.answer(trouble, b'{"error": "trouble"}', {"Retry-After": "0"} if trouble == 429 else {})
        elif trouble == "short":
            self.answer(200, json.dumps({"data": rows[1:]}).encode())
        elif trouble == "ragged":
            rows[0]["embedding"].pop()
            self.answer(200, json.dumps({"data": rows}).encode())
        elif trouble == "a vector a token":
            nested = [{**row, "embedding": [row["embedding"]] * 2} for row in rows]
            self.answer(200, json.dumps({"data": nested}).encode())
        elif trouble == "no model":
            self.answer(200, b'{"error": "no such model"}')
        elif trouble == "no json":
            self.answer(200, b"<html>busy</html>")
        elif trouble == "no data":
            self.answer(200, b"{}")
        elif trouble == "tower":
            self.answer(200, b"[" * 100_000)
        elif trouble == "no float":
            rows[0]["embedding"][0] = 10**400
            self.answer(200, json.dumps({"data": rows}).encode())
        elif trouble == "no gzip":
            self.answer(200, json.dumps({"data": rows}).encode(), {"Content-Encoding": "gzip"})
        elif trouble == "large":
            self.answer(200, gzip.compress(b" " * 10_000_000), {"Content-Encoding": "gzip"})
        elif trouble == "redirect":
            self.answer(307, b"", {"Location": f"http://localhost:{server.server_port}/elsewhere"})
        elif trouble == "closed":
            self.close_connection = True
        elif trouble == "nan":
            rows[0]["embedding"][0] = None
            self.answer(200, json.dumps({"data": rows}).encode())
        else:
            self.answer(200, json.dumps({"data": rows}).encode())

    def answer(self, status, content, headers=()):
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(monkeypatch):
    for name in ("OPENAI_API_KEY", "NVR_ENDPOINT_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NVR_ENDPOINT_BATCH", "4")
    monkeypatch.setenv("NVR_ENDPOINT_REQUESTS_PER_MINUTE", "100000")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


@pytest.fixture
def animals(small_beir, tmp_path):
    (tmp_path / "dataset").mkdir()
    write_dataset(tmp_path / "dataset", DatasetConfig(source=str(small_beir)))
    return Dataset.open(tmp_path / "dataset")


def teacher(server, **encoder):
    name = f"endpoint:http://127.0.0.1:{server.server_port}/v1#small"
    return TeacherConfig(name=name, encoder=EncoderConfig(**encoder))


def embedder(server, window=12, **encoder):
    found = EndpointEmbedder(EndpointIdentity.of(teacher(server, **encoder)), pause=0.001)
    found.window_texts = window
    return found


def expected(texts):
    vectors = np.array([vector(text) for text in texts], np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_vectors_by_index_in_batches(server, animals, tmp_path):
    counts = write_embeddings(tmp_path / "out", animals, "documents", embedder(server), tmp_path / "vectors")
    vectors = Vectors.open(tmp_path / "out")
    np.testing.assert_allclose(vectors.take(range(40)), expected(animals.document_texts()), atol=1e-6)
    assert (counts["encoded"], vectors.score_kind, len(server.requests)) == (40, "cosine", 10)
    assert {(path, model, size) for path, model, _, size in server.requests} == {("/v1/embeddings", "small", 4)}
    again = write_embeddings(tmp_path / "again", animals, "documents", embedder(server), tmp_path / "vectors")
    assert (again["encoded"], len(server.requests)) == (0, 10)


def test_prompts_and_raw_vectors(server):
    plain = embedder(server, normalize=False, query_prompt="Q: ")
    found = next(plain.encode_windows(iter([["otter"]]), "query", "fp32"))
    assert found.tolist() == [vector("Q: otter")] and plain.score_kind == "dot" and plain.dim == 5
    assert server.texts == ["Q: otter"]


PASSING = [429, 500, 503, "short", "ragged", "a vector a token", "no json", "no data", "closed"]


@pytest.mark.parametrize("trouble", [*PASSING, "tower", "no float", "no gzip"])
def test_what_may_pass_is_tried_again(server, trouble):
    server.troubles = [trouble] * 3
    found = next(embedder(server).encode_windows(iter([["a", "b", "c"]]), "document", "fp32"))
    np.testing.assert_allclose(found, expected(["a", "b", "c"]), atol=1e-6)
    assert len(server.requests) == 4


def test_what_does_not_pass_is_said(server):
    server.troubles = [500] * 100
    with pytest.raises(EndpointError, match=r"8 attempts.*HTTP 500"):
        list(embedder(server).encode_windows(iter([["a"]]), "document", "fp32"))
    assert len(server.requests) == 8
    server.troubles = ["no model"] * 8
    with pytest.raises(EndpointError, match=r"no embeddings in the reply .*no such model"):
        list(embedder(server).encode_windows(iter([["a"]]), "document", "fp32"))


def test_a_key_does_not_follow_to_another_address(server, monkeypatch):
    monkeypatch.setenv("NVR_ENDPOINT_KEY", "secret")
    server.troubles = ["redirect"]
    with pytest.raises(InputError, match="HTTP 307"):
        list(embedder(server).encode_windows(iter([["a"]]), "document", "fp32"))
    assert [path for path, *_ in server.requests] == ["/v1/embeddings"]


def test_an_answer_that_would_fill_the_memory_is_not_read(server, monkeypatch):
    monkeypatch.setattr("nv_retriever.retries.LARGEST_REPLY", 1_000_000)
    server.troubles = ["large"]
    with pytest.raises(InputError, match=r"/v1/embeddings: expected an answer of at most 1,000,000 bytes, found more"):
        list(embedder(server).encode_windows(iter([["a"]]), "document", "fp32"))


@pytest.mark.parametrize(("status", "message"), [(400, "HTTP 400"), (401, "NVR_ENDPOINT_KEY"), (404, "HTTP 404")])
def test_wrong_requests_are_not_repeated(server, status, message):
    server.troubles = [status]
    with pytest.raises(InputError, match=message):
        list(embedder(server).encode_windows(iter([["a"]]), "document", "fp32"))
    assert len(server.requests) == 1


def test_a_failed_run_goes_on_where_it_stopped(server, animals, tmp_path, monkeypatch):
    monkeypatch.setenv("NVR_ENDPOINT_CONCURRENCY", "1")
    server.broken_after = 7
    with pytest.raises(InputError, match="HTTP 400"):
        write_embeddings(tmp_path / "out", animals, "documents", embedder(server), tmp_path / "vectors")
    server.broken_after = None
    counts = write_embeddings(tmp_path / "out", animals, "documents", embedder(server), tmp_path / "vectors")
    assert counts["encoded"] == 40 - 24, "two windows of twelve were kept, the third was under way"
    found = Vectors.open(tmp_path / "out").take(range(40))
    np.testing.assert_allclose(found, expected(animals.document_texts()), atol=1e-6)


def test_missing_numbers_are_quarantined(server, animals, tmp_path):
    server.troubles = ["nan"]
    counts = write_embeddings(tmp_path / "out", animals, "documents", embedder(server), tmp_path / "vectors")
    assert counts["quarantined"] == 1


def test_another_length_halfway_is_an_error(server):
    running = embedder(server)
    list(running.encode_windows(iter([["a"]]), "document", "fp32"))
    server.dim = 6
    with pytest.raises(InputError, match="length 5 as before, found length 6"):
        list(running.encode_windows(iter([["b"]]), "document", "fp32"))


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "NVR_ENDPOINT_KEY"])
@pytest.mark.parametrize("key", ["secret", " secret\r\n"])
def test_the_key_comes_from_the_environment(server, monkeypatch, name, key):
    monkeypatch.setenv(name, key)
    list(embedder(server).encode_windows(iter([["a"]]), "document", "fp32"))
    assert server.requests[0][2] == "Bearer secret"


@pytest.mark.parametrize("key", ["sec\nret", "secrét"])
def test_a_key_that_is_no_header_is_not_repeated(server, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError, match="OPENAI_API_KEY: expected a key of printable ASCII") as error:
        embedder(server)
    assert "sec" not in str(error.value)


def test_a_url_that_is_none_is_not_tried_again():
    embedder = EndpointEmbedder(EndpointIdentity.of(TeacherConfig(name="endpoint:http://h:port#small")), pause=60)
    with pytest.raises(InputError, match="a URL"):
        list(embedder.encode_windows(iter([["a"]]), "document", "fp32"))


def test_a_server_with_another_model_by_the_same_name_mixes_no_lengths(server, animals, tmp_path):
    write_embeddings(tmp_path / "out", animals, "documents", embedder(server), tmp_path / "vectors")
    server.dim = 6
    with pytest.raises(InputError, match="length 5 as before, found 6"):
        write_embeddings(tmp_path / "queries", animals, "train", embedder(server), tmp_path / "vectors")
    counts = write_embeddings(tmp_path / "out", animals, "documents", embedder(server), tmp_path / "vectors")
    assert (counts["encoded"], counts["quarantined"]) == (0, 0), "what was paid for stays"


def test_requests_keep_their_distance(server, monkeypatch):
    monkeypatch.setenv("NVR_ENDPOINT_REQUESTS_PER_MINUTE", "600")
    monkeypatch.setenv("NVR_ENDPOINT_BATCH", "1")
    running = embedder(server)
    assert running.interval == pytest.approx(0.1)
    start = time.monotonic()
    list(running.encode_windows(iter([["a", "b", "c", "d", "e"]]), "document", "fp32"))
    # Since the start, not since the request before: an arrival is late where the machine is busy, and never early.
    waited = np.sort(server.arrivals) - start
    assert len(waited) == 5 and (waited >= 0.1 * np.arange(5)).all()


@pytest.mark.parametrize("name", ["NVR_ENDPOINT_BATCH", "NVR_ENDPOINT_CONCURRENCY"])
def test_wrong_settings(server, monkeypatch, name):
    monkeypatch.setenv(name, "many")
    with pytest.raises(InputError, match=name):
        embedder(server)


def test_one_changed_thing_is_another_teacher(server):
    changes = [{}, {"normalize": False}, {"query_prompt": "q"}, {"document_prompt": "d"}]
    digests = {teacher_digest(teacher(server, **change)) for change in changes}
    assert len(digests) == len(changes)
    with pytest.raises(InputError, match=r"only the server has.*pooling"):
        teacher_digest(teacher(server, pooling="cls"))
