from __future__ import annotations

import sys
from pathlib import Path

from monai_anomaly import bundle
from monai_anomaly.errors import DataError


def test_root_is_beside_the_package_whatever_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(bundle.root("skipts")) == Path(bundle.__file__).parents[1] / "bundles" / "skipts"
    assert Path(bundle.root("nowhere")) == tmp_path / "bundles" / "nowhere"


def test_a_refusal_is_reported_as_its_sentence(caplog, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    bundle.begin()
    try:
        try:
            raise DataError("scan 7 is empty")
        except DataError as error:
            raise RuntimeError("Failed to evaluate") from error
    except RuntimeError as error:
        sys.excepthook(type(error), error, None)
    assert [record.getMessage() for record in caplog.records] == ["scan 7 is empty"]


def test_other_errors_keep_their_traceback(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    bundle.begin()
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err
