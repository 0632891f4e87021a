"""Serve the flows: the Prefect UI can start and schedule them as long as this process runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from flows.ending import signals_held_back
from flows.server import api_url, is_healthy, wait_until_healthy
from nv_retriever.pipeline_config import PipelineConfig

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
        register_and_serve(parameters)


@contextmanager
def server_at(port: int) -> Iterator[str]:
    """Yield the API of the Prefect server that answers at a port of this machine, or of one that is started, and ended."""
    url = api_url(port)
    if is_healthy(url):
        yield url
        return
    environment = os.environ | {"PREFECT_UI_API_URL": url}
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


def register_and_serve(parameters: dict[str, Any]) -> None:
    """Serve the flows, the whole pipeline with a paused nightly schedule."""
    from prefect import serve
    from prefect.schedules import Cron

    from flows.auditing import auditing
    from flows.evaluation import evaluation
    from flows.mining import mining
    from flows.pipeline import pipeline
    from flows.training import training

    nightly = Cron(NIGHTLY, timezone="UTC", active=False, slug="nightly")
    deployments: list[Any] = [
        pipeline.to_deployment(name="run", parameters=parameters, schedules=[nightly]),
        mining.to_deployment(name="mine", parameters=parameters),
        training.to_deployment(name="train", parameters=parameters),
        evaluation.to_deployment(name="evaluate", parameters=parameters),
        auditing.to_deployment(name="audit", parameters=parameters),
    ]
    serve(*deployments)
