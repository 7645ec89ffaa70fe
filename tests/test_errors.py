"""The toolkit's own error comes out of what a library wraps around it."""

from __future__ import annotations

import pytest

from monai_anomaly.errors import DataError, unwrapped


def test_a_wrapped_error_comes_out_with_what_wrapped_it_as_its_cause():
    inner = DataError("1.png is empty")
    outer = RuntimeError("failed to instantiate")
    with pytest.raises(DataError) as caught, unwrapped():
        raise outer from inner
    assert caught.value is inner and caught.value.__cause__ is outer


def test_an_own_error_and_a_foreign_one_come_out_as_they_are():
    for error in (DataError("1.png is empty"), KeyError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, unwrapped():
            raise error
        assert caught.value is error and error.__cause__ is None


def test_what_raises_nothing_passes():
    with unwrapped():
        pass
