"""Many tensors in a few pieces of memory."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["TensorPool"]

LARGEST_BLOCK = 2**28
"""256 MiB."""


class TensorPool:
    """Many tensors of one type in a few large blocks, whatever their shapes.

    Worker processes share blocks as they are, where thousands of single tensors would need a file descriptor each.

    Args:
        dtype: of the tensors.

    Example:
        >>> pool = TensorPool(torch.uint8)
        >>> pool.append(torch.ones(2, 3)), pool.append(torch.zeros(5))
        (0, 1)
        >>> pool[0].shape, len(pool), pool.nbytes
        (torch.Size([2, 3]), 2, 11)
    """

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.nbytes = 0
        self._blocks: list[Tensor] = []
        self._used = 0
        self._places: list[tuple[int, int, tuple[int, ...]]] = []

    def __len__(self) -> int:
        """Number of tensors."""
        return len(self._places)

    def append(self, tensor: Tensor) -> int:
        """Copy a tensor into the pool, and return its number."""
        size = tensor.numel()
        if not self._blocks or self._used + size > len(self._blocks[-1]):
            # Blocks grow with what is there already: few of them, and a small pool stays small.
            wanted = max(size, min(LARGEST_BLOCK, self.nbytes) // self.dtype.itemsize)
            self._blocks.append(torch.empty(wanted, dtype=self.dtype))
            self._used = 0
        self._blocks[-1][self._used : self._used + size].view(tensor.shape).copy_(tensor)
        self._places.append((len(self._blocks) - 1, self._used, tuple(tensor.shape)))
        self._used += size
        self.nbytes += size * self.dtype.itemsize
        return len(self._places) - 1

    def __getitem__(self, number: int) -> Tensor:
        """A view of a tensor in the pool."""
        block, start, shape = self._places[number]
        return self._blocks[block][start : start + torch.Size(shape).numel()].view(shape)
