"""Which accepted masks a PACS holds: an odd one ends no list, and what is known of one is not asked for twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

from pydicom import Dataset

from monai_anomaly.label.pacs.accepted_masks import AcceptedMasks
from monai_anomaly.label.refusals import RequestError


class Result(Dataset):
    """A mask with nothing marked."""

    pixel_array = np.zeros((2, 2))


class FakePacs:
    """Segmentations with the headers that it is given; or what it raises instead."""

    def __init__(self, **headers: Dataset | Exception):
        self.headers = {f"1.2.{name[1:]}": header for name, header in headers.items()}
        self.asked: Counter[str] = Counter()

    def search(self, filters):
        found = []
        for uid in self.headers:
            series = Dataset()
            series.SeriesInstanceUID, series.Modality = uid, filters["Modality"]
            found.append(series)
        return found

    def header(self, series, tags):
        self.asked[f"header {series.SeriesInstanceUID}"] += 1
        if isinstance(header := self.headers[series.SeriesInstanceUID], Exception):
            raise header
        return header

    def first_instance(self, series):
        self.asked[f"pixels {series.SeriesInstanceUID}"] += 1
        return Result()


def accepted(*images: str) -> Dataset:
    """The header of a mask that a person has accepted."""
    header, segment = Dataset(), Dataset()
    segment.SegmentLabel, segment.SegmentAlgorithmType = "Anomaly", "SEMIAUTOMATIC"
    header.SegmentSequence, header.ReferencedSeriesSequence = [segment], []
    header.ContentDate, header.ContentTime = "20260101", "120000"
    for uid in images:
        item = Dataset()
        if uid:
            item.SeriesInstanceUID = uid
        header.ReferencedSeriesSequence.append(item)
    return header


def broken() -> Dataset:
    """One whose segments are no sequence."""
    header = accepted("9.1")
    header.add_new(0x00620002, "LO", "text")
    return header


@pytest.mark.parametrize("odd", [RequestError("status 500", 502), RequestError("no UID", 404), broken(), accepted("", "9.2"), Dataset()])
def test_an_odd_segmentation_ends_no_list_and_is_told_once(tmp_path, caplog, odd):
    pacs = FakePacs(_1=accepted("9.1"), _2=odd)
    masks = AcceptedMasks(pacs, 0, tmp_path)
    for _ in range(2):
        assert masks.newest()["9.1"].SeriesInstanceUID == "1.2.1"
    said = caplog.text.count("Series 1.2.2 is passed over")
    assert said == (0 if isinstance(odd, Dataset) and odd.get("SegmentSequence") != "text" else 1) and pacs.asked["header 1.2.2"] == 1


def test_a_pacs_that_is_away_ends_the_list(tmp_path):
    masks = AcceptedMasks(FakePacs(_1=accepted("9.1"), _2=RequestError("cannot be reached", 503)), 0, tmp_path)
    with pytest.raises(RequestError, match="cannot be reached"):
        masks.newest()


def test_another_process_asks_for_nothing_that_is_known(tmp_path):
    pacs = FakePacs(_1=accepted("9.1"), _2=RequestError("status 500", 502))
    for _ in range(3):
        masks = AcceptedMasks(pacs, 0, tmp_path)
        newest = masks.newest()
        assert {uid: series.SeriesInstanceUID for uid, series in newest.items()} == {"9.1": "1.2.1"} and masks.is_empty(newest["9.1"])
    assert pacs.asked == {"header 1.2.1": 1, "pixels 1.2.1": 1, "header 1.2.2": 3}  # what could not be had is asked for anew
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.1.json"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"header": {"x": 1}, "empty": 1}', b'{"header": [], "empty": true}'])
def test_what_was_kept_may_be_damaged(tmp_path, content):
    (tmp_path / "1.2.1.json").write_bytes(content)
    pacs = FakePacs(_1=accepted("9.1"))
    assert [*AcceptedMasks(pacs, 0, tmp_path).newest()] == ["9.1"] and pacs.asked == {"header 1.2.1": 1}
    assert [*AcceptedMasks(pacs, 0, tmp_path).newest()] == ["9.1"] and pacs.asked == {"header 1.2.1": 1}


def test_a_mask_whose_pixels_cannot_be_had_ends_no_list(tmp_path, monkeypatch, caplog):
    pacs = FakePacs(_1=accepted("9.1"))
    masks = AcceptedMasks(pacs, 0, tmp_path)
    series = masks.newest()["9.1"]

    def refuse(status: int):
        def raised(series):
            raise RequestError("no pixels", status)

        return raised

    monkeypatch.setattr(pacs, "first_instance", refuse(503))
    with pytest.raises(RequestError):
        masks.is_empty(series)
    monkeypatch.setattr(pacs, "first_instance", refuse(502))
    assert not masks.is_empty(series) and not masks.is_empty(series)
    assert caplog.text.count("does not count as normal") == 1
    monkeypatch.undo()
    assert AcceptedMasks(pacs, 0, tmp_path).newest() and AcceptedMasks(pacs, 0, tmp_path).is_empty(series)


def test_a_disk_that_is_full_ends_no_list(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    masks = AcceptedMasks(FakePacs(_1=accepted("9.1")), 0, Path(tmp_path / "file"))
    assert [*masks.newest()] == ["9.1"] and "could not be written" in caplog.text
