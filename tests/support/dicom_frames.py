"""Multi-frame DICOM objects made in the test: enhanced CT and MR with several stacks, and the B-scans of an ophthalmic tomography."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.uid as sop
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import generate_uid
from support.dicom import AXIAL, Change, hu_at, new_object, plane, positions, set_pixels

DIMENSION = generate_uid(entropy_srcs=["the dimension organisation of all made-up files"])
WHEN = "20200102101500"


def item(**values: Any) -> Dataset:
    """A sequence item from keywords."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    coded = Code(value, scheme, meaning)
    return item(CodeValue=coded.value, CodingSchemeDesignator=coded.scheme_designator, CodeMeaning=coded.meaning)


def make_enhanced(
    path: Path,
    *,
    modality: str = "CT",
    n: int = 6,
    stacks: int = 1,
    mark: str = "TemporalPositionIndex",
    shape: tuple[int, int] = (12, 9),
    spacing: tuple[float, float] = (0.5, 0.8),
    step: float = 2.5,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-10.0, 20.0, -30.0),
    slopes: Sequence[float] = (1.0, 0.5, 0.25),
    uid: str | None = None,
    patient: str = "Doe^John 4711",
    seed: int = 0,
    change: Change | None = None,
) -> Path:
    """Write an enhanced CT or MR file whose ``stacks * n`` frames are stored in shuffled order.

    Frame ``k`` in the order of stacks and positions has slope ``slopes[k % len(slopes)]`` and intercept -1024; stack ``t`` adds ``10 * t`` to the values of
    :func:`support.dicom.hu_at`. The stacks lie at the same positions; ``mark`` (an attribute of the frame content) tells them apart, ``""`` leaves it out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    series = uid or generate_uid(entropy_srcs=[str(path), modality])
    sop_class = {"CT": sop.EnhancedCTImageStorage, "MR": sop.EnhancedMRImageStorage}[modality]
    dataset = new_object(sop_class, modality, series, patient=patient)
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = generate_uid(entropy_srcs=[series, "frame"]), ""
    kinds = {"PixelPresentation": "MONOCHROME", "VolumetricProperties": "VOLUME", "VolumeBasedCalculationTechnique": "NONE"}
    dataset.update(item(ImageType=["DERIVED", "PRIMARY", "VOLUME", "NONE"], **kinds))
    dataset.update(item(PresentationLUTShape="IDENTITY", BurnedInAnnotation="NO", LossyImageCompression="00"))
    if modality == "MR":
        dataset.update(item(ComplexImageComponent="MAGNITUDE", AcquisitionContrast="T1"))
    places = positions(n, origin, orientation, step)
    frames = np.random.default_rng(seed).permutation(n * stacks)
    pixels = np.empty((n * stacks, *shape), np.int16)
    groups = []
    for stored, k in enumerate(frames):
        place, slope = places[k % n], slopes[k % len(slopes)]
        values = hu_at(plane(place, orientation, shape, spacing)) + 10 * (k // n)
        pixels[stored] = np.round((values + 1024) / slope)
        content = item(FrameAcquisitionNumber=1, FrameReferenceDateTime=WHEN, FrameAcquisitionDateTime=WHEN, FrameAcquisitionDuration=1.0)
        content.update(item(StackID="1", InStackPositionNumber=int(k % n) + 1, DimensionIndexValues=[int(k // n) + 1, int(k % n) + 1]))
        if mark:
            setattr(content, mark, int(k // n) + 1)
        groups.append(
            item(
                FrameContentSequence=[content],
                PlanePositionSequence=[item(ImagePositionPatient=[float(f"{x:.6f}") for x in place])],
                PixelValueTransformationSequence=[
                    item(RescaleIntercept=-1024, RescaleSlope=slope, RescaleType="HU" if modality == "CT" else "US")
                ],
            )
        )
    frame_type = item(FrameType=["DERIVED", "PRIMARY", "VOLUME", "NONE"], **kinds)
    if modality == "MR":
        frame_type.update(item(ComplexImageComponent="MAGNITUDE", AcquisitionContrast="T1"))
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=list(spacing), SliceThickness=step)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[float(f"{x:.10f}") for x in orientation])],
        FrameAnatomySequence=[item(AnatomicRegionSequence=[code("69536005", "SCT", "Head")], FrameLaterality="U")],
    )
    setattr(shared, f"{modality}ImageFrameTypeSequence", [frame_type])
    _finish(dataset, pixels, shared, groups)
    if change is not None:
        change(dataset, 0)
    dataset.save_as(path, enforce_file_format=True)
    return path


def make_oct(
    path: Path, pixels: np.ndarray, *, step_mm: float = 0.12, pixel_mm: tuple[float, float] = (0.004, 0.011), patient: str = "Doe^John 4711"
) -> Path:
    """Write B-scans ``(frames, rows, columns)`` of uint8 as one ophthalmic tomography file: coronal-like planes, one below the other, stored in reverse."""
    path.parent.mkdir(parents=True, exist_ok=True)
    series = generate_uid(entropy_srcs=[str(path), "OPT"])
    dataset = new_object(sop.OphthalmicTomographyImageStorage, "OPT", series, patient=patient)
    dataset.update(item(FrameOfReferenceUID=generate_uid(entropy_srcs=[series, "frame"]), PositionReferenceIndicator=""))
    dataset.update(item(ImageType=["ORIGINAL", "PRIMARY"], AcquisitionDateTime=WHEN, AcquisitionNumber=1, PresentationLUTShape="IDENTITY"))
    dataset.update(item(InConcatenationNumber=1, InConcatenationTotalNumber=1, ConcatenationFrameOffsetNumber=0))
    dataset.update(
        item(ConcatenationUID=generate_uid(entropy_srcs=[series, "concatenation"]), BurnedInAnnotation="NO", LossyImageCompression="00")
    )
    dataset.update(
        item(
            EmmetropicMagnification=None, IntraOcularPressure=None, HorizontalFieldOfView=None, PupilDilated="NO", AxialLengthOfTheEye=None
        )
    )
    dataset.update(item(RefractiveStateSequence=[], DetectorType="CCD", LightPathFilterTypeStackCodeSequence=[], ImageLaterality="R"))
    dataset.AcquisitionDeviceTypeCodeSequence = [code("392012008", "SCT", "Optical Coherence Tomography Scanner")]
    dataset.AnatomicRegionSequence = [code("5665001", "SCT", "Retina")]
    orientation = (
        1.0,
        0.0,
        0.0,
        0.0,
        0.0,
        -1.0,
    )  # along a row to the left, down a column towards the feet: the planes follow each other along y
    places = positions(len(pixels), (0.0, 0.0, 0.0), orientation, step_mm)[::-1]
    groups = [
        item(
            FrameContentSequence=[item(FrameAcquisitionNumber=1, DimensionIndexValues=[1, len(pixels) - k], FrameReferenceDateTime=WHEN,
                                       FrameAcquisitionDateTime=WHEN, FrameAcquisitionDuration=1.0, StackID="1", InStackPositionNumber=len(pixels) - k)],
            PlanePositionSequence=[item(ImagePositionPatient=[float(f"{x:.6f}") for x in place])],
        )
        for k, place in enumerate(places)
    ]  # fmt: skip
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=list(pixel_mm), SliceThickness=step_mm)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(orientation))],
    )
    _finish(dataset, pixels[::-1], shared, groups)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _finish(dataset: Dataset, pixels: np.ndarray, shared: Dataset, groups: list[Dataset]) -> None:
    dataset.ContentDate, dataset.ContentTime, dataset.NumberOfFrames = "20200102", "101500", len(pixels)
    dataset.DimensionOrganizationSequence = [item(DimensionOrganizationUID=DIMENSION)]
    content = Tag("FrameContentSequence")
    dataset.DimensionIndexSequence = [
        item(DimensionOrganizationUID=DIMENSION, DimensionIndexPointer=Tag(keyword), FunctionalGroupPointer=content)
        for keyword in ("TemporalPositionIndex", "InStackPositionNumber")
    ]
    dataset.AcquisitionContextSequence = []
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], groups
    set_pixels(dataset, pixels)
