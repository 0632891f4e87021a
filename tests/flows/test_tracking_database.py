"""MLflow's own file in the home: a process that is killed while MLflow makes it leaves nothing that stops the next."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nv_retriever.errors import InputError
from tasks.tracking import EXPERIMENT, open_client

MAKE = "import sys; from tasks.tracking import open_client; open_client(sys.argv[1])"


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
