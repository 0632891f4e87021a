"""Where runs keep what they make: a deployment's never in the folder that its worker is in."""

from typing import Any

import pytest
from prefect import get_client
from prefect.flow_engine import run_flow

from flows.auditing import auditing
from flows.evaluation import evaluation
from flows.home import home_of_run
from flows.mining import mining
from flows.pipeline import pipeline
from flows.training import training
from nv_retriever.errors import InputError

pytestmark = pytest.mark.usefixtures("prefect_server")


def run_deployed(flow: Any, **parameters: Any) -> Any:
    """Run a flow as a worker does that a deployment sent."""
    deployment = flow.to_deployment(name="form", parameters=parameters).apply()
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment)
    return run_flow(flow, flow_run=run, parameters=flow.validate_parameters(parameters))


FLOWS = [(flow, None) for flow in (pipeline, training, evaluation, auditing)]


@pytest.mark.parametrize(("flow", "home"), [*FLOWS, *((mining, home) for home in (None, "", "relative"))])
def test_a_deployed_run_without_a_home_stops_and_writes_nothing(flow, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NVR_HOME", raising=False)
    with pytest.raises(InputError, match=r"home: expected an absolute folder or a URL.*NVR_HOME"):
        run_deployed(flow, home=home)
    assert not list(tmp_path.iterdir())


def test_a_deployed_run_with_an_empty_home_takes_nvr_home(tmp_path, monkeypatch, small_beir):
    monkeypatch.setenv("NVR_HOME", str(tmp_path / "home"))
    with pytest.raises(InputError, match="split"):
        run_deployed(mining, home="", config={"dataset": {"source": str(small_beir)}, "split": "validation"})
    assert (tmp_path / "home" / "artifacts" / "dataset").exists()


OUTPUTS = [(mining, {"export_format": "triplet", "out": "negatives"}), (evaluation, {"mteb_results": "results"})]


@pytest.mark.parametrize(("flow", "output"), OUTPUTS, ids=["out", "mteb_results"])
def test_a_deployed_run_writes_for_people_only_where_they_said(flow, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"(out|mteb_results): expected an absolute path, .* by a deployment"):
        run_deployed(flow, home=str(tmp_path / "home"), config={"dataset": {"source": "/nowhere"}}, **output)
    assert not list(tmp_path.iterdir())


def test_outside_a_deployment_the_default_is_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NVR_HOME", raising=False)
    assert home_of_run(None) == home_of_run(" ") == str(tmp_path / ".nvr")
