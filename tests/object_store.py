"""S3 on this machine, for as long as a test runs."""

from contextlib import contextmanager

import fsspec
import pytest
import requests

SECRET = "abcSECRETdef"


@contextmanager
def object_store(bucket="bucket"):
    """An S3 server on 127.0.0.1 with an empty bucket; the environment says where and who."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # Servers of one process share their buckets.
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=60).raise_for_status()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
        filesystem.mkdir(bucket)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        try:
            yield filesystem
        finally:
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            server.stop()
