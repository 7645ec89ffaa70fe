"""Series of a PACS on this machine's disk, complete or absent, readable by one user."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from pydicom import Dataset

from ...data import CaseReader, case_files, find_case
from ...errors import DataError
from ...writers import write_map_volume
from ..private import private_folder
from ..refusals import RequestError
from ..viewer_grid import viewer_affine
from .client import UID, Pacs, check_uid

__all__ = ["CACHE_GB", "SETTING", "SeriesCache", "dicom_behind"]

logger = logging.getLogger(__name__)

CACHE_GB = 50.0
SETTING = "MONAI_LABEL_DICOMWEB_CACHE_PATH"
"""The environment variable that names another folder."""
DAY_S = 86400.0
LUMA = (0.299, 0.587, 0.114)
"""Of colours (ITU-R BT.601), for viewers of grey volumes."""


class SeriesCache:
    """Whole series of a PACS in a folder: ``<uid>/`` as DICOM, what a detector judges, and ``<uid>.nii.gz`` with the same voxels for viewers without DICOM.

    Processes may share the folder: a series is fetched by one while the others wait. When it holds more than its limit after a series has come, others go,
    those first that nobody has asked for for the longest; but none that was asked for within a day, so that a training finds what it began with.

    Args:
        root: the folder.
        pacs: where series come from.
        limit_gb: of the series, in billions of bytes; results that lie beside them do not count.

    Example:
        >>> cache = SeriesCache(Path("cache"), pacs)  # doctest: +SKIP
        >>> cache.update(pacs.series("1.2.840.113619.2.5"))  # doctest: +SKIP
        False
        >>> cache.volume("1.2.840.113619.2.5")  # doctest: +SKIP
        PosixPath('cache/1.2.840.113619.2.5.nii.gz')
    """

    def __init__(self, root: Path, pacs: Pacs, limit_gb: float = CACHE_GB):
        self.root, self.pacs, self.limit = private_folder(root, SETTING), pacs, limit_gb * 1e9

    def update(self, series: Dataset) -> bool:
        """Fetch a series, unless it is here as the PACS has it: one that was still arriving when it was first opened is fetched again.

        Args:
            series: as the PACS lists it.

        Returns:
            Whether another set of instances was here before.

        Raises:
            RequestError: the PACS does not answer as it should, or does not give every instance.
            DataError: they cannot be written.
        """
        uid = check_uid(str(series.SeriesInstanceUID))
        folder = self.root / uid
        with self._alone(uid):
            listed, here = self.pacs.instances(series), {path.stem for path in folder.glob("*.dcm")}
            if listed and listed == here:
                os.utime(folder)
                return False
            (self.root / f"{uid}.nii.gz").unlink(missing_ok=True)
            self._fetch(series, folder, listed)
            self._make_room()
            return bool(here)

    def last_use(self, uid: str) -> int:
        """When somebody asked for a series last, in nanoseconds since 1970; 0 for one that is not here."""
        return _last_use(self.root / check_uid(uid))

    def set_back(self, uid: str, now: int, then: int) -> None:
        """Have a series count as last used then, unless somebody has asked for it since now.

        Args:
            uid: its SeriesInstanceUID.
            now: from :meth:`last_use`, after the use that is not to count.
            then: from :meth:`last_use`, before it.
        """
        folder = self.root / check_uid(uid)
        with suppress(OSError):
            if _last_use(folder) == now:
                os.utime(folder, ns=(then, then))

    def volume(self, uid: str) -> Path:
        """The NIfTI volume of a series that is here.

        Args:
            uid: its SeriesInstanceUID.

        Raises:
            DataError: the files are not one image or series that can be read.
        """
        path = self.root / f"{check_uid(uid)}.nii.gz"
        with self._alone(uid):
            if not path.exists():
                _write_volume(self.root / uid, path)
        return path

    def remove(self, uid: str) -> None:
        """Remove a series from this disk; the PACS keeps it.

        Args:
            uid: its SeriesInstanceUID.
        """
        with self._alone(check_uid(uid)):
            shutil.rmtree(self.root / uid, ignore_errors=True)
            (self.root / f"{uid}.nii.gz").unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for a while, on the same disk and as private; what a killed process left of one goes after a day, when another begins."""
        for left in self.root.glob(".*.part"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > DAY_S:
                    shutil.rmtree(left, ignore_errors=True)
        part = private_folder(self.root / f".{secrets.token_hex(8)}.part", SETTING)
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _make_room(self) -> None:
        """Each series is weighed anew: hundreds of them in less time than one takes to come."""
        series = {folder: _size(folder) for folder in self.root.iterdir() if UID.fullmatch(folder.name) and folder.is_dir()}
        surplus = sum(series.values()) - self.limit
        for folder in sorted(series, key=_last_use):
            if surplus <= 0 or time.time() - _last_use(folder) / 1e9 < DAY_S:
                break
            with suppress(Timeout), self._alone(folder.name).acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
                folder.with_name(f"{folder.name}.nii.gz").unlink(missing_ok=True)
                surplus -= series[folder]
                logger.info("Series %s made room for others.", folder.name)
        if surplus > 0:
            logger.warning(
                "The cache %s holds %.1f GB more than its limit, all of it asked for within a day; expected less: raise it with --conf cache_gb.",
                self.root, surplus / 1e9,
            )  # fmt: skip

    def _alone(self, uid: str) -> FileLock:
        return FileLock(private_folder(self.root / ".locks", SETTING) / uid)

    def _fetch(self, series: Dataset, folder: Path, listed: set[str]) -> None:
        try:
            with self.scratch() as part:

                def keep(uid: str, instance: Dataset) -> None:
                    try:
                        instance.save_as(part / f"{uid}.dcm", enforce_file_format=True)
                    except OSError as error:  # else the PACS would be to blame
                        raise self._not_written(folder.name, error) from error

                written = self.pacs.fetch(series, keep)
                if written != listed or not listed:
                    raise RequestError(
                        f"The PACS lists {len(listed)} instances of series {folder.name} and gave {len(written & listed)} of them; expected all: it "
                        "may still be arriving, ask again later.",
                        503,
                    )
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(part, folder)
        except OSError as error:
            raise self._not_written(folder.name, error) from error
        logger.info("Fetched series %s: %d instances.", folder.name, len(listed))

    def _not_written(self, uid: str, error: OSError) -> DataError:
        return DataError(
            f"Series {uid} could not be written to {self.root} ({error.strerror or error}); expected a folder with free space: empty it, or name another "
            f"with {SETTING}."
        )


def _last_use(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _size(folder: Path) -> int:
    """Of a series in bytes, with its volume; what another process takes away meanwhile has none."""
    size = 0
    with suppress(OSError):
        size += sum(file.stat().st_size for file in os.scandir(folder))
        size += folder.with_name(f"{folder.name}.nii.gz").stat().st_size
    return size


def dicom_behind(image: str | Path) -> str:
    """The folder of DICOM files behind a volume of the cache, which say more than the volume (modality, units); any other path as it is.

    Example:
        >>> dicom_behind("studies/head.nii.gz")
        'studies/head.nii.gz'
    """
    folder = Path(str(image).removesuffix(".nii.gz"))
    return str(folder if UID.fullmatch(folder.name) and folder.is_dir() else image)


def _write_volume(folder: Path, volume: Path) -> None:
    (case,) = find_case(folder).cases
    reader = CaseReader()
    array, meta = reader.get_data(reader.read(case_files(case)))
    affine = viewer_affine(meta["affine"], meta["geometry"] == "patient")
    write_map_volume(volume, array @ np.array(LUMA, np.float32) if array.ndim == 4 else array, affine)
