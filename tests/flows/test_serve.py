"""Deployments that are registered again, as each start of `nvr serve` does."""

from datetime import timedelta

import pytest
from prefect import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

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
    again = registered()
    assert [(one.slug, one.active, one.schedule) for one in again["run"].schedules] == [
        ("nightly", True, CronSchedule(cron="0 2 * * *", timezone="UTC"))
    ]
    assert [(one.schedule.interval, one.active) for one in again["mine"].schedules] == [(timedelta(days=7), True)]
    assert again["train"].global_concurrency_limit.limit == 1
    assert again["train"].concurrency_options.collision_strategy == "CANCEL_NEW"
    with get_client(sync_client=True) as client:
        client.delete_deployment_schedule(again["run"].id, again["run"].schedules[0].id)
    assert registered()["run"].schedules == []
