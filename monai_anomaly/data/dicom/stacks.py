"""Stacks: which slices of a series belong together, in which order, and whether that is one regular stack."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ..geometry import RAS_TO_LPS
from .slice import Marks, Slice

__all__ = ["check_stack", "order_stack", "split_series", "stack_affine"]

Vector = NDArray[np.float64]

SPACING_TOLERANCE = 0.01
"""By how much of the step two steps may differ."""
ROUNDING_MM = 0.01 + 1e-6
"""Positions are often written with two decimals."""
SAME_DIRECTION = 1e-3
TILT_DEGREES = 20.0
"""A lone slice tilted by less against the rest is an error of the series; by more it is another view."""


def split_series(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Part a series into stacks: by frame of reference, orientation, size and pixel spacing, and by a mark where positions repeat.

    The stacks are ordered but not yet checked (:func:`check_stack`).

    Args:
        slices: of one series, in any order.

    Raises:
        DataError: one slice alone is tilted, or has another size or pixel spacing than a stack beside it.

    Example:
        >>> split_series([])
        []
    """
    groups: list[list[Slice]] = []
    for one in slices:
        home = next((group for group in groups if _alike(group[0], one)), None)
        if home is None:
            groups.append([one])
        else:
            home.append(one)
    _refuse_lone(groups)
    return [stack for group in groups for stack in _split_repeated(order_stack(group))]


def order_stack(slices: Sequence[Slice]) -> list[Slice]:
    """Order slices of one orientation by position along their normal.

    Example:
        >>> order_stack([])
        []
    """
    if not slices:
        return []
    normal = _normal(slices[0])
    return sorted(slices, key=lambda one: (float(np.dot(one.position, normal)), one.path, one.name))


def check_stack(stack: Sequence[Slice]) -> None:
    """Refuse what is not one regular stack.

    It may be sheared (a tilted CT gantry): positions must be even along one line, which need not be perpendicular to the slices.

    Args:
        stack: as :func:`split_series` gives it.

    Raises:
        DataError: slices that differ in orientation, size or pixel spacing; two at one position; steps that differ by more than 1 %; positions off the line.

    Example:
        >>> check_stack([])
    """
    if len(stack) < 2:
        return
    first = stack[0]
    for other in stack:
        if not _alike(first, other):
            raise DataError(
                f"The slices differ: {first.name} {_looks(first)}, {other.name} {_looks(other)}; expected one stack: keep them apart."
            )
    positions = np.array([one.position for one in stack])
    steps = np.diff(positions @ _normal(first))
    expected = float(np.sort(steps)[(len(steps) - 1) // 2])  # the lower median is always a step that is there
    same = max(ROUNDING_MM, SPACING_TOLERANCE * expected)
    smallest = int(steps.argmin())
    if steps[smallest] < same:
        places = 1 + int((steps >= same).sum())
        at = "one position" if places == 1 else f"only {places} positions"
        raise DataError(
            f"The {len(stack)} slices lie at {at}: {stack[smallest].name} and {stack[smallest + 1].name} share one, and neither "
            f"acquisition, echo, time nor kind of image tells copies or time points apart; expected one slice at each position: export each apart."
        )
    worst = int(np.abs(steps - expected).argmax())
    if abs(steps[worst] - expected) > same:
        raise DataError(
            f"The slices are not evenly spaced: {expected:.3f} mm expected, {steps[worst]:.3f} mm found between {stack[worst].name} and "
            f"{stack[worst + 1].name} (slices {worst + 1} and {worst + 2} of {len(stack)} by position); a slice may be missing: export the series again."
        )
    line = positions[0] + np.arange(len(stack))[:, None] * (positions[-1] - positions[0]) / len(steps)
    off = np.linalg.norm(positions - line, axis=1)
    if off.max() > max(same, 0.1 * min(first.spacing)):
        raise DataError(
            f"The slices are shifted against each other: {stack[int(off.argmax())].name} lies {off.max():.3f} mm beside the line through the others; "
            "expected positions on one line: export the series again."
        )


def stack_affine(stack: Sequence[Slice]) -> Vector:
    """Affine ``(4, 4)`` from (row, column, slice) to millimetres in NIfTI's axes (right, anterior, superior), as MONAI has them.

    Args:
        stack: one or more slices, ordered and checked.

    Example:
        >>> stack_affine(stack)[:3, 3]  # doctest: +SKIP
        array([115., 110.,  -4.])
    """
    first, last = stack[0], stack[-1]
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.orientation[3:], first.spacing[0])
    affine[:3, 1] = np.multiply(first.orientation[:3], first.spacing[1])
    if len(stack) > 1:
        affine[:3, 2] = np.subtract(last.position, first.position) / (len(stack) - 1)
    else:
        affine[:3, 2] = _normal(first) * first.thickness
    affine[:3, 3] = first.position
    return RAS_TO_LPS @ affine


def _normal(one: Slice) -> Vector:
    return np.cross(one.orientation[:3], one.orientation[3:])


def _alike(one: Slice, other: Slice) -> bool:
    return (
        one.shape == other.shape
        and one.frame_of_reference == other.frame_of_reference
        and _close(one.orientation, other.orientation, SAME_DIRECTION)
        and _close(one.spacing, other.spacing, SAME_DIRECTION * max(one.spacing))
    )


def _close(one: Sequence[float], other: Sequence[float], tolerance: float) -> bool:
    return one == other or all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _refuse_lone(groups: Sequence[Sequence[Slice]]) -> None:
    """Several slices that agree are a stack of their own; one that stands alone beside a stack, and nearly fits, is an error."""
    stacks = [group for group in groups if len(group) > 1]
    for group in groups:
        if len(group) > 1 or not stacks:
            continue
        for stack in stacks:
            degrees = float(np.degrees(np.arccos(np.clip(np.dot(_normal(group[0]), _normal(stack[0])), -1, 1))))
            if degrees < TILT_DEGREES:
                elsewhere = group[0].frame_of_reference != stack[0].frame_of_reference
                what = (
                    f"is tilted by {degrees:.1f} degrees against" if degrees > 0.05
                    else "has another frame of reference than" if elsewhere
                    else f"({_looks(group[0])}) differs from"
                )  # fmt: skip
                raise DataError(
                    f"In a series of {sum(map(len, groups))} slices {group[0].name} {what} {stack[0].name} ({_looks(stack[0])}) and {len(stack) - 1} more; "
                    "expected slices of one orientation and size: export it without that slice."
                )


def _looks(one: Slice) -> str:
    return f"{one.shape[0]} x {one.shape[1]} pixels of {one.spacing[0]:g} x {one.spacing[1]:g} mm"


def _split_repeated(stack: list[Slice]) -> list[list[Slice]]:
    """Where several slices share each position, part them by the first mark, or pair of marks, that gives every part each position once."""
    positions = [tuple(round(x / ROUNDING_MM) for x in one.position) for one in stack]
    n_positions = len(set(positions))
    if n_positions == len(stack):
        return [stack]
    for chosen in [*combinations(Marks._fields, 1), *combinations(Marks._fields, 2)]:  # echoes of several time points need two
        parts = _group(stack, lambda one, chosen=chosen: tuple(getattr(one.marks, name) for name in chosen))  # type: ignore[misc]
        if len(parts) > 1 and all(
            len(part) == n_positions == len({tuple(round(x / ROUNDING_MM) for x in one.position) for one in part}) for part in parts
        ):
            return parts
    return [stack]


def _group(stack: Sequence[Slice], key: Callable[[Slice], Hashable]) -> list[list[Slice]]:
    parts: dict[Hashable, list[Slice]] = {}
    for one in stack:
        parts.setdefault(key(one), []).append(one)
    return list(parts.values())
