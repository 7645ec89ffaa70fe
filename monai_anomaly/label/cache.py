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
from filelock import FileLock
from pydicom import Dataset

from ..data import CaseReader, case_files, find_case
from ..errors import DataError
from ..writers import write_map_volume
from .answer import PICTURE
from .pacs import UID, Pacs, check_uid
from .refusals import RequestError

__all__ = ["SeriesCache", "dicom_behind", "private_folder"]

logger = logging.getLogger(__name__)

DAY_S = 86400.0
LUMA = (0.299, 0.587, 0.114)
"""Of colours (ITU-R BT.601), for viewers of grey volumes."""


def private_folder(path: Path) -> Path:
    """Make a folder, if it is not there, which no other user can look into.

    Raises:
        DataError: it cannot be made, or belongs to somebody else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     oct(private_folder(Path(parent) / "cache").stat().st_mode & 0o777)
        '0o700'
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise DataError(
            f"The cache folder {path} cannot be made private ({error.strerror or error}); expected a folder of this user alone, because it holds patients' "
            "images: name another with MONAI_LABEL_DICOMWEB_CACHE_PATH."
        ) from error
    return path


class SeriesCache:
    """Whole series of a PACS in a folder: ``<uid>/`` as DICOM, what a detector judges, and ``<uid>.nii.gz`` with the same voxels for viewers without DICOM.

    Processes may share the folder: a series is fetched by one while the others wait.

    Args:
        root: the folder.
        pacs: where series come from.

    Example:
        >>> cache = SeriesCache(Path("cache"), pacs)  # doctest: +SKIP
        >>> cache.update(pacs.series("1.2.840.113619.2.5"))  # doctest: +SKIP
        False
        >>> cache.volume("1.2.840.113619.2.5")  # doctest: +SKIP
        PosixPath('cache/1.2.840.113619.2.5.nii.gz')
    """

    def __init__(self, root: Path, pacs: Pacs):
        self.root, self.pacs = private_folder(root), pacs

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
            if listed == here:
                return False
            (self.root / f"{uid}.nii.gz").unlink(missing_ok=True)
            self._fetch(series, folder, listed)
            return bool(here)

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
        part = private_folder(self.root / f".{secrets.token_hex(8)}.part")
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _alone(self, uid: str) -> FileLock:
        return FileLock(private_folder(self.root / ".locks") / uid)

    def _fetch(self, series: Dataset, folder: Path, listed: set[str]) -> None:
        try:
            with self.scratch() as part:
                written = self.pacs.fetch(series, part)
                if written != listed or not listed:
                    raise RequestError(
                        f"The PACS lists {len(listed)} instances of series {folder.name} and gave {len(written & listed)} of them; expected all: it "
                        "may still be arriving, ask again later.",
                        503,
                    )
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(part, folder)
        except OSError as error:
            raise DataError(
                f"Series {folder.name} could not be written to {self.root} ({error.strerror or error}); expected a folder with free space: empty it, or "
                "name another with MONAI_LABEL_DICOMWEB_CACHE_PATH."
            ) from error
        logger.info("Fetched series %s: %d instances.", folder.name, len(listed))


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
    affine = meta["affine"] if meta["geometry"] == "patient" else PICTURE
    write_map_volume(volume, array @ np.array(LUMA, np.float32) if array.ndim == 4 else array, affine)
