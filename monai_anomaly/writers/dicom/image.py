"""The images of a series as highdicom is shown them: identity and place, and nothing that names a patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from ...data.dicom import Slice
from ...data.dicom.elements import integer, text, texts

__all__ = ["TAKEN_OVER", "UIDS", "bare_image", "placed_image"]

UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
"""What an image must have to be referred to."""
TAKEN_OVER = (
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod", "Manufacturer", "ManufacturerModelName", "BodyPartExamined",
    "Laterality", "PatientOrientation",
)  # fmt: skip


def bare_image(dataset: Dataset) -> Dataset:
    """A new data set with what identifies an image. Patient and study are blank: they are copied later, unread, so that none of it is judged or logged.

    Args:
        dataset: the image.

    Raises:
        DataError: it has no size.
    """
    image = Dataset()
    for keyword in (*UIDS, "FrameOfReferenceUID", "Modality"):
        if value := text(dataset, keyword):
            setattr(image, keyword, value)
    image.Rows, image.Columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
        setattr(image, keyword, None)
    for keyword in TAKEN_OVER:
        if values := texts(dataset, keyword):
            setattr(image, keyword, values if len(values) > 1 else values[0])
    image.PositionReferenceIndicator = text(dataset, "PositionReferenceIndicator")
    return image


def placed_image(dataset: Dataset, planes: Sequence[Slice], thickness: Sequence[float], stack: Sequence[Slice]) -> Dataset:
    """The same with its place: at the root for one slice, in functional groups for frames. Orientation and spacing are those of the stack's first slice.

    Args:
        dataset: the image.
        planes: its one slice, or its frames as they are stored.
        thickness: slice thickness in mm as the header has it; none, or one number.
        stack: all slices of the series, in the order of their positions.
    """
    image, first = bare_image(dataset), stack[0]
    step = float(np.dot(np.subtract(stack[-1].position, first.position), np.cross(first.orientation[:3], first.orientation[3:])))
    measures = Dataset()
    measures.PixelSpacing = _decimal(first.spacing)
    measures.SliceThickness = _decimal([thickness[0] if thickness and thickness[0] > 0 else first.thickness])[0]
    if len(stack) > 1:
        measures.SpacingBetweenSlices = _decimal([step / (len(stack) - 1)])[0]
    oriented = Dataset()
    oriented.ImageOrientationPatient = _decimal(first.orientation)
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        image.update(measures)
        image.update(oriented)
        image.ImagePositionPatient = _decimal(planes[0].position)
        return image
    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [oriented]
    for one in planes:
        position, groups = Dataset(), Dataset()
        position.ImagePositionPatient = _decimal(one.position)
        groups.PlanePositionSequence = [position]
        frames.append(groups)
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], frames
    image.NumberOfFrames = len(frames)
    return image


def _decimal(values: Sequence[float]) -> list[DSfloat]:
    """Decimal strings of up to 16 characters: those that were read come out as they were."""
    return [DSfloat(value, auto_format=True) for value in values]
