"""The repository holds together: versions agree, nothing large is tracked, the package imports light."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from support.repository import ROOT, read_setup, requirements, requirements_of_extras, source_files

import monai_anomaly

VULNERABLE_BELOW = {"torch": "2.6", "monai": "1.5.2", "pydicom": "3.0.2"}
TESTED = {name: Version(str(pin.specifier).removeprefix("==")) for name, pin in requirements("constraints.txt").items()}
ASKED = [*requirements("setup.cfg").values(), *requirements_of_extras()]


@pytest.mark.parametrize("requirement", ASKED, ids=lambda requirement: requirement.name)
def test_the_tested_version_is_one_that_is_asked_for(requirement: Requirement):
    assert TESTED[canonicalize_name(requirement.name)] in requirement.specifier


def test_no_floor_lies_where_a_vulnerability_is_known():
    for requirement in ASKED:
        if requirement.name in VULNERABLE_BELOW:
            floors = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
            assert floors and min(floors) >= Version(VULNERABLE_BELOW[requirement.name])


def test_constraints_pair_torch_with_torchvision():
    assert (TESTED["torch"].release[:2], TESTED["torchvision"].release[:2]) == ((2, 13), (0, 28))
    assert not TESTED["torch"].local  # "+cpu" would shut out every machine with a GPU


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
    assert not [path for path in map(ROOT.joinpath, source_files(new=False)) if path.is_file() and path.stat().st_size > 2**20]


def test_importing_the_package_is_light():
    code = "import sys, monai_anomaly; print(sorted({'torch', 'monai', 'numpy', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
