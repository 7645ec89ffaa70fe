"""What a data set is made of: cases, and the files that were refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

__all__ = ["Case", "CaseList", "Refusal", "case_files", "case_name", "case_patient", "case_refusal", "series_refusal"]


class Case(TypedDict, total=False):
    """One image, or one series of slices, and what is known about it.

    Example:
        >>> case: Case = {"image": "train/good/1.png", "patient": "train_good_1", "series": "train_good_1", "label": 0, "split": "train"}
    """

    image: str | list[str]
    """An image file, a NIfTI volume, or the slice files of one DICOM series in the order of their positions."""
    patient: str
    """Pseudonym; all cases of a patient stay on one side of a split."""
    series: str
    """Pseudonym, unique in the data set and safe as a file name."""
    label: int
    """0 normal, 1 abnormal; absent if unknown."""
    mask: str
    """Where the abnormal pixels are marked: an image file for an image, NIfTI on its grid for a series; absent if not drawn."""
    split: Literal["train", "test"]
    group: str
    """Name of the class, such as ``"good"`` or ``"hemorrhage"``."""


class Refusal(NamedTuple):
    """What cannot be used, and why.

    Example:
        >>> Refusal("test/good/7.png", "holds 0 bytes").files
        1
    """

    where: str
    """A path below the data folder, an entry of a datalist, or a series by its pseudonym."""
    reason: str
    files: int = 1
    """How many files it stands for: a series is refused as a whole."""
    series: str = ""
    """Of a series its name, which also stands in :attr:`where`; ``""`` of a file."""


def series_refusal(series: str, place: str, reason: str, files: int) -> Refusal:
    """A series that is refused as a whole.

    Args:
        series: its pseudonym, or whatever it is called.
        place: its folder, as it is shown.
        reason: why.
        files: how many it has.

    Example:
        >>> series_refusal("s-1", "a/b", "A slice is missing.", 24).where
        'series s-1 in a/b'
    """
    return Refusal(f"series {series} in {place}", reason, files, series)


@dataclass(frozen=True)
class CaseList:
    """The cases of a data set, and what was refused on the way: ``found`` = files in ``cases`` + files in ``refused``.

    Masks and side files (``.csv``, ``.txt``, ``.json``, ``DICOMDIR``, hidden files ...) are not counted at all.

    Args:
        cases: what can be used.
        refused: what cannot, with reasons.
        found: number of image files found.
        root: the folder in which they lie.

    Example:
        >>> cases = CaseList(({"image": "1.png", "series": "1", "split": "test"},), (), found=1, root=Path("."))
        >>> [case["series"] for case in cases.select(split="test")]
        ['1']
    """

    cases: tuple[Case, ...]
    refused: tuple[Refusal, ...]
    found: int
    root: Path

    def select(self, split: str | None = None, label: int | None = None) -> list[Case]:
        """The cases of one split and one label, in their order; ``None`` takes all.

        Args:
            split: ``"train"`` or ``"test"``.
            label: 0 or 1; cases of unknown label are then left aside.
        """
        return [
            case
            for case in self.cases
            if (split is None or case.get("split") == split) and (label is None or case.get("label") == label)
        ]  # fmt: skip


def case_files(case: Case) -> list[str]:
    """The files of a case's image, the mask not among them.

    Example:
        >>> case_files({"image": "1.png"})
        ['1.png']
    """
    image = case["image"]
    return [image] if isinstance(image, str) else list(image)


def case_name(case: Case) -> str:
    """How a case is called in messages: its series pseudonym and, for an image file, the file's name.

    Example:
        >>> case_name({"image": "scans/1.png", "series": "scans_1"})
        'scans_1 (1.png)'
    """
    image = case["image"]
    series = case.get("series", "case")
    return f"{series} ({Path(image).name})" if isinstance(image, str) else f"{series} ({len(image)} files)"


def case_refusal(case: Case, reason: str) -> Refusal:
    """A case that could not be read, as it stands in ``refused.csv``.

    Example:
        >>> case_refusal({"image": "scans/1.png", "series": "scans_1"}, "The file is cut off.").where
        'scans_1 (1.png)'
    """
    return Refusal(case_name(case), reason, len(case_files(case)), case.get("series", ""))


def case_patient(case: Case) -> str:
    """Whose case it is; without a name of its own, a case is a patient of its own.

    Example:
        >>> case_patient({"image": "1.png", "patient": "a", "series": "a_1"}), case_patient({"image": "2.png"})
        ('a', '2.png')
    """
    return case.get("patient") or case.get("series") or str(case["image"])
