"""What is read from real files, with which geometry and values, and what is refused and why: the tables of shared/data/README.md.

Here is where they lie.
"""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def dicom(shared) -> Path:
    return shared / "data" / "dicom"


@pytest.fixture(scope="session")
def nifti(shared) -> Path:
    return shared / "data" / "nifti"
