"""How a command ends: expected errors are one line, a signal too, and the exit code says which it was."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from nv_retriever.disk import FULL
from nv_retriever.errors import GateError, InputError, printable

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


class PlainFormatter(logging.Formatter):
    """Shows what a message repeats of names, texts and answers; a terminal obeys none of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return printable(super().format(record))


class Terminated(KeyboardInterrupt):
    """SIGTERM: whoever asks for an end so gets what Ctrl-C gets."""


def terminate(*_: Any) -> None:
    """Answer SIGTERM by an exception, once: `timeout` and process managers send it again while things are put in order."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Answer SIGINT and SIGTERM after what is within: a process that starts there is then known to who has to end it."""
    came: list[int] = []
    held = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: came.append(number)) for number in held]
    try:
        yield
    finally:
        for number, handler in zip(held, before, strict=True):
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def ask_again(lost: UnraisableHookArgs) -> None:
    """Send a request to end again that came while an object was finalised: Python drops what is raised there."""
    if (ending := request_to_end(lost.exc_value)) is None:
        sys.__unraisablehook__(lost)
        return
    if ending == signal.SIGTERM and signal.getsignal(ending) == signal.SIG_IGN:
        signal.signal(ending, terminate)
    threading.Timer(0.1, os.kill, (os.getpid(), ending)).start()  # when the finaliser has returned


def guarded(run: Callable[[], None], debug: bool) -> None:
    """Run a command; raises typer.Exit with the code that says how it ended, and any unexpected error where `debug`."""
    signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = ask_again
    # A connection that breaks is an error to be told; the end of this process it is only where the result is printed.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        run()
    except (typer.Exit, typer.Abort):
        raise
    except (KeyboardInterrupt, Exception) as error:
        ending = request_to_end(error)
        if debug and ending is None:
            raise
        # What the frames hold (database connections) would be reported as leaked at the interpreter's end.
        traceback.clear_frames(error.__traceback__)
        if ending is not None:
            word, code = ("terminated", 143) if ending == signal.SIGTERM else ("interrupted", 130)
            print(f"{word}; the same command goes on where it stopped", file=sys.stderr)
            # Interrupted within an `exec` (as dataclasses do, while modules are imported), `python -m` would end by a signal
            # instead of the code, unless another `exec` was finished since then.
            exec("")
        else:
            assert isinstance(error, Exception)
            print(f"nvr: {printable(one_line(error))}", file=sys.stderr)
            code = 2 if isinstance(error, InputError) else 1
        raise typer.Exit(code) from None


def request_to_end(error: BaseException | None) -> signal.Signals | None:
    """Return the signal behind an error, if any: what is interrupted while it starts may raise an error of its own."""
    while isinstance(error, Exception):
        error = error.__cause__ or error.__context__
    if isinstance(error, Terminated) or getattr(error, "signal", None) == signal.SIGTERM:  # Prefect's TerminationSignal
        return signal.SIGTERM
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else None


def one_line(error: Exception) -> str:
    """Return what is told of an error without its traceback."""
    if isinstance(error, InputError | GateError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:  # a disk that is full, a folder that can't be written
        hint = "; make room there, and the same command goes on where it stopped" if error.errno in FULL else ""
        return f"{error.filename2 or error.filename}: {error.strerror}{hint} (--debug shows where)"
    said = str(error).partition("[SQL:")[0]  # MLflow's database repeats a statement and its values after what went wrong
    return f"{type(error).__name__}: {' '.join(said.split())} (--debug shows where)"


@contextmanager
def whole_output() -> Iterator[None]:
    """Write all that is printed within; a reader who went away (`| head`) ends the process without a word, as SIGPIPE does.

    Raises OSError where standard output takes no more, on a full disk for instance.
    """
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
        if sys.stdout is not None:  # as with `>&-`
            sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail again, with a traceback, at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise OSError(error.errno, error.strerror, "standard output") from None
    finally:
        signal.signal(signal.SIGPIPE, before)
