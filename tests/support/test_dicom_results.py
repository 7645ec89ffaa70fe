"""The validator gives a second opinion that is worth something; where it is not installed, this test is the one that says so."""

from __future__ import annotations

import shutil

import pytest
from pydicom.dataset import Dataset
from support.dicom import make_series
from support.dicom_results import dciodvfy


def without_rows(dataset: Dataset, _: int) -> None:
    del dataset.Rows


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="no second opinion on our DICOM files: needs dciodvfy (Debian: apt install dicom3tools)"
)
def test_the_validator_finds_errors_and_only_where_they_are(tmp_path):
    sound, broken = (dciodvfy(make_series(tmp_path, n=1, change=change) / "IM0000")[0] for change in (None, without_rows))
    assert any("<Rows>" in error for error in broken) and not any("<Rows>" in error for error in sound)
