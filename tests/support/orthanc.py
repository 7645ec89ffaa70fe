"""Orthanc for tests, and what is asked of it by bare HTTP, past the code that is tested."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pydicom
import requests
from dicomweb_client import DICOMwebClient

APP = Path(__file__).parents[2] / "apps" / "anomaly"


def app_module(name: str) -> ModuleType:
    """A module beside the app's main.py."""
    spec = importlib.util.spec_from_file_location(f"anomaly_{name}", APP / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def push(url: str, folder: Path, names: Iterable[str] = ()) -> str:
    """Store the files of a series, or those of these names; its SeriesInstanceUID."""
    files = [folder / name for name in names] or sorted(path for path in folder.iterdir() if path.is_file())
    datasets = [pydicom.dcmread(path) for path in files]
    assert len(DICOMwebClient(url).store_instances(datasets).ReferencedSOPSequence) == len(files)
    return str(datasets[0].SeriesInstanceUID)


def held(url: str, study: str) -> list[dict[str, Any]]:
    """The series of a study, by Orthanc's own interface: their tags, and the identifiers of their instances."""
    root = url.removesuffix("/dicom-web")
    query = {"Level": "Series", "Query": {"StudyInstanceUID": study}, "Expand": True}
    return requests.post(f"{root}/tools/find", json=query, timeout=30).json()


def results_of(url: str, study: str, modality: str) -> list[pydicom.Dataset]:
    """The objects of a modality in a study, oldest first."""
    root = url.removesuffix("/dicom-web")
    instances = [one for series in held(url, study) if series["MainDicomTags"]["Modality"] == modality for one in series["Instances"]]
    files = [requests.get(f"{root}/instances/{one}/file", timeout=30).content for one in instances]
    found = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(file)) for file in files]
    return sorted(found, key=lambda one: (one.ContentDate, one.ContentTime))


def remove_series(url: str, series: str) -> None:
    """Take a series out of the PACS."""
    root = url.removesuffix("/dicom-web")
    (one,) = requests.post(f"{root}/tools/lookup", data=series, timeout=30).json()
    requests.delete(f"{root}{one['Path']}", timeout=30).raise_for_status()
