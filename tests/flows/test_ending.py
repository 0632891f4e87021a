"""How a command ends: one line and the usual exit code, whoever ends it, and nothing left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prefect.exceptions import TerminationSignal

from flows.ending import one_line, request_to_end

ROOT = Path(__file__).resolve().parent.parent.parent
NVR = [sys.executable, "-m", "flows.cli"]
PATIENCE_SECONDS = 600


def start(*arguments: str, home: Path, prefect_home: Path, **options) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "PYTHONUNBUFFERED")}
    environment |= {"NVR_HOME": str(home), "PREFECT_HOME": str(prefect_home)}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([*NVR, *arguments], cwd=ROOT, env=environment, text=True, **options)


def wait_for_line(process: subprocess.Popen[str], part: str) -> None:
    """Return when the process has said `part` on stderr."""
    for line in process.stderr:
        if part in line:
            break
    else:
        pytest.fail(f"ended before it said {part!r}")


def test_sigterm_ends_a_run_with_one_line_its_code_and_no_children(small_beir, tmp_path, prefect_home):
    process = start("mine", "--dataset", str(small_beir), home=tmp_path / "home", prefect_home=prefect_home)
    wait_for_line(process, "embed embeddings/")
    children = psutil.Process(process.pid).children(recursive=True)
    assert children, "the server that a command starts for itself"
    process.terminate()
    _, told = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 143, told
    assert told.splitlines()[-1] == "terminated; the same command goes on where it stopped"
    assert "Traceback" not in told
    assert not [child for child in children if child.is_running()]


@pytest.mark.parametrize(
    ("name", "word", "code"), [("SIGTERM", "terminated", 143), ("SIGINT", "interrupted", 130)], ids=["TERM", "INT"]
)
def test_an_end_that_is_asked_for_while_an_object_is_finalised_is_heard(name, word, code):
    program = """
import os, signal, sys, threading, typer
from flows.ending import guarded
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
class Finalised:
    def __del__(self):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        sum(range(1000))
def run():
    Finalised()
    threading.Event().wait(60)
try:
    guarded(run, debug=False)
except typer.Exit as ending:
    sys.exit(ending.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", program, name], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stderr == f"{word}; the same command goes on where it stopped\n"


@pytest.mark.parametrize(
    ("name", "word", "code"), [("SIGTERM", "terminated", 143), ("SIGINT", "interrupted", 130)], ids=["TERM", "INT"]
)
def test_a_second_sigterm_does_not_disturb_the_end(name, word, code):
    program = """
import os, signal, sys, typer
from flows.ending import guarded
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
def run():
    try:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    finally:
        if sys.argv[1] == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        print("put in order")
try:
    guarded(run, debug=False)
except typer.Exit as ending:
    sys.exit(ending.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", program, name], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "put in order\n"), done.stderr
    assert done.stderr == f"{word}; the same command goes on where it stopped\n"


def test_ctrl_c_in_code_that_a_module_generates_ends_with_the_same_code(tmp_path):
    """As the methods of a dataclass are, while what a command needs is imported."""
    program = """
import sys, typer
from flows.ending import guarded
try:
    guarded(lambda: exec("raise KeyboardInterrupt"), debug=False)
except typer.Exit as ending:
    sys.exit(ending.exit_code)
"""
    (tmp_path / "interrupted.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-m", "interrupted"], env=environment, capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("ending", "number"), [(TerminationSignal(signal.SIGTERM), signal.SIGTERM), (KeyboardInterrupt(), signal.SIGINT)]
)
def test_an_error_that_a_signal_brought_about_is_told_as_the_signal(ending, number):
    """Prefect's engine, told to end while it starts a task, says that the task run is not set."""
    try:
        try:
            raise ending
        except BaseException:
            raise ValueError("Task run is not set")  # noqa: B904
    except ValueError as error:
        assert request_to_end(error) == number
    assert request_to_end(ValueError("of its own")) is None


@pytest.mark.parametrize("arguments", [["plan"], ["plan", "--json"], ["plan", "--help"]], ids=" ".join)
def test_a_reader_who_goes_away_hears_and_makes_no_noise(small_beir, tmp_path, prefect_home, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    process = start(
        *arguments, "--dataset", str(small_beir), home=tmp_path / "home", prefect_home=prefect_home, stdout=writing
    )
    os.close(writing)
    _, told = process.communicate()
    assert (process.returncode, told) == (-signal.SIGPIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["plan"], ["plan", "--json"]], ids=" ".join)
def test_a_result_that_cannot_be_written_is_a_failure(small_beir, tmp_path, prefect_home, arguments):
    with Path("/dev/full").open("w") as full:
        process = start(
            *arguments, "--dataset", str(small_beir), home=tmp_path / "home", prefect_home=prefect_home, stdout=full
        )
        _, told = process.communicate()
    assert process.returncode == 1
    assert told.startswith("nvr: standard output: No space left on device; make room there") and told.count("\n") == 1


SERVE = """
import os, signal, subprocess, sys, threading, time
import psutil
from deployments.serve import server_at
from flows.ending import Terminated, terminate
from flows.server import free_port

def end_when_it_waits():
    names = []
    while "wait_until_healthy" not in names:
        time.sleep(0.01)
        frame, names = sys._current_frames()[threading.main_thread().ident], []
        while frame:
            names, frame = [*names, frame.f_code.co_name], frame.f_back
    os.kill(os.getpid(), signal.SIGTERM)

class EndedWhenForked(subprocess.Popen):
    def _execute_child(self, *arguments):
        super()._execute_child(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

signal.signal(signal.SIGTERM, terminate)
if sys.argv[1] == "waits":
    threading.Thread(target=end_when_it_waits).start()
if sys.argv[1] == "forked":
    subprocess.Popen = EndedWhenForked
try:
    with server_at(free_port()):
        os.kill(os.getpid(), signal.SIGTERM)
except Terminated:
    gone, alive = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=60)
    print("left:", alive)
    for process in alive:
        process.kill()
"""


@pytest.mark.parametrize("moment", ["forked", "waits", "answers"])
def test_sigterm_to_serve_ends_the_server_that_it_started(moment, prefect_home):
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(prefect_home)}
    command = [sys.executable, "-c", SERVE, moment]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "left: []\n", done.stderr


def test_an_error_of_mlflow_s_database_is_one_line_without_the_statement():
    error = RuntimeError(
        "(sqlite3.OperationalError) disk I/O error\n[SQL: INSERT INTO metrics\nVALUES (?)]\n[parameters: (1)]"
    )
    assert one_line(error) == "RuntimeError: (sqlite3.OperationalError) disk I/O error (--debug shows where)"


def test_an_error_s_line_is_shown_and_obeyed_by_no_terminal(tmp_path, prefect_home):
    process = start("plan", "--set", "\x1b[2Jkey=1", home=tmp_path, prefect_home=prefect_home)
    told = process.communicate(timeout=PATIENCE_SECONDS)[1]
    assert (process.returncode, told.count("\\x1b[2Jkey"), told.count("\x1b")) == (2, 2, 0)
