"""An artifact, and where it lies on shared storage."""

from nv_retriever.artifacts import MANIFEST, ArtifactRef
from nv_retriever.files import write_json

REF = ArtifactRef(kind="thing", fingerprint="0123")


def make(store):
    with store.build(REF) as build:
        if not build.complete:
            (build.folder / "model").mkdir(exist_ok=True)
            (build.folder / "model" / "weights.bin").write_bytes(b"weights" * 1000)
            write_json(build.folder / "data.json", {"content": 1})
            build.info["counts"] = {"rows": 1}
        return build


def on_the_shelf(store, name):
    """Return the file system of shared storage, and the path of a file of REF there."""
    remote = store.remote
    place = remote.root + f"/artifacts/{REF}"
    return remote.fs, f"{place}/{name}" if name == MANIFEST else f"{place}/{remote.manifest(str(REF))['upload']}/{name}"
