"""The series behind a result: its slices in the order of the reader, and what the result takes over from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from ...data.dicom import stack_affine
from ...data.dicom.elements import numbers, text
from ...data.dicom.frames import functional_group, is_mosaic, slices_of_frames, stack_of_frames
from ...data.dicom.grid import grid_of_slices
from ...data.dicom.header import TAGS, parse_header
from ...data.dicom.open import open_dicom
from ...errors import DataError, reason
from .image import TAKEN_OVER, UIDS, bare_image, placed_image

__all__ = ["PATIENT_AND_STUDY", "SourceSeries", "read_sources", "source_series"]

PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC",
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientIDsSequence", "OtherPatientNames",
    "EthnicGroup", "PatientComments", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight", "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription", "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence", "PatientSexNeutered",
    "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization",
)  # fmt: skip
"""What all objects of a study have in common, which a PACS compares: taken over as it is."""
_WANTED = tuple(dict.fromkeys([*TAGS, *PATIENT_AND_STUDY, *TAKEN_OVER, "PositionReferenceIndicator"]))
_UID = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """A series as its result refers to it.

    Example:
        >>> source_series(read_sources(["1.dcm", "2.dcm"])).shape  # doctest: +SKIP
        (512, 512, 2)
    """

    first: Dataset
    """The data set that patient and study are taken from."""
    images: tuple[Dataset, ...]
    """What highdicom is shown: identity and place of each slice in order, or of the one file with all frames; nothing that names a patient."""
    shape: tuple[int, int, int]
    """Rows, columns, slices."""
    affine: NDArray[np.float64] | None
    """``(4, 4)`` from (row, column, slice) to RAS+ millimetres; ``None`` for a picture, which has no place in the patient."""
    order: tuple[int, ...]
    """For each slice the number of the image or frame, from 0, that shows it."""

    def planes(self, volume: NDArray[Any]) -> NDArray[Any]:
        """``(rows, columns, slices)`` as ``(planes, rows, columns)``, the planes as images or frames are stored.

        Raises:
            DataError: not on this grid.
        """
        if volume.shape != self.shape:
            raise DataError(
                f"The result has shape {volume.shape} and the series {self.shape} (rows, columns, slices); expected the same: take two that belong together."
            )
        planes = volume.transpose(2, 0, 1)
        return planes if list(self.order) == sorted(self.order) else planes[np.argsort(self.order)]


def read_sources(files: str | Sequence[str]) -> list[Dataset]:
    """Read the headers of a series, as far as results need them; no pixels.

    Args:
        files: one file, or the slices of one stack, in any order: a case's ``image``.

    Raises:
        DataError: a file that cannot be read.

    Example:
        >>> sources = read_sources(["slice1.dcm", "slice2.dcm"])  # doctest: +SKIP
    """
    return [open_dicom(path, _WANTED).dataset for path in ([files] if isinstance(files, str) else files)]


def source_series(sources: Sequence[Dataset]) -> SourceSeries:
    """Check and order the images of a series by the rules of the reader, so that slice k of a volume that was read is slice k here.

    Args:
        sources: the slices of one stack in any order, or one file with one or more frames; with or without pixels.

    Raises:
        DataError: they are no such thing, or a result cannot refer to them.
    """
    if not sources:
        raise DataError("There is no source image; expected at least one: name the series that the result belongs to.")
    try:
        return _ordered(sources)
    except DataError:
        raise
    except Exception as error:  # whatever pydicom makes of an odd element
        raise DataError(f"The source series cannot be used ({reason(error)}); expected whole DICOM images: export it again.") from error


def _ordered(sources: Sequence[Dataset]) -> SourceSeries:
    first = sources[0]
    for dataset in sources:
        for keyword in UIDS:
            uid = text(dataset, keyword)
            if not _UID.fullmatch(uid) or len(uid) > 64:
                state = "is no UID" if uid else "is missing"
                raise DataError(
                    f"{keyword} {state} in a source image; expected a UID, because a result refers to its images by it: export it again."
                )
        if UID(dataset.SOPClassUID).name == dataset.SOPClassUID:
            raise DataError(
                "The source's SOP class is none of the standard's; expected one, because a result follows it: export the series again."
            )
    if len({str(dataset.SOPInstanceUID) for dataset in sources}) < len(sources):
        raise DataError(
            "Several source images have the same SOPInstanceUID; expected one for each, because a result refers to them by it: export again."
        )
    headers = [parse_header(dataset, str(getattr(dataset, "filename", "") or ""), has_pixels=True) for dataset in sources]
    header = headers[0]
    if len(sources) > 1 or header.slice is not None:
        order = grid_of_slices(headers)[1] if len(sources) > 1 else [0]
        slices = [one for number in order if (one := headers[number].slice) is not None]
        thickness = numbers(sources[order[0]], "SliceThickness", 1)
        _check_frame_of_reference(first)
        images = [placed_image(sources[number], [one], thickness, slices) for number, one in zip(order, slices, strict=True)]
        return SourceSeries(first, tuple(images), (*header.shape, len(order)), stack_affine(slices), tuple(range(len(order))))
    if is_mosaic(first):
        raise DataError(
            "The source is a mosaic of slices in one picture, to whose slices a DICOM result cannot refer; expected single slices or an enhanced multi-frame "
            "file: take the result as NIfTI."
        )
    if header.kind == "volume":
        _check_frame_of_reference(first)
        slices = slices_of_frames(first, header.path, header.shape, header.n_frames)
        order = stack_of_frames(slices)
        shared = (first.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        measures = functional_group(first.PerFrameFunctionalGroupsSequence[0], shared, "PixelMeasuresSequence")
        image = placed_image(first, slices, numbers(measures, "SliceThickness", 1), [slices[number] for number in order])
        return SourceSeries(first, (image,), (*header.shape, len(order)), stack_affine([slices[number] for number in order]), tuple(order))
    if header.n_frames > 1:
        raise DataError(
            f"The source has {header.n_frames} frames without a place in the patient (a cine, for example), for which no DICOM result can be written; "
            "expected slices, an enhanced multi-frame file or one picture: take the pictures and tables."
        )
    image, nothing = bare_image(first), Dataset()
    nothing.PixelMeasuresSequence = []
    image.NumberOfFrames, image.SharedFunctionalGroupsSequence = 1, [nothing]  # asked for where the SOP class allows several frames
    return SourceSeries(first, (image,), (*header.shape, 1), None, (0,))


def _check_frame_of_reference(dataset: Dataset) -> None:
    if not text(dataset, "FrameOfReferenceUID"):
        raise DataError(
            "FrameOfReferenceUID is missing in the source series; expected it, because a DICOM result is placed by it: export the series again, or take "
            "the result as NIfTI."
        )
