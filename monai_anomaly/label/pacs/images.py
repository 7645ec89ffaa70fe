"""The series of a PACS as MONAI Label's images."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dicomweb_client import DICOMwebClient
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import DataModel, ImageLabelModel
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.utils.others.generic import md5_digest
from pydicom import Dataset

from ...data import case_files, find_case
from ..normal import NORMAL
from ..private import private_folder
from ..record import SharedRecord
from ..refusals import RequestError, answering
from .accepted_masks import AcceptedMasks
from .cache import CACHE_GB, SETTING, SeriesCache
from .client import IMAGE_MODALITIES, UID, Pacs, check_uid

__all__ = ["FINAL", "PacsImages"]

logger = logging.getLogger(__name__)

FINAL = DefaultLabelTag.FINAL.value


class PacsImages(DICOMWebDatastore, SharedRecord):
    """What :class:`~monai_anomaly.label.pacs.store.PacsDatastore` knows of images; their labels are its own matter.

    Args:
        client: the connection.
        search_filter: what to list as images, by DICOM keyword.
        cache_path: parent of the cache folder.
        listing_seconds: how long a list of series may be used again.
        cache_gb: limit of the cache.
    """

    def __init__(
        self,
        client: DICOMwebClient,
        search_filter: Mapping[str, Any] | None = None,
        cache_path: str | None = None,
        listing_seconds: float = 5.0,
        cache_gb: float = CACHE_GB,
    ):
        parent = Path(cache_path).expanduser().absolute() if cache_path else Path.home() / ".cache" / "monailabel" / "dicom"
        self.pacs = Pacs(client)
        self.cache = SeriesCache(parent / md5_digest(client.base_url), self.pacs, cache_gb)
        self.results = AcceptedMasks(self.pacs, listing_seconds, private_folder(self.cache.root / ".headers", SETTING))
        self.listing_seconds, self._listed = listing_seconds, (float("-inf"), [""])
        wanted = {"Modality": IMAGE_MODALITIES} if search_filter is None else dict(search_filter)
        super().__init__(client=client, search_filter=wanted, cache_path=str(parent))
        logger.info("Images of patients are kept in %s, which only this user can read.", self.cache.root)

    @answering()
    def list_images(self) -> list[str]:
        """The UIDs of the series, in order; segmentations and maps are none."""
        then, listed = self._listed
        if time.monotonic() - then > self.listing_seconds:
            found = self.pacs.search(self._search_filter)
            listed = [str(series.SeriesInstanceUID) for series in found if not self.results.is_result(series)]
            self._listed = (time.monotonic(), listed)
        return list(listed)

    @answering()
    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Series whose study holds an accepted mask of theirs."""
        labeled = self.results.newest()
        return [uid for uid in self.list_images() if uid in labeled]

    @answering()
    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The other series."""
        labeled = self.results.newest()
        return [uid for uid in self.list_images() if uid not in labeled]

    def status(self) -> dict[str, Any]:
        """How many series there are, and how many have an accepted mask; with a PACS that does not answer ``error`` says so.

        MONAI Label asks for it whenever it starts, a background job or itself: a server may be up before its PACS is.
        """
        try:
            return dict(super().status())
        except RequestError as error:
            logger.warning("%s", error)
            return {"total": 0, "completed": 0, "label_tags": {}, "error": str(error)}

    @answering()
    def get_image_uri(self, image_id: str) -> str:
        """The series as NIfTI; its DICOM files lie in the folder of the same name without ``.nii.gz``."""
        return str(self._cached(image_id))

    @answering()
    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known about a series: its UIDs and modality, scores, and whether it is ``normal``."""
        info = super().get_image_info(check_uid(image_id))
        newest = self.results.newest().get(image_id)
        if newest is not None and self.get_label_info(image_id, FINAL).get("SeriesInstanceUID") != newest.SeriesInstanceUID:
            info[NORMAL] = self.results.is_empty(newest)
        return info

    @answering()
    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add what is known about a series, whether it is here yet or not."""
        if check_uid(image_id) not in self._datastore.objects:
            self._register(self.pacs.series(image_id))
        super().update_image_info(image_id, info)

    @answering()
    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refused: images come from the PACS."""
        raise RequestError("Images come from the PACS here; expected them there: push the series to the PACS.", 405)

    @answering()
    def remove_image(self, image_id: str) -> None:
        """Remove a series and all that is known about it from the cache; the PACS keeps its own."""
        self.cache.remove(image_id)
        self._forget(image_id)

    @answering()
    def source(self, image_id: str) -> str:
        """The folder with the DICOM files of a series, as the PACS has it."""
        try:
            series = self.pacs.series(image_id)
        except RequestError as error:
            if error.status == 404 and UID.fullmatch(image_id) and image_id in self._datastore.objects:
                self.remove_image(image_id)  # what is gone from the PACS is to be gone here, too
            raise
        if self.cache.update(series):  # scores and masks were those of other slices
            self._forget(image_id)
        self._register(series)
        return str(self.cache.root / image_id)

    @contextmanager
    def in_passing(self, image_id: str) -> Iterator[str]:
        """The same for a job that goes through all series: those that it fetches are the first that make room for others."""
        before = self.cache.last_use(check_uid(image_id))
        folder = self.source(image_id)
        now = self.cache.last_use(image_id)
        try:
            yield folder
        finally:
            self.cache.set_back(image_id, now, before)

    @answering()
    def version(self, image_id: str) -> str:
        """Changes when slices are added to a series; nothing is fetched."""
        instances = self.pacs.instances(self.pacs.series(image_id))
        return hashlib.sha256(" ".join(sorted(instances)).encode()).hexdigest()[:16]

    def _cached(self, image_id: str) -> Path:
        """The volume of a series; its files lie beside it."""
        self.source(image_id)
        return self.cache.volume(image_id)

    def _register(self, series: Dataset) -> None:
        uid = str(series.SeriesInstanceUID)
        if uid not in self._datastore.objects:
            info = {"ts": int(time.time()), "name": f"{uid}.nii.gz", "SeriesInstanceUID": uid}
            info |= {name: str(series.get(name, "")) for name in ("StudyInstanceUID", "Modality")}
            with self.changing() as record:
                record.objects.setdefault(uid, ImageLabelModel(image=DataModel(ext=".nii.gz", info=info)))

    def _remove_non_existing(self) -> int:
        """Nothing: what is known of a series holds while its files are not here."""
        return 0

    def _files(self, image_id: str) -> list[str]:
        (case,) = find_case(self.source(image_id)).cases
        return case_files(case)

    def _forget(self, image_id: str) -> None:
        with self.changing() as record:
            entry = record.objects.pop(image_id, None)
            for tag, label in ({} if entry is None else entry.labels).items():
                (Path(record.label_path(tag)) / f"{image_id}{label.ext}").unlink(missing_ok=True)
