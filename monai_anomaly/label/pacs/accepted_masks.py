"""Which accepted masks a PACS holds, without asking for the same thing twice."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import ParametricMapStorage, generate_uid

from ...errors import DataError, reason
from ...files import write_json
from ...writers.dicom import SEGMENT_LABEL
from ..refusals import RequestError
from .client import Pacs, check_uid

__all__ = ["AcceptedMasks"]

logger = logging.getLogger(__name__)

_REFERENCED_SERIES, _SEGMENTS, _CONTENT_DATE, _CONTENT_TIME, _SOP_CLASS = 0x00081115, 0x00620002, 0x00080023, 0x00080033, 0x00080016
_NEVER_IMAGES = frozenset({"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "DOC", "ECG", "AU", "FID", "PLAN"})


class AcceptedMasks:
    """The Segmentations with a segment "Anomaly" that a person drew, changed or accepted, by the series that they belong to.

    Those of others (organs) and of a model alone (``AUTOMATIC``) are passed over.

    An object in a PACS never changes, so a few elements of the header of each are asked for once, whichever process asks, and kept on disk; only the list of
    series is asked for again. One whose header cannot be had is passed over with a warning, until the server is started again.

    Args:
        pacs: where they lie.
        listing_seconds: how long a list of series may be used again.
        folder: for what is known of each; private, because it tells of patients' studies.

    Example:
        >>> results = AcceptedMasks(pacs, 5.0, Path("cache/.headers"))  # doctest: +SKIP
        >>> results.newest()["1.2.840.113619.2.5"].Modality  # doctest: +SKIP
        'SEG'
    """

    def __init__(self, pacs: Pacs, listing_seconds: float, folder: Path):
        self.pacs, self.listing_seconds, self.folder = pacs, listing_seconds, folder
        self._listed: tuple[float, dict[str, Dataset]] = (float("-inf"), {})
        self._headers: dict[str, Dataset] = {}
        self._empty: dict[str, bool] = {}

    def newest(self) -> dict[str, Dataset]:
        """For the UID of an image series the newest accepted Segmentation of it, as the PACS lists it.

        Raises:
            RequestError: the PACS does not answer as it should.
        """
        then, found = self._listed
        if time.monotonic() - then > self.listing_seconds:
            dated: dict[str, tuple[tuple[str, str, str], Dataset]] = {}
            for series in self.pacs.search({"Modality": "SEG"}):
                header = self._header(series)
                stamp = (str(header.get("ContentDate", "")), str(header.get("ContentTime", "")), str(series.SeriesInstanceUID))
                try:
                    images = _accepted_for(header)
                except Exception as error:  # whatever pydicom makes of an odd element
                    self._pass_over(str(series.SeriesInstanceUID), reason(error))
                    continue
                for uid in images:
                    if uid not in dated or stamp > dated[uid][0]:
                        dated[uid] = stamp, series
            found = {uid: series for uid, (_, series) in dated.items()}
            self._listed = (time.monotonic(), found)
        return found

    def is_result(self, series: Dataset) -> bool:
        """Whether a series that a search found is no image but a segmentation, a map, a report, a plan.

        Args:
            series: as the PACS lists it.
        """
        modality = str(series.get("Modality", ""))
        # Parametric Maps are of modality OT, as screenshots are; only the class of the objects tells them apart.
        return modality in _NEVER_IMAGES or (modality == "OT" and self._header(series).get("SOPClassUID") == ParametricMapStorage)

    def is_empty(self, series: Dataset) -> bool:
        """Whether a Segmentation marks nothing: the study was accepted as normal. One that cannot be read counts as one that marks something.

        Args:
            series: from :meth:`newest`.
        """
        uid = str(series.SeriesInstanceUID)
        self._header(series)  # with which it may have been kept
        if uid not in self._empty:
            try:
                self._empty[uid] = not np.asarray(self.read(series).pixel_array).any()
            except Exception as error:  # whatever pydicom and its decoders make of an odd element; one odd mask ends no list
                if isinstance(error, RequestError) and error.status == 503:
                    raise
                logger.warning("An accepted mask cannot be read (%s): its study does not count as normal.", reason(error))
                self._empty[uid] = False
            else:
                self._keep(uid)
        return self._empty[uid]

    def read(self, series: Dataset) -> Dataset:
        """A Segmentation with its pixels.

        Args:
            series: from :meth:`newest`.
        """
        return self.pacs.first_instance(series)

    def renew(self, result: Dataset, newest: Dataset | None) -> None:
        """Give a new Segmentation identifiers of its own, if the very same one lies in the PACS already but is not the newest: it shall be the newest.

        Args:
            result: to be stored; changed in place.
            newest: the newest of its series, as the PACS lists it.
        """
        if newest is not None and str(result.SeriesInstanceUID) in self._headers and newest.SeriesInstanceUID != result.SeriesInstanceUID:
            result.SeriesInstanceUID, result.SOPInstanceUID = generate_uid(), generate_uid()
            result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID

    def forget(self) -> None:
        """Ask for the list again: something was stored."""
        self._listed = (float("-inf"), {})

    def _header(self, series: Dataset) -> Dataset:
        uid = check_uid(str(series.SeriesInstanceUID))
        if uid not in self._headers and not self._recall(uid):
            try:
                self._headers[uid] = self.pacs.header(series, (_SOP_CLASS, _REFERENCED_SERIES, _SEGMENTS, _CONTENT_DATE, _CONTENT_TIME))
                self._keep(uid)
            except RequestError as error:
                if error.status == 503:
                    raise
                self._pass_over(uid, str(error))
        return self._headers[uid]

    def _pass_over(self, uid: str, why: str) -> None:
        """In this process alone: the next may have more luck."""
        logger.warning("Series %s is passed over, because what it is cannot be told: %s", uid, why)
        self._headers[uid] = Dataset()

    def _recall(self, uid: str) -> bool:
        """Take what this process or another has kept of a series; whether there was something."""
        try:
            kept = json.loads((self.folder / f"{uid}.json").read_bytes())
            self._headers[uid], empty = Dataset.from_json(kept["header"]), kept["empty"]
        except FileNotFoundError:
            return False
        except Exception as error:  # whatever pydicom makes of a file that somebody has changed
            logger.info("What was kept of series %s cannot be read (%s): it is asked for again.", uid, reason(error))
            return False
        if isinstance(empty, bool):
            self._empty[uid] = empty
        return True

    def _keep(self, uid: str) -> None:
        try:
            write_json(self.folder / f"{uid}.json", {"header": self._headers[uid].to_json_dict(), "empty": self._empty.get(uid)})
        except DataError as error:
            logger.warning("%s", error)


def _accepted_for(header: Dataset) -> list[str]:
    """The series that a Segmentation belongs to; none if no person has accepted it, or it is of something else."""
    segments = [one for one in header.get("SegmentSequence") or [] if str(one.get("SegmentLabel", "")) == SEGMENT_LABEL]
    if not segments or segments[0].get("SegmentAlgorithmType", "AUTOMATIC") == "AUTOMATIC":
        return []
    uids = [str(image.get("SeriesInstanceUID", "")) for image in header.get("ReferencedSeriesSequence") or []]
    return [uid for uid in uids if uid]
