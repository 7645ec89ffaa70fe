"""A stand-in for pydicom-seg 0.4.1: the one reader of it that MONAI Label 0.8.5 calls, on highdicom.

MONAI Label imports ``pydicom_seg`` when its server starts, and again in every background job. The last release of pydicom-seg is 0.4.1 of 2022: it imports
``pydicom._storage_sopclass_uids``, which pydicom 3 no longer has, and asks for NumPy below 2 and jsonschema below 4. pydicom below 3.0.2 has a known
vulnerability, so the environment of MONAI Label gets this distribution in its place: no file of another package is touched, nothing runs when Python starts,
and ``pip uninstall pydicom-seg`` removes it. Go back to pydicom-seg itself as soon as a release of it works beside pydicom 3.

Writing DICOM SEG is not part of it: MONAI Label's own way is dcmqi, ours is ``monai_anomaly.writers.dicom``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813 - as its own documents name it
from highdicom.seg import Segmentation

__all__ = ["MultiClassReader", "MultiClassResult"]


@dataclass(frozen=True)
class MultiClassResult:
    """What :class:`MultiClassReader` returns.

    Attributes:
        image: voxels hold segment numbers, 0 where there is no segment; on the grid of the frames in the file.
    """

    image: sitk.Image


class MultiClassReader:
    """Reads a DICOM segmentation whose segments do not overlap, as one label image in patient coordinates (LPS, mm).

    Example:
        >>> MultiClassReader().read(pydicom.dcmread(path)).image.GetSize()  # doctest: +SKIP
        (64, 96, 6)
    """

    def read(self, dataset: pydicom.Dataset) -> MultiClassResult:
        """Turn a DICOM segmentation into an image; slices between its first and last that have no frame are empty.

        Args:
            dataset: a DICOM segmentation, pixel data included.

        Returns:
            The label image. It reaches from the first to the last slice in the file, which may be less than the series it was drawn on.

        Raises:
            ValueError: ``dataset`` is no DICOM segmentation, or is fractional.
            RuntimeError: segments overlap, or the frames do not form a volume.
        """
        volume = Segmentation.from_dataset(dataset, copy=False).get_volume(combine_segments=True)
        array, affine = volume.array, volume.affine
        if np.linalg.det(affine[:3, :3]) > 0:  # slices from high to low: ITK's series readers order them along row x column
            array, affine = array[::-1], affine @ _flip_first(len(array))
        columns = affine[:3, 2::-1]  # SimpleITK counts columns, rows, slices; highdicom slices, rows, columns
        spacing = np.linalg.norm(columns, axis=0)
        image = sitk.GetImageFromArray(array)
        image.SetOrigin(affine[:3, 3].tolist())
        image.SetSpacing(spacing.tolist())
        image.SetDirection((columns / spacing).ravel().tolist())
        return MultiClassResult(image)


def _flip_first(length: int) -> np.ndarray:
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = length - 1
    return flip


def __getattr__(name: str) -> object:
    raise AttributeError(
        f"pydicom_seg.{name} is not part of this stand-in for pydicom-seg, which only reads (MultiClassReader); expected MONAI Label 0.8.5, "
        "which writes with dcmqi: to write DICOM SEG use monai_anomaly.writers.dicom or highdicom."
    )
