"""An embedding server of the test's own, which can hold a request and say which process waits for it."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import psutil

DIM = 16


def vector(text):
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=DIM).tolist()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.texts, self.lock = [], threading.Lock()
        self.to_hold = 0
        self.held, self.release = threading.Event(), threading.Event()
        self.client_port = None

    @property
    def teacher(self):
        return f"endpoint:http://127.0.0.1:{self.server_port}/v1#hash"

    def hold(self, request):
        """Hold the request of this number (from 1) until `release`."""
        self.texts.clear()
        self.held.clear()
        self.release.clear()
        self.to_hold = request

    def waiting_process(self):
        """Return the process whose request is held."""
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == self.client_port and connection.pid:
                return psutil.Process(connection.pid)
        raise AssertionError(f"no process has port {self.client_port}")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        server = self.server
        with server.lock:
            server.texts.extend(texts)
            server.to_hold -= 1
            hold = server.to_hold == 0
        if hold:
            server.client_port = self.client_address[1]
            server.held.set()
            server.release.wait()
        content = json.dumps({"data": [{"index": n, "embedding": vector(text)} for n, text in enumerate(texts)]}).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            assert hold


@contextmanager
def embedding_server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
