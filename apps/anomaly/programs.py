"""Orthanc and MONAI Label's server as processes that end with the block that they were started in."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

HERE = Path(__file__).parent
START_S = 180.0
ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
"""Debian has it in a folder that is not on every user's PATH."""


def has_orthanc() -> bool:
    """Whether Orthanc and its DICOMweb plugin are installed."""
    return ORTHANC is not None and all(Path(plugin).exists() for plugin in orthanc_settings()["Plugins"])


def orthanc_settings() -> dict:
    """What is in orthanc.json, without its comments."""
    return json.loads(re.sub(r"(?m)^\s*//.*$", "", (HERE / "orthanc.json").read_text("utf-8")))


@contextmanager
def running_orthanc(folder: Path, port: int | None = None) -> Iterator[str]:
    """Orthanc by orthanc.json, with its store in a folder.

    Args:
        folder: for store and log.
        port: default: any that is free.

    Yields:
        Its DICOMweb address.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    store = str(folder / "store")
    settings = {**orthanc_settings(), "HttpPort": port, "StorageDirectory": store, "IndexDirectory": store}
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings, indent=2), "utf-8")
    with running([ORTHANC or "Orthanc", str(config)], folder / "orthanc.log", f"http://127.0.0.1:{port}/system"):
        yield f"http://127.0.0.1:{port}/dicom-web"


@contextmanager
def running_server(folder: Path, studies: str, models: str, settings: Mapping[str, str], python: str = sys.executable) -> Iterator[str]:
    """MONAI Label with a copy of this app, in which its models and logs stay.

    Args:
        folder: for the copy and the log.
        studies: a folder, or a DICOMweb address.
        models: bundles, with commas between them.
        settings: environment variables, such as ``MONAI_LABEL_DICOMWEB_CACHE_PATH``.
        python: of the environment that has MONAI Label.

    Yields:
        Its address.
    """
    app = folder / "app"
    app.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "main.py", app)
    port = free_port()
    command = [python, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", studies]
    command += ["--conf", "models", models, "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, **settings}
    environment.pop("MPLBACKEND", None)  # a notebook's, which another environment may lack
    with running(command, folder / "server.log", f"http://127.0.0.1:{port}/info/", environment):
        yield f"http://127.0.0.1:{port}"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(command: Sequence[str], log: Path, url: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A program until the block ends, with all that it starts.

    Args:
        command: program and arguments.
        log: for what it prints; its folder is the working directory.
        url: answers when the program is ready.
        environment: default: this process's.

    Yields:
        Its process.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # the commands above
            command, cwd=log.parent, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait(process, log, url)
        yield process
    finally:
        _end(process, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            _end(process, signal.SIGKILL)
            process.wait()


def _end(process: subprocess.Popen, by: signal.Signals) -> None:
    """With its background jobs; one that has ended by itself has told why in its log, and nothing may hide that."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, by)


def _wait(process: subprocess.Popen, log: Path, url: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            requests.get(url, timeout=60).raise_for_status()
            return
        except requests.ConnectionError:
            time.sleep(0.2)
        except requests.HTTPError:  # the app could not be loaded
            break
    raise SystemExit(f"{url} does not answer as it should; the end of {log}:\n{log.read_text(errors='replace')[-3000:]}")
