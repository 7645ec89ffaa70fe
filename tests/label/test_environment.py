"""The environment that ``make label`` makes: the core's own versions, in the server and in its background jobs, without a network."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

import requests
from support.label_server import Server, serve

ROOT = Path(__file__).parents[2]

APP = '''
"""An app that says which process it is in, and on which versions it stands."""
import os
from importlib.metadata import version

import monailabel.datastore.utils.convert as convert
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.scoring import ScoringMethod


class Versions(ScoringMethod):
    def __call__(self, request, datastore):
        names = ("pydicom", "numpy", "highdicom")
        return {"process": os.getpid(), "reader": convert.pydicom_seg.__file__, **{name: version(name) for name in names}}


class Probe(MONAILabelApp):
    def init_scoring_methods(self):
        return {"versions": Versions("versions")}
'''


def pinned() -> dict[str, SpecifierSet]:
    """The core's tested versions for this Python, torch apart: OWN_TORCH=1 keeps the one that is there."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        canonicalize_name(pin.name): pin.specifier
        for pin in found
        if not pin.name.startswith("torch") and (pin.marker is None or pin.marker.evaluate())
    }


def test_the_core_keeps_its_versions():
    here = importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])  # setuptools puts copies of its own on sys.path
    installed = {canonicalize_name(package.metadata["Name"]): package.version for package in here}
    pins = pinned()
    assert {"pydicom", "numpy", "highdicom", "monai", "itk"} <= pins.keys() & installed.keys()
    assert [f"{name} {installed[name]}" for name in pins.keys() & installed.keys() if not pins[name].contains(installed[name])] == []


def test_pydicom_is_not_below_its_security_floor():
    assert Version(importlib.metadata.version("pydicom")) >= Version("3.0.2")
    assert Version(importlib.metadata.version("pydicom-seg")).local == "highdicom"  # the abandoned one wants pydicom 2


def test_a_process_without_any_environment_imports_the_server(tmp_path: Path):
    code = "import monailabel.app, monailabel.main, fastapi.testclient, monai_anomaly, sys; print('numpymaxflow' in sys.modules, 'sam2' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["False", "False"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real server on folders whose names have spaces."""
    place = tmp_path_factory.mktemp("a place with spaces")
    (place / "an app").mkdir()
    (place / "an app" / "main.py").write_text(APP)
    (place / "the studies").mkdir()
    with serve(
        place / "an app", place / "the studies", place / "scratch", settings={"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    ) as running:
        yield running


@pytest.mark.slow
def test_the_server_runs_without_a_network_and_brings_ohif(server: Server):
    assert "versions" in requests.get(f"{server.url}/info/", timeout=60).json()["scoring"]
    page = requests.get(f"{server.url}/ohif/", timeout=60)
    assert page.ok
    assert "OHIF" in page.text
    assert server.looked_for() == []


@pytest.mark.slow
def test_a_background_job_stands_on_the_same_versions(server: Server):
    assert requests.post(f"{server.url}/scoring/versions", json={}, timeout=60).ok
    end = time.monotonic() + 120
    while (state := requests.get(f"{server.url}/scoring/", timeout=60).json())["status"] in (
        "SUBMITTED",
        "RUNNING",
    ) and time.monotonic() < end:
        time.sleep(0.3)
    assert state["status"] == "DONE", state["details"]
    result = json.loads(re.search(r"Result: (\{.*\})", "\n".join(state["details"])).group(1))
    assert result["process"] not in (server.process, os.getpid())
    assert {name: result[name] for name in ("pydicom", "numpy", "highdicom")} == {
        name: importlib.metadata.version(name) for name in ("pydicom", "numpy", "highdicom")
    }
    assert server.looked_for() == []


def test_the_test_notices_a_connection(tmp_path: Path):
    from support.label_server import ONLY_THIS_MACHINE

    (tmp_path / "sitecustomize.py").write_text(ONLY_THIS_MACHINE)
    code = "import requests\ntry: requests.get('http://192.0.2.1/', timeout=1)\nexcept requests.ConnectionError: print('refused')"
    environment = {"PYTHONPATH": str(tmp_path), "ATTEMPTS": str(tmp_path / "attempts")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr
    assert (tmp_path / "attempts").read_text() == "192.0.2.1\n"
