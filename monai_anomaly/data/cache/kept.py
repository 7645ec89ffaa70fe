"""Many decoded cases: in memory as far as they fit, beyond that in the files of the cache."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...errors import DataError
from ...memory import available_bytes
from ..prepared import PreparedCase
from .case_cache import CaseCache
from .tensor_pool import TensorPool

__all__ = ["KeptCases"]

OPEN = 64
"""Files that are mapped at the same time."""
ENOUGH_TO_TELL = 10
"""After so many cases, and a tenth of them, what all of them will need is foreseen."""


class KeptCases:
    """The slices of each case that are wanted, whatever its number of channels.

    Args:
        n_cases: how many cases there are.
        cache: where cases lie that do not fit into memory.
        max_memory_bytes: bound on the pixels in memory; default: half of what is available now, divided among
            the machine's processes under ``torchrun``.
        reread: gives a case, and its new key, when the cache had to let go of it meanwhile.
    """

    def __init__(
        self, n_cases: int, cache: CaseCache | None, max_memory_bytes: int | None, reread: Callable[[int], tuple[PreparedCase, str | None]]
    ):
        self.n_cases, self.cache, self.reread = n_cases, cache, reread
        available = available_bytes() if max_memory_bytes is None else None
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's: the processes of a machine share its memory
        self.limit = max_memory_bytes if available is None else available // 2 // here
        self.disk_bytes = 0
        self._image, self._mask = TensorPool(torch.float32), TensorPool(torch.uint8)
        self._slots: dict[int, int] = {}
        self._keys: dict[int, tuple[str | None, int]] = {}
        self._open: OrderedDict[int, PreparedCase] = OrderedDict()
        self._places = {name: value.new_zeros(n_cases, *value.shape) for name, value in PreparedCase.empty_of(0, 1).place.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the open files, for worker processes."""
        return vars(self) | {"_open": OrderedDict()}

    @property
    def memory_bytes(self) -> int:
        """Pixels in memory."""
        return self._image.nbytes + self._mask.nbytes

    def add(self, case: int, stack: PreparedCase, key: str | None, slices: Tensor) -> Tensor:
        """Keep some slices of a case; cases come in ascending order.

        Args:
            case: its number.
            stack: its slices.
            key: where it lies in the cache; ``None`` if it does not.
            slices: ``(...)`` int64, those that are wanted.

        Returns:
            ``(...)``, the rows of :meth:`pixels` that hold them.

        Raises:
            DataError: they fit neither into memory nor into the cache.
        """
        for name, value in stack.place.items():
            self._places[name][case] = value
        needed, rows = slices.unique(return_inverse=True)
        image, mask = stack.image, stack.mask
        size = len(needed) * (image[0].nbytes + (mask[0].nbytes if len(mask) else 0))
        if self.limit is None or self.memory_bytes + size <= self.limit:
            try:
                self._slots[case] = self._image.append(image[needed])
                self._mask.append(mask[needed] if len(mask) else mask)
            except (RuntimeError, MemoryError) as error:
                raise self._too_much(self.memory_bytes + size, case + 1) from error
            self._look_ahead(case + 1)
            return rows
        if key is None or self.cache is None:
            raise self._too_much(self.memory_bytes + size, case + 1)
        self.disk_bytes += sum(tensor.nbytes for tensor in stack.tensors.values())
        if self.disk_bytes > self.cache.max_bytes:
            raise DataError(
                f"The slices that do not fit into memory need more than the {self.cache.max_bytes / 1e9:.3g} GB of the cache: set cache_gb higher."
            )
        self._keys[case] = key, len(stack)
        return slices

    def pixels(self, case: int) -> tuple[Tensor, Tensor]:
        """Images ``(rows, C, H, W)`` and masks ``(rows, 1, H, W)``, or ``(0, 1, H, W)``, of a case. They are the store itself: do not write to them."""
        if case in self._slots:
            return self._image[self._slots[case]], self._mask[self._slots[case]]
        stack = self._open.pop(case, None) or self._mapped(case)
        self._open[case] = stack
        if len(self._open) > OPEN:
            self._open.popitem(last=False)
        return stack.image, stack.mask

    def place(self, case: int) -> dict[str, Tensor]:
        """Where the slices of a case lie: see :attr:`PreparedCase.place`."""
        return {name: table[case] for name, table in self._places.items()}

    def _mapped(self, case: int) -> PreparedCase:
        key, n = self._keys[case]
        tensors = self.cache.load(key) if self.cache is not None and key is not None else None
        if tensors is not None:
            return PreparedCase(**tensors)
        stack, key = self.reread(case)
        if len(stack) != n:
            raise DataError(
                f"A case had {n} slices when the run began and has {len(stack)} now; expected files that do not change: start again."
            )
        self._keys[case] = key, n
        return stack

    def _look_ahead(self, done: int) -> None:
        foreseen = self.memory_bytes / done * self.n_cases
        if self.cache is None and self.limit is not None and foreseen > self.limit and done >= max(ENOUGH_TO_TELL, self.n_cases / 10):
            raise self._too_much(self.memory_bytes, done)

    def _too_much(self, n_bytes: int, done: int) -> DataError:
        room = "what there is" if self.limit is None else f"{self.limit / 1e9:.3g} GB"
        return DataError(
            f"The slices of {self.n_cases} cases need about {n_bytes / done * self.n_cases / 1e9:.3g} GB of memory (the first {done} need "
            f"{n_bytes / 1e9:.3g} GB), and no more than {room} may be used; set cache_dir, so that they are read from disk, or use fewer or smaller ones."
        )
