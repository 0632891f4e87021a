"""Serve the flows: the Prefect UI can start and schedule them as long as this process runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from flows.server import api_url, is_healthy, wait_until_healthy
from nv_retriever.pipeline_config import PipelineConfig

NIGHTLY = "0 2 * * *"


def start_server(port: int) -> subprocess.Popen[bytes]:
    """Start a Prefect server on loopback and wait until it is healthy."""
    environment = os.environ | {"PREFECT_UI_API_URL": api_url(port)}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until_healthy(server, api_url(port))
    except KeyboardInterrupt:  # it is in a session of its own, where nothing else would end it
        server.terminate()
        raise
    return server


def serve_deployments(port: int, home: str, config: PipelineConfig) -> None:
    """Register the deployments with the configured server, or with one started here, and serve them until interrupted."""
    server = None
    if not os.environ.get("PREFECT_API_URL"):
        if not is_healthy(api_url(port)):
            server = start_server(port)
        os.environ["PREFECT_API_URL"] = api_url(port)
    parameters = deployment_parameters(home, config)
    os.environ["NVR_HOME"] = home  # of runs whose form has an empty home
    root = Path(__file__).resolve().parent.parent
    os.chdir(root)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    try:
        register_and_serve(parameters)
    finally:
        if server is not None:
            server.terminate()


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
    print(f"Prefect UI: {os.environ['PREFECT_API_URL'].removesuffix('/api')} (Ctrl-C stops)", file=sys.stderr)
    deployments: list[Any] = [
        pipeline.to_deployment(name="run", parameters=parameters, schedules=[nightly]),
        mining.to_deployment(name="mine", parameters=parameters),
        training.to_deployment(name="train", parameters=parameters),
        evaluation.to_deployment(name="evaluate", parameters=parameters),
        auditing.to_deployment(name="audit", parameters=parameters),
    ]
    serve(*deployments)
