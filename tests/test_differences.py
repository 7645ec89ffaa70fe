"""What is not the same, in words."""

from __future__ import annotations

from monai_anomaly.differences import differences


def test_names_stand_in_order_with_both_values_and_what_is_missing_is_not_known():
    then, now = {"b": 1, "a": [1, 2], "old": None, "same": "x"}, {"b": 2, "a": [1, 3], "new": 0.5, "same": "x"}
    assert differences(then, now) == [
        "a was [1, 2] and is [1, 3]", "b was 1 and is 2", "new was not known and is 0.5", "old was None and is not known",
    ]  # fmt: skip
    assert differences(then, then) == []


def test_of_hashes_the_beginning_is_told_and_the_whole_compared():
    then, now = "0123456789ab" + 52 * "0", "0123456789ab" + 52 * "1"
    assert differences({"data": then}, {"data": now}) == ["data was 0123456789ab... and is 0123456789ab..."]
    long = 64 * "z"
    assert differences({"name": long}, {"name": "y"}) == [f"name was {long} and is y"]
