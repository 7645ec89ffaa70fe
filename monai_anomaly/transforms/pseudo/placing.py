"""Where patches go: uniform draws, anywhere or on tissue."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import OptionError

__all__ = ["check_fit", "integers", "place", "tissue_pixel", "uniform"]


def uniform(generator: torch.Generator | None, *shape: int) -> Tensor:
    """Numbers from [0, 1), float32 on the CPU."""
    return torch.rand(shape, generator=generator)


def integers(draws: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
    """Draws from [0, 1) as whole numbers from ``low`` to ``high``, both included.

    Example:
        >>> integers(torch.tensor([0.0, 0.5, 0.999]), 10, 31).tolist()
        [10, 21, 31]
    """
    return (draws * (high - low + 1)).long() + low


def check_fit(height: int, width: int, size: tuple[int, int], free: int) -> None:
    """Refuse images that are too small for the largest patch that may be drawn.

    Args:
        height: rows of the largest patch.
        width: columns of the largest patch.
        size: height and width of the images.
        free: rows and columns that stay free beside the patch, both sides together.

    Raises:
        OptionError: it does not fit.
    """
    if height + free > size[0] or width + free > size[1]:
        raise OptionError(
            f"Patches of up to {height} x {width} pixels and {free} free ones do not fit into images of {size[0]} x {size[1]} pixels; "
            "expected smaller patches: choose smaller sizes, set design_size so that they are scaled, or use larger images."
        )


def place(
    draws: Tensor, box: tuple[Tensor, Tensor], size: tuple[int, int], lowest: int = 0, gap: int = 0, tissue: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Upper left corners of boxes, all places equally likely.

    Args:
        draws: ``(2, B)`` from [0, 1), on the CPU.
        box: height and width of each box, ``(B,)`` each, on the CPU; they must fit (:func:`check_fit`).
        size: height and width of the images.
        lowest: first row and column that a box may begin at.
        gap: rows and columns that stay free behind it.
        tissue: bool ``(B, H, W)``: boxes' centres are drawn from these pixels. Where no centre is possible there, a pixel of tissue is drawn that
            the box covers or, if it lies in the margin, comes nearest to; an image without tissue gets a box at no place in particular.

    Returns:
        Top rows and left columns, int64 ``(B,)``, on the device of ``tissue`` (else the CPU).

    Example:
        >>> place(torch.tensor([[0.0], [0.9]]), (torch.tensor([2]), torch.tensor([2])), (4, 8), lowest=1, gap=1)
        (tensor([1]), tensor([5]))
    """
    last = [side - length - gap for side, length in zip(size, box, strict=True)]
    if tissue is None:
        top, left = (integers(draw, lowest, end) for draw, end in zip(draws, last, strict=True))
        return top, left
    device = tissue.device
    last, half = ([part.to(device) for part in parts] for parts in (last, [length // 2 for length in box]))
    inside = []
    for end, middle, side in zip(last, half, size, strict=True):
        line = torch.arange(side, device=device)
        inside.append((line >= (lowest + middle)[:, None]) & (line <= (end + middle)[:, None]))
    centres = tissue & inside[0][:, :, None] & inside[1][:, None, :]
    possible = centres.flatten(1).any(dim=1)[:, None, None]
    pixel = tissue_pixel(centres | (tissue & ~possible), draws[0])
    top, left = ((c - middle).clamp(min=lowest).minimum(end) for c, middle, end in zip(pixel, half, last, strict=True))
    return top, left


def tissue_pixel(tissue: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """One pixel of each mask, all of them equally likely.

    Args:
        tissue: bool ``(B, H, W)``.
        draws: ``(B,)`` from [0, 1).

    Returns:
        Rows and columns, int64 ``(B,)``; of an empty mask the last row and column.

    Example:
        >>> masks = torch.tensor([[[False, True], [True, False]]])
        >>> tissue_pixel(masks, torch.tensor([0.6]))
        (tensor([1]), tensor([0]))
    """
    batch, height, width = tissue.shape
    in_row = tissue.sum(dim=2)
    behind = in_row.cumsum(dim=1)
    rank = (draws.to(tissue.device) * behind[:, -1]).long()[:, None]
    row = (behind <= rank).sum(dim=1, keepdim=True).clamp_(max=height - 1)
    rank -= (behind - in_row).gather(1, row)
    line = tissue[torch.arange(batch, device=row.device), row[:, 0]]
    column = (line.cumsum(dim=1) <= rank).sum(dim=1).clamp_(max=width - 1)
    return row[:, 0], column
