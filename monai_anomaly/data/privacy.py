"""Paths that name a patient: found by what the file's own header says, shown as pseudonyms."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

__all__ = ["identifying_parts", "mask_path"]

SUFFIXES = (
    ".nii.gz",
    ".nii",
    ".gz",
    ".dcm",
    ".dicom",
    ".dic",
    ".ima",
    ".img",
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".tif",
    ".tiff",
    ".zip",
    ".json",
    ".csv",
)
"""Kept when a file's name is masked. A closed list: what follows the dot in ``Doe.John`` is no suffix."""

_WORDS = """
abdomen adc and angio anon anonym anonymised anonymized anonymous arm axial bone brain breast case center centre chest clinic contrast coronal cta data dcm
default demo department dicom dwi elbow export eye female flair foot for general hand head health heart hip hospital image images img institute kidney
klinik klinikum knee left leg liver lung male mammo mask medical medicine mra mri neck nifti none normal null oct opt orbit other patient pelvis perfusion
pet phantom png prostate radiology retina right sagittal sample scan series shoulder skull slice spect spine stack study subject test the thorax train
university unknown unnamed volume wrist xray
"""
COMMON = frozenset(_WORDS.split())
"""Words that identify nobody, though headers of tests, phantoms and anonymised files hold them as names."""

_BETWEEN = re.compile(r"[\^=,;\\/\s\x00-\x1f\"()\[\]\ufffd]+")
_IDEOGRAPHS = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff]")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "æ": "ae", "ø": "oe", "å": "aa"})


@dataclass(frozen=True, eq=False)
class _Marks:
    """What to look for: texts of letters and digits, and numbers that must stand alone."""

    texts: tuple[str, ...]
    numbers: re.Pattern[str] | None


def identifying_parts(path_parts: Iterable[str], identifiers: Iterable[str]) -> set[str]:
    """Those components of a path that hold something of a patient's name, identifiers or dates.

    Upper and lower case, accents, and what separates letters and digits do not matter: ``Müller^Jörg`` is found in ``mueller_j``, and ``19700131`` in
    ``31.01.1970``. Words of fewer than three letters (two ideographs) and common ones such as ``HEAD`` are not looked for.
    A number of fewer than six digits counts only where it is not part of a longer one.

    Args:
        path_parts: names of folders and of the file, below the data folder.
        identifiers: values of the header as they stand there: ``PatientName``, ``PatientID``, ``AccessionNumber``, dates.

    Returns:
        The components; of a file also its name without suffix, if that alone names the patient.

    Example:
        >>> sorted(identifying_parts(["CT", "Doe, John", "head_doe.dcm", "1.dcm"], ["Doe^John", "4711", "19700131"]))
        ['Doe, John', 'head_doe', 'head_doe.dcm']
    """
    marks = _marks(tuple(identifiers))
    found = set()
    for part in path_parts:
        if _names(part, marks):
            found.add(part)
            found.update(stem for stem in (PurePosixPath(part).stem, _split(part)[0]) if _names(stem, marks))
    return found


def mask_path(place: str, parts: Mapping[str, str]) -> str:
    """A path with identifying components replaced; a file keeps a plain suffix such as ``.dcm``.

    Args:
        place: folders and file, separated by ``/``.
        parts: what is shown instead of each component that :func:`identifying_parts` found.

    Example:
        >>> from monai_anomaly.data.names import pseudonym
        >>> mask_path("CT/Doe, John/1.dcm", {"Doe, John": pseudonym("x", "Doe, John")})
        'CT/x-893a2ee90b3e/1.dcm'
    """
    return "/".join(_masked(part, parts) for part in place.split("/"))


def _masked(part: str, parts: Mapping[str, str]) -> str:
    stem, suffix = _split(part)
    shown = parts.get(stem) or parts.get(part)
    return f"{shown}{suffix}" if shown else part


def _split(part: str) -> tuple[str, str]:
    """A name and its plain suffix, if it has one."""
    suffix = next((suffix for suffix in SUFFIXES if part.lower().endswith(suffix) and len(part) > len(suffix)), "")
    return part[: len(part) - len(suffix)], suffix.lower()


@lru_cache(maxsize=4096)  # the files of a folder follow each other, and share its name and their patient
def _names(part: str, marks: _Marks) -> bool:
    plain = _fold(part)
    joined = _join(plain) if part.isascii() else f"{_join(plain)} {_join(_fold(_without_umlauts(part)))}"
    return any(text in joined for text in marks.texts) or (marks.numbers is not None and marks.numbers.search(plain) is not None)


@lru_cache(maxsize=1024)
def _marks(identifiers: tuple[str, ...]) -> _Marks:
    texts: set[str] = set()
    numbers: set[str] = set()
    for value in identifiers:
        for word in _BETWEEN.split(value.casefold()):
            for spelling in _spellings(word):
                if spelling in COMMON or len(spelling) < (2 if _IDEOGRAPHS.search(spelling) else 3):
                    continue
                if not spelling.isdecimal():
                    texts.add(spelling)
                elif number := spelling.lstrip("0"):
                    (numbers if len(number) < 6 else texts).add(number if len(number) > 2 else spelling)
    alone = re.compile(rf"(?<!\d)0*(?:{'|'.join(sorted(numbers))})(?!\d)") if numbers else None
    return _Marks(tuple(sorted(texts)), alone)


def _spellings(word: str) -> set[str]:
    """How one word of a header may stand in a path, letters and digits only."""
    pieces = [word] if any(character.isdecimal() for character in word) else [word, *re.split("[-'’.]", word)]  # of a double name each half
    found = {_join(_fold(spelling)) for piece in pieces for spelling in (piece, _without_umlauts(piece))}
    date = re.fullmatch(r"((?:19|20)\d\d)[-.]?(0[1-9]|1[0-2])[-.]?(0[1-9]|[12]\d|3[01])", word)
    if date:
        year, month, day = date.groups()
        found |= {year + month + day, day + month + year, month + day + year}
    return found


def _fold(text: str) -> str:
    """Lower case without accents."""
    if text.isascii():
        return text.lower()
    return "".join(character for character in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(character))


def _without_umlauts(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold()).translate(_UMLAUTS)


def _join(text: str) -> str:
    """Letters and digits alone."""
    return "".join(filter(str.isalnum, text))
