"""MLflow's own file in the home: a process that is killed while MLflow makes it leaves nothing that stops the next."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from nv_retriever.errors import InputError
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.trained_specifications import checkpoint_spec
from nv_retriever.training.development import METRIC
from tasks.tracking.client import log_metrics, open_client
from tasks.tracking.names import metric_name, registered_name
from tasks.tracking.record import EXPERIMENT
from tasks.tracking.training import TrainingRun

MAKE = "import sys; from tasks.tracking.client import open_client; open_client(sys.argv[1])"


def test_a_kill_while_the_database_is_made(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path)], env=environment, stderr=subprocess.DEVNULL)
    aside = tmp_path / ".mlflow.db.new"
    deadline = time.monotonic() + 300
    while not (aside.exists() and aside.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert process.poll() is None, "ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert aside.exists() and not (tmp_path / "mlflow.db").exists()
    client, experiment = open_client(str(tmp_path))
    assert client.get_experiment(experiment).name == EXPERIMENT
    assert (tmp_path / "mlflow.db").exists() and not aside.exists()


def test_a_file_that_is_no_database_is_said_with_what_to_do(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match=r"mlflow.db: expected MLflow's SQLite database.*move it away"):
        open_client(str(tmp_path))
    path.unlink()
    client, experiment = open_client(str(tmp_path))
    assert client.get_experiment(experiment).name == EXPERIMENT


def test_a_truncated_database_is_said_with_what_to_do(tmp_path):
    open_client(str(tmp_path))
    path = tmp_path / "mlflow.db"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"mlflow.db: expected MLflow's SQLite database.*move it away"):
        open_client(str(tmp_path))


def test_the_scores_of_early_stopping_are_a_curve(small_beir, tmp_path):
    config = PipelineConfig.model_validate({"dataset": {"source": str(small_beir)}, "training": {"early_stopping": {}}})
    run = TrainingRun(checkpoint_spec(config), str(tmp_path))
    for step, score in ((50, 0.5), (100, 0.75)):
        run.log(step, {METRIC: score})
    run.flush()
    found = run.client.get_metric_history(run.run_id, "nDCG_10")
    assert [(point.step, point.value) for point in found] == [(50, 0.5), (100, 0.75)]


def test_a_copied_home_s_runs_write_to_the_copy(tmp_path):
    first, copy = tmp_path / "a home", tmp_path / "copy"
    client, experiment = open_client(str(first))
    run = client.create_run(experiment)
    model = client.create_logged_model(experiment, "model", run.info.run_id)
    client.create_registered_model("m")
    client.create_model_version("m", f"models:/{model.model_id}", run.info.run_id)
    shutil.copytree(first, copy)
    client, experiment = open_client(str(copy))
    places = [
        client.get_experiment(experiment).artifact_location,
        client.get_run(run.info.run_id).info.artifact_uri,
        client.get_logged_model(model.model_id).artifact_location,
        client.get_model_version_download_uri("m", "1"),
    ]
    assert all(place.startswith((copy / "mlartifacts").as_uri()) for place in places)
    assert client.create_run(experiment).info.artifact_uri.startswith(places[0])


FULL = """
import resource, sys
from pathlib import Path
from flows.ending import one_line
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.trained_specifications import checkpoint_spec
from tasks.tracking.training import TrainingRun
config = PipelineConfig.model_validate({"dataset": {"source": sys.argv[1]}})
run = TrainingRun(checkpoint_spec(config), sys.argv[2])
size = Path(sys.argv[2], "mlflow.db").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    for step in range(2000):
        run.log(step, {f"a value of {number}": 0.5 for number in range(50)})
except OSError as error:
    print(one_line(error))
"""


def test_a_full_disk_is_told_with_the_place_of_the_database(tmp_path, small_beir):
    """A limit on the size of files stands for the disk."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-c", FULL, str(small_beir), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith(f"{tmp_path / 'mlflow.db'}: "), done
    assert "Traceback" not in done.stderr


def test_names_that_mlflow_refuses_are_made_fit(tmp_path, small_beir):
    client, experiment = open_client(str(tmp_path))
    run = client.create_run(experiment).info.run_id
    for text in ("x" * 300, "endpoint:http://host/v1#m/topk", "/" * 3, "データ" * 90):
        if name := metric_name(text):
            client.log_metric(run, f"{name}/coverage", 1.0)
    assert len(client.get_run(run).data.metrics) == 3
    folder = small_beir.rename(tmp_path / 'bob\'s "data"')
    name = registered_name(checkpoint_spec(PipelineConfig(dataset={"source": str(folder)})))
    assert client.search_model_versions(f"name = '{name}' and run_id = '{run}'") == []


def test_more_values_than_mlflow_takes_at_once(tmp_path):
    client, experiment = open_client(str(tmp_path))
    run = client.create_run(experiment).info.run_id
    values = {f"rule {number}": float(number) for number in range(2001)}
    log_metrics(client, run, values)
    assert client.get_run(run).data.metrics == values
