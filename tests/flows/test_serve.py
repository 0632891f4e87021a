"""Deployments that are registered again, as each start of `nvr serve` does, and how serving ends."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from prefect import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.settings import get_current_settings

from deployments.serve import make_deployments

pytestmark = pytest.mark.usefixtures("prefect_server")


def registered():
    """Register the deployments as `nvr serve` does, and return what the server then says of each."""
    ids = {one.name: one.apply() for one in make_deployments({"home": "/the/home"})}
    with get_client(sync_client=True) as client:
        return {name: client.read_deployment(one) for name, one in ids.items()}


def test_what_people_set_on_a_deployment_s_page_outlives_a_restart():
    first = registered()
    assert [(one.slug, one.active) for one in first["run"].schedules] == [("nightly", False)]
    weekly = (IntervalSchedule(interval=timedelta(days=7)), True)
    limit = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}}
    with get_client(sync_client=True) as client:
        client.update_deployment_schedule(first["run"].id, first["run"].schedules[0].id, active=True)
        client.create_deployment_schedules(first["mine"].id, [weekly])
        client.update_deployment(first["train"].id, DeploymentUpdate.model_validate(limit))
        client.pause_deployment(first["audit"].id)
    again = registered()
    assert [(one.slug, one.active, one.schedule) for one in again["run"].schedules] == [
        ("nightly", True, CronSchedule(cron="0 2 * * *", timezone="UTC"))
    ]
    assert [(one.schedule.interval, one.active) for one in again["mine"].schedules] == [(timedelta(days=7), True)]
    assert [name for name, one in again.items() if one.paused] == ["audit"]
    assert again["train"].global_concurrency_limit.limit == 1
    assert again["train"].concurrency_options.collision_strategy == "CANCEL_NEW"
    with get_client(sync_client=True) as client:
        client.delete_deployment_schedule(again["run"].id, again["run"].schedules[0].id)
    assert registered()["run"].schedules == []


ENDLESS = """
import os, signal, sys, time
from pathlib import Path
from prefect import flow

@flow
def endless(place: str):
    Path(place).write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    from deployments.runner import serve_until_told_to_end
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
    serve_until_told_to_end([endless.to_deployment(sys.argv[1])])
    print("ended")
"""


@pytest.mark.parametrize("ending", ["SIGTERM", "Ctrl-C"])
def test_a_run_under_way_is_cancelled_when_serving_ends(ending, tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    place, root = tmp_path / "under way", Path(__file__).resolve().parent.parent.parent
    environment = os.environ | get_current_settings().to_environment_variables(exclude_unset=True)
    environment |= {"PYTHONPATH": str(root), "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    command = [sys.executable, "endless.py", ending]
    serving = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline, run = time.monotonic() + 300, None
    with get_client(sync_client=True) as client:
        while not (place.exists() and place.read_text()) and serving.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            found = client.read_deployments()
            if run is None and (mine := [one for one in found if one.name == ending]):
                run = client.create_flow_run_from_deployment(mine[0].id, parameters={"place": str(place)})
        process = psutil.Process(int(place.read_text()))
        if ending == "Ctrl-C":  # the terminal tells all its processes
            os.killpg(serving.pid, signal.SIGINT)
        else:
            serving.send_signal(signal.SIGTERM)
        printed, told = serving.communicate(timeout=300)
        state = client.read_flow_run(run.id).state
    assert state.is_final(), (state, told)
    assert state.is_cancelled() or ending == "Ctrl-C", (state, told)
    assert not process.is_running()
    assert (serving.returncode, printed.splitlines()[-1:]) == (0, ["ended"]) and "Traceback" not in told, told
