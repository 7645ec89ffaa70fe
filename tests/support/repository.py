"""The checkout: what is in it, what it asks for, and its modules that are no part of the package."""

from __future__ import annotations

import configparser
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def source_files(new: bool = True) -> list[str]:
    """What a clone would have, or with ``new`` files once they are committed, too; the test is skipped where this is no checkout."""
    others = ["--others", "--exclude-standard"] if new else []
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", *others], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and os.path.lexists(ROOT / name)]


def module(path: str) -> ModuleType:
    """A module by its place in the checkout; it may import those beside it."""
    place = ROOT / path
    spec = importlib.util.spec_from_file_location("_".join(place.relative_to(ROOT).with_suffix("").parts), place)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(place.parent))
    try:
        spec.loader.exec_module(loaded)
    finally:
        sys.path.pop(0)
    return loaded


def read_setup() -> configparser.ConfigParser:
    """The parsed setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def requirements(path: str) -> dict[str, Requirement]:
    """What a file of requirements or constraints holds, by canonical name; of ``setup.cfg`` what the package itself needs."""
    text = read_setup()["options"]["install_requires"] if path == "setup.cfg" else (ROOT / path).read_text(encoding="utf-8")
    return {canonicalize_name(asked.name): asked for asked in _parsed(text)}


def requirements_of_extras() -> list[Requirement]:
    """What the extras of ``setup.cfg`` ask for; one may name another one."""
    setup = read_setup()
    found = [asked for block in setup["options.extras_require"].values() for asked in _parsed(block)]
    return [asked for asked in found if asked.name != setup["metadata"]["name"]]


def _parsed(text: str) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]
