"""S3 on this machine, for as long as a test runs: it counts, and fails where it is told to."""

import re
from contextlib import contextmanager
from threading import Thread

import fsspec
import pytest
import requests

KEY, SECRET = "AKIAsomebody", "abcSECRETdef"


class ObjectStore:
    """What the server has sent, and how it fails.

    Attributes:
        sent: The method, the path and the bytes of each answer's body.
        fault: Takes a method and a path, and returns a status to answer with, ``"cut"`` for a body
            that ends in its middle, or None.
    """

    def __init__(self):
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.sent = []
        self.fault = no_fault
        self._s3 = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        fault = self.fault(method, path)
        if isinstance(fault, int):
            start_response(f"{fault} no", [("Content-Length", "0")])
            return [b""]
        body = b"".join(self._s3(environ, start_response))
        if fault == "cut":
            body = body[: len(body) // 2]
        self.sent.append((method, path, 0 if method == "HEAD" else len(body)))
        return [body]

    def bytes_of(self, pattern):
        """The bytes that were sent of objects by their paths."""
        return sum(size for _, path, size in self.sent if re.search(pattern, path))


def no_fault(method, path) -> int | str | None:
    """S3 as it should be."""


@contextmanager
def object_store(bucket="bucket", application=None):
    """An S3 server on 127.0.0.1 with an empty bucket; the environment says where and who."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    class Silent(MotoRequestHandler):
        def log(self, type, message, *args):
            pass

    application = application or ObjectStore()
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Silent)
    thread = Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    # Servers of one process share their buckets.
    requests.post(f"{address}/moto-api/reset", timeout=60).raise_for_status()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
        filesystem.mkdir(bucket)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        try:
            yield filesystem
        finally:
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            server.shutdown()
            thread.join()
            server.server_close()
