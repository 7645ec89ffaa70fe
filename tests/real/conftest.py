"""Where the real files lie."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def dicom(shared) -> Path:
    return shared / "data" / "dicom"


@pytest.fixture(scope="session")
def nifti(shared) -> Path:
    return shared / "data" / "nifti"
