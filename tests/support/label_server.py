"""MONAI Label's own server as a process of its own, which cannot reach anything but this machine, nor can its background jobs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .orthanc import app_module

programs = app_module("programs")
ANY_TORCHVISION = "import monai_anomaly._torchvision, runpy; runpy.run_module('monailabel.main', run_name='__main__')"

ONLY_THIS_MACHINE = '''
"""Python runs this first in every process: connections and names of other machines are refused and written down."""
import os
import socket

def refuse(target):
    with open(os.environ["ATTEMPTS"], "a") as file:
        file.write(f"{target}\\n")
    raise OSError(f"the test allows no connection to {target}")

def check(host):
    if host not in (None, "", "127.0.0.1", "::1", "localhost", "0.0.0.0"):
        refuse(host)

class Socket(socket.socket):
    def connect(self, address):
        check(address[0] if isinstance(address, tuple) else None)
        return super().connect(address)

    def connect_ex(self, address):
        check(address[0] if isinstance(address, tuple) else None)
        return super().connect_ex(address)

look_up = socket.getaddrinfo

def getaddrinfo(host, *args, **kwargs):
    check(host.decode() if isinstance(host, bytes) else host)
    return look_up(host, *args, **kwargs)

socket.socket, socket.getaddrinfo = Socket, getaddrinfo
'''


@dataclass(frozen=True)
class Server:
    """A running server: its address, its process, what it printed, and the other machines that it or its jobs looked for."""

    url: str
    process: int
    log: Path
    attempts: Path

    def looked_for(self) -> list[str]:
        """Other machines that somebody tried to reach."""
        return self.attempts.read_text().split() if self.attempts.exists() else []


@contextmanager
def serve(
    app: Path,
    studies: Path | str,
    scratch: Path,
    conf: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    any_torchvision: bool = False,
) -> Iterator[Server]:
    """Start ``python -m monailabel.main start_server`` with an empty home, wait until it answers, and end it with all its jobs.

    Args:
        app: the app's folder.
        studies: a folder, or the URL of a PACS.
        scratch: an empty folder for home, log and the like.
        conf: the app's options, ``--conf name value``.
        settings: environment variables, such as ``MONAI_LABEL_AUTO_UPDATE_SCORING``.
        any_torchvision: for apps that import torchvision themselves, also where its build does not fit torch's.

    Yields:
        The server.

    Raises:
        SystemExit: it ended, or did not answer in time; with the end of what it printed.
    """
    (scratch / "first").mkdir(parents=True)
    (scratch / "home").mkdir()
    (scratch / "temporary").mkdir()
    (scratch / "first" / "sitecustomize.py").write_text(ONLY_THIS_MACHINE)
    port = programs.free_port()
    url, log, attempts = f"http://127.0.0.1:{port}", scratch / "server.log", scratch / "attempts"
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]), "HOME": str(scratch / "home"), "PYTHONPATH": str(scratch / "first"),
        "ATTEMPTS": str(attempts), "OMP_NUM_THREADS": "1",
        "TMPDIR": str(scratch / "temporary"), **(settings or {}),
    }  # fmt: skip
    start = ["-c", ANY_TORCHVISION] if any_torchvision else ["-m", "monailabel.main"]
    command = [
        sys.executable,
        *start,
        "start_server",
        "--app",
        str(app),
        "--studies",
        str(studies),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    for name, value in (conf or {}).items():
        command += ["--conf", name, value]
    with programs.running(command, log, f"{url}/info/", environment) as process:
        yield Server(url, process.pid, log, attempts)
