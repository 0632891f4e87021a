"""An S3-compatible server of the test's own, in its own process: it has its own event loop, threads and clock."""

import os
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

CODE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
SETTINGS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


@contextmanager
def s3_server(bucket):
    """Yield the URL of a bucket; s3fs and boto find the server by the environment."""
    from s3fs import S3FileSystem

    process = subprocess.Popen(
        [sys.executable, "-c", CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    before = {name: os.environ.get(name) for name in SETTINGS}
    S3FileSystem.clear_instance_cache()  # one of an earlier server would be taken again: its address is no part of the key
    try:
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        os.environ.update(zip(SETTINGS, (url, "testing", "testing", "us-east-1"), strict=True))
        urllib.request.urlopen(urllib.request.Request(f"{url}/{bucket}", method="PUT"), timeout=120).close()
        yield f"s3://{bucket}"
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        S3FileSystem.clear_instance_cache()
        process.kill()
        process.wait()
