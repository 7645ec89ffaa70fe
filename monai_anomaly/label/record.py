"""MONAI Label's record of images and labels, safe to share: the server and its background jobs write the same file."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel

from ..errors import DataError, reason
from ..files import file_stamp, write_whole
from ..inference import Verdict
from .refusals import RequestError

__all__ = ["SharedRecord", "checked_ending", "known_study"]


def checked_ending(name: str, endings: Iterable[str]) -> str:
    """The ending of a file that a client sent, one of those that are taken.

    Args:
        name: the file's; a path before it does not matter.
        endings: those that are taken.

    Raises:
        RequestError: it has none of them.

    Example:
        >>> checked_ending("/tmp/x.nii.gz", [".nii", ".nii.gz", ".gz"])
        '.nii.gz'
    """
    fitting = [end for end in endings if name.lower().endswith(end)]
    if not fitting:
        raise RequestError(f"The file is none that is known here; expected one of {', '.join(endings)}.")
    return max(fitting, key=len)


class SharedRecord(LocalDatastore):
    """A data store that loses no entry when two processes write, and whose ``datastore_v2.json`` is whole whenever it is read.

    As released each process writes what it holds in memory: a scoring job of some minutes takes back every study that was marked normal meanwhile. Here
    whatever is asked of the record is answered as it is on disk at that moment, by whichever process, and is changed within :meth:`changing` alone.

    Example:
        >>> with store.changing() as record:  # doctest: +SKIP
        ...     record.objects["1"].image.info["normal"] = True
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self._mine = threading.local()
        self._known: tuple[tuple[int, ...], LocalDatastoreModel]
        super().__init__(*args, **{**kwargs, "auto_reload": False})  # no thread that watches the folder: what is asked for is looked up

    @property
    def _datastore(self) -> LocalDatastoreModel:
        """The record as all of MONAI Label's methods see it."""
        draft: LocalDatastoreModel | None = getattr(self._mine, "draft", None)
        if draft is None:
            self._look()
            return self._known[1]
        return draft

    @_datastore.setter
    def _datastore(self, first: LocalDatastoreModel) -> None:
        self._known = (), first

    def _look(self) -> None:
        """Take over what other processes wrote; a file is replaced as a whole, so no lock is needed to read it."""
        path = Path(self._datastore_config_path)
        try:
            stamp = file_stamp(path)
            if self._known[0] == stamp:
                return
            record = LocalDatastoreModel.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read ({reason(error)}); expected MONAI Label's record of the studies: restore it, or remove it and mark studies anew."
            ) from error
        record.base_path = self._datastore_path
        self._known = stamp, record

    @contextmanager
    def changing(self) -> Iterator[LocalDatastoreModel]:
        """Alone with the record: what others wrote is read first, what is changed within is written, unless an error ends it."""
        if getattr(self._mine, "draft", None) is not None:
            yield self._mine.draft
            return
        with FileLock(self._lock_file):
            SharedRecord._look(self)
            draft = self._known[1].model_copy(deep=True)
            self._mine.draft = draft
            try:
                yield draft
            finally:
                self._mine.draft = None
            if draft != self._known[1]:
                content = json.dumps(draft.model_dump(exclude={"base_path"}), indent=2, default=str)
                path = write_whole(Path(self._datastore_config_path), content.encode())
                self._known = file_stamp(path), draft

    def source(self, image_id: str) -> str:
        """What a detector reads of an image: its file or folder.

        Args:
            image_id: the image.
        """
        return str(self.get_image_uri(image_id))

    @contextmanager
    def in_passing(self, image_id: str) -> Iterator[str]:
        """The same for a job that goes through all images.

        Args:
            image_id: the image.
        """
        yield self.source(image_id)

    def version(self, image_id: str) -> str:
        """Changes when an image does.

        Args:
            image_id: the image.

        Raises:
            OSError: it is gone.
        """
        status = Path(self.source(image_id)).stat()
        return f"{status.st_mtime_ns} {status.st_size}"

    def keep_heatmap(self, image: str, verdict: Verdict) -> None:
        """Told the map that a model has just shown; nothing is done with it here.

        Args:
            image: path that the model was given.
            verdict: what the model says.
        """

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add what is known about an image.

        Args:
            image_id: the image.
            info: replaces entries of the same names.

        Raises:
            RequestError: there is none.
        """
        with self.changing() as record:
            known_study(record, image_id).image.info.update(info)

    def remove_image(self, image_id: str) -> None:
        """Remove an image and its labels.

        Args:
            image_id: the image.

        Raises:
            RequestError: there is none.
        """
        known_study(self._datastore, image_id)
        super().remove_image(image_id)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add what is known about a label.

        Args:
            label_id: the image's.
            label_tag: which of its labels.
            info: replaces entries of the same names.

        Raises:
            RequestError: there is none.
        """
        with self.changing() as record:
            label = known_study(record, label_id).labels.get(label_tag)
            if label is None:
                raise RequestError(
                    f"{label_id[:100]!r} has no label {str(label_tag)[:50]!r}; expected one that GET /datastore/?output=all lists.", 404
                )
            label.info.update(info)

    def keep_label(self, image_id: str, tag: str, path: Path, suffix: str, info: dict[str, Any]) -> None:
        """Put a copy of a label's file in its place, whole, and write it down; one of another kind of file that was there goes.

        Args:
            image_id: the image.
            tag: which of its labels.
            path: the file.
            suffix: its ending.
            info: what is known about it.

        Raises:
            RequestError: there is no such image.
        """
        with self.changing() as record:
            labels, folder = known_study(record, image_id).labels, Path(record.label_path(tag))
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source:
                write_whole(folder / f"{image_id}{suffix}", lambda target: shutil.copyfileobj(source, target))
            if tag in labels and labels[tag].ext != suffix:
                (folder / f"{image_id}{labels[tag].ext}").unlink(missing_ok=True)
            labels[tag] = DataModel(ext=suffix, info={**info, "ts": int(time.time()), "name": f"{image_id}{suffix}"})

    def _reconcile_datastore(self) -> None:
        """Compare the record with the files that are there."""
        with self.changing():
            super()._reconcile_datastore()

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """Nothing: whoever asks gets what is on disk."""

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Nothing yet: what is changed within :meth:`changing` is written when it ends."""
        if getattr(self._mine, "draft", None) is None:
            raise RuntimeError("The record was changed outside changing(), where another process could take it back; expected it within.")


def known_study(record: LocalDatastoreModel, image_id: str) -> ImageLabelModel:
    """What is known about an image."""
    if image_id not in record.objects:
        raise RequestError(f"There is no study called {image_id[:100]!r}; expected one that GET /datastore/?output=all lists.", 404)
    return record.objects[image_id]
