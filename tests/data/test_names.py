"""Names: safe, short, and none twice."""

from __future__ import annotations

from monai_anomaly.data.names import slug, unique_names


def test_names():
    assert slug("..") != "" and "/" not in slug("../../x") and len(slug("x" * 500)) <= 100
    assert slug("x" * 500) != slug("x" * 499 + "y")
    assert unique_names(["a", "a-2", "a"]) == ["a", "a-2", "a-3"]
