"""What MONAI's readers take in silence: gaps, copies, localizers, several stacks in a series. Here each stack is read right, or refused with its numbers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset
from support.dicom import AXIAL, OBLIQUE, SAGITTAL, hu_at, make_series
from support.reading import adds_up, is_sentence, read, world

from monai_anomaly.data import find_cases
from monai_anomaly.errors import DataError

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
UID = "1.2.826.0.1.3680043.10.1"


def moved(number: int, mm: float) -> Callable[[Dataset, int], None]:
    """Shift one slice along z."""

    def change(dataset: Dataset, k: int) -> None:
        if k == number:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, f"{z + mm:.4f}"]

    return change


def given(offset: float = 0, **values) -> Callable[[Dataset, int], None]:
    """Set elements in every slice, and raise its values by ``offset``."""

    def change(dataset: Dataset, k: int) -> None:
        dataset.RescaleIntercept = -1024 + offset
        for keyword, value in values.items():
            setattr(dataset, keyword, value(k) if callable(value) else value)

    return change


def offsets(folder) -> list[tuple[tuple[int, ...], float]]:
    """Shape and offset of every stack found, each held against the formula of its values at the places that its affine names."""
    found = find_cases(folder)
    assert adds_up(found) and len({case["series"] for case in found.cases}) == len(found.cases)
    stacks = []
    for case in found.cases:
        array, meta = read(case["image"])
        difference = array - hu_at(world(meta["affine"], array.shape))
        assert np.ptp(difference) <= 1.06 and meta["geometry"] == "patient"  # stored as whole numbers, places to 0.01 mm of 5 HU each
        stacks.append((array.shape, round(float(difference.mean()) / 10) * 10))
    return sorted(stacks)


def refused(folder) -> str:
    """The one reason for which everything in a folder is refused."""
    with pytest.raises(DataError) as caught:
        find_cases(folder)
    assert is_sentence(str(caught.value))
    return str(caught.value)


def test_both_slices_and_both_numbers_are_named(tmp_path):
    make_series(tmp_path, n=6, step=1.904, change=moved(5, -0.476), order=[10, 11, 12, 13, 14, 15])
    assert "1.904 mm expected, 1.428 mm found between instance 15 and instance 16" in refused(tmp_path)


@pytest.mark.parametrize(("mm", "good"), [(0.045, True), (0.055, False), (-0.045, True), (-0.055, False)])
def test_one_per_cent_is_the_limit(tmp_path, mm, good):
    make_series(tmp_path, n=6, step=5, change=moved(5, mm))
    if good:
        assert len(find_cases(tmp_path).cases) == 1
    else:
        assert f"5.000 mm expected, {5 + mm:.3f} mm found between instance 5 and instance 6" in refused(tmp_path)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ([2], "5.000 mm found between instance 2 and instance 4 (slices 2 and 3 of 7 by position)"),
        ([1, 5], "5.000 mm found between instance 1 and instance 3 (slices 1 and 2 of 6 by position)"),
        ([3, 4], "7.500 mm found between instance 3 and instance 6 (slices 3 and 4 of 6 by position)"),
    ],
)
def test_missing_slices(tmp_path, gone, words):
    make_series(tmp_path, n=8)
    for k in gone:
        (tmp_path / f"IM{k:04}").unlink()
    assert f"2.500 mm expected, {words}" in refused(tmp_path)


def test_missing_slices_at_the_ends_cannot_be_seen_and_the_rest_lies_right(tmp_path):
    make_series(tmp_path, n=8)
    (tmp_path / "IM0000").unlink()
    (tmp_path / "IM0007").unlink()
    assert offsets(tmp_path) == [((12, 9, 6), 0)]


def test_a_position_twice(tmp_path):
    make_series(tmp_path, n=6, change=moved(3, -2.5))
    assert re.search("6 slices lie at only 5 positions: instance 3 and instance 4 share one", refused(tmp_path))


def test_copies_of_the_files(tmp_path):
    make_series(tmp_path / "a", uid=UID)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert "10 slices lie at only 5 positions" in refused(tmp_path)


def test_one_copy(tmp_path):
    make_series(tmp_path / "a", uid=UID)
    shutil.copy(tmp_path / "a/IM0002", tmp_path / "a/again")
    assert "6 slices lie at only 5 positions: instance 3 and instance 3 share one" in refused(tmp_path)


def test_one_tilted_slice(tmp_path):
    tilted = [1, 0, 0, 0, float(np.cos(0.05)), float(np.sin(0.05))]
    make_series(tmp_path, change=lambda dataset, k: k == 3 and setattr(dataset, "ImageOrientationPatient", tilted))
    assert "instance 4 is tilted by 2.9 degrees against instance" in refused(tmp_path)


def test_one_slice_of_another_size(tmp_path):
    make_series(tmp_path, n=5, uid=UID)
    (tmp_path / "IM0002").unlink()
    make_series(tmp_path, n=1, uid=UID, shape=(11, 9), origin=(-10, 20, -25), order=[2])
    assert re.search(r"instance 3 \(11 x 9 pixels.*\) differs from instance \d \(12 x 9 pixels", refused(tmp_path))


def test_two_series_in_one_folder(tmp_path):
    make_series(tmp_path, n=4, uid=f"{UID}.1", order=[0, 2, 4, 6])
    make_series(tmp_path, n=4, uid=f"{UID}.2", order=[7, 5, 3, 1], change=given(100), orientation=OBLIQUE)
    assert offsets(tmp_path) == [((12, 9, 4), 0), ((12, 9, 4), 100)]


def test_one_series_in_several_folders(tmp_path):
    make_series(tmp_path / "all", n=6)
    for k in range(6):
        (tmp_path / f"part {k % 3}").mkdir(exist_ok=True)
        (tmp_path / f"all/IM{k:04}").rename(tmp_path / f"part {k % 3}/IM{k:04}")
    assert offsets(tmp_path) == [((12, 9, 6), 0)]


def test_a_localizer_with_the_same_series_uid_is_left_out(tmp_path):
    make_series(tmp_path, uid=UID)
    make_series(tmp_path, n=1, uid=UID, orientation=SAGITTAL, order=[7], change=given(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    assert offsets(tmp_path) == [((12, 9, 5), 0)]
    (refusal,) = find_cases(tmp_path).refused
    assert "localizer" in refusal.reason and refusal.where == "IM0007"


def test_a_lone_slice_of_another_plane_is_a_stack_of_its_own(tmp_path):
    make_series(tmp_path, uid=UID)
    make_series(tmp_path, n=1, uid=UID, orientation=SAGITTAL, order=[7], change=given(50))
    assert offsets(tmp_path) == [((12, 9, 1), 50), ((12, 9, 5), 0)]


def test_three_planes_in_one_series(tmp_path):
    for number, plane in enumerate((AXIAL, SAGITTAL, CORONAL)):
        make_series(tmp_path, n=3, uid=UID, orientation=plane, order=[number, number + 3, number + 6], change=given(100 * number))
    assert offsets(tmp_path) == [((12, 9, 3), 0), ((12, 9, 3), 100), ((12, 9, 3), 200)]


def test_two_sizes_in_one_series(tmp_path):
    make_series(tmp_path, n=3, uid=UID)
    make_series(tmp_path, n=4, uid=UID, shape=(10, 9), order=[5, 6, 7, 8], change=given(100))
    assert offsets(tmp_path) == [((10, 9, 4), 100), ((12, 9, 3), 0)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"EchoNumbers": 1}, {"EchoNumbers": 2}),
        ({"EchoTime": 4.6}, {"EchoTime": 9.2}),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
        ({"TriggerTime": 30}, {"TriggerTime": 130.5}),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
        ({"AcquisitionTime": "101500"}, {"AcquisitionTime": "101530.25"}),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}),
        ({"AcquisitionNumber": 1, "InstanceCreationTime": lambda k: f"10150{k}"}, {"AcquisitionNumber": 2}),
        ({"EchoNumbers": 1, "ContentTime": lambda k: f"10150{k}"}, {"EchoNumbers": 2, "ContentTime": lambda k: f"10160{k}"}),
        ({"AcquisitionTime": lambda k: f"10150{k}"}, {"AcquisitionTime": lambda k: f"10150{k}", "EchoTime": 80}),
    ],
)
def test_what_parts_slices_at_the_same_positions(tmp_path, first, second):
    make_series(tmp_path, n=4, uid=UID, modality="MR", order=[0, 2, 4, 6], change=given(0, **first))
    make_series(tmp_path, n=4, uid=UID, modality="MR", order=[7, 5, 3, 1], change=given(100, **second))
    assert offsets(tmp_path) == [((12, 9, 4), 0), ((12, 9, 4), 100)]
    first_case, second_case = find_cases(tmp_path).cases
    assert first_case["patient"] == second_case["patient"] and first_case["series"][:14] == second_case["series"][:14]


def test_two_marks_at_once(tmp_path):
    """Two echoes of two time points each: four stacks."""
    for number, (echo, time) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)]):
        marks = {"EchoNumbers": echo, "TemporalPositionIdentifier": time}
        make_series(tmp_path, n=3, uid=UID, modality="MR", order=[number, number + 4, number + 8], change=given(100 * number, **marks))
    assert offsets(tmp_path) == [((12, 9, 3), value) for value in (0, 100, 200, 300)]


def test_two_frames_of_reference(tmp_path):
    make_series(tmp_path, n=3, uid=UID)
    make_series(tmp_path, n=3, uid=UID, order=[3, 4, 5], change=given(100, FrameOfReferenceUID=f"{UID}.9"))
    assert offsets(tmp_path) == [((12, 9, 3), 0), ((12, 9, 3), 100)]


@pytest.mark.parametrize(
    "change", [lambda dataset, k: delattr(dataset, "InstanceNumber"), given(InstanceNumber=1), given(InstanceNumber=lambda k: 9 - k)]
)
def test_instance_numbers_do_not_matter(tmp_path, change):
    make_series(tmp_path, n=5, change=change, order=[3, 0, 4, 1, 2])
    assert offsets(tmp_path) == [((12, 9, 5), 0)]


def test_one_series_uid_for_two_patients(tmp_path):
    make_series(tmp_path / "a", uid=UID, patient="one")
    make_series(tmp_path / "b", uid=UID, patient="two", change=given(100))
    assert offsets(tmp_path) == [((12, 9, 5), 0), ((12, 9, 5), 100)]
    first, second = find_cases(tmp_path).cases
    assert first["patient"] != second["patient"]


def test_a_refused_series_does_not_stop_the_others(tmp_path):
    make_series(tmp_path / "gap", n=6)
    (tmp_path / "gap/IM0002").unlink()
    make_series(tmp_path / "good", n=3, change=given(100))
    assert offsets(tmp_path) == [((12, 9, 3), 100)]
    (refusal,) = find_cases(tmp_path).refused
    assert refusal.files == 5 and "s-" in refusal.where


def test_a_hundred_slices_with_positions_of_two_decimals(tmp_path):
    """Rounding of 0.005 mm is no gap, and does not add up."""

    def rounded(dataset: Dataset, k: int) -> None:
        dataset.ImagePositionPatient = [f"{x:.2f}" for x in dataset.ImagePositionPatient]

    make_series(tmp_path, n=100, step=0.3337, change=rounded)
    ((shape, _),) = offsets(tmp_path)
    assert shape == (12, 9, 100)
