"""A PACS for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def pacs(tmp_path_factory) -> Iterator[str]:
    """The DICOMweb address of an empty Orthanc."""
    pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")
    from support.orthanc import app_module

    programs = app_module("programs")
    if not programs.has_orthanc():
        pytest.skip("needs Orthanc with its DICOMweb plugin: apt-get install orthanc orthanc-dicomweb")
    with programs.running_orthanc(tmp_path_factory.mktemp("orthanc")) as url:
        yield url
