"""The one cosine of all losses and maps, and the map of a level (Skip-TS, eq. 1)."""

from __future__ import annotations

from torch import Tensor

__all__ = ["cosine_distance", "level_map"]


def cosine_distance(teacher: Tensor, student: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    r"""One minus the cosine of two features along some axes: channels (1), positions (2, 3), or a whole level (1, 2, 3).

    Three sums, all taken the same way: nothing of the features' size is kept for the backward pass, and equal features are at distance 0 within rounding.
    (:func:`torch.nn.functional.cosine_similarity` keeps normalised copies, and over the million values of a level it is 1e-5 off, which a ratio of small
    distances cannot bear.)

    Args:
        teacher: ``(B, C, H, W)``.
        student: ``(B, C, H, W)``.
        dim: the axes that a vector runs along.

    Returns:
        The distances along the other axes, in [0, 2]. A zero vector has distance 1.

    Example:
        >>> import torch
        >>> cosine_distance(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4), (1, 2, 3)).tolist()
        [0.0, 0.0]
    """
    return 1 - (teacher * student).sum(dim) / (_norm(teacher, dim) * _norm(student, dim))


def _norm(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    # Guarded below the root, where the gradient of a zero vector is 0 and not infinite.
    return (x * x).sum(dim).clamp_min(1e-16).sqrt()


def level_map(teacher: Tensor, student: Tensor) -> Tensor:
    r"""Cosine distance of two features at each pixel, eq. (1): :math:`M_l = 1 - \cos_c(T_l, S_l)`.

    Args:
        teacher: ``(B, C, H, W)``.
        student: ``(B, C, H, W)``.

    Returns:
        ``(B, H, W)``, in [0, 2]; in [0, 1] for features that are not negative. A zero vector has distance 1.

    Example:
        >>> import torch
        >>> level_map(torch.tensor([[[[3.0]], [[4.0]]]]), torch.tensor([[[[4.0]], [[3.0]]]])).item()
        0.0400...
    """
    return cosine_distance(teacher, student, 1)
