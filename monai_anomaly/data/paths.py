"""Paths, and patients and series in them, as they are shown: below the data folder, without what names a patient."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .dicom import Header
from .names import pseudonym
from .privacy import identifying_parts, mask_path

__all__ = ["HIDDEN", "ShownPaths", "relative", "walk", "without_suffix"]

HIDDEN = (".", "__MACOSX")
"""How the names of folders begin that are passed over; of files only the dot counts."""


MANY = 5_000
"""So many names in one folder are compared with each unreadable file in it."""


class ShownPaths:
    """How the paths of one data folder are shown, and who is in them.

    Args:
        root: the data folder.
        keep_ids: show paths, names and identifiers as they are.

    Attributes:
        archives: where zip archives were unpacked, and what they are.

    Example:
        >>> places = ShownPaths(Path("data"), keep_ids=False)
        >>> places.learn(Path("data/Doe_John/1.dcm"), ("Doe^John",))
        >>> places.show(Path("data/Doe_John/broken"))
        'x-2bdaf8193ac5/broken'
    """

    def __init__(self, root: Path, keep_ids: bool):
        self.root, self.keep_ids = root, keep_ids
        self.archives: dict[Path, Path] = {}
        self._masked: dict[str, str] = {}
        self._known: dict[Path, set[str]] = {}

    def learn(self, path: Path, identifiers: tuple[str, ...]) -> None:
        """Take in what the header of a file says must not be shown, in its own path or near it."""
        if not identifiers or self.keep_ids:
            return
        for folder in (path.parent, path.parent.parent):  # an unreadable file beside or above says nothing itself
            self._known.setdefault(folder, set()).update(identifiers)
        self._mask(path, identifiers)

    def show(self, path: Path) -> str:
        """The path below the root, masked."""
        return self._place(path) if self.keep_ids else mask_path(self._place(path), self._masked)

    def show_unread(self, path: Path) -> str:
        """The same for a file whose own header could not tell: what its neighbours say must not be shown either."""
        if not self.keep_ids:
            near = self._known.get(path.parent, set()) | self._known.get(path, set())
            if len(near) > MANY:  # too many names to compare with: none of the file's own
                self._masked.setdefault(path.name, pseudonym("x", path.name))
            self._mask(path, tuple(near)[:MANY])
        return self.show(path)

    def patient(self, header: Header) -> str:
        """How the patient of a file is called."""
        return header.patient if self.keep_ids else pseudonym("p", header.patient)

    def series(self, header: Header) -> str:
        """How the series of a file is called; one without a UID after its folder."""
        folder = Path(header.path).absolute().parent.name
        if self.keep_ids:
            return header.series or folder
        return pseudonym("s", header.series or f"{folder} {header.frame_and_number}")

    def _mask(self, path: Path, identifiers: tuple[str, ...]) -> None:
        for part in identifying_parts(self._place(path).split("/"), identifiers):
            self._masked.setdefault(part, pseudonym("x", part))

    def _place(self, path: Path) -> str:
        for folder, archive in self.archives.items():
            if path.is_relative_to(folder):
                return relative(archive / path.relative_to(folder), self.root)
        return relative(path, self.root)


def relative(path: Path, root: Path) -> str:
    """A path as it is shown: below ``root`` where it lies there.

    Example:
        >>> relative(Path("data/test/1.png"), Path("data"))
        'test/1.png'
    """
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def without_suffix(path: Path) -> Path:
    """The path without its suffix, ``.nii.gz`` being one.

    Example:
        >>> without_suffix(Path("a/b.nii.gz")).as_posix()
        'a/b'
    """
    return path.with_name(path.name[:-7]) if path.name.lower().endswith(".nii.gz") and len(path.name) > 7 else path.with_suffix("")


def walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted; links are followed once, hidden files and folders are left out. A folder that cannot be listed stands for itself.

    Example:
        >>> Path(__file__) in list(walk(Path(__file__).parent))
        True
    """
    locked: list[Path] = []
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=lambda error: locked.append(Path(error.filename))):
        real = os.path.realpath(here)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))
    yield from sorted(locked)
