"""Cases as slices: what training and scoring iterate over."""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ..errors import DataError, OptionError, error_chain, find_anomaly_error, reason
from ..transforms.tensors import plain
from .cache import CaseCache, KeptCases
from .cases import Case, Refusal, case_refusal
from .prepared import PreparedCase, Transform, count_slices, prepare_case, slice_labels

__all__ = ["SliceDataset"]

logger = logging.getLogger(__name__)

Sample = dict[str, Any]


class _Last(NamedTuple):
    """The case that was decoded last."""

    case: int
    stack: PreparedCase
    labels: Tensor
    refused: str


class SliceDataset(Dataset[Sample]):
    """Every slice of every case, each exactly once per epoch with any number of workers.

    A sample is a dictionary:

    ``image`` float32 ``(3, H, W)``; ``mask`` uint8 ``(1, H, W)`` of 0 and 1, if any case has a mask; ``has_mask`` bool, whether the mask is known (a mask
    file, or a normal case);

    ``label`` int: 0, 1 or -1 (unknown) **of the slice**, from the mask where there is one, else 0 in a normal case, the case's label for a case of one
    slice, and -1 otherwise; ``empty`` bool; ``refused`` str, the reason why the case could not be read, or ``""``;

    ``case`` int, index into :attr:`cases`; ``slice_index`` int; ``slice_affine`` ``(4, 4)`` from (row, column, slice) of the case's slices in full
    resolution to mm (RAS) and ``slice_shape`` ``(3,)``, their number of rows, columns and slices; ``source_affine`` and ``source_shape``, the same of the
    file's own grid; ``in_patient`` bool, whether these places are places in the patient.

    Args:
        data: the cases.
        transform: applied once per case, to a copy of its dictionary; see :func:`~monai_anomaly.data.prepared.prepare_case`. Draws nothing at random.
        spatial_size: H and W.
        keep: decode everything now and keep it as it comes from ``transform`` (training); a grey slice of 256 x 256 pixels takes 0.25 MiB. A case that fails
            is left out, logged and put into :attr:`refused`. Otherwise (scoring) cases are decoded when asked for and only the last one is held; a case that
            fails gives black slices with ``refused`` set.
        drop_empty: leave empty slices out, and count them in :attr:`n_empty`; needs ``keep``.
        progress: show a progress bar.
        drop_marked: leave slices out whose mask marks something, and count them in :attr:`n_marked`; needs ``keep``. So the other slices of a patient
            with a lesion are normal ones to train on.
        slice_transform: applied to each slice that is asked for, in the dictionary ``{"image": (C, H, W)}``; gives ``image`` ``(3, H, W)``. It may change
            the image in place. Default: nothing.
        neighbours: 1: the previous, this and the next slice are the channels of a slice (2.5-D), the first and last one repeated at the ends; 0: each
            slice by itself.
        cache: where decoded cases are looked for and kept, also for later runs.
        max_memory_bytes: with ``keep``, bound on the pixels in memory; default: half of what is available. Beyond it they stay in the cache.

    Attributes:
        cases: the cases.
        index: (case, slice) of each sample.
        refused: what failed while decoding; empty without ``keep``.
        n_empty, n_marked: slices left out because they are empty; of the others, because they are marked.
        n_cached: cases that came out of the cache.

    Raises:
        DataError: no slice is left, or there is not enough memory and no cache.
        OptionError: ``drop_empty`` or ``drop_marked`` without ``keep``, or another number of neighbours than 0 and 1.

    Example:
        >>> dataset = SliceDataset(cases, transform, spatial_size=256, slice_transform=to_teacher)  # doctest: +SKIP
        >>> dataset[0]["image"].shape  # doctest: +SKIP
        torch.Size([3, 256, 256])
    """

    def __init__(
        self,
        data: Sequence[Case],
        transform: Transform,
        spatial_size: int,
        keep: bool = True,
        drop_empty: bool = False,
        progress: bool = True,
        drop_marked: bool = False,
        slice_transform: Transform | None = None,
        neighbours: int = 0,
        cache: CaseCache | None = None,
        max_memory_bytes: int | None = None,
    ):
        if (drop_empty or drop_marked) and not keep:
            raise OptionError(
                "drop_empty or drop_marked is set without keep; expected keep, too, because a slice must be decoded to know what it shows."
            )
        if neighbours not in (0, 1):
            raise OptionError(f"neighbours is {neighbours!r}; expected 0 or 1, because a teacher takes three channels.")
        self.cases: list[Case] = list(data)
        if not self.cases:
            raise DataError("There are no cases to take slices from; expected at least one: check the data folder and the split.")
        self.spatial_size, self.slice_transform = int(spatial_size), slice_transform
        self._prepare = functools.partial(prepare_case, transform=transform, side=self.spatial_size)
        self.neighbours, self.cache = int(neighbours), cache
        self.has_masks = any("mask" in case for case in self.cases)
        self.refused: tuple[Refusal, ...] = ()
        self.n_empty = self.n_marked = self.n_cached = 0
        self._rules: dict[int, str] = {}
        self._last: _Last | None = None
        self._kept: KeptCases | None = None
        self.index: list[tuple[int, int]] = []
        if keep:
            self._kept = KeptCases(len(self.cases), cache, max_memory_bytes, self._reread)
            self._keep_all(self._kept, drop_empty, drop_marked, progress)
        else:
            self._lengths = [count_slices(case, transform) for case in self.cases]
            self.index = [(case, k) for case, n in enumerate(self._lengths) for k in range(n)]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the case decoded last, for worker processes."""
        return vars(self) | {"_last": None}

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.index)

    @property
    def intensity(self) -> dict[str, int]:
        """The intensity rules in use, and how many of the cases that were decoded so far each applies to."""
        return dict(sorted(Counter(rule for rule in self._rules.values() if rule).items()))

    def __getitem__(self, item: int) -> Sample:
        """One slice."""
        case, k = self.index[item]
        if self._kept is not None:
            image, mask = self._kept.pixels(case)
            place, refused = self._kept.place(case), ""
            rows, label, empty = self._rows[item], int(self._labels[item]), bool(self._empty[item])
        else:
            last = self._decoded(case)
            image, mask, place, refused = last.stack.image, last.stack.mask, last.stack.place, last.refused
            rows, label, empty = self._around(k, len(last.stack)), int(last.labels[k]), bool(last.stack.empty[k])
        side = self.spatial_size
        sample: Sample = {"image": torch.zeros(3, side, side) if refused else self._picture(image[rows])}
        if self.has_masks:
            here = rows[self.neighbours]
            sample["mask"] = mask[here].clone() if len(mask) else torch.zeros(1, side, side, dtype=torch.uint8)
        return sample | {
            "has_mask": not refused and (self.cases[case].get("label") == 0 or "mask" in self.cases[case]),
            "label": label,
            "case": case,
            "slice_index": k,
            "empty": empty,
            "refused": refused,
            **{name: bool(value) if name == "in_patient" else value.clone() for name, value in place.items()},
        }

    def _around(self, slices: int | Tensor, n: int) -> Tensor:
        """``(...)`` -> ``(..., channels)``: each slice with its neighbours."""
        return (torch.as_tensor(slices)[..., None] + torch.arange(-self.neighbours, self.neighbours + 1)).clamp(0, n - 1)

    def _picture(self, slices: Tensor) -> Tensor:
        """A slice and its neighbours ``(channels, C, H, W)``, a copy, as the teacher takes it."""
        image = slices.flatten(0, 1)
        if self.slice_transform is not None:
            image = plain(self.slice_transform({"image": image})["image"])
        if tuple(image.shape) != (3, self.spatial_size, self.spatial_size):
            expected = (3, self.spatial_size, self.spatial_size)
            raise DataError(f"A slice becomes an image of shape {tuple(image.shape)}; expected {expected}: check slice_transform.")
        return image

    def _read(self, number: int) -> tuple[PreparedCase, str | None, bool]:
        """A case, its key if it lies in the cache, and whether it comes from there; raises whatever fails."""
        case = self.cases[number]
        key = self.cache.key(case, self._prepare) if self.cache is not None else None
        if self.cache is None or key is None:
            return self._prepare(case), None, False
        tensors = self.cache.load(key)
        if tensors is not None:
            return PreparedCase(**tensors), key, True
        stack = self._prepare(case)
        return stack, key if self.cache.store(key, stack.tensors) else None, False

    def _reread(self, number: int) -> tuple[PreparedCase, str | None]:
        return self._read(number)[:2]

    def _accept(self, number: int, stack: PreparedCase) -> Tensor:
        """Check what is not up to the files alone, and give the label of each slice, ``(S,)``."""
        if self.neighbours and stack.image.shape[1] != 1:
            raise DataError(
                f"The image has {stack.image.shape[1]} channels; expected 1 (grey) where neighbouring slices become the channels: set neighbours to 0, "
                "or use one CT window."
            )
        self._picture(stack.image[self._around(0, len(stack))])
        return slice_labels(self.cases[number], stack)

    def _decoded(self, number: int) -> _Last:
        if self._last is None or self._last.case != number:
            self._last = None  # let go of the old case before the new one is decoded
            n = self._lengths[number]
            try:
                stack, _, cached = self._read(number)
                if len(stack) != n:
                    raise DataError(f"The transforms give {len(stack)} slices; expected {n}, as the header says: check them.")
                self._last = _Last(number, stack, self._accept(number, stack), "")
                self._rules[number] = stack.rule
                self.n_cached += cached
            except Exception as error:  # one bad file never ends a batch
                self._last = _Last(number, PreparedCase.empty_of(n, self.spatial_size), torch.full((n,), -1), _why(error))
        return self._last

    def _keep_all(self, kept: KeptCases, drop_empty: bool, drop_marked: bool, progress: bool) -> None:
        refused: list[Refusal] = []
        columns: dict[str, list[Tensor]] = {"rows": [], "labels": [], "empty": []}
        for number, future in enumerate(tqdm(self._in_order(), total=len(self.cases), desc="reading", unit="case", disable=not progress)):
            try:
                stack, key, cached = future.result()
                labels = self._accept(number, stack)
            except Exception as error:  # one bad file never ends a batch
                refused.append(case_refusal(self.cases[number], _why(error)))
                logger.warning("Left out %s: %s", refused[-1].where, refused[-1].reason)
                continue
            self._rules[number] = stack.rule
            empty, marked = stack.empty & drop_empty, stack.marked & drop_marked
            wanted = (~(empty | marked)).nonzero().flatten()
            self.n_cached += cached
            self.n_empty += int(empty.sum())
            self.n_marked += int((marked & ~empty).sum())
            columns["rows"].append(kept.add(number, stack, key, self._around(wanted, len(stack))))
            columns["labels"].append(labels[wanted])
            columns["empty"].append(stack.empty[wanted])
            self.index += [(number, int(k)) for k in wanted]
        self.refused = tuple(refused)
        if not self.index:
            why = f"; the first: {refused[0].where}: {refused[0].reason}" if refused else ""
            raise DataError(
                f"No slice is left: {len(refused)} of {len(self.cases)} cases refused, {self.n_empty} slices empty, {self.n_marked} marked{why}; "
                "expected at least one usable slice."
            )
        # Plain tensors: forked workers share their memory as it is; for spawned ones torch moves it to shared memory, only then.
        self._rows, self._labels, self._empty = (torch.cat(parts) for parts in columns.values())
        logger.info(
            "Read %d slices of %d cases (%.1f MB in memory, %.1f MB on disk; %d cases from the cache); "
            "left out: %d cases refused, %d slices empty, %d marked.",
            len(self.index), len(self.cases) - len(refused), kept.memory_bytes / 1e6, kept.disk_bytes / 1e6, self.n_cached,
            len(refused), self.n_empty, self.n_marked,
        )  # fmt: skip

    def _in_order(self) -> Iterator[Future[tuple[PreparedCase, str | None, bool]]]:
        """Decode with a few threads, never more than a few cases ahead: what is decoded but not yet kept costs memory."""
        threads = min(4, os.cpu_count() or 1)
        ahead: deque[Future[tuple[PreparedCase, str | None, bool]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            for number in range(len(self.cases)):
                ahead.append(pool.submit(self._read, number))
                if len(ahead) > threads:
                    yield ahead.popleft()
            while ahead:
                yield ahead.popleft()


def _why(error: BaseException) -> str:
    """The reason at the root: MONAI wraps what a transform raises."""
    innermost = error_chain(error)[-1]
    return str(find_anomaly_error(error) or f"{type(innermost).__name__}: {reason(innermost)}")
