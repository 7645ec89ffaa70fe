"""A case as its slices: what preprocessing makes of its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils.enums import MetaKeys
from torch import Tensor

from ..errors import DataError
from ..transforms import OrientSlicesd
from ..transforms.tensors import metadata, plain
from .cases import Case, case_files
from .reader import case_grid

__all__ = ["PreparedCase", "count_slices", "prepare_case", "slice_labels"]

PLACE = ("slice_affine", "slice_shape", "source_affine", "source_shape", "in_patient")

Transform = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class PreparedCase:
    """The S slices of a case, and where they lie. Tensors only: this is what is cached.

    Example:
        >>> PreparedCase.empty_of(n=2, side=8).image.shape
        torch.Size([2, 1, 8, 8])
    """

    image: Tensor
    """``(S, C, H, W)`` float32."""
    mask: Tensor
    """``(S, 1, H, W)`` uint8 of 0 and 1; ``(0, 1, H, W)`` for a case without a mask."""
    marked: Tensor
    """``(S,)`` bool: the mask had a pixel before resizing, which may lose a very small lesion."""
    empty: Tensor
    """``(S,)`` bool: the slice shows nothing."""
    slice_affine: Tensor
    """``(4, 4)`` float64, from (row, column, slice) of the oriented slices in full resolution to mm (RAS)."""
    slice_shape: Tensor
    """``(3,)`` int64, their (rows, columns, slices)."""
    source_affine: Tensor
    """``(4, 4)`` float64, of the file's own grid."""
    source_shape: Tensor
    """``(3,)`` int64, of the file's own grid."""
    in_patient: Tensor
    """``()`` bool: the affines place the slices in the patient."""
    intensity: Tensor
    """``(N,)`` uint8: the rule that scaled the values, as text in UTF-8."""

    @classmethod
    def empty_of(cls, n: int, side: int) -> PreparedCase:
        """Black slices that lie nowhere."""
        nowhere, nothing = torch.eye(4, dtype=torch.float64), torch.zeros(3, dtype=torch.long)
        return cls(
            image=torch.zeros(n, 1, side, side), mask=torch.zeros(0, 1, side, side, dtype=torch.uint8),
            marked=torch.zeros(n, dtype=torch.bool), empty=torch.zeros(n, dtype=torch.bool),
            slice_affine=nowhere, slice_shape=nothing, source_affine=nowhere, source_shape=nothing,
            in_patient=torch.tensor(False), intensity=torch.zeros(0, dtype=torch.uint8),
        )  # fmt: skip

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of it by name; ``PreparedCase(**tensors)`` brings it back."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def place(self) -> dict[str, Tensor]:
        """Where the slices lie: the entries from :attr:`slice_affine` to :attr:`in_patient`."""
        return {name: getattr(self, name) for name in PLACE}

    @property
    def rule(self) -> str:
        """:attr:`intensity` as text."""
        return self.intensity.numpy().tobytes().decode()

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.image)


def prepare_case(case: Case, transform: Transform, side: int) -> PreparedCase:
    """Decode and preprocess a case.

    Args:
        case: the case.
        transform: from (a copy of) the case to ``image`` ``(C, H, W, S)`` and, if it has one, ``mask`` ``(1, H, W, S)``; optional ``empty`` ``(S,)``,
            ``mask_any`` ``(S,)``, ``intensity`` (text), and the image's metadata.
        side: H and W.

    Raises:
        DataError: other shapes. Whatever the transform raises comes through as it is.

    Example:
        >>> prepare_case({"image": "scan.png"}, preprocessing, side=256).image.shape  # doctest: +SKIP
        torch.Size([1, 1, 256, 256])
    """
    out = transform(dict(case))
    image = plain(out["image"])
    n = int(image.shape[-1])
    if image.ndim != 4 or tuple(image.shape[1:3]) != (side, side) or 0 in image.shape:
        raise DataError(
            f"The transforms give an image of shape {tuple(image.shape)}; expected (channels, {side}, {side}, slices): check them."
        )
    blank = PreparedCase.empty_of(n, side)
    mask, marked = blank.mask, blank.marked
    if "mask" in case:
        drawn = plain(out["mask"])
        if tuple(drawn.shape) != (1, side, side, n):
            raise DataError(f"The transforms give a mask of shape {tuple(drawn.shape)}; expected (1, {side}, {side}, {n}): check them.")
        mask = drawn.permute(3, 0, 1, 2).to(torch.uint8).contiguous()
        marked = plain(out["mask_any"]).bool().reshape(n) if "mask_any" in out else mask.flatten(1).any(dim=1)
    meta = metadata(out["image"])
    flat = {MetaKeys.ORIGINAL_AFFINE: np.eye(4), MetaKeys.SPATIAL_SHAPE: (side, side, n)} | meta
    return PreparedCase(
        image=image.permute(3, 0, 1, 2).float().contiguous(),
        mask=mask,
        marked=marked,
        empty=plain(out["empty"]).bool().reshape(n) if "empty" in out else blank.empty,
        slice_affine=_float64(flat.get("slice_affine", flat[MetaKeys.ORIGINAL_AFFINE])),
        slice_shape=_int64(flat.get("slice_shape", flat[MetaKeys.SPATIAL_SHAPE])),
        source_affine=_float64(flat[MetaKeys.ORIGINAL_AFFINE]),
        source_shape=_int64(flat[MetaKeys.SPATIAL_SHAPE]),
        in_patient=torch.tensor(meta.get("geometry") == "patient"),
        intensity=torch.tensor(list(str(out.get("intensity", "")).encode()), dtype=torch.uint8),
    )


def slice_labels(case: Case, stack: PreparedCase) -> Tensor:
    """Labels of the slices of a case ``(S,)``: 0 normal, 1 abnormal, -1 unknown.

    Args:
        case: a case with a mask is abnormal where the mask marks something; one without has its own label if that is 0 or if it is a single slice.
        stack: its slices.

    Raises:
        DataError: the case's label contradicts its mask.

    Example:
        >>> slice_labels({"image": "1.nii.gz", "label": 1}, PreparedCase.empty_of(n=2, side=8)).tolist()
        [-1, -1]
    """
    label, n = case.get("label", -1), len(stack)
    if "mask" not in case:
        return torch.full((n,), label if label == 0 or n == 1 else -1)
    if label == 1 and not stack.marked.any():
        raise DataError("The case has label 1 (abnormal) and a mask without a marked pixel; expected them to agree: correct one of them.")
    if label == 0 and stack.marked.any():
        raise DataError("The case has label 0 (normal) and a mask with marked pixels; expected them to agree: correct one of them.")
    return stack.marked.long()


def count_slices(case: Case, transform: Transform) -> int:
    """How many slices :func:`prepare_case` will give, from headers alone. A case that cannot be opened counts as one slice.

    Args:
        case: the case.
        transform: the same; its :class:`~monai_anomaly.transforms.OrientSlicesd` decides which axis the slices are.

    Example:
        >>> count_slices({"image": "scan.png"}, preprocessing)  # doctest: +SKIP
        1
    """
    files = case_files(case)
    steps = transform.flatten().transforms if isinstance(transform, Compose) else (transform,)
    turns = [step for step in steps if isinstance(step, OrientSlicesd)]
    if len(files) > 1 and all(step.plane == "native" for step in turns):
        return len(files)
    try:
        place = case_grid(files)
        # On torch's device "meta" a volume has a shape and no values: turning it costs nothing.
        volume = MetaTensor(torch.empty(1, *place.shape, device="meta"), affine=torch.as_tensor(place.affine))
        volume.meta["geometry"] = "patient" if place.in_patient else "none"
        for step in turns:
            volume = step({"image": volume})["image"]
        return int(volume.shape[-1])
    except DataError:
        return 1


def _float64(value: Any) -> Tensor:
    return plain(value).to(torch.float64).clone()


def _int64(value: Any) -> Tensor:
    return plain(value).to(torch.int64).clone()
