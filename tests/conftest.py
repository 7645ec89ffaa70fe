"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.repository import ROOT


def written_by_runs() -> set[Path]:
    """What runs may leave in the checkout, where the next test would find it."""
    found = {path for folder in ("bundles", "apps") for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts}
    return found | set(ROOT.glob("*"))


@pytest.fixture(scope="session", autouse=True)
def checkout_stays_as_it_was() -> Iterator[None]:
    """A model that a test leaves is one that the next test, or the next command, answers with."""
    before = written_by_runs()
    yield
    assert written_by_runs() == before, sorted(map(str, written_by_runs() ^ before))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights beside the repository; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the real images in the folder shared/ beside the repository")
    return folder
