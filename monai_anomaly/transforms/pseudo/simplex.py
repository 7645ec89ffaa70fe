"""OpenSimplex noise (2014, three-dimensional) for many points at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["seeded_permutation", "simplex3"]

NORM = 103.0
"""Brings the sum over the vertices to about -1..1."""
REACH = 2
"""How far a contributing vertex can lie from the nearest one, in lattice steps."""
ROW = 256 + 256 + 2 * REACH
"""Entries of a look-up row: a hash below 256 plus a lattice step below 256, and the reach on both sides."""


def seeded_permutation(seed: int) -> Tensor:
    """The permutation of 0..255 that OpenSimplex draws from a seed: a 64-bit linear congruential generator and a shuffle.

    Args:
        seed: a whole number; 64 bits of it count.

    Returns:
        int64 ``(256,)``.

    Example:
        >>> seeded_permutation(1)[:4].tolist()
        [33, 221, 255, 106]
    """

    def step(state: int) -> int:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return state - 2**64 if state >= 2**63 else state

    for _ in range(3):
        seed = step(seed)
    source, permutation = list(range(256)), [0] * 256
    for i in range(255, -1, -1):
        seed = step(seed)
        r = (seed + 31) % (i + 1)
        permutation[i], source[r] = source[r], source[i]
    return torch.tensor(permutation)


def simplex3(points: Tensor, permutation: Tensor, texture: Tensor | None = None) -> Tensor:
    r"""OpenSimplex noise at points of space.

    Vertices :math:`v` at positions :math:`p_v` with gradients :math:`g_v` (11, 4, 4 with signs, in some order) give

    .. math:: n(p) = \frac{1}{103} \sum_v \max(0,\, 2 - |p - p_v|^2)^4\; g_v \cdot (p - p_v)

    The sum runs over all vertices within reach. Released implementations walk through cases instead and leave out a few marginal vertices, which changed
    values by up to 5e-5 at random points, and sums of six octaves by up to 1.2e-4. There is no branch here: half a turn about (1, 1, 1) takes the lattice to
    the whole-number points with an even sum (face-centred cubic), and seen from the nearest of these only eight can lie within reach: itself, the six
    neighbours on the point's side of the planes between them, and the one two steps along the point's longest axis.

    Args:
        points: coordinates ``(3, ...)``, float32 or float64; the lattice repeats every 256 steps.
        permutation: whole numbers 0..255 in some order, ``(256,)``, or one row for each texture ``(T, 256)``.
        texture: for each point, or for each of the last dimensions' points, the row to use; not needed for one.

    Returns:
        Noise in about -1..1, ``(...)``; any shape, any device.

    Source:
        K. Spencer, OpenSimplex noise, 2014 (public domain): lattice, gradients, kernel and hash.

    Example:
        >>> simplex3(torch.tensor([[0.0, 0.5], [0.0, 0.25], [0.0, 0.125]]), seeded_permutation(1)).shape
        torch.Size([2])
    """
    hashes, gradients = _tables(permutation, points.dtype)
    away, cell = _from_nearest(points)
    one = away[0].new_ones(())
    sides = [torch.copysign(one, c) for c in away]
    steps = [s.to(torch.int32) for s in sides]
    beyond = [c - s for c, s in zip(away, sides, strict=True)]
    double = [c.abs().mul_(2) for c in away]
    squared = (away[0] * away[0]).addcmul_(away[1], away[1]).addcmul_(away[2], away[2])
    half = (cell[0] + cell[1] + cell[2]).bitwise_right_shift_(1)
    start = [(half - c).bitwise_and_(255) for c in cell]
    start[0] += REACH if texture is None else texture.to(torch.int32) * ROW + REACH
    total = torch.zeros_like(squared)

    def add_vertex(kernel: Tensor, offset: Sequence[Tensor], *moves: tuple[int, Tensor, int]) -> None:
        """Add one vertex: what remains of 2 - |d|^2, d itself, and along which axes of the lattice it lies (axis, steps, sign)."""
        places = list(start)
        for axis, move, sign in moves:
            places[axis] = torch.add(start[axis], move, alpha=sign)
        index = _look_up(hashes, places[0]).add_(places[1])
        index = _look_up(hashes, index).add_(places[2])
        slope = _look_up(gradients[0], index).mul_(offset[0])
        slope.addcmul_(_look_up(gradients[1], index), offset[1]).addcmul_(_look_up(gradients[2], index), offset[2])
        total.addcmul_(slope, kernel.clamp_min_(0).square_().square_())

    add_vertex(2 - squared, away)
    for u, v, w in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        apart = (steps[v] - steps[u]).bitwise_right_shift_(1)
        along = (steps[v] + steps[u]).bitwise_right_shift_(1)
        # The neighbour on the point's side along both axes.
        offset = list(away)
        offset[u], offset[v] = beyond[u], beyond[v]
        add_vertex((double[u] + double[v]).sub_(squared), offset, (u, apart, 1), (v, apart, -1), (w, along, 1))
        # The one on its side along the longer axis, and on the other side along the shorter one.
        lead = double[u] - double[v]
        turn = torch.copysign(one, lead)
        offset[u], offset[v] = torch.addcmul(away[u], turn, sides[u], value=-1), torch.addcmul(away[v], turn, sides[v])
        turns = turn.to(torch.int32)
        apart *= turns
        along *= turns
        add_vertex(lead.abs_().sub_(squared), offset, (u, along, -1), (v, along, 1), (w, apart, -1))
    # The one two steps along the longest axis.
    jumps = [step.mul_(axis) for step, axis in zip(steps, _longest(double), strict=True)]
    offset = [torch.add(c, jump, alpha=-2) for c, jump in zip(away, jumps, strict=True)]
    kernel = torch.maximum(torch.maximum(double[0], double[1]), double[2]).mul_(2).sub_(squared).sub_(2)
    x, y, z = jumps
    add_vertex(kernel, offset, (0, y + z - x, 1), (1, x + z - y, 1), (2, x + y - z, 1))
    return total.div_(NORM)


def _from_nearest(points: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Offsets from the nearest vertex after the half turn, where vertices are whole-number points with an even sum; and that vertex."""
    turn = (points[0] + points[1] + points[2]).mul_(2 / 3)
    away = [turn - c for c in points]
    near = [c.round() for c in away]
    away = [c.sub_(n) for c, n in zip(away, near, strict=True)]
    cell = [n.to(torch.int32) for n in near]
    odd = (cell[0] + cell[1] + cell[2]).bitwise_and_(1)
    # An odd sum becomes even where it costs least: along the longest axis, to the other side.
    for c, n, axis in zip(away, cell, _longest([c.abs() for c in away]), strict=True):
        move = torch.copysign(odd, c).mul_(axis)
        c -= move
        n += move.to(torch.int32)
    return away, cell


def _longest(lengths: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Which of three axes is the longest; the first of equals."""
    first = (lengths[0] >= lengths[1]) & (lengths[0] >= lengths[2])
    second = (lengths[1] >= lengths[2]) & ~first
    return first, second, ~(first | second)


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.reshape(-1)).view(index.shape)


def _tables(permutation: Tensor, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Rows of hashes and of gradient components, long enough that a look-up needs no modulus, each hash with its row's start in it."""
    rows = permutation.reshape(-1, 256).to(torch.int32)
    wrapped = rows[:, (torch.arange(ROW, device=rows.device) - REACH) % 256]
    starts = torch.arange(len(rows), device=rows.device, dtype=torch.int32)[:, None] * ROW + REACH
    chosen = (wrapped.reshape(-1) % 24).long()
    return (wrapped + starts).reshape(-1), [component.to(rows.device, dtype)[chosen] for component in _turned_gradients()]


@lru_cache(maxsize=1)
def _turned_gradients() -> tuple[Tensor, ...]:
    """The components of the 24 gradients after half a turn about (1, 1, 1), float64."""
    signs = torch.tensor(((-1, 1, 1), (1, 1, 1), (-1, -1, 1), (1, -1, 1), (-1, 1, -1), (1, 1, -1), (-1, -1, -1), (1, -1, -1)))
    sizes = torch.tensor(((11, 4, 4), (4, 11, 4), (4, 4, 11)))
    gradients = (signs[:, None] * sizes).reshape(24, 3).double()
    return ((2 / 3) * gradients.sum(dim=1, keepdim=True) - gradients).unbind(1)
