"""The server beside a command: it answers while the command lives, and is gone with it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flows.server import is_healthy

COMMAND = """
import sys
from flows.server import temporary_server
from prefect.settings import PREFECT_API_URL
with temporary_server() as wait_for_server:
    wait_for_server()
    print(PREFECT_API_URL.value(), flush=True)
    sys.stdin.read()
"""
PATIENCE_SECONDS = 300


def start_command(home: Path) -> tuple[subprocess.Popen[str], str]:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        env=environment | {"PREFECT_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, process.stdout.readline().strip()


def lets_in(url: str, origin: str) -> bool:
    """Return whether a browser lets a page of `origin` start runs on the server at `url`."""
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    reply = httpx.options(f"{url}/flow_runs/filter", headers=asks)
    return reply.headers.get("Access-Control-Allow-Origin") in ("*", origin)


@pytest.mark.parametrize("ending", ["orderly", "kill -9"])
def test_the_server_ends_with_its_command(prefect_home: Path, ending: str) -> None:
    process, url = start_command(prefect_home)
    assert url.startswith("http://127.0.0.1:")
    assert is_healthy(url)
    assert not lets_in(url, "http://somewhere.example") and lets_in(url, url.removesuffix("/api"))
    if ending == "kill -9":
        process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_healthy(url) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_healthy(url)


def test_a_configured_server_is_used(tmp_path: Path) -> None:
    environment = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:1/api", "PREFECT_HOME": str(tmp_path)}
    code = COMMAND.replace("    wait_for_server()\n", "").replace("sys.stdin.read()", "pass")
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "http://127.0.0.1:1/api"
