"""A running `dagster dev` for tests of what is seen in its UI."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

PROJECT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SECONDS = 600


class Dagster:
    """A running `dagster dev`, asked by GraphQL."""

    def __init__(self, url, process):
        self.url = url
        self._process = process

    def ask(self, query):
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)["data"]

    def wait_for(self, query, is_there):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "dagster dev ended by itself"
            with suppress(OSError):
                if is_there(answer := self.ask(query)):
                    return answer
            time.sleep(1)
        raise AssertionError(f"{query} did not get what was waited for in {SECONDS} seconds")


@contextmanager
def dagster_dev(environment, log, *arguments, folder=PROJECT):
    """Start `dagster dev` on a free port, and end it with all its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as output:
        process = subprocess.Popen(
            [BIN / "dagster", "dev", "--host", "127.0.0.1", "--port", str(port), *arguments],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            dagster = Dagster(f"http://127.0.0.1:{port}", process)
            dagster.wait_for("{ assetNodes { id } }", lambda answer: answer["assetNodes"])
            # A new instance covers the page with an invitation.
            dagster.ask("mutation { setNuxSeen }")
            yield dagster
        except BaseException:
            print(log.read_text())
            raise
        finally:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
