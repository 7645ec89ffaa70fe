"""What a radiologist accepts, from the viewer's file to the study's DICOM objects, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom import Dataset

from ..data.dicom import Grid
from ..data.dicom.frames import functional_group
from ..data.formats import reason
from ..data.nifti import read_nifti
from ..errors import DataError
from ..inference import Verdict
from ..transforms.grid import onto_grid
from ..writers.dicom import Algorithm, parametric_map, read_sources, segmentation

__all__ = ["HEATMAP", "SEGMENT_LABEL", "dicom_results", "heatmap_info", "read_map", "read_mask", "read_segmentation"]

HEATMAP = "heatmap"
"""Tag of the label that holds the map of the model that answered last; it goes to the PACS with the mask that is accepted."""
SEGMENT_LABEL = "Anomaly"
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
_ON_THE_SLICE = 0.01
"""How far, in voxels, a frame may lie beside its slice."""


def heatmap_info(verdict: Verdict) -> dict[str, Any]:
    """What is stored beside a heat map, so that it can become a DICOM object later: who made it, and its display window; plain JSON.

    Args:
        verdict: that the map belongs to.

    Example:
        >>> heatmap_info(detector.judge("export/series_7"))["algorithm"]["name"]  # doctest: +SKIP
        'SkipTS'
    """
    model = verdict.model
    rate = None if verdict.map_threshold is None else verdict.false_alarm_rate
    algorithm = Algorithm(
        model.system, model.teacher_sha256, model.sha256, verdict.map_threshold, rate, verdict.map.smoothing_mm, model.version
    )
    return {"algorithm": asdict(algorithm), "window": list(verdict.colour_range)}


def dicom_results(
    files: Sequence[str], mask: ArrayLike, values: ArrayLike | None, info: Mapping[str, Any], accepted: bool = True
) -> list[Dataset]:
    """The DICOM objects of an accepted result: the Segmentation, and the Parametric Map unless the series has no place in the patient or no slice to score.

    Args:
        files: of the series.
        mask: ``(rows, columns, slices)``, the mask.
        values: ``(rows, columns, slices)``, the heat map that was shown; ``None`` for a picture.
        info: of the heat map, from :func:`heatmap_info`.
        accepted: by a person, or else the model's own.

    Raises:
        DataError: no such objects can be made of this series.

    Example:
        >>> [result.Modality for result in dicom_results(files, mask, values, info)]  # doctest: +SKIP
        ['SEG', 'OT']
    """
    sources, algorithm = read_sources(files), Algorithm(**info["algorithm"])
    results: list[Dataset] = [segmentation(sources, mask, algorithm=algorithm, edited=accepted)]
    if values is not None and np.isfinite(values).any():
        results.append(parametric_map(sources, values, algorithm=algorithm, window=tuple(info["window"])))
    return results


def read_mask(path: str | Path, affine: ArrayLike, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Read the mask that a viewer sends, on the grid of its image; axes may be exchanged and reversed, nothing is resampled.

    Args:
        path: ``.nii``, ``.nii.gz`` or ``.nrrd`` (3D Slicer), or ``.bin``, the bare bytes in the voxel order of the image (OHIF).
        affine: ``(4, 4)`` of the image, from (row, column, slice) to RAS+ millimetres.
        shape: its rows, columns and slices.

    Returns:
        ``(rows, columns, slices)``, true where the file is not zero.

    Raises:
        DataError: another file, or another grid.

    Example:
        >>> read_mask("mask.nii.gz", np.eye(4), (20, 30, 5)).shape  # doctest: +SKIP
        (20, 30, 5)
    """
    name = Path(path).name
    if name.endswith(".bin"):
        voxels = np.fromfile(path, np.uint8)
        if voxels.size != np.prod(shape):
            raise DataError(f"The mask holds {voxels.size:,} voxels, the image {tuple(shape)}; expected one byte for each of its voxels.")
        return voxels.reshape(shape[1], shape[0], shape[2], order="F").transpose(1, 0, 2) != 0
    if name.endswith((".nii", ".nii.gz")):
        array, grid = read_nifti(path)
        there = grid.affine
    elif name.endswith(".nrrd"):
        array, there = _read_nrrd(path)
    else:
        raise DataError("The mask is no file that is known here; expected .nii.gz, .nii, .nrrd or .bin: set it in the viewer.")
    return np.asarray(onto_grid(array, there, affine, shape, names=("mask", "image")) != 0)


def _read_nrrd(path: str | Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise DataError("The NRRD mask cannot be read; expected a whole label map: save it again.") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError("The NRRD mask has several layers; expected one label map: do not allow overlapping segments, or send .nii.gz.")
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).transpose(1, 2, 0), (_FLIP @ lps)[:, [1, 0, 2, 3]]


def read_map(path: str | Path, affine: ArrayLike, shape: Sequence[int]) -> NDArray[np.float32]:
    """Read a heat map that was kept, on the grid of its image; NaN (slices that were not scored) stays NaN.

    Args:
        path: NIfTI.
        affine: ``(4, 4)`` of the image, from (row, column, slice) to RAS+ millimetres.
        shape: its rows, columns and slices.

    Raises:
        DataError: another grid, or a file that cannot be read.

    Example:
        >>> read_map("map.nii.gz", np.eye(4), (20, 30, 5)).dtype  # doctest: +SKIP
        dtype('float32')
    """
    try:
        image = nib.nifti1.load(path)
        array = np.asarray(image.dataobj, np.float32).transpose(1, 0, 2)
    except Exception as error:  # nibabel and zlib raise whatever a broken file makes them raise
        raise DataError(f"The heat map cannot be read ({reason(error)}); expected NIfTI: ask the model once more.") from error
    return onto_grid(array, image.affine[:, [1, 0, 2, 3]], affine, shape, names=("heat map", "image"))


def read_segmentation(result: Dataset, place: Grid) -> NDArray[np.bool_]:
    """The mask in a DICOM Segmentation, on the grid of the series that it belongs to; each frame goes where it says that it lies.

    Args:
        result: the Segmentation, with pixels.
        place: the grid of the series.

    Returns:
        ``(rows, columns, slices)``; slices without a frame are empty.

    Raises:
        DataError: no segment "Anomaly", or frames that lie on no slice.

    Example:
        >>> read_segmentation(pydicom.dcmread("seg.dcm"), grid(files)).any()  # doctest: +SKIP
        True
    """
    try:
        return _read_segmentation(result, place)
    except DataError:
        raise
    except Exception as error:  # whatever pydicom makes of an odd element
        raise DataError(
            f"The Segmentation cannot be read ({reason(error)}); expected a whole DICOM object: look at it in the PACS."
        ) from error


def _read_segmentation(result: Dataset, place: Grid) -> NDArray[np.bool_]:
    segments = [int(one.SegmentNumber) for one in result.SegmentSequence if str(one.SegmentLabel) == SEGMENT_LABEL]
    if not segments or (int(result.Rows), int(result.Columns)) != place.shape[:2]:
        raise DataError(
            f"The Segmentation has {len(segments)} segments {SEGMENT_LABEL!r} of {result.Rows} x {result.Columns} pixels; expected one on the "
            f"{place.shape[0]} x {place.shape[1]} pixels of its series."
        )
    mask = np.zeros(place.shape, bool)
    frames = np.asarray(result.pixel_array).reshape(-1, *place.shape[:2])
    (shared,) = result.SharedFunctionalGroupsSequence
    for frame, group in zip(frames, result.PerFrameFunctionalGroupsSequence, strict=True):
        if int(functional_group(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber) in segments:
            k = _slice_of(functional_group(group, shared, "PlanePositionSequence"), place) if place.in_patient else 0
            mask[:, :, k] |= frame != 0
    return mask


def _slice_of(plane: Dataset, place: Grid) -> int:
    position = np.array([*map(float, plane.ImagePositionPatient), 1.0])
    row, column, k = (np.linalg.inv(place.affine) @ _FLIP @ position)[:3]
    if max(abs(row), abs(column), abs(k - round(k))) > _ON_THE_SLICE or not 0 <= round(k) < place.shape[2]:
        raise DataError("A frame of the Segmentation lies on no slice of its series; expected it on one: take two that belong together.")
    return round(k)
