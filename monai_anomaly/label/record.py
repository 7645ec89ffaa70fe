"""MONAI Label's record of images and labels, safe to share: the server and its background jobs write the same file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from ..files import write_whole

__all__ = ["SharedRecord"]


class SharedRecord(LocalDatastore):
    """A data store that loses no entry when two processes write, and whose ``datastore_v2.json`` is whole whenever it is read.

    As released each process writes what it holds in memory: a scoring job of some minutes takes back every study that was marked normal meanwhile.

    Example:
        >>> with store.changing():  # doctest: +SKIP
        ...     store._datastore.objects["1"].image.info["normal"] = True
    """

    _config_ts: float

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "auto_reload": False})  # no thread that watches the folder: what is asked for is looked up

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Alone with the record: what others wrote is read first, what is changed within is written."""
        with FileLock(self._lock_file):
            path = Path(self._datastore_config_path)
            if path.exists():
                self._datastore = LocalDatastoreModel.model_validate_json(path.read_bytes())
                self._datastore.base_path = self._datastore_path
            try:
                yield
            except BaseException:
                self._config_ts = 0  # what was changed in memory alone is read anew
                raise
            self._update_datastore_file(lock=False)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known about an image, by whatever process.

        Args:
            image_id: the image.
        """
        self._init_from_datastore_file()
        return dict(super().get_image_info(image_id))

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What is known about a label, by whatever process.

        Args:
            label_id: the image's.
            label_tag: which of its labels.
        """
        self._init_from_datastore_file()
        return dict(super().get_label_info(label_id, label_tag))

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """The labels of an image by their tags, whatever process put them there.

        Args:
            image_id: the image.
        """
        self._init_from_datastore_file()
        return dict(super().get_labels_by_image_id(image_id))

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add what is known about an image.

        Args:
            image_id: the image.
            info: replaces entries of the same names.

        Raises:
            ImageNotFoundException: there is none.
        """
        with self.changing():
            if image_id not in self._datastore.objects:
                raise ImageNotFoundException(f"Image {image_id} not found")
            self._datastore.objects[image_id].image.info.update(info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add what is known about a label.

        Args:
            label_id: the image's.
            label_tag: which of its labels.
            info: replaces entries of the same names.

        Raises:
            LabelNotFoundException: there is none.
        """
        with self.changing():
            label = self._datastore.label(label_id, label_tag)
            if label is None:
                raise LabelNotFoundException(f"Label: {label_id} Tag: {label_tag} not found")
            label.info.update(info)

    def _update_datastore_file(self, lock: bool = True) -> None:
        if lock:
            with FileLock(self._lock_file):
                return self._update_datastore_file(lock=False)
        self._ignore_event_config = True
        path = Path(self._datastore_config_path)
        write_whole(path, json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str).encode())
        self._config_ts = path.stat().st_mtime
        return None
