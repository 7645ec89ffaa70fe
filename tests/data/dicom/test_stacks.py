"""Stacks: what belongs together, what parts it, what is refused, and where it lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monai_anomaly.data.dicom import Slice, check_stack, split_series, stack_affine
from monai_anomaly.data.dicom.slice import Marks
from monai_anomaly.errors import DataError

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def slices(n=5, step=2.0, orientation=AXIAL, start=0, **changed):
    normal = np.cross(orientation[:3], orientation[3:])
    one = Slice("", "", "1.2", (20, 30), (0.5, 0.7), orientation, (0.0, 0.0, 0.0), step, Marks())
    return [
        replace(one, path=f"{start + k}", name=f"instance {start + k}", position=tuple(map(float, k * step * normal)), **changed)
        for k in range(n)
    ]


def marked(stack, mark, value):
    return [replace(one, marks=one.marks._replace(**{mark: value})) for one in stack]


@pytest.mark.parametrize("seed", range(3))
def test_order_does_not_depend_on_the_order_given(seed):
    stack = slices(7)
    shuffled = [stack[k] for k in np.random.default_rng(seed).permutation(7)]
    assert split_series(shuffled) == [stack]


@pytest.mark.parametrize("mark", Marks._fields)
def test_each_mark_parts_slices_at_the_same_positions(mark):
    series = marked(slices(4), mark, "1") + marked(slices(4, start=4), mark, "2")
    stacks = split_series(series)
    assert [len(stack) for stack in stacks] == [4, 4]
    for stack in stacks:
        check_stack(stack)
        assert len({one.marks for one in stack}) == 1


def test_a_mark_that_differs_in_every_slice_parts_nothing():
    series = [replace(one, marks=one.marks._replace(content_time=str(k))) for k, one in enumerate(slices(4) + slices(4, start=4))]
    (stack,) = split_series(series)
    with pytest.raises(DataError, match="8 slices lie at only 4 positions: instance 0 and instance 4 share one"):
        check_stack(stack)


def test_an_incomplete_time_point_is_not_guessed():
    series = marked(slices(4), "time", "1") + marked(slices(4, start=4)[:3], "time", "2")
    (stack,) = split_series(series)
    with pytest.raises(DataError, match="share one"):
        check_stack(stack)


def test_views_of_several_slices_are_stacks_of_their_own():
    assert [len(stack) for stack in split_series(slices(4) + slices(3, orientation=CORONAL, start=4))] == [4, 3]


@pytest.mark.parametrize(
    ("degrees", "refused"),
    [(0.5, True), (5.0, True), (19.0, True), (30.0, False)],
)
def test_a_lone_tilted_slice(degrees, refused):
    turned = np.radians(degrees)
    tilted = replace(slices(6)[5], orientation=(1.0, 0.0, 0.0, 0.0, float(np.cos(turned)), float(np.sin(turned))))
    series = [*slices(5), tilted]
    if refused:
        with pytest.raises(DataError, match=f"instance 5 is tilted by {degrees:.1f} degrees against instance 0"):
            split_series(series)
    else:
        assert [len(stack) for stack in split_series(series)] == [5, 1]


def test_steps_within_one_percent_pass_and_beyond_do_not():
    for shift, fine in ((0.0099, True), (0.0199, True), (0.021, False), (0.5, False)):
        stack = slices(5, step=2.0)
        x, y, z = stack[2].position
        stack[2] = replace(stack[2], position=(x, y, z + shift))
        if fine:
            check_stack(stack)
        else:
            with pytest.raises(DataError, match=r"2\.000 mm expected, [12]\.\d{3} mm found between instance"):
                check_stack(stack)


def test_a_sheared_stack_keeps_its_shear_and_a_bent_one_is_refused():
    stack = [replace(one, position=(0.0, 0.4 * k, 2.0 * k)) for k, one in enumerate(slices(5))]
    check_stack(stack)
    np.testing.assert_allclose(stack_affine(stack)[:3, 2], [0, -0.4, 2.0])
    stack[3] = replace(stack[3], position=(1.5, 1.2, 6.0))
    with pytest.raises(DataError, match=r"instance 3 lies .* mm beside the line"):
        check_stack(stack)


def test_the_affine_takes_indices_to_positions():
    stack = slices(5, orientation=CORONAL)
    affine = stack_affine(stack)
    for k, one in enumerate(stack):
        lps = np.array(one.position) + 3 * 0.5 * np.array(CORONAL[3:]) + 4 * 0.7 * np.array(CORONAL[:3])
        np.testing.assert_allclose((affine @ [3, 4, k, 1])[:3], lps * [-1, -1, 1], atol=1e-9)
    assert np.linalg.norm(stack_affine(stack[:1])[:3, 2]) == pytest.approx(2.0)  # one slice: the header's step
