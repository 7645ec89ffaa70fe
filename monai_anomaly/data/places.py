"""Paths as they are shown: below the data folder, without parts that name a patient."""

from __future__ import annotations

from pathlib import Path

from .cases import pseudonym
from .privacy import identifying_parts, mask_path

__all__ = ["Places", "relative", "without_suffix"]


MANY = 5_000
"""So many names in one folder are compared with each unreadable file in it."""


class Places:
    """How the paths of one data folder are shown.

    Args:
        root: the data folder.
        keep_ids: show paths as they are.

    Attributes:
        archives: where zip archives were unpacked, and what they are.

    Example:
        >>> places = Places(Path("data"), keep_ids=False)
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
