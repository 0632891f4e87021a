"""What the tests of flows share."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where servers that tests start as processes keep their database, one for all: making its tables takes longest."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """The API of a Prefect server of the tests' own, one for all modules: it takes 20 seconds to start.

    The harness is entered in a thread, whose settings are its own: other tests start servers of theirs.
    """
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    urls, started, over = list[str](), threading.Event(), threading.Event()

    def serve() -> None:
        try:
            with prefect_test_harness(server_startup_timeout=120):
                urls.append(PREFECT_API_URL.value())
                started.set()
                over.wait()
        finally:
            started.set()

    thread = threading.Thread(target=serve)
    thread.start()
    started.wait()
    yield urls[0]
    over.set()
    thread.join()


@pytest.fixture(scope="module")
def prefect_server(prefect_api: str) -> Iterator[None]:
    """Settings that name the server, without the heartbeat that would hold up every flow's end by a second."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
