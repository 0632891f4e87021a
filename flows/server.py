"""A Prefect server beside one command: started where none is configured, and gone when the command is gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from nv_retriever.errors import InputError

START_SECONDS = 180


def api_url(port: int) -> str:
    """Return the API of a server on this machine."""
    return f"http://127.0.0.1:{port}/api"


def only_own_pages(url: str) -> dict[str, str]:
    """Return the environment of a server at `url` that answers its own pages only, unless Prefect's settings say whose else.

    By default Prefect lets every page that a browser shows read it and start runs, with what model the page likes.
    """
    from prefect.settings import PREFECT_SERVER_CORS_ALLOWED_ORIGINS

    if PREFECT_SERVER_CORS_ALLOWED_ORIGINS.value() != "*":
        return {}
    own = url.removesuffix("/api")
    return {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{own},{own.replace('127.0.0.1', 'localhost')}"}


def is_healthy(url: str) -> bool:
    """Return whether a Prefect server answers."""
    try:
        # Without certificates: loading them takes longer than the answer.
        return httpx.get(f"{url}/health", timeout=2, verify=False).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until_healthy(server: subprocess.Popen[bytes], url: str) -> None:
    """Return when the started server answers; raises InputError if it ends, or does not answer in time."""
    deadline = time.monotonic() + START_SECONDS
    while not is_healthy(url):
        if server.poll() is not None or time.monotonic() > deadline:
            server.terminate()
            raise InputError(
                url, "a Prefect server that starts", "none", "look for what it printed, or choose another --port"
            )
        time.sleep(0.1)


def free_port() -> int:
    """Return a port of the loopback device that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def start_temporary_server() -> tuple[subprocess.Popen[bytes], str]:
    """Start a server without UI and background services as a process of its own; return it, and where it will answer."""
    port = free_port()
    environment = os.environ | only_own_pages(api_url(port))
    environment |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    # It is not to see Ctrl-C, which ends the flow in an orderly way first: a session of its own.
    server = subprocess.Popen(
        [sys.executable, "-m", "flows.server", str(port)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    return server, api_url(port)


@contextmanager
def temporary_server() -> Iterator[Callable[[], None]]:
    """Give flows a server: the configured one, or one that starts meanwhile; yields what waits until it answers."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if PREFECT_API_URL.value():
        yield lambda: None
        return
    server, url = start_temporary_server()
    try:
        with temporary_settings({PREFECT_API_URL: url}):
            try:
                yield lambda: wait_until_healthy(server, url)
            finally:
                deliver_records()
    finally:
        server.terminate()
        server.wait()
        if server.stdin is not None:
            server.stdin.close()


def deliver_records() -> None:
    """Wait until the server has what Prefect's threads still hold: log records and events."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=10)


def serve_until_parent_ends(port: int) -> None:
    """Serve, and end with whoever holds the other end of the standard input, even if it is killed."""
    # Not sys.stdin.read(): a daemon thread that holds the lock of a buffered stream may make Python abort at exit.
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
    import uvicorn

    uvicorn.run("prefect.server.api.server:create_app", factory=True, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    serve_until_parent_ends(int(sys.argv[1]))
