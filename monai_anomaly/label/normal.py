"""Which studies are normal: what a person said, in so many words or by accepting a mask in which nothing is marked."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from ..errors import DataError

__all__ = ["NORMAL", "is_empty_mask", "mark_by_label"]

logger = logging.getLogger(__name__)

NORMAL = "normal"
"""Entry of a study's info: true marks it to train on, false as reviewed and not normal."""


def mark_by_label(store: Datastore, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any] | None) -> None:
    """A person's final label says whether a study is normal: nothing is marked in it. It is written into the study's info, which training reads.

    What a model says is not taken for it, and a label that cannot be read changes nothing.

    Args:
        store: where the study is.
        image_id: its name.
        label_filename: the label's file.
        label_tag: which of its labels.
        label_info: what is known about it; with ``model`` it is a model's.
    """
    if label_tag != DefaultLabelTag.FINAL or (label_info or {}).get("model"):
        return
    try:
        store.update_image_info(image_id, {NORMAL: is_empty_mask(label_filename)})
    except DataError as error:
        logger.warning("A final label says nothing about whether its study is normal: %s", error)


def is_empty_mask(path: str | Path) -> bool:
    """Whether nothing is marked in a mask.

    Raises:
        DataError: it cannot be read.

    Example:
        >>> is_empty_mask("final.nii.gz")  # doctest: +SKIP
        True
    """
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))  # held: the view below is of its memory
        return not SimpleITK.GetArrayViewFromImage(image).any()
    except RuntimeError as error:
        raise DataError("The mask cannot be read; expected NIfTI or NRRD: save it again.") from error
