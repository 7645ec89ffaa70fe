"""A folder appears whole or not at all, also where several processes write it at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_anomaly.data import folders
from monai_anomaly.data.folders import publish, scratch_folder
from monai_anomaly.errors import DataError


@pytest.fixture
def scratch(tmp_path):
    with scratch_folder(tmp_path, "thing") as folder:
        (folder / "whole").mkdir()
        (folder / "whole/mine").touch()
        yield folder


def is_whole(folder: Path) -> bool:
    return (folder / "whole").exists()


def test_what_is_there_stays_if_it_is_whole_and_makes_room_if_not(tmp_path, scratch):
    place = tmp_path / "place"
    (place / "whole").mkdir(parents=True)
    publish(scratch / "whole", place, scratch, is_whole)
    assert not (place / "mine").exists()
    (place / "whole").rename(place / "half")
    publish(scratch / "whole", place, scratch, is_whole)
    assert os.listdir(place) == ["mine"]


def test_what_must_not_be_replaced_stays(tmp_path, scratch):
    (tmp_path / "place").mkdir()
    (tmp_path / "place/theirs").touch()

    def refuse(folder: Path) -> None:
        raise DataError(folder.name)

    with pytest.raises(DataError, match="place"):
        publish(scratch / "whole", tmp_path / "place", scratch, is_whole, refuse)
    assert os.listdir(tmp_path / "place") == ["theirs"]


def test_a_place_that_others_empty_and_fill_meanwhile(tmp_path, scratch, monkeypatch):
    """The race: gone between the look and the renaming; and there again each time."""
    rename = os.rename
    place = tmp_path / "place"
    place.mkdir()
    (place / "theirs").touch()
    publish(scratch / "whole", place, scratch, is_whole, lambda folder: folder.rename(tmp_path / "gone"))
    assert os.listdir(place) == ["mine"]
    (scratch / "whole").mkdir()

    def rename_and_refill(source: Path, target: Path) -> None:
        rename(source, target)
        place.mkdir()
        (place / "again").touch()

    monkeypatch.setattr(folders.os, "rename", rename_and_refill)
    with pytest.raises(DataError, match="place kept changing while it was written; expected to be alone"):
        publish(scratch / "whole", place, scratch, is_whole)


def test_what_cannot_be_renamed_at_all_says_why(tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(folders.os, "rename", lambda *names: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(PermissionError):
        publish(scratch / "whole", tmp_path / "place", scratch, is_whole)
