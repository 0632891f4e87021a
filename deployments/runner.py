"""Prefect's runner with an orderly end: Ctrl-C and SIGTERM cancel the runs that are under way."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prefect.runner import Runner

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment


class OrderlyRunner(Runner):
    """Prefect 3.8 kills the runs instead: they stay Running for ever, there and in MLflow.

    It pauses no deployment when it ends, as Prefect's does: that could not be told from a pause by hand. What is missed
    meanwhile is not made up for, since registering again removes what was scheduled.
    """

    _serving: asyncio.Task[Any] | None = None

    async def start(self, run_once: bool = False, webserver: bool | None = None) -> None:
        """Serve until the task is cancelled."""
        self._serving = asyncio.current_task()
        await super().start(run_once, webserver)

    def handle_sigterm(self, *_: Any, **__: Any) -> None:
        """Do what asyncio does at Ctrl-C, once: process managers send SIGTERM again."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert self._serving is not None
        self._serving.get_loop().call_soon_threadsafe(self._serving.cancel)

    async def __aexit__(self, *error: Any) -> None:
        """End the runs first, while the server can still be told."""
        await self.cancel_all()
        await super().__aexit__(*error)


def serve_until_told_to_end(deployments: Sequence[RunnerDeployment]) -> None:
    """Register the deployments and carry out their runs, until Ctrl-C or SIGTERM."""
    runner = OrderlyRunner(pause_on_shutdown=False)
    for deployment in deployments:
        runner.add_deployment(deployment)
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(runner.start())
