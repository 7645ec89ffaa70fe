"""The hash that all closed-form inputs are made of."""

from __future__ import annotations

import json

import pytest
from support.golden import GOLDEN, u


def test_the_hash_is_the_one_that_is_written_down():
    known = json.loads((GOLDEN / "hash_check.json").read_text(encoding="utf-8"))
    assert [*u(4, 0), *u(4, 7)] == pytest.approx([*known["salt0_first4"], *known["salt7_first4"]], abs=1e-15)
    assert u(1_000_001, 1)[-1] == pytest.approx(known["salt1_index_1000000"], abs=1e-15)
