"""Where a flow's run keeps what it makes: never in whatever folder a worker happens to be in."""

from __future__ import annotations

from pathlib import Path

from prefect.context import FlowRunContext

from nv_retriever.errors import InputError
from nv_retriever.remote_store import named_home, resolve_home

BY_DEPLOYMENT = ", since this run was started by a deployment"


def home_of_run(home: str | None) -> str:
    """Return the absolute home of this flow's run: as given, else NVR_HOME, else `.nvr` in the working directory.

    The working directory of a deployment's run is a checkout, or a worker's temporary folder: raises InputError where the
    home would lie in it.
    """
    named = named_home((home or "").strip())
    if "://" not in named and in_worker_folder(named):
        hint = "fill in the form's field home, or set NVR_HOME where the worker starts its runs"
        raise InputError("home", f"an absolute folder or a URL{BY_DEPLOYMENT}", repr(named), hint)
    return resolve_home(named)


def output_of_run(field: str, path: str | None) -> str | None:
    """Return where this flow's run writes what `field` asks for; raises InputError as `home_of_run` does."""
    if path is None:
        return None
    if in_worker_folder(path):
        raise InputError(field, f"an absolute path{BY_DEPLOYMENT}", repr(path))
    return str(Path(path).expanduser())


def in_worker_folder(path: str) -> bool:
    """Return whether a path means a place in the folder where a worker runs what a deployment started."""
    return from_deployment() and not Path(path).expanduser().is_absolute()


def from_deployment() -> bool:
    """Return whether the flow that runs was started by a deployment: from the Prefect UI, by a schedule, by a trigger."""
    context = FlowRunContext.get()
    return context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None
