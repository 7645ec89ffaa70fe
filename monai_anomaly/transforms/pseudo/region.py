"""Scattered pixels of a batch: the patches of all its images in one list, whatever their sizes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Patches", "Region", "box_patches"]


class Patches(NamedTuple):
    """One patch for each image, as runs of pixels beside each other; rows and columns are counted from the patch's corner. All int64, on one device."""

    image: Tensor
    """The image of each run, ``(R,)``."""
    row: Tensor
    """The row of each run, ``(R,)``."""
    column: Tensor
    """The first column of each run, ``(R,)``."""
    run: Tensor
    """The run of each pixel, ``(N,)``."""
    step: Tensor
    """How far along its run each pixel lies, ``(N,)``."""

    @classmethod
    def of_runs(cls, image: Tensor, row: Tensor, column: Tensor, length: Tensor, device: torch.device) -> Patches:
        """Patches from the lengths ``(R,)`` of their runs, everything on the CPU, brought to a device."""
        total = int(length.sum())
        image, row, column, length = (part.to(device) for part in (image, row, column, length))
        run = torch.repeat_interleave(length, output_size=total)
        step = torch.arange(total, device=device) - (length.cumsum(0) - length).index_select(0, run)
        return cls(image, row, column, run, step)

    def images(self) -> Tensor:
        """The image of each pixel, ``(N,)``."""
        return self.image.index_select(0, self.run)

    def rows(self) -> Tensor:
        """The row of each pixel, ``(N,)``."""
        return self.row.index_select(0, self.run)

    def columns(self) -> Tensor:
        """The column of each pixel, ``(N,)``."""
        return self.along(self.column)

    def along(self, starts: Tensor) -> Tensor:
        """Numbers that go up by 1 along each run, from its start ``(R,)``, for each pixel ``(N,)``."""
        return starts.index_select(0, self.run).add_(self.step)

    def at(self, corner: tuple[Tensor, Tensor], batch: Tensor) -> Region:
        """The pixels of a batch that the patches cover; both are on one device.

        Args:
            corner: top row and left column of each image's patch, int64 ``(B,)``.
            batch: ``(B, C, H, W)``.

        Example:
            >>> images = torch.arange(8.0).view(2, 1, 2, 2)
            >>> patches = box_patches(torch.tensor([1, 1]), torch.tensor([1, 2]), images.device)
            >>> patches.at((torch.tensor([1, 0]), torch.tensor([1, 0])), images).read(images)
            tensor([[3., 4., 5.]])
        """
        channels, height, width = batch.shape[1:]
        top, left = (line.to(batch.device) for line in corner)
        start = (self.row + top[self.image]) * width + self.column + left[self.image]
        first = self.along(start + self.image * (channels * height * width))
        places = first + (torch.arange(channels, device=batch.device) * (height * width))[:, None]
        return Region(self, places, start + self.image * (height * width))


class Region(NamedTuple):
    """Pixels of a batch ``(B, C, H, W)``; one index reads or writes all of them."""

    patches: Patches
    places: Tensor
    """Where their values stand in the flattened batch, int64 ``(C, N)``."""
    starts: Tensor
    """Where the runs begin in a flattened batch of one channel, int64 ``(R,)``."""

    def read(self, batch: Tensor) -> Tensor:
        """The pixels' values ``(C, N)``."""
        return batch.reshape(-1).index_select(0, self.places.view(-1)).view(self.places.shape)

    def write(self, batch: Tensor, values: Tensor) -> Tensor:
        """A copy of the batch with these values ``(C, N)`` in it."""
        out = batch.clone(memory_format=torch.contiguous_format)
        out.view(-1).scatter_(0, self.places.view(-1), values.reshape(-1))
        return out

    def mask(self, batch: Tensor, chosen: Tensor) -> Tensor:
        """The mask ``(B, 1, H, W)`` of those pixels that are chosen, bool ``(N,)``."""
        out = torch.zeros((batch.shape[0], 1, *batch.shape[2:]), dtype=torch.bool, device=batch.device)
        out.view(-1).scatter_(0, self.patches.along(self.starts), chosen)
        return out


def box_patches(height: Tensor, width: Tensor, device: torch.device) -> Patches:
    """One box for each image.

    Args:
        height: rows of each box, int64 ``(B,)``, on the CPU.
        width: columns of each box, int64 ``(B,)``, on the CPU.
        device: where the patches are wanted.

    Example:
        >>> patches = box_patches(torch.tensor([1, 2]), torch.tensor([3, 2]), torch.device("cpu"))
        >>> torch.stack((patches.images(), patches.rows(), patches.columns())).tolist()
        [[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1], [0, 1, 2, 0, 1, 0, 1]]
    """
    image = torch.repeat_interleave(height)
    row = torch.arange(len(image)) - (height.cumsum(0) - height)[image]
    return Patches.of_runs(image, row, torch.zeros_like(row), width[image], device)
