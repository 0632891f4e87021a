"""Homes on shared storage, in a folder and on an S3 server, as several machines see them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from s3_server import s3_server

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.remote_store import resolve_home


@pytest.fixture(scope="module")
def bucket():
    with s3_server("shelf") as url:
        yield url


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path):
    if request.param == "file":
        return f"file://{tmp_path / 'share'}"
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


@pytest.fixture
def machine(monkeypatch, tmp_path, url):
    """Return the store as it is seen from a machine of this name."""

    def store(name):
        monkeypatch.setenv("NVR_CACHE", str(tmp_path / name))
        return ArtifactStore(resolve_home(url))

    return store
