"""What is shown of paths, patients and series."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monai_anomaly.data.dicom import look
from monai_anomaly.data.paths import ShownPaths


@pytest.mark.parametrize("uid", ["1.2.345.678", ""])
def test_a_header_holds_identifiers_and_only_who_keeps_them_shows_them(tmp_path, series, uid):
    folder = series(
        tmp_path / "My Series", n=1, patient="4711-canary", change=lambda dataset, k: setattr(dataset, "SeriesInstanceUID", uid)
    )
    header = look(str(folder / "IM0000")).header
    assert header is not None and header.patient == "4711-canary" and header.series == uid
    assert "canary" not in repr(header) and "1.2.345" not in repr(header)
    hidden, shown = ShownPaths(tmp_path, keep_ids=False), ShownPaths(tmp_path, keep_ids=True)
    assert re.fullmatch("p-[0-9a-f]{12}", hidden.patient(header)) and re.fullmatch("s-[0-9a-f]{12}", hidden.series(header))
    assert (shown.patient(header), shown.series(header)) == ("4711-canary", uid or "My Series")


def test_a_path_is_shown_below_the_root():
    assert ShownPaths(Path("data"), keep_ids=True).show(Path("data/Doe_John/1.dcm")) == "Doe_John/1.dcm"
