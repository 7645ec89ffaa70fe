"""What lies in a PACS, checked against the series' own headers, with nothing of the detector's code."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
from dicomweb_client import DICOMwebClient
from pydicom.errors import InvalidDicomError


def say(text: str) -> None:
    """One line for whoever watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def expect(is_so: bool, what: str) -> None:
    """Say that it is so, or end."""
    if not is_so:
        raise SystemExit(f"NOT SO: {what}")
    say(f"  ok: {what}")


def read_series(folder: Path) -> list[pydicom.Dataset]:
    """The files of a series in the order of their positions along the normal of the slices; the program ends if they are none."""
    try:
        slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir()) if path.is_file()]
        if len({(one.StudyInstanceUID, one.SeriesInstanceUID) for one in slices}) != 1 or not slices[0].StudyInstanceUID:
            raise ValueError("no files, several series, or an empty StudyInstanceUID")
        return sorted(slices, key=lambda one: float(np.dot(one.ImagePositionPatient, normal(one))))
    except (InvalidDicomError, AttributeError, OSError, ValueError) as error:
        raise SystemExit(
            f"{folder} cannot be used ({error}); expected a folder with the files of one CT or MR series that name their study, and nothing "
            "else."
        ) from error


def normal(one: pydicom.Dataset) -> np.ndarray:
    """Of a slice, by its own header."""
    orientation = np.array(one.ImageOrientationPatient, float)
    return np.cross(orientation[:3], orientation[3:])


def check_results(pacs: DICOMwebClient, slices: list[pydicom.Dataset], mask: np.ndarray, values: np.ndarray, path: Path) -> None:
    """Segmentation and Parametric Map lie in the study of the series, are valid, and hold mask and map where the slices' own headers say.

    They are written to ``<path>_seg.dcm`` and ``<path>_map.dcm``.
    """
    study = slices[0].StudyInstanceUID
    series = [pydicom.Dataset.from_json(row) for row in pacs.search_for_series(study)]
    results = [one for each in series if each.Modality in ("SEG", "OT") for one in pacs.retrieve_series(study, each.SeriesInstanceUID)]
    found = {one.Modality: one for one in results if sources(one) <= {each.SOPInstanceUID for each in slices}}
    expect({*found} == {"SEG", "OT"}, "a Segmentation and a Parametric Map lie in the study of the series and refer to its images")
    for modality, result in found.items():
        file = path.with_name(f"{path.name}_{'seg' if modality == 'SEG' else 'map'}.dcm")
        result.save_as(file, enforce_file_format=True)
        expect(result.FrameOfReferenceUID == slices[0].FrameOfReferenceUID, f"{result.SOPClassUID.name}: frame of reference of the series")
        text = f"{result.SeriesDescription} {result.DerivationDescription}".lower()
        expect("not for diagnostic use" in text and "teacher_sha256" in text, "it says who made it and what it is not for")
        if shutil.which("dciodvfy"):
            told = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False).stderr  # noqa: S603, S607
            expect(not [line for line in told.splitlines() if line.startswith("Error")], f"dciodvfy finds no error in {file.name}")
    expect(np.array_equal(stack(found["SEG"], found["SEG"].pixel_array, slices), mask), "the mask lies on the right slices, pixel by pixel")
    shown = np.frombuffer(found["OT"].FloatPixelData, "<f4")
    there = stack(found["OT"], np.where(shown == found["OT"].get("FloatPixelPaddingValue"), np.nan, shown), slices)
    expect(np.array_equal(there, values, equal_nan=True), "the map lies on the right slices, value by value")


def sources(result: pydicom.Dataset) -> set[str]:
    """The images that the frames of an object refer to."""
    return {
        image.ReferencedSOPInstanceUID
        for group in result.PerFrameFunctionalGroupsSequence
        for derived in group.DerivationImageSequence
        for image in derived.SourceImageSequence
    }


def stack(result: pydicom.Dataset, frames: np.ndarray, slices: list[pydicom.Dataset]) -> np.ndarray:
    """The frames of an object as (column, row, slice), each put where its own ImagePositionPatient lies among those of the series."""
    frames = frames.reshape(-1, result.Rows, result.Columns)
    volume = np.zeros((result.Columns, result.Rows, len(slices)), frames.dtype)
    places = np.array([one.ImagePositionPatient for one in slices], float)
    for frame, group in zip(frames, result.PerFrameFunctionalGroupsSequence, strict=True):
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        distance = np.linalg.norm(places - place, axis=1)
        if distance.min() > 1e-3:
            raise SystemExit(f"NOT SO: a frame lies {distance.min():g} mm beside the nearest slice")
        volume[:, :, distance.argmin()] = frame.T
    return volume


def check_affine(affine: np.ndarray, slices: list[pydicom.Dataset]) -> None:
    """The corner voxels of a result lie where the headers of the first and last slice put them."""
    for k in (0, len(slices) - 1):
        one = slices[k]
        along, down = np.array(one.ImageOrientationPatient, float).reshape(2, 3)
        for column, row in ((0, 0), (one.Columns - 1, one.Rows - 1)):
            lps = np.array(one.ImagePositionPatient, float) + along * one.PixelSpacing[1] * column + down * one.PixelSpacing[0] * row
            ras = (affine @ [column, row, k, 1])[:3]
            if np.abs(ras - lps * [-1, -1, 1]).max() > 0.01:
                raise SystemExit(f"NOT SO: voxel {column}, {row}, {k} lies at {ras}; its slice's header says {lps * [-1, -1, 1]}")
    say("  ok: the mask's voxels lie where the headers of the slices say")
