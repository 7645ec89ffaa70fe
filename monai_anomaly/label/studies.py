"""A folder of studies as MONAI Label's data store: images, volumes, and folders of one DICOM series each."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from monailabel.config import settings
from monailabel.datastore.local import DataModel, ImageLabelModel

from ..data.formats import DICOM_FORMATS, file_format
from ..data.paths import walk
from ..errors import DataError
from ..files import write_whole
from .normal import mark_by_label
from .record import SharedRecord, checked_ending, known_study
from .refusals import RequestError

__all__ = ["StudyFolder", "check_name"]

logger = logging.getLogger(__name__)

IMAGES = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm")
LABELS = (".nrrd", ".seg.nrrd")
"""What viewers send beside NIfTI. Of endings that fit, MONAI Label takes the last."""
CLOCK_NS = 10**9
"""How coarse the clocks of file systems may be."""
LOOK_S = 1.0
"""How long what was seen in the folder holds: a list of thousands of studies asks for each of them."""


class StudyFolder(SharedRecord):
    """What lies in a folder, by name; other sub-folders than those of a DICOM series are not looked into.

    MONAI Label's own store knows files alone, sees what is added only where a watcher can tell it, and puts a file wherever a name with ``..`` points to.
    This one looks at the folder when it is asked, at most once a second, and takes no such names.

    Args:
        folder: the studies; ``labels/`` and MONAI Label's record are written into it.

    Example:
        >>> StudyFolder("studies").list_images()  # doctest: +SKIP
        ['head_7', '1.2.826.0.1.3680043.10.1']
    """

    def __init__(self, folder: str | Path):
        self._seen: list[list[tuple[str, int]]] = []
        self._next_look = float("inf")
        endings = [f"*{end}" for end in (*IMAGES, *LABELS)]
        super().__init__(str(Path(folder).absolute()), extensions=endings, read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY)
        self._next_look = 0.0

    def list_images(self) -> list[str]:
        """All studies, by name."""
        return sorted(super().list_images())

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Those without a final label, by name.

        Args:
            label_tag: not used; MONAI Label's.
            labels: not used.
        """
        return sorted(super().get_unlabeled_images(label_tag, labels))

    def get_image_uri(self, image_id: str) -> str:
        """The file or folder of a study.

        Args:
            image_id: its name.

        Raises:
            RequestError: there is none.
        """
        known_study(self._datastore, image_id)
        return super().get_image_uri(image_id)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Take a copy of an image. What was known of another one by this name is forgotten.

        Args:
            image_id: its name; empty: that of the file.
            image_filename: the file.
            image_info: what is known about it.

        Raises:
            RequestError: the name is none, a series has it, or the file is no image by its ending.
        """
        name = os.path.basename(image_filename)
        check_name(image_id or name)
        suffix = checked_ending(name, IMAGES)
        image_id = image_id or name[: -len(suffix)]
        with self.changing() as record:
            before, folder = record.objects.get(image_id), Path(record.image_path())
            if (folder / image_id).is_dir():
                raise RequestError(f"There is a folder called {image_id[:100]!r}; expected another name: rename the image.", 409)
            with open(image_filename, "rb") as source:
                write_whole(folder / f"{image_id}{suffix}", lambda target: shutil.copyfileobj(source, target))
            if before is not None:
                if before.image.ext != suffix:
                    (folder / f"{image_id}{before.image.ext}").unlink(missing_ok=True)
                for tag, label in before.labels.items():
                    (Path(record.label_path(tag)) / f"{image_id}{label.ext}").unlink(missing_ok=True)
            info = {**(image_info or {}), "ts": int(time.time()), "name": f"{image_id}{suffix}"}
            record.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=suffix))
        return image_id

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a label. A final one says whether the study is normal, see :func:`mark_by_label`.

        Args:
            image_id: the study.
            label_filename: the file.
            label_tag: which of its labels.
            label_info: what is known about it.

        Raises:
            RequestError: there is no such study, the tag is no name, or the file is no label.
        """
        self.get_image_uri(image_id)
        tag = check_name(getattr(label_tag, "value", label_tag))
        self.keep_label(image_id, tag, Path(label_filename), checked_ending(label_filename, (*IMAGES, *LABELS)), label_info or {})
        mark_by_label(self, image_id, label_filename, label_tag, label_info)
        return image_id

    def _look(self) -> None:
        """Take over what other processes wrote, and find what was added or removed since."""
        super()._look()
        if settings.MONAI_LABEL_DATASTORE_READ_ONLY or time.monotonic() < self._next_look:
            return
        record = self._known[1]
        seen = [_content(Path(folder)) for folder in (record.image_path(), *sorted(Path(record.label_path(None)).glob("*/")))]
        self._next_look = time.monotonic() + LOOK_S
        if seen != self._seen:
            self._seen = seen
            self.refresh()

    def _list_files(self, path: str, patterns: Iterable[str]) -> dict[str, str]:
        if os.path.realpath(path) != os.path.realpath(self._datastore.image_path()):
            return dict(super()._list_files(path, patterns))
        series = (entry.name for entry in sorted(Path(path).iterdir()) if entry.is_dir() and _is_series(entry))
        found = {**super()._list_files(path, [f"*{end}" for end in IMAGES]), **{name: name for name in series}}
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
    """The names in a folder; of folders also when they changed, for a series may still be coming: what changed just now may change again at the same time."""
    entries = (entry for entry in os.scandir(folder) if not entry.name.startswith(".") and not entry.name.endswith(".json"))
    return sorted((entry.name, _changed(entry) if entry.is_dir() else 0) for entry in entries if entry.name != "labels")


def _changed(entry: os.DirEntry[str]) -> int:
    now, then = time.time_ns(), entry.stat().st_mtime_ns
    return now if now - then < CLOCK_NS else then


def _is_series(folder: Path) -> bool:
    """By the first file that is looked at: judging tells the rest."""
    if folder.name.startswith(".") or folder.name == "labels":
        return False
    try:
        return any(file_format(path) in DICOM_FORMATS for path in islice(walk(folder), 3))
    except (DataError, OSError):
        return False
