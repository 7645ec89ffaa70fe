"""The studies of a PACS as MONAI Label's data store."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
from dicomweb_client.session_utils import create_session_from_user_pass
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag
from numpy.typing import NDArray

from ...data.geometry import Grid
from ...data.reader import case_grid
from ...inference import Verdict
from ...writers import read_map_volume, write_map_volume
from ..normal import NORMAL
from ..record import checked_ending
from ..refusals import RequestError, answering
from ..response import write_result
from ..viewer_grid import viewer_affine
from .cache import CACHE_GB
from .client import CONNECT_S, check_uid
from .dicom_results import HEATMAP, dicom_results, heatmap_info, read_segmentation
from .images import FINAL, PacsImages
from .mask_files import read_mask

__all__ = ["PacsDatastore", "open_pacs"]

logger = logging.getLogger(__name__)

_OWN = frozenset({"algorithm", "window", "made", "SeriesInstanceUID"})
_TAG = re.compile(r"[A-Za-z0-9_-]{1,40}")


def open_pacs(url: str, cache_gb: float = CACHE_GB) -> PacsDatastore:
    """The data store for a DICOMweb address, by MONAI Label's own settings (``MONAI_LABEL_DICOMWEB_*``).

    Args:
        url: as given to ``--studies``.
        cache_gb: how much of it may lie on this machine's disk.

    Raises:
        DataError: the cache folder cannot be made private.

    Example:
        >>> open_pacs("http://127.0.0.1:8042/dicom-web")  # doctest: +SKIP
    """
    session = None
    if settings.MONAI_LABEL_DICOMWEB_USERNAME and settings.MONAI_LABEL_DICOMWEB_PASSWORD:
        session = create_session_from_user_pass(settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD)
    client = DICOMwebClientX(
        url=url.rstrip("/"),
        session=session,
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
        timeout=(CONNECT_S, settings.MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT),
    )
    chosen = settings.model_fields_set
    return PacsDatastore(
        client,
        settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER if "MONAI_LABEL_DICOMWEB_SEARCH_FILTER" in chosen else None,
        settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip() or None,
        float(settings.MONAI_LABEL_DICOMWEB_CACHE_EXPIRY) if "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY" in chosen else 5.0,
        cache_gb,
    )


class PacsDatastore(PacsImages):
    """The series of a PACS as images, and the masks that radiologists accept as DICOM Segmentations beside them.

    An image is named by its SeriesInstanceUID. Its files lie in the cache as DICOM, ``<uid>/``, and as NIfTI, ``<uid>.nii.gz``, on whose grid viewers and
    detectors exchange masks. A label with the tag ``final`` goes to the PACS, as Segmentation, with the heat map under the tag ``heatmap`` as Parametric Map;
    a mask without a marked voxel says that the study is normal, which ``normal`` in the image's info then tells too. What a model saves as final by itself
    (``save_label`` in a request) goes to the PACS as its work alone: it counts neither as accepted nor as normal. Other labels stay in the cache. The PACS has
    the last word: labels that are new there are read, those that are gone are forgotten.

    A mask of a series that no model has judged here was drawn by a person alone, and is stored as such, without a map.

    **The cache holds patients' images.** Only the user who runs the server can look into it; when it holds more than ``cache_gb``, series that nobody has
    asked for go, see :class:`~monai_anomaly.label.pacs.cache.SeriesCache`; it may be removed at any time while the server is stopped, and :meth:`remove_image`
    removes one series.

    Args:
        client: the connection.
        search_filter: what to list as images, by DICOM keyword; default: every series of :data:`~monai_anomaly.label.pacs.client.IMAGE_MODALITIES`.
        cache_path: parent of the cache folder; default ``~/.cache/monailabel/dicom``.
        listing_seconds: how long a list of series may be used again.
        cache_gb: limit of the cache.

    Raises:
        DataError: the cache folder cannot be made private.

    Example:
        >>> store = open_pacs("http://127.0.0.1:8042/dicom-web")  # doctest: +SKIP
        >>> store.list_images()  # doctest: +SKIP
        ['1.2.826.0.1.3680043.8.498.1']
    """

    @answering()
    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """A label of a series, ``""`` if there is none; the final one as the PACS has it, on the grid of the image."""
        if _checked(label_tag) != FINAL:
            return LocalDatastore.get_label_uri(self, check_uid(label_id), label_tag)
        uid = check_uid(image_id or label_id)
        newest = self.results.newest().get(uid)
        if newest is None:
            self._drop(uid, FINAL)
            return ""
        if self.get_label_info(uid, FINAL).get("SeriesInstanceUID") != newest.SeriesInstanceUID:
            place = case_grid(self._files(uid))
            mask = read_segmentation(self.results.read(newest), place)
            self._keep_mask(uid, mask, place, {"SeriesInstanceUID": str(newest.SeriesInstanceUID)})
        return LocalDatastore.get_label_uri(self, uid, FINAL)

    @answering()
    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = "") -> str:
        """Keep a label; the final one goes to the PACS first, so that what is kept is also there.

        Args:
            image_id: the series.
            label_filename: the viewer's file; see :func:`~monai_anomaly.label.pacs.mask_files.read_mask`.
            label_tag: ``"final"`` for what a radiologist accepts.
            label_info: what the viewer says about it.
            label_id: there for MONAI Label's signature.

        Returns:
            The label's id, which is the image's.

        Raises:
            RequestError: another grid, a PACS that does not store it, or a tag that is none.
        """
        if _checked(label_tag) == HEATMAP:
            if not label_info.get("model"):
                raise RequestError(f"The label {HEATMAP} is the server's own; expected another tag: choose another name.", 405)
            return image_id  # the model's map was kept when it was made, with what belongs to it
        if _checked(label_tag) != FINAL:
            suffix = checked_ending(label_filename, (".nii.gz", ".nii", ".nrrd"))
            self._cached(image_id)
            self.keep_label(image_id, _checked(label_tag), Path(label_filename), suffix, label_info)
            return image_id
        files = self._files(image_id)
        place = case_grid(files)
        mask = read_mask(label_filename, viewer_affine(place.affine, place.in_patient), place.shape)
        heatmap, shown = LocalDatastore.get_label_uri(self, image_id, HEATMAP), self.get_label_info(image_id, HEATMAP)
        accepted = not label_info.get("model")  # else it is a model's own, which nobody has looked at
        judged = bool(heatmap) and "algorithm" in shown
        if not (judged or accepted):
            raise RequestError(
                f"The verdict on series {image_id} is gone, whose map goes to the PACS with the mask: run the model on it again."
            )
        values = None
        if judged and place.in_patient:
            values = read_map_volume(heatmap, place.affine, place.shape, ("heat map", "image"))
        stored = dicom_results(files, mask, values, shown if judged else {}, accepted)
        if not accepted:
            self.pacs.store(stored)
            return self._keep_mask(image_id, mask, place, dict(label_info), DefaultLabelTag.ORIGINAL.value)
        made, last = str(stored[0].SeriesInstanceUID), self.get_label_info(image_id, FINAL)
        self.results.forget()
        newest = self.results.newest().get(image_id)
        if newest is None or (made, str(newest.SeriesInstanceUID)) != (last.get("made"), last.get("SeriesInstanceUID")):
            self.results.renew(stored[0], newest)
            self.pacs.store(stored)
            self.results.forget()
            last = {"made": made, "SeriesInstanceUID": str(stored[0].SeriesInstanceUID)}
        told = {**label_info, **{name: last[name] for name in ("made", "SeriesInstanceUID")}}
        return self._keep_mask(image_id, mask, place, told)

    def keep_heatmap(self, image: str, verdict: Verdict) -> None:
        """Keep the map that a model has just shown, until the next: with the mask that is accepted it goes to the PACS.

        Args:
            image: path of the volume, from :meth:`get_image_uri`; others are passed over.
            verdict: what the model says.
        """
        uid = Path(image).name.removesuffix(".nii.gz")
        if Path(image).parent != self.cache.root or uid not in self._datastore.objects:
            return
        info, before = heatmap_info(verdict), self.get_label_info(uid, HEATMAP)
        if {name: before.get(name) for name in info} == info and Path(LocalDatastore.get_label_uri(self, uid, HEATMAP)).is_file():
            return  # the same model has been asked before, of the mask or of the map
        with self.cache.scratch() as folder:
            self.keep_label(uid, HEATMAP, write_result(verdict, "map", folder / "map.nii.gz"), ".nii.gz", info)

    @answering()
    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add what is known about a label, but for what DICOM objects are made from and known by."""
        if own := sorted(_OWN & {*info}):
            raise RequestError(f"{', '.join(own)} of a label is the server's own; expected other names: leave it out.")
        super().update_label_info(label_id, label_tag, info)

    @answering()
    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label from the cache; one that is in the PACS stays."""
        if _checked(label_tag) == FINAL:
            raise RequestError("A final label lies in the PACS, which keeps it; expected another tag: remove its series in the PACS.", 405)
        self._drop(check_uid(label_id), _checked(label_tag))

    @answering()
    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Image and mask of each series with an accepted mask; one that cannot be read is passed over with a warning."""
        labels = {}
        for uid in self.get_labeled_images():
            try:
                labels[uid] = {"image": self.get_image_uri(uid), "label": self.get_label_uri(uid, FINAL)}
            except RequestError as error:
                if error.status != 422:
                    raise
                logger.warning("The accepted mask of series %s is left out: %s", uid, error)
        return list(labels.values())

    def _drop(self, uid: str, tag: str) -> None:
        if tag not in self.get_labels_by_image_id(uid):
            return
        with self.changing() as record:
            entry = record.objects[uid]
            (Path(record.label_path(tag)) / f"{uid}{entry.labels.pop(tag).ext}").unlink(missing_ok=True)
            if tag == FINAL:
                entry.image.info.pop(NORMAL, None)

    def _keep_mask(self, image_id: str, mask: NDArray[np.bool_], place: Grid, info: dict[str, Any], tag: str = FINAL) -> str:
        with self.cache.scratch() as folder:
            path = write_map_volume(folder / "mask.nii.gz", mask, viewer_affine(place.affine, place.in_patient))
            self.keep_label(image_id, tag, path, ".nii.gz", {**info, NORMAL: not mask.any()})
        if tag == FINAL:
            self.update_image_info(image_id, {NORMAL: not mask.any()})
        return image_id


def _checked(tag: str) -> str:
    tag = str(getattr(tag, "value", tag))
    if _TAG.fullmatch(tag):
        return tag
    raise RequestError(f"The label's tag is {tag[:50]!r}; expected 1 to 40 letters, digits, '_' and '-', such as final.")
