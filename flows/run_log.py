"""What a run's log says on its page in the Prefect UI: the library's records too, and an expected error in one line."""

from __future__ import annotations

import logging

from nv_retriever.errors import GateError, InputError


class ExpectedErrors(logging.Filter):
    """Errors that are meant for people are logged as one line, without their traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record of an expected error; keep every record."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, InputError | GateError):
            record.msg, record.args, record.exc_info, record.exc_text = str(error), (), None, None
        return True


def prepare_run_log() -> None:
    """Shorten expected errors, and let the library's progress through.

    Prefect takes the records of PREFECT_LOGGING_EXTRA_LOGGERS, but leaves these loggers at the root's level, WARNING.
    """
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(ExpectedErrors())
    library = logging.getLogger("nv_retriever")
    if library.level == logging.NOTSET:  # the command line has chosen one
        library.setLevel(logging.INFO)
