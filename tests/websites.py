"""A folder as a website on this machine, as complete as its server is said to be."""

from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def website(folder, *, without=()):
    """The address of a folder, on a server that leaves some headers out of its answers."""

    class Handler(SimpleHTTPRequestHandler):
        def send_header(self, keyword, value):
            if keyword not in without:
                super().send_header(keyword, value)

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
