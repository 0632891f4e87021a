"""Where a flow's run keeps what it makes: never in whatever folder a worker happens to be in."""

from __future__ import annotations

from pathlib import Path

from prefect.context import FlowRunContext

from nv_retriever.errors import InputError
from nv_retriever.remote_store import named_home, resolve_home


def home_of_run(home: str | None) -> str:
    """Return the absolute home of this flow's run: as given, else NVR_HOME, else `.nvr` in the working directory.

    The working directory of a deployment's run is a checkout, or a worker's temporary folder: raises InputError where the
    home would lie in it.
    """
    named = named_home((home or "").strip())
    if from_deployment() and not ("://" in named or Path(named).expanduser().is_absolute()):
        hint = "fill in the form's field home, or set NVR_HOME where the worker starts its runs"
        raise InputError(
            "home", "an absolute folder or a URL, since this run was started by a deployment", repr(named), hint
        )
    return resolve_home(named)


def from_deployment() -> bool:
    """Return whether the flow that runs was started by a deployment: from the Prefect UI, by a schedule, by a trigger."""
    context = FlowRunContext.get()
    return context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None
