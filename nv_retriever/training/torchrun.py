"""torchrun as launch.py starts it: it also writes down which process failed, and of what, beside the job's file."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import parse_args, run

from nv_retriever.errors import first_line


def main(arguments: list[str]) -> None:
    """Run torchrun with its own arguments, the last of which is the job's file; ends with 1 where a process failed."""
    with TemporaryDirectory() as logs:  # torchrun's own one would stay
        try:
            run(parse_args(["--log-dir", logs, *arguments]))  # type: ignore[no-untyped-call]
        except ChildFailedError as error:
            print(error, file=sys.stderr)
            Path(arguments[-1]).with_suffix(".failed").write_text(first_failure(error.failures))
            raise SystemExit(1) from None


def first_failure(failures: dict[int, ProcessFailure]) -> str:
    """Return which process failed first, and of what, in one line.

    A killed process comes first, whatever the others say: losing it is what they fail of, or torchrun ends them by SIGTERM.
    """
    killed = {rank: one for rank, one in failures.items() if one.exitcode < 0 and -one.exitcode != signal.SIGTERM}
    rank, failure = min((killed or failures).items(), key=lambda item: _time(item[1]))
    if failure.exitcode == -signal.SIGKILL:
        return f"process {rank} was killed (SIGKILL), as it is where memory runs out"
    return f"process {rank} ended with {failure.signal_name() if failure.exitcode < 0 else _exception(failure)}"


def _time(failure: ProcessFailure) -> float:
    """Return when a process failed: torchrun counts whole seconds, and within one the others fail of it as well."""
    file = Path(failure.error_file)
    return file.stat().st_mtime if file.exists() else failure.timestamp


def _exception(failure: ProcessFailure) -> str:
    """Return the first line of the exception that a process recorded."""
    recorded: Any = failure.error_file_data["message"]  # text where it recorded none
    return first_line(recorded["message"]) if isinstance(recorded, dict) else f"exit code {failure.exitcode}"


if __name__ == "__main__":
    main(sys.argv[1:])
