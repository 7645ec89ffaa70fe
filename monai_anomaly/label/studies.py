"""A folder of studies as MONAI Label's data store: images, volumes, and folders of one DICOM series each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from monailabel.config import settings

from ..data.formats import file_format, walk
from ..data.reader import DICOM_FORMATS
from ..errors import DataError
from .normal import mark_by_label
from .record import SharedRecord
from .refusals import RequestError

__all__ = ["StudyFolder", "check_name"]

logger = logging.getLogger(__name__)

IMAGES = ("*.nii.gz", "*.nii", "*.png", "*.jpg", "*.jpeg", "*.bmp", "*.tif", "*.tiff", "*.dcm")
LABELS = ("*.nrrd", "*.seg.nrrd")
"""What viewers send beside NIfTI. Of endings that fit, MONAI Label takes the last."""


class StudyFolder(SharedRecord):
    """What lies in a folder, by name; other sub-folders than those of a DICOM series are not looked into.

    MONAI Label's own store knows files alone, sees what is added only where a watcher can tell it, and puts a file wherever a name with ``..`` points to.
    This one looks at the folder whenever it is asked, and takes no such names.

    Args:
        folder: the studies; ``labels/`` and MONAI Label's record are written into it.

    Example:
        >>> StudyFolder("studies").list_images()  # doctest: +SKIP
        ['head_7', '1.2.826.0.1.3680043.10.1']
    """

    def __init__(self, folder: str | Path):
        self._seen: list[list[tuple[str, int]]] = []
        super().__init__(
            str(Path(folder).absolute()),
            extensions=(*IMAGES, *LABELS),
            auto_reload=False,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def list_images(self) -> list[str]:
        """All studies, by name."""
        self._look()
        return sorted(super().list_images())

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Those without a final label, by name.

        Args:
            label_tag: not used; MONAI Label's.
            labels: not used.
        """
        self._look()
        return sorted(super().get_unlabeled_images(label_tag, labels))

    def json(self) -> dict[str, Any]:
        """All that is known."""
        self._look()
        return dict(super().json())

    def get_image_uri(self, image_id: str) -> str:
        """The file or folder of a study.

        Args:
            image_id: its name.

        Raises:
            RequestError: there is none.
        """
        self._look()
        if image_id not in self._datastore.objects:
            raise RequestError(f"There is no study called {image_id[:100]!r}; expected one that GET /datastore/?output=all lists.", 404)
        return super().get_image_uri(image_id)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known about a study.

        Args:
            image_id: its name.
        """
        self._look()
        return dict(super().get_image_info(image_id))

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add what is known about a study.

        Args:
            image_id: its name.
            info: replaces entries of the same names.

        Raises:
            RequestError: there is none.
        """
        self.get_image_uri(image_id)
        super().update_image_info(image_id, info)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Take a copy of an image.

        Args:
            image_id: its name; empty: that of the file.
            image_filename: the file.
            image_info: what is known about it.

        Raises:
            RequestError: the name is none.
        """
        check_name(image_id or self._to_id(os.path.basename(image_filename))[0])
        self._look()
        return str(super().add_image(image_id, image_filename, image_info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a label. A final one says whether the study is normal, see :func:`mark_by_label`.

        Args:
            image_id: the study.
            label_filename: the file.
            label_tag: which of its labels.
            label_info: what is known about it.

        Raises:
            RequestError: there is no such study, or the tag is no name.
        """
        self.get_image_uri(image_id)  # also takes over what other processes wrote: what follows writes all that this one knows
        check_name(label_tag)
        label_id = str(super().save_label(image_id, label_filename, label_tag, label_info))
        mark_by_label(self, image_id, label_filename, label_tag, label_info)
        return label_id

    def _look(self) -> None:
        """Take over what other processes wrote, and find what was added or removed since."""
        self._init_from_datastore_file()
        if settings.MONAI_LABEL_DATASTORE_READ_ONLY:
            return
        labels = sorted(Path(self._datastore.label_path(None)).glob("*/"))
        seen = [_content(Path(folder)) for folder in (self._datastore.image_path(), *labels)]
        if seen != self._seen:
            self._seen = seen
            self.refresh()

    def _list_files(self, path: str, patterns: Iterable[str]) -> dict[str, str]:
        if os.path.realpath(path) != os.path.realpath(self._datastore.image_path()):
            return dict(super()._list_files(path, patterns))
        series = (entry.name for entry in sorted(Path(path).iterdir()) if entry.is_dir() and _is_series(entry))
        found = {**super()._list_files(path, IMAGES), **{name: name for name in series}}
        names: dict[str, str] = {}
        for name in sorted(found):
            first = names.setdefault(self._to_id(name)[0], name)
            if first != name:
                logger.warning("%s is left out: %s has the same name; expected different names: rename one of them.", name, first)
        return {name: name for name in names.values()}

    def _to_id(self, file: str) -> tuple[str, str]:
        """A folder has no ending, though its name may hold dots."""
        if os.path.isdir(os.path.join(self._datastore.image_path(), file)):
            return file, ""
        name, ending = super()._to_id(file)
        return (file.removesuffix(ending), ending) if ending else (name, ending)


def check_name(name: str) -> str:
    """A name of a study or of a kind of label; none that leads to another folder.

    Raises:
        RequestError: it is none.

    Example:
        >>> check_name("head_7")
        'head_7'
    """
    if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
        raise RequestError(f"{name[:100]!r} is no name here; expected one without / and \\ that does not begin with a dot.", 404)
    return name


def _content(folder: Path) -> list[tuple[str, int]]:
    """The names in a folder; of folders also when they changed, for a series may still be coming."""
    entries = (entry for entry in os.scandir(folder) if not entry.name.startswith(".") and not entry.name.endswith(".json"))
    return sorted((entry.name, entry.stat().st_mtime_ns if entry.is_dir() else 0) for entry in entries if entry.name != "labels")


def _is_series(folder: Path) -> bool:
    """By the first file that is looked at: judging tells the rest."""
    if folder.name.startswith(".") or folder.name == "labels":
        return False
    try:
        return any(file_format(path) in DICOM_FORMATS for path in islice(walk(folder), 3))
    except (DataError, OSError):
        return False
