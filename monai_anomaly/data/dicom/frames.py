"""Volumes in one file: enhanced multi-frame objects by their functional groups, Siemens mosaics by nibabel."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ...errors import DataError
from ..geometry import RAS_TO_LPS
from .elements import numbers, rescale_of, text, texts
from .slice import Marks, Slice, check_plane, step_of
from .stacks import check_stack, split_series

__all__ = ["Mosaic", "functional_group", "is_mosaic", "mosaic_of", "slices_of_frames", "stack_of_frames"]


def slices_of_frames(dataset: Dataset, path: str, shape: tuple[int, int], n_frames: int) -> list[Slice]:
    """The place of every frame in the patient, from the shared and per-frame functional groups (PS3.3 C.7.6.16).

    Raises:
        DataError: a frame without place, or another number of frames than the header says.

    Example:
        >>> len(slices_of_frames(dataset, "enhanced.dcm", (512, 512), 20))  # doctest: +SKIP
        20
    """
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared_groups = dataset.get("SharedFunctionalGroupsSequence") or []
    shared = shared_groups[0] if len(shared_groups) else Dataset()
    if len(per_frame) != n_frames:
        raise DataError(f"The file describes {len(per_frame)} frames and holds {n_frames}; expected equal numbers: export it again.")
    slices = []
    for number, groups in enumerate(per_frame):
        name = f"frame {number + 1}"
        measures = functional_group(groups, shared, "PixelMeasuresSequence")
        orientation = numbers(functional_group(groups, shared, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
        position = numbers(functional_group(groups, shared, "PlanePositionSequence"), "ImagePositionPatient", 3)
        spacing = numbers(measures, "PixelSpacing", 2)
        if not (orientation and position and spacing):
            raise DataError(
                f"{name.capitalize()} has no plane position, orientation or pixel spacing; expected all three: export it again."
            )
        check_plane(orientation, spacing, position)
        content = functional_group(groups, shared, "FrameContentSequence")
        slices.append(
            Slice(
                path=path, name=name, frame_of_reference=text(dataset, "FrameOfReferenceUID"), shape=shape, spacing=spacing, orientation=orientation,
                position=position, thickness=step_of(measures),
                marks=Marks(
                    acquisition=text(content, "FrameAcquisitionNumber"), time=text(content, "TemporalPositionIndex"),
                    image_kind="\\".join(texts(dataset, "ImageType")),
                ),
            )
        )  # fmt: skip
    return slices


def stack_of_frames(slices: Sequence[Slice]) -> list[int]:
    """Indices of the frames in the order of their positions.

    Raises:
        DataError: the frames are several stacks (time points, echoes, orientations), or no regular one.

    Example:
        >>> stack_of_frames(slices)  # doctest: +SKIP
        [2, 0, 1]
    """
    stacks = split_series(slices)
    if len(stacks) != 1:
        raise DataError(
            f"The file holds {len(stacks)} stacks of {len(stacks[0])} frames (time points, echoes or views); expected one volume: export each apart."
        )
    check_stack(stacks[0])
    index = {id(one): number for number, one in enumerate(slices)}
    return [index[id(one)] for one in stacks[0]]


def rescale_of_frame(dataset: Dataset, number: int) -> tuple[float, float]:
    """Slope and intercept of one frame: its own, the shared ones, or 1 and 0.

    Example:
        >>> rescale_of_frame(Dataset(), 0)
        (1.0, 0.0)
    """
    groups: Any = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    transformation = functional_group(groups[number] if number < len(groups) else Dataset(), shared, "PixelValueTransformationSequence")
    return rescale_of(transformation)


def functional_group(groups: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """The functional group of one frame: its own, the shared one, or an empty one.

    Example:
        >>> len(functional_group(Dataset(), Dataset(), "PixelMeasuresSequence"))
        0
    """
    for place in (groups, shared):
        sequence = place.get(keyword)
        if sequence:
            item: Dataset = sequence[0]
            return item
    return Dataset()


@dataclass(frozen=True)
class Mosaic:
    """Geometry of slices that are tiled in one picture."""

    shape: tuple[int, int, int]
    """Rows, columns, slices."""
    affine: NDArray[np.float64]
    """From (row, column, slice) to millimetres, right-anterior-superior."""

    def untile(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The tiled picture as ``(rows, columns, slices)``."""
        rows, columns, n = self.shape
        side = picture.shape[0] // rows
        tiles = picture.reshape(side, rows, picture.shape[1] // columns, columns).transpose(1, 3, 0, 2)
        return tiles.reshape(rows, columns, -1)[:, :, :n]


def is_mosaic(dataset: Dataset) -> bool:
    """Whether a picture is a mosaic of slices.

    Example:
        >>> is_mosaic(Dataset())
        False
    """
    return any(kind.upper() == "MOSAIC" for kind in texts(dataset, "ImageType"))


def mosaic_of(dataset: Dataset) -> Mosaic:
    """Geometry of a Siemens mosaic, from the vendor's private header, by nibabel.

    Args:
        dataset: with its private elements.

    Raises:
        DataError: that header is missing or makes no sense.

    Example:
        >>> mosaic_of(dataset).shape  # doctest: +SKIP
        (64, 64, 35)
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nibabel calls its DICOM readers highly experimental on import; what is used is tested here
            from nibabel.nicom.dicomwrappers import MosaicWrapper

            wrapper = MosaicWrapper(dataset)
            rows, columns, n = (int(size) for size in wrapper.image_shape)
            affine = RAS_TO_LPS @ np.asarray(wrapper.affine, dtype=float)
    except Exception as error:  # nibabel raises whatever a vendor's header makes it raise
        raise DataError(
            "The file is a mosaic of slices whose private header cannot be read; expected a Siemens mosaic as the scanner wrote it: export it as a series."
        ) from error
    tiled = (int(dataset.Rows), int(dataset.Columns))
    side = math.ceil(math.sqrt(max(n, 1)))
    if n < 1 or rows * side != tiled[0] or columns * side != tiled[1] or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
        raise DataError(
            f"The mosaic of {tiled[0]} x {tiled[1]} pixels does not hold {n} tiles in a square; expected it to: export it as a series."
        )
    return Mosaic((rows, columns, n), affine)
