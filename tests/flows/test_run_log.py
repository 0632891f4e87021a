"""The page of a run that a deployment started: what `nvr` says on a terminal stands there too."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, LogFilter
from prefect.settings import PREFECT_API_URL

from flows.mining import mining

pytestmark = pytest.mark.usefixtures("prefect_server")
ROOT = Path(__file__).resolve().parent.parent.parent
POOL = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["definitions"]["pool"]
PATIENCE_SECONDS = 300


def test_a_deployed_run_s_page_says_which_stages_ran(small_beir, tmp_path):
    config = {"dataset": {"source": str(small_beir)}, "teachers": [{"name": "bm25"}]}
    deployment = mining.to_deployment(name="log", parameters={"config": config, "home": str(tmp_path / "home")}).apply()
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment)
    given = {name: value for name, value in POOL["job_variables"]["env"].items() if name != "PYTHONPATH"}
    environment = os.environ | given | {"PREFECT__FLOW_RUN_ID": str(run.id), "PREFECT_API_URL": PREFECT_API_URL.value()}
    done = subprocess.run(
        [sys.executable, "-m", "prefect.engine"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with get_client(sync_client=True) as client:
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [run.id]}))
    named = {"ingest animals", "index animals train by bm25", "mine animals train by topk-percpos(0.95)"}
    assert {task.name for task in tasks} == named
    missing = {"ingest dataset", "index candidates", "mine mining"}
    deadline = time.monotonic() + PATIENCE_SECONDS  # the server writes log records in batches
    while missing and time.monotonic() < deadline:
        with get_client(sync_client=True) as client:
            said = [log.message for log in client.read_logs(LogFilter(flow_run_id={"any_": [run.id]}), limit=200)]
        missing -= {line.partition("/")[0] for line in said if line.endswith(": started")}
    assert not missing
