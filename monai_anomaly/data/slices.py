"""Cases as slices: what training and scoring iterate over."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from monai.utils.enums import MetaKeys
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..errors import AnomalyError, DataError, OptionError
from .cases import Case, Refusal, case_files, case_name
from .formats import file_format, reason
from .reader import volume_shape

__all__ = ["SliceDataset"]

logger = logging.getLogger(__name__)

Sample = dict[str, Any]


class SliceDataset(Dataset[Sample]):
    """Every slice of every case, each exactly once per epoch with any number of workers.

    A sample is a dictionary: ``image`` float32 ``(3, H, W)``; ``mask`` uint8 ``(1, H, W)`` of 0 and 1, if any case has a mask; ``has_mask`` bool, whether the
    mask is known (a mask file, or a normal case); ``label`` int: 0, 1 or -1 (unknown) **of the slice**, from the mask where there is one, else 0 in a normal
    case, the case's label for a case of one slice, and -1 otherwise; ``case`` int, index into :attr:`cases`; ``slice_index`` int; ``empty`` bool;
    ``affine`` ``(4, 4)`` from the case's (row, column, slice) to mm and ``source_shape`` (rows, columns), to put a map back; ``refused`` str, the reason
    why the case could not be read, or ``""``.

    Args:
        data: the cases.
        transform: applied once per case, to a copy of its dictionary; gives ``image`` ``(3, H, W, S)`` and, where the case has one, ``mask``
            ``(1, H, W, S)``; ``empty`` ``(S,)`` and ``mask_any`` ``(S,)`` are used if it adds them.
        spatial_size: H and W.
        keep: decode everything now and keep it (training): 4 x 3 x H x W bytes a slice, in one tensor that workers share. A case that fails is left out,
            logged and put into :attr:`refused`. Otherwise (scoring) cases are decoded when asked for and only the last one is held; a case that fails
            gives black slices with ``refused`` set.
        drop_empty: leave empty slices out, and count them in :attr:`n_empty`; needs ``keep``.
        progress: show a progress bar.

    Attributes:
        cases, data: the cases.
        index: (case, slice) of each sample.
        refused: what failed while decoding; empty without ``keep``.
        n_empty: empty slices left out.

    Raises:
        DataError: no slice is left, or memory does not suffice.
        OptionError: ``drop_empty`` without ``keep``.

    Example:
        >>> dataset = SliceDataset(cases, transform, spatial_size=256)  # doctest: +SKIP
        >>> dataset[0]["image"].shape  # doctest: +SKIP
        torch.Size([3, 256, 256])
    """

    def __init__(
        self,
        data: Sequence[Case],
        transform: Callable[[dict[str, Any]], dict[str, Any]],
        spatial_size: int,
        keep: bool = True,
        drop_empty: bool = False,
        progress: bool = True,
    ):
        if drop_empty and not keep:
            raise OptionError("drop_empty is set without keep; expected both, because a slice must be decoded to know whether it is empty.")
        self.data: list[Case] = list(data)
        self.cases = self.data
        self.transform = transform
        self.spatial_size = int(spatial_size)
        self.has_masks = any("mask" in case for case in self.data)
        self.refused: tuple[Refusal, ...] = ()
        self.n_empty = 0
        self._last: tuple[int, Sample] | None = None
        self._kept: Sample | None = None
        lengths = [self._n_slices(case) for case in self.data]
        self.index = [(case, k) for case, n in enumerate(lengths) for k in range(n)]
        if not self.index:
            raise DataError("There are no cases to take slices from; expected at least one: check the data folder and the split.")
        if keep:
            self._decode_all(lengths, drop_empty, progress)

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.index)

    def __getitem__(self, item: int) -> Sample:
        """One slice."""
        case, k = self.index[item]
        if self._kept is not None:
            return self._sample(self._kept, item, case, k)
        if self._last is None or self._last[0] != case:
            self._last = None  # let go of the old case before the new one is decoded
            self._last = (case, self._decode_or_refuse(case))
        return self._sample(self._last[1], k, case, k)

    def _sample(self, stack: Sample, row: int, case: int, k: int) -> Sample:
        sample: Sample = {"image": stack["image"][row]}
        if self.has_masks:
            sample["mask"] = stack["mask"][row]
        return sample | {
            "has_mask": bool(stack["has_mask"][row]),
            "label": int(stack["label"][row]),
            "case": case,
            "slice_index": k,
            "empty": bool(stack["empty"][row]),
            "affine": stack["affine"][row],
            "source_shape": stack["source_shape"][row],
            "refused": stack.get("refused", ""),
        }

    def _n_slices(self, case: Case) -> int:
        """From the number of files; a NIfTI volume says it in its header. A file that cannot be opened counts as one slice, refused when decoded."""
        files = case_files(case)
        if len(files) == 1:
            try:
                return volume_shape(files[0])[2] if file_format(files[0]) in ("NIfTI", "gzip") else 1
            except DataError:
                return 1
        return len(files)

    def _blank(self, n: int) -> Sample:
        side = self.spatial_size
        stack: Sample = {
            "image": torch.zeros(n, 3, side, side),
            "label": torch.full((n,), -1),
            "has_mask": torch.zeros(n, dtype=torch.bool),
            "empty": torch.zeros(n, dtype=torch.bool),
            "affine": torch.eye(4, dtype=torch.float64).repeat(n, 1, 1),
            "source_shape": torch.zeros(n, 2, dtype=torch.long),
        }
        return stack | {"mask": torch.zeros(n, 1, side, side, dtype=torch.uint8)} if self.has_masks else stack

    def _decode(self, number: int) -> Sample:
        """Decode one case into slices, slice first; raises whatever fails."""
        case = self.data[number]
        out = self.transform(dict(case))
        image = _plain(out["image"])
        n, side = self._n_slices(case), self.spatial_size
        if tuple(image.shape) != (3, side, side, n):
            raise DataError(f"The transforms give an image of shape {tuple(image.shape)}; expected (3, {side}, {side}, {n}): check them.")
        stack = self._blank(0)
        stack["image"] = image.permute(3, 0, 1, 2).float().contiguous()
        stack["empty"] = _plain(out["empty"]).bool().reshape(n) if "empty" in out else torch.zeros(n, dtype=torch.bool)
        stack["affine"] = torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)
        stack["source_shape"] = torch.full((n, 2), side)
        meta = getattr(out["image"], "meta", {})
        if MetaKeys.ORIGINAL_AFFINE in meta:
            stack["affine"] = torch.as_tensor(meta[MetaKeys.ORIGINAL_AFFINE], dtype=torch.float64).repeat(n, 1, 1)
            stack["source_shape"] = torch.as_tensor(meta[MetaKeys.SPATIAL_SHAPE])[:2].long().repeat(n, 1)
        label = case.get("label", -1)
        known = label == 0 or "mask" in case
        stack["has_mask"] = torch.full((n,), known)
        stack["label"] = torch.full((n,), label if label == 0 or n == 1 else -1)
        if self.has_masks:
            stack["mask"] = torch.zeros(n, 1, side, side, dtype=torch.uint8)
        if "mask" in case:
            mask = _plain(out["mask"])
            if tuple(mask.shape) != (1, side, side, n):
                raise DataError(f"The transforms give a mask of shape {tuple(mask.shape)}; expected (1, {side}, {side}, {n}): check them.")
            stack["mask"] = mask.permute(3, 0, 1, 2).to(torch.uint8).contiguous()
            # A lesion smaller than a pixel of the resized slice is still a lesion: ask the mask as it was before.
            marked = _plain(out["mask_any"]) if "mask_any" in out else stack["mask"].flatten(1).any(dim=1)
            if label == 1 and not marked.any():
                raise DataError(
                    "The case has label 1 (abnormal) and a mask without a marked pixel; expected them to agree: correct one of them."
                )
            if label == 0 and marked.any():
                raise DataError("The case has label 0 (normal) and a mask with marked pixels; expected them to agree: correct one of them.")
            stack["label"] = marked.reshape(n).long()
        return stack

    def _decode_or_refuse(self, number: int) -> Sample:
        try:
            return self._decode(number)
        except Exception as error:  # one bad file never ends a batch
            return self._blank(self._n_slices(self.data[number])) | {"refused": _why(error)}

    def _decode_all(self, lengths: list[int], drop_empty: bool, progress: bool) -> None:
        megabytes = len(self.index) * 12 * self.spatial_size**2 / 2**20
        try:
            kept = self._blank(0) | {"image": torch.empty(len(self.index), 3, self.spatial_size, self.spatial_size)}
            rest: dict[str, list[Tensor]] = {key: [] for key in kept if key != "image"}
        except (RuntimeError, MemoryError) as error:
            raise DataError(
                f"{len(self.index)} slices need {megabytes:,.0f} MB of memory, which is not there: use fewer or smaller ones."
            ) from error
        refused: list[Refusal] = []
        index: list[tuple[int, int]] = []
        for number, stack in enumerate(
            tqdm(self._decode_in_order(), total=len(self.data), desc="reading", unit="case", disable=not progress)
        ):
            if "refused" in stack:
                refused.append(Refusal(case_name(self.data[number]), stack["refused"], len(case_files(self.data[number]))))
                logger.warning("Left out %s: %s", refused[-1].where, refused[-1].reason)
                continue
            wanted = (~stack["empty"]).nonzero().flatten() if drop_empty else torch.arange(lengths[number])
            kept["image"][len(index) : len(index) + len(wanted)] = stack["image"][wanted]
            for key, parts in rest.items():
                parts.append(stack[key][wanted])
            index += [(number, int(k)) for k in wanted]
            self.n_empty += lengths[number] - len(wanted)
        if not index:
            why = f"; the first: {refused[0].where}: {refused[0].reason}" if refused else ""
            raise DataError(
                f"No slice is left: {len(refused)} of {len(self.data)} cases refused, {self.n_empty} slices empty{why}; expected at least one usable slice."
            )
        kept["image"] = kept["image"][: len(index)]
        # A plain tensor: forked workers share its memory as it is; for spawned ones torch moves it to shared memory, only then.
        self._kept = kept | {key: torch.cat(parts) for key, parts in rest.items()}
        self.refused, self.index = tuple(refused), index
        logger.info(
            "Read %d slices of %d cases into memory (%.0f MB); %d cases refused, %d empty slices left out.",
            len(index), len(self.data) - len(refused), len(index) * 12 * self.spatial_size**2 / 2**20, len(refused), self.n_empty,
        )  # fmt: skip

    def _decode_in_order(self) -> Iterator[Sample]:
        """Decode with a few threads, never more than a few cases ahead: what is decoded but not yet stored costs memory."""
        threads = min(4, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(self.data), 4 * threads):
                yield from pool.map(self._decode_or_refuse, range(start, min(start + 4 * threads, len(self.data))))


def _plain(value: Any) -> Tensor:
    """A tensor without MONAI's metadata."""
    tensor = torch.as_tensor(value)
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor


def _why(error: BaseException) -> str:
    """The reason at the root: MONAI wraps what a transform raises."""
    inner: BaseException | None = error
    last = error
    while inner is not None:
        if isinstance(inner, AnomalyError):
            return str(inner)
        last, inner = inner, inner.__cause__ or inner.__context__
    return f"{type(last).__name__}: {reason(last)}"
