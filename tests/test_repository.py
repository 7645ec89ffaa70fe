"""The repository holds together: versions agree, nothing large is tracked, the package imports light."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import monai_anomaly

ROOT = Path(__file__).parents[1]
VULNERABLE_BELOW = {"torch": "2.6", "monai": "1.5.2", "pydicom": "3.0.2"}


def read_setup() -> configparser.ConfigParser:
    """The parsed setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def read_requirements() -> list[Requirement]:
    """Everything that setup.cfg asks for, extras included."""
    setup = read_setup()
    blocks = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    found = [Requirement(line) for block in blocks for line in block.split("\n") if line and not line.startswith("#")]
    return [requirement for requirement in found if requirement.name != setup["metadata"]["name"]]  # an extra may name another one


def read_constraints() -> dict[str, Version]:
    """Exact version of each package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    entries = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(entry.name): Version(str(entry.specifier).removeprefix("==")) for entry in entries}


@pytest.mark.parametrize("requirement", read_requirements(), ids=lambda requirement: requirement.name)
def test_the_tested_version_is_one_that_is_asked_for(requirement: Requirement):
    assert read_constraints()[canonicalize_name(requirement.name)] in requirement.specifier


def test_no_floor_lies_where_a_vulnerability_is_known():
    for requirement in read_requirements():
        if requirement.name in VULNERABLE_BELOW:
            floors = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
            assert floors and min(floors) >= Version(VULNERABLE_BELOW[requirement.name])


def test_constraints_pair_torch_with_torchvision():
    pinned = read_constraints()
    assert (pinned["torch"].release[:2], pinned["torchvision"].release[:2]) == ((2, 13), (0, 28))
    assert not pinned["torch"].local  # "+cpu" would shut out every machine with a GPU


def test_the_version_stands_in_one_place():
    assert read_setup()["metadata"]["version"] == "attr: monai_anomaly.__version__"
    assert re.search(
        rf"^version: {re.escape(monai_anomaly.__version__)}$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE
    )


def test_ci_calls_the_verbs_of_the_makefile():
    script, verbs = ROOT / ".ci" / "run", (ROOT / "Makefile").read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    called = re.findall(r"^make (\S+)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert called == ["test", "test-label", "docs", "lint"]
    assert all(re.search(rf"^{verb}:.*## ", verbs, re.MULTILINE) for verb in called)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_no_tracked_file_is_larger_than_a_megabyte():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert not [path for path in files if path.is_file() and path.stat().st_size > 2**20]


def test_importing_the_package_is_light():
    code = "import sys, monai_anomaly; print(sorted({'torch', 'monai', 'numpy', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
