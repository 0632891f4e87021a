"""The deployments, the work pools and the compose file say what Prefect, the flows and the image understand."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path

import prefect
import pytest
import yaml
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.events.schemas.automations import AutomationCore, Posture
from prefect.flows import load_flow_from_entrypoint
from prefect.settings.models.flows import FlowsSettings
from prefect.utilities.schema_tools import validate

from deployments.serve import deployment_parameters, served_flows
from nv_retriever.evaluation.beir import benchmark_settings
from nv_retriever.plan.config import PipelineConfig

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deployments"
PREFECT = yaml.safe_load((FOLDER / "prefect.yaml").read_text())
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
POOLS = sorted(FOLDER.glob("pools/*.json"), key=lambda path: path.stem)
IMAGE = f"nv-retriever:{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}"
PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")


@pytest.mark.parametrize("deployment", PREFECT["deployments"], ids=lambda deployment: deployment["name"])
def test_a_deployment_s_parameters_are_those_of_its_flow(deployment):
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    accepted = flow.validate_parameters(deployment["parameters"])
    assert accepted.keys() >= deployment["parameters"].keys()
    with pytest.raises(prefect.exceptions.ParameterTypeError):
        flow.validate_parameters({**deployment["parameters"], "config": {"no_such_setting": 1}})


def test_served_and_deployed_flows_have_the_same_names():
    assert {deployment["name"] for deployment in PREFECT["deployments"]} == served_flows().keys() | {"nightly"}


def test_a_served_evaluation_of_a_benchmark_keeps_the_benchmark_s_own_split():
    parameters = deployment_parameters("home", PipelineConfig(teachers=[{"name": "bm25"}]))
    config = load_flow_from_entrypoint("flows/evaluation.py:evaluation").validate_parameters(parameters)["config"]
    assert config.teachers[0].name == "bm25"
    assert benchmark_settings(config.evaluation, "msmarco").split == "dev"


def test_a_form_that_sends_every_field_keeps_the_benchmark_s_own_rules():
    """Prefect's page fills in the defaults, and sends what nobody touched with what was changed."""
    config = PipelineConfig.model_validate(PipelineConfig().model_dump(mode="json"))
    assert benchmark_settings(config.evaluation, "msmarco").split == "dev"
    assert benchmark_settings(config.evaluation, "quora").ignore_identical_ids is True
    assert benchmark_settings(config.evaluation, "my/folder").split == "test"


def test_served_runs_find_folders_that_were_named_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("set", "vectors", "student"):
        (tmp_path / name).mkdir()
    tree = {"dataset": {"source": "set"}, "teachers": [{"name": "vectors:vectors"}, {"name": "bm25"}]}
    config = PipelineConfig(**tree, student={"encoder": {"model": "./student"}})
    served = deployment_parameters("home", config)["config"]
    assert served["dataset"]["source"] == str(tmp_path / "set")
    assert [teacher["name"] for teacher in served["teachers"]] == [f"vectors:{tmp_path / 'vectors'}", "bm25"]
    assert served["student"]["encoder"]["model"] == str(tmp_path / "student")


def known_pools():
    """Return the templates of the work pools that this Prefect ships, by type."""
    views = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
    workers = [worker for package in json.loads(views.read_text()).values() for worker in package.values()]
    return {worker["type"]: worker["default_base_job_configuration"] for worker in workers}


@pytest.mark.parametrize("path", POOLS, ids=lambda path: path.stem)
def test_a_work_pool_s_template_fits_its_type_and_the_deployments(path):
    template, known = json.loads(path.read_text()), known_pools()[path.stem]
    variables, configuration = template["variables"], template["job_configuration"]
    assert configuration.keys() <= known["job_configuration"].keys()
    for name in known["job_configuration"].keys() & {"command", "env", "name", "labels", "image"}:
        assert configuration[name] == f"{{{{ {name} }}}}"
    assert set(PLACEHOLDER.findall(json.dumps(configuration))) == variables["properties"].keys()
    defaults = {name: about["default"] for name, about in variables["properties"].items() if "default" in about}
    validate(defaults, variables, raise_on_error=True)
    for deployment in PREFECT["deployments"]:
        values = deployment["work_pool"]["job_variables"]
        assert values.keys() <= variables["properties"].keys()
        validate(values, variables, raise_on_error=True)
    assert variables["properties"]["image"]["default"] == IMAGE


def test_the_automation_for_lost_runs_is_one_that_prefect_takes():
    about = yaml.safe_load((FOLDER / "lost-runs.yaml").read_text())
    automation = AutomationCore.model_validate(about)
    assert automation.trigger.posture == Posture.Proactive
    (action,) = automation.actions
    assert action.state == StateType.CRASHED and automation.trigger.within > 3 * timedelta(
        seconds=FlowsSettings.model_fields["heartbeat_frequency"].default
    )
    final = {f"prefect.flow-run.{state.name.title()}" for state in TERMINAL_STATES}
    assert automation.trigger.expect == final | automation.trigger.after
    assert "deployments/lost-runs.yaml" in (ROOT / "docs" / "scale.md").read_text()


def test_the_pools_that_the_files_name_are_of_types_that_prefect_has():
    pages = [FOLDER / "prefect.yaml", FOLDER / "compose.yaml", ROOT / "docs" / "scale.md"]
    text = "\n".join(page.read_text() for page in pages)
    types = set(re.findall(r"work-pool create nvr --type (\w+)", text))
    assert types == {"process", *(path.stem for path in POOLS)} and types <= known_pools().keys()
    assert {deployment["work_pool"]["name"] for deployment in PREFECT["deployments"]} == {"nvr"}
    for template in re.findall(r"--base-job-template ([\w./-]+)", text):
        assert (ROOT / template).is_file()


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_pinned_and_bound_to_the_loopback_device(name):
    service = COMPOSE["services"][name]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", []))
    assert service["image"] == IMAGE or re.search(r":RELEASE\.\d{4}-\d\d-\d\dT[\d-]+Z$", service["image"])
    assert set(service.get("depends_on", [])) <= COMPOSE["services"].keys()
    assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= COMPOSE["volumes"].keys()
    if service["image"] == IMAGE:
        program = shlex.split(service["command"])[0]
        assert program == "sh" or (Path(sys.executable).parent / program).exists() or shutil.which(program)
        assert (COMPOSE["services"][name]["build"]["dockerfile"]) == "deployments/Dockerfile"


def test_commands_in_compose_name_services_and_deployments():
    text = (FOLDER / "compose.yaml").read_text()
    addresses = set(re.findall(r"(?:http|tcp)://(?!127\.|localhost)(\w+):\d+", text))
    assert addresses <= COMPOSE["services"].keys()
    flow, name = re.search(r"deployment run ([\w-]+)/(\w+)", text).groups()
    found = {deployment["name"]: deployment["entrypoint"] for deployment in PREFECT["deployments"]}
    assert load_flow_from_entrypoint(found[name]).name == flow


def test_the_image_is_pinned_to_a_python_that_the_project_takes():
    image = (FOLDER / "Dockerfile").read_text()
    version = re.search(r"^FROM python:(\d+)\.(\d+)\.\d+-slim-\w+$", image, re.MULTILINE)
    assert version and tuple(map(int, version.groups())) >= (3, 11)
    assert importlib.util.find_spec("s3fs") and "makedirs" in COMPOSE["services"]["bucket"]["command"]


@pytest.mark.parametrize("configured", ["environment", "profile"])
def test_serve_takes_the_configured_server_and_its_own_home_for_runs_whose_form_has_none(configured, tmp_path):
    program = """
import os, sys
from deployments.serve import serve_deployments
from flows.server import free_port
from nv_retriever.plan.config import PipelineConfig
try:
    serve_deployments(free_port(), sys.argv[1], PipelineConfig())
except Exception as error:  # nobody listens there
    print(os.environ["NVR_HOME"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(tmp_path), "NVR_HOME": "else"}
    if configured == "environment":
        environment["PREFECT_API_URL"] = "http://127.0.0.1:1/api"
    else:
        profile = 'active = "own"\n[profiles.own]\nPREFECT_API_URL = "http://127.0.0.1:1/api"\n'
        (tmp_path / "profiles.toml").write_text(profile)
    command = [sys.executable, "-c", program, "/the/home"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == "/the/home\n", done.stderr
    assert "Prefect UI: http://127.0.0.1:1 " in done.stderr
