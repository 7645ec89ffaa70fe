"""Descriptions: equal where the results are, different where they may differ."""

from __future__ import annotations

import enum
import functools
import hashlib
import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Lambda, RandGaussianNoise, ScaleIntensity

from monai_anomaly.data.cache.describe import describe
from monai_anomaly.errors import OptionError
from monai_anomaly.transforms import OrientSlicesd, ScaleIntensityByModalityd


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Named(str):
    extra = 0


def adds(number):
    return lambda value: value + number


def times(number, value=2):
    return number * value


def meta(value):
    return MetaTensor(torch.ones(2), meta={"units": value})


PAIRS = [
    (1, 2), (1, 1.0), (1, True), ("1", 1), (None, False), (0.1, np.nextafter(0.1, 1)), (b"a", "a"), ((1, 2), [1, 2]), ((1, 2), (2, 1)),
    ({"a": 1}, {"a": 2}), ({"a": 1}, {"b": 1}), ({1, 2}, {1, 3}), ({1}, frozenset({1})), (range(3), range(4)), (Colour.RED, Colour.BLUE),
    (np.ones(3), np.zeros(3)), (np.ones(3), np.ones((3, 1))), (np.ones(3), np.ones(3, np.float32)), (np.float32(1), np.float64(1)),
    (torch.ones(3), torch.zeros(3)), (torch.ones(3), torch.ones(3, dtype=torch.half)), (torch.ones(3), np.ones(3)), (meta("HU"), meta("")),
    (torch.float32, torch.float64), (Slotted(1), Slotted(2)), (Slotted, Colour), (Named("a"), "a"), (Named("a"), Named("b")),
    (adds(1), adds(2)), (lambda value: value, lambda value: -value), (times, functools.partial(times)), (np.sin, np.cos), (abs, min),
    (functools.partial(times, 1), functools.partial(times, 2)), (functools.partial(times, 1), functools.partial(times, value=1)),
    ("a".startswith, "b".startswith), (Slotted(adds(1)), Slotted(adds(2))), (Lambda(adds(1)), Lambda(adds(2))),
    (ScaleIntensity(maxv=1.0), ScaleIntensity(maxv=2.0)), (Compose([ScaleIntensity(maxv=1.0)]), Compose([ScaleIntensity(maxv=2.0)])),
    (OrientSlicesd("image"), OrientSlicesd("mask")), (OrientSlicesd("image"), OrientSlicesd("image", plane="coronal")),
    (ScaleIntensityByModalityd("image", preset="ct"), ScaleIntensityByModalityd("image", preset="mr")),
    (ScaleIntensityByModalityd("image", ct_window="brain"), ScaleIntensityByModalityd("image", ct_window=[0, 81])),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_differs_is_described_differently(one, other):
    assert describe(one) == describe(one) and describe(other) == describe(other)
    assert describe(one) != describe(other)


def test_what_was_built_again_is_described_as_before():
    for build in (
        lambda: adds(1), lambda: Slotted([1, "a"]), lambda: {"a": np.arange(5)}, lambda: {"z", "y", "x"}, lambda: meta("HU"),
        lambda: Compose([ScaleIntensityByModalityd("image"), Lambda(adds(1))]),
    ):  # fmt: skip
        assert describe(build()) == describe(build())


def test_a_random_state_does_not_count_and_a_loop_ends():
    one, other = Compose([ScaleIntensity()]), Compose([ScaleIntensity()])
    one.set_random_state(1)
    other.set_random_state(2)
    assert describe(one) == describe(other)
    loop: list = [1]
    loop.append(loop)
    assert "see" in describe(loop)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (Compose([RandGaussianNoise()]), "RandGaussianNoise draws random numbers"),
        (np.array([None]), "array of Python objects"),
        (iter("ab"), "content cannot be seen"),
        (functools.reduce(lambda inner, _: [inner], range(5000), []), "RecursionError"),
        (torch.ones(2, 2).to_sparse(), "cannot be described"),
        (eval("lambda value: value", {"__name__": "a_notebook"}), None),
    ],
)  # fmt: skip
def test_what_cannot_be_described_is_said(thing, words):
    if words is None:  # code of a module that is not there: its name alone would not tell an edit
        sys.modules["a_notebook"] = type(sys)("a_notebook")
        words = "a_notebook.* stands in no file"
    with pytest.raises(OptionError, match=words):
        describe(thing)


def test_an_edit_of_ones_own_code_counts_also_where_it_is_only_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    for number in (1, 2):
        (tmp_path / f"helping_{number}.py").write_text("LEVEL = 3\n")
        (tmp_path / f"own_{number}.py").write_text(f"import helping_{number}\n\nclass Step:\n    pass\n")
        helping, own = importlib.import_module(f"helping_{number}"), importlib.import_module(f"own_{number}")
        before = describe(own.Step())
        (tmp_path / f"helping_{number}.py").write_text(f"LEVEL = {number + 2}\n")
        describe.__globals__["_module"].cache_clear()  # as in the next run
        seen.append(before == describe(own.Step()))
        assert helping.LEVEL == 3
    assert seen == [True, False]


def test_another_process_says_the_same_whatever_else_it_has_imported():
    code = (
        "import hashlib; from monai_anomaly.data.cache.describe import describe; from monai_anomaly.transforms import ResizeSlicesd;"
        "from monai_anomaly.data import CaseReader; from monai.transforms import LoadImaged;"
        "print(hashlib.sha256(describe([ResizeSlicesd('image', 8), LoadImaged('image', reader=CaseReader), {'b', 'a'}]).encode()).hexdigest())"
    )
    done = [
        subprocess.run([sys.executable, "-c", more + code], capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]
        for more in ("", "import monai_anomaly.training, monai_anomaly.report;")
    ]
    assert done[0] == done[1] and len(done[0]) == len(hashlib.sha256().hexdigest())
