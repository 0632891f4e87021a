import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nv_retriever import progress as module
from nv_retriever.progress import progress

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def every_unit(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    monkeypatch.setattr(module, "LOG_EVERY_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "nv_retriever.progress"):
        yield


def test_off_a_terminal_progress_is_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    with progress("embed documents", 8, "texts") as shown:
        shown.advance(2)
        shown.advance(6)
    assert [line.rsplit(",", 1)[0] for line in caplog.messages] == [
        "embed documents: 2 of 8 texts 25 %",
        "embed documents: 8 of 8 texts 100 %",
    ]


def test_a_total_that_is_not_known_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    with progress("train", 0, "steps") as shown:
        shown.advance(10)
    assert caplog.messages == ["train: 10 steps"]


def test_what_was_finished_before_counts_but_does_not_make_the_rest_look_fast(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("train", 100, "steps", before=80) as shown:
        shown.advance(10)
    assert caplog.messages == ["train: 90 of 100 steps 90 %, 10 s left"]


@pytest.mark.parametrize("total", [4, 0])
def test_on_a_terminal_it_is_a_bar_that_clears_itself(total: int) -> None:
    program = (
        "import logging; from nv_retriever.progress import progress\n"
        "logging.getLogger('nv_retriever').setLevel(logging.INFO)\n"
        f"with progress('train', {total}, 'steps', before=1) as shown:\n"
        "    shown.advance(2)\n"
        "    assert shown.done == 3\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", program], stderr=theirs, env=environment, cwd=ROOT)
    os.close(theirs)
    text = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert ("3/4" if total else "3/?") in text and text.rstrip().endswith("\x1b[2K")
