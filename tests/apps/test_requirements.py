"""The lists from which ``make label`` makes the environment of MONAI Label agree with each other and with the core's."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 to read pyproject.toml")

ROOT = Path(__file__).parents[2]
VULNERABLE_BELOW = {"pyjwt": "2.10.1", "python-multipart": "0.0.18", "requests": "2.32.4", "starlette": "0.49.1", "urllib3": "2.5.0"}


def read(name: str) -> dict[str, Requirement]:
    """The requirements in a file, by canonical name."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, filter(None, lines))}


ASKED = read("apps/anomaly/requirements.txt")
CORE, LABEL = read("constraints.txt"), read("apps/anomaly/constraints.txt")
STAND_IN = tomllib.loads((ROOT / "apps" / "pydicom-seg" / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_no_package_is_pinned_twice():
    assert not CORE.keys() & LABEL.keys()


@pytest.mark.parametrize(
    "requirement", [*ASKED.values(), *map(Requirement, STAND_IN["dependencies"])], ids=lambda requirement: requirement.name
)
def test_the_tested_version_is_one_that_is_asked_for(requirement: Requirement):
    pin = (CORE | LABEL)[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(str(pin.specifier).removeprefix("=="))


@pytest.mark.parametrize(
    "requirement", [requirement for name, requirement in ASKED.items() if name in VULNERABLE_BELOW], ids=lambda found: found.name
)
def test_no_floor_lies_where_a_vulnerability_is_known(requirement: Requirement):
    floors = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    assert floors and min(floors) >= Version(VULNERABLE_BELOW[canonicalize_name(requirement.name)])


def test_monai_label_and_the_stand_in_go_together():
    assert str(LABEL["monailabel"].specifier) == "==0.8.5"  # which asks for pydicom-seg>=0.4.1
    assert Requirement("pydicom-seg>=0.4.1").specifier.contains(STAND_IN["version"])
    assert "pydicom-seg" not in LABEL and "monailabel" not in ASKED
