"""A scan as a radiologist's screen shows it, and maps and masks of it on the same grid."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import ArrayLike, NDArray

from ..data import CaseReader, find_case
from ..transforms import OrientSlicesd, ScaleIntensityByModalityd, to_unit_range
from ..writers import read_map_volume
from .drawing import sides
from .pictures import Picture

__all__ = ["DisplayStack", "slice_picture"]


@dataclass(frozen=True, eq=False)
class DisplayStack:
    """The slices of a scan in display orientation: of axial ones the patient's right is on the left, anterior on top.

    Args:
        values: ``(1 or 3, rows, columns, slices)`` in [0, 1].
        affine: ``(4, 4)``, from (row, column, slice) to mm, right-anterior-superior.
        in_patient: whether that places the slices in the patient; a photograph has no sides and no mm.
    """

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    in_patient: bool = True

    @classmethod
    def read(
        cls,
        image: str | os.PathLike[str] | Sequence[str],
        plane: str = "native",
        preset: str = "auto",
        ct_window: str | Sequence[Any] = "brain",
    ) -> DisplayStack:
        """Read a scan as the bundles do: the same reader, orientation and intensities, but every pixel as it was acquired.

        Args:
            image: an image file, a volume, the folder of one DICOM series, or the list of its files.
            plane: see :class:`monai_anomaly.transforms.OrientSlicesd`.
            preset: see :class:`monai_anomaly.transforms.ScaleIntensityByModalityd`.
            ct_window: likewise.

        Raises:
            DataError: it cannot be read, or is more than one series.

        Example:
            >>> stack = DisplayStack.read("study/series/PHANTOM-001-CT")  # doctest: +SKIP
            >>> stack.values.shape, stack.edges  # doctest: +SKIP
            ((1, 192, 192, 8), 'APRL')
        """
        files = list(image) if not isinstance(image, str | os.PathLike) else find_case(image).cases[0]["image"]
        reader = CaseReader()
        array, meta = reader.get_data(reader.read(files))
        channels = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
        oriented = OrientSlicesd("image", plane)({"image": MetaTensor(channels.astype(np.float32), meta=meta)})
        scaled = ScaleIntensityByModalityd("image", preset, ct_window)(oriented)["image"]
        return cls(scaled.numpy(), np.asarray(scaled.meta["slice_affine"]), scaled.meta["geometry"] == "patient")

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Steps from row to row, column to column and slice to slice.

        Example:
            >>> DisplayStack(np.zeros((1, 4, 4, 4)), np.diag([0.5, 0.5, 3.0, 1.0])).spacing_mm
            (0.5, 0.5, 3.0)
        """
        row, column, step = (float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        return (row, column, step) if self.in_patient else None

    @property
    def edges(self) -> str:
        """Sides of the patient at the top, the bottom, the left and the right of each slice; the closest ones, where a scan is oblique.

        Example:
            >>> DisplayStack(np.zeros((1, 4, 4, 4)), np.eye(4)[[1, 0, 2, 3]] * [-1, -1, 1, 1]).edges
            'APRL'
        """
        return sides(self.affine) if self.in_patient else ""

    def aligned(self, path: str | os.PathLike[str]) -> NDArray[np.float32]:
        """Read a map or a mask of this scan from a NIfTI file, voxel for voxel: axes are exchanged and reversed, nothing is resampled.

        Args:
            path: such as ``volumes/<series>.nii.gz``, which ``inference.json`` writes.

        Returns:
            ``(rows, columns, slices)``.

        Raises:
            DataError: it cannot be read, or does not lie on the grid of this scan.

        Example:
            >>> heat = stack.aligned("runs/new/volumes/s-1.nii.gz")  # doctest: +SKIP
        """
        return read_map_volume(Path(path), self.affine, self.values.shape[1:], (f"map {path}", "scan"))

    def picture(self, index: int, anomaly_map: ArrayLike | None = None, mask: ArrayLike | None = None, title: str = "") -> Picture:
        """One slice, with its sides, spacing, and its part of the volumes that are given.

        Args:
            index: the slice.
            anomaly_map: ``(rows, columns, slices)``.
            mask: likewise.
            title: line above it.

        Example:
            >>> DisplayStack(np.zeros((1, 4, 4, 4)), np.eye(4)).picture(2, mask=np.ones((4, 4, 4))).spacing_mm
            (1.0, 1.0)
        """
        heat, inside = (None if volume is None else np.asarray(volume)[..., index] for volume in (anomaly_map, mask))
        spacing = self.spacing_mm
        return Picture(self.values[..., index], heat, inside, None if spacing is None else spacing[:2], self.edges, title)


def slice_picture(
    sample: Mapping[str, Any], anomaly_map: ArrayLike | None = None, mask: ArrayLike | None = None, title: str = ""
) -> Picture:
    """A slice as the network sees it, at the size that it was brought to, with its sides and spacing in the patient.

    Args:
        sample: of a :class:`~monai_anomaly.data.SliceDataset`.
        anomaly_map: ``(H, W)`` or ``(1, H, W)``, as the detector gives it.
        mask: likewise.
        title: line above it.

    Example:
        >>> sample = {"image": torch.zeros(3, 4, 4), "slice_affine": torch.eye(4), "slice_shape": torch.tensor([8, 6, 5]), "in_patient": True}
        >>> slice_picture(sample, mask=torch.ones(1, 4, 4), title="a third of its pixels").spacing_mm
        (2.0, 1.5)
    """
    image = to_unit_range(torch.as_tensor(sample["image"]))
    per_pixel = np.asarray(sample["slice_shape"])[:2] / image.shape[-2:]
    affine = np.asarray(sample["slice_affine"], dtype=np.float64) @ np.diag([*per_pixel, 1.0, 1.0])
    stack = DisplayStack(np.asarray(image)[..., None], affine, bool(sample["in_patient"]))
    heat, inside = (None if values is None else np.asarray(values)[..., None] for values in (anomaly_map, mask))
    return stack.picture(0, heat, inside, title)
