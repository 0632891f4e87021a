"""Serve the flows: the Prefect UI can start and schedule them as long as this process runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.ending import signals_held_back
from flows.server import api_url, is_healthy, only_own_pages, wait_until_healthy
from nv_retriever.plan.config import PipelineConfig

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

NIGHTLY = "0 2 * * *"


def serve_deployments(port: int, home: str, config: PipelineConfig) -> None:
    """Register the deployments with the configured server, or with one started here, and serve them until interrupted."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    parameters = deployment_parameters(home, config)
    os.environ["NVR_HOME"] = home  # of runs whose form has an empty home
    root = Path(__file__).resolve().parent.parent
    os.chdir(root)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    configured = PREFECT_API_URL.value()
    with nullcontext(configured) if configured else server_at(port) as url, temporary_settings({PREFECT_API_URL: url}):
        print(f"Prefect UI: {url.removesuffix('/api')} (Ctrl-C stops)", file=sys.stderr)
        from deployments.runner import serve_until_told_to_end

        serve_until_told_to_end(make_deployments(parameters))


@contextmanager
def server_at(port: int) -> Iterator[str]:
    """Yield the API of the Prefect server that answers at a port of this machine, or of one that is started, and ended."""
    url = api_url(port)
    if is_healthy(url):
        yield url
        return
    environment = os.environ | only_own_pages(url) | {"PREFECT_UI_API_URL": url}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = None
    try:
        with signals_held_back():
            # In a session of its own: it is not to see Ctrl-C, which ends the runs in an orderly way first.
            server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
        wait_until_healthy(server, url)
        yield url
    finally:
        if server is not None:
            server.terminate()
            server.wait()


def deployment_parameters(home: str, config: PipelineConfig) -> dict[str, Any]:
    """Return a deployment's parameters, with absolute paths: runs start in another folder.

    What nobody set stays unset, since a benchmark has a split of its own.
    """
    tree = config.model_dump(mode="json", exclude_unset=True)
    student = tree.get("student", {}).get("encoder", {})
    places = [(tree.get("dataset", {}), "source"), (student, "model"), (tree.get("mining", {}), "judge")]
    for group, key in [*places, *((teacher, "name") for teacher in tree.get("teachers", []))]:
        kind, colon, path = str(group.get(key) or "").rpartition(":")
        if kind in ("", "vectors", "cross-encoder") and path and Path(path).expanduser().exists():
            group[key] = f"{kind}{colon}{Path(path).expanduser().resolve()}"
    return {"config": tree, "home": home}


def make_deployments(parameters: dict[str, Any]) -> list[RunnerDeployment]:
    """Return the deployments as people left them; the whole pipeline's has a paused nightly schedule at first."""
    from prefect.schedules import Cron

    nightly = Cron(NIGHTLY, timezone="UTC", active=False, slug="nightly")
    deployments: list[Any] = []
    for name, flow in served_flows().items():
        kept = settings_of_people(f"{flow.name}/{name}") or {"schedules": [nightly] if name == "run" else []}
        deployments.append(flow.to_deployment(name=name, parameters=parameters, **kept))
    return deployments


def served_flows() -> dict[str, Flow[..., dict[str, Any]]]:
    """Return the flows by the names of their deployments."""
    from flows.auditing import auditing
    from flows.evaluation import evaluation
    from flows.mining import mining
    from flows.pipeline import pipeline
    from flows.training import training

    return {"run": pipeline, "mine": mining, "train": training, "evaluate": evaluation, "audit": auditing}


def settings_of_people(name: str) -> dict[str, Any] | None:
    """Return what people set on a deployment's page, which registering would set back; None for an unknown one."""
    from prefect import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            known = client.read_deployment_by_name(name)
        except ObjectNotFound:
            return None
    fields = {"schedule", "active", "parameters", "slug"}
    kept: dict[str, Any] = {
        "paused": known.paused,
        "schedules": [DeploymentScheduleCreate.model_validate(one.model_dump(include=fields)) for one in known.schedules],
    }
    if known.global_concurrency_limit:
        options = known.concurrency_options.model_dump() if known.concurrency_options else {}
        kept["concurrency_limit"] = ConcurrencyLimitConfig(limit=known.global_concurrency_limit.limit, **options)
    return kept
