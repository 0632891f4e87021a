"""Training in several processes: torchrun as a subprocess (DDP or FSDP), with its log followed from here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nv_retriever.errors import InputError
from nv_retriever.files import read_json, write_json
from nv_retriever.progress import Progress, progress
from nv_retriever.training.build import DONE
from nv_retriever.training.config import NodesConfig
from nv_retriever.training.job import TrainingJob

if TYPE_CHECKING:
    from nv_retriever.training.log import OnLog

POLL_SECONDS = 0.5


def launch_training_job(
    folder: Path, job: TrainingJob, on_log: OnLog | None = None, nodes: NodesConfig | None = None
) -> dict[str, Any]:
    """Run a training job in `config.processes`; goes on after a kill, which ends them too.

    With several nodes every machine calls this with its own `node_rank` over shared storage. The batch of a step is
    `config.batch_size` times the number of all processes, and negatives come from all of it. Raises the InputError
    of a process, or RuntimeError that says which one failed, and of what; what they printed stays in `folder`.
    """
    nodes = nodes or NodesConfig()
    job.check(job.config.processes * nodes.nodes)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"launch-{nodes.node_rank}.json"
    output, wrong, failed = (path.with_suffix(suffix) for suffix in (".txt", ".error", ".failed"))
    for old in (wrong, failed):
        old.unlink(missing_ok=True)
    write_json(path, {"folder": str(folder), "job": job.as_json()})
    with output.open("w") as file, progress("train", 0, "steps") as shown:
        follower = LogFollower(folder / "log.jsonl", on_log, shown)
        # Its standard input is ours to close: that ends the workers, even if this process is killed.
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": file, "stderr": subprocess.STDOUT}
        with subprocess.Popen(_command(job.config.processes, nodes, path), **pipes, env=_environment()) as process:
            try:
                while process.poll() is None:
                    follower.follow()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(POLL_SECONDS)
            finally:
                process.terminate()
        follower.follow()
    if process.returncode and wrong.exists():
        raise InputError(**read_json(wrong))
    if process.returncode:
        reason = failed.read_text() if failed.exists() else f"torchrun ended with exit code {process.returncode}"
        raise RuntimeError(f"training in {job.config.processes} processes: {reason}; what they said is in {output}")
    path.unlink()
    output.unlink()
    result: dict[str, Any] = read_json(folder / DONE)
    return result


def _command(processes: int, nodes: NodesConfig, path: Path) -> list[str]:
    command = [sys.executable, "-m", "nv_retriever.training.torchrun", "--nproc-per-node", str(processes)]
    if nodes.nodes == 1:
        command += ["--standalone"]
    else:
        command += ["--nnodes", str(nodes.nodes), "--node-rank", str(nodes.node_rank)]
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", str(nodes.rendezvous)]
    return [*command, "-m", "nv_retriever.training.worker", str(path)]


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root}


class LogFollower:
    """Calls `on_log` for every line that a training process appends to its log, and shows how far it is."""

    def __init__(self, path: Path, on_log: OnLog | None, shown: Progress) -> None:
        self.path, self.on_log, self.shown, self.seen = path, on_log, shown, 0

    def follow(self) -> None:
        """Report the complete lines that were not reported yet."""
        if not self.path.exists():
            return
        text = self.path.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()
        for line in lines[self.seen :]:
            values = json.loads(line)
            step = int(values.pop("step"))
            self.shown.advance(step - self.shown.done)
            if self.on_log is not None:
                self.on_log(step, values)
        self.seen = max(self.seen, len(lines))
