"""Zip archives from strangers, unpacked once into the user's cache: whole or not at all, within bounds, nothing outside."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import re
import shutil
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from ..errors import DataError, reason
from .cases import Refusal
from .folders import publish, scratch_folder, user_cache

__all__ = ["unpack"]

logger = logging.getLogger(__name__)

MAX_UNPACKED_BYTES = 64 * 2**30
"""Most bytes that an archive may unpack to; never more than half of the free disk space."""
MAX_MEMBERS = 1_000_000
"""Most files in an archive, and most folders that are made for them."""
MAX_DIRECTORY_BYTES = 256 * 2**20
"""Longest table of contents: ``zipfile`` makes a list of it before anybody can look."""
MAX_RATIO = 200
"""A file may not unpack to more than this many times its packed size; deflation reaches 1,032 on zeros."""
RATIO_FREE_BYTES = 10 * 2**20
"""Up to this size any ratio will do: an empty mask is nothing but zeros."""
MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_DEPTH = 200, 700, 64

CHUNK = 2**20
LOCAL_HEADER_BYTES = 30
BAR_FROM_BYTES = 32 * 2**20
VERSION = 1  # raise it whenever archives would be unpacked differently: those in the cache are then unpacked anew
FILES, MARKER = "files", "archive.json"
LISTED = 100  # refusals of one kind that are listed one by one

METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # the others are decompressed without bounds by the standard library
DAMAGED = "Its content is damaged (cut off, or with a wrong size or checksum); expected a whole file: copy or export the archive again."
TOO_DENSE = (
    f"It unpacks to more than {MAX_RATIO} times its packed size, as made to fill disks; expected an image: if it is meant to be so, unpack the archive "
    "yourself and name the folder."
)
OVERLAPS = "Its bytes are those of another file too, as made to fill disks; expected bytes of its own: copy or export the archive again."
NO_PLACE = "Its name is also that of a folder, or cannot be a file's name here; expected a name of its own: pack the archive again."
TOO_LARGE = "expected less: unpack it yourself where there is room, or in parts, and name the folder."


def unpack(path: str | os.PathLike[str]) -> tuple[Path, list[Refusal]]:
    """Unpack a zip archive into a folder of the user's cache, or find it there.

    The folder belongs to this state of the file (its path, size and time of change) and can be read by its owner only. It is written beside its place and
    then renamed, so one that is there is whole. What is in the archive is not trusted: links, devices, encrypted files, names that lead elsewhere
    (absolute, drive letters, backslashes, ``..``, control characters), damaged content and what is made to fill the disk are refused, and the rest goes
    on. Names that the file system cannot tell apart get a number. Archives in the archive stay files.

    Args:
        path: the archive.

    Returns:
        The folder with the files; and what was refused. Refused files are called by their number in the archive, because their names may tell who it is.

    Raises:
        DataError: it is no zip archive, is cut off, has overlapping or too many files, unpacks to more than ``MAX_UNPACKED_BYTES`` or half of the free disk
            space, or the cache cannot be written.

    Example:
        >>> folder, refused = unpack("export.zip")  # doctest: +SKIP
    """
    path = Path(path).expanduser().absolute()
    home = user_cache() / "unpacked"
    try:
        folder = home / _key(path)
        refused = _known(folder)
        if refused is None:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with scratch_folder(home, "archive") as scratch:
                whole = scratch / "whole"
                whole.mkdir(mode=0o700)
                refused = _unpack(path, whole)
                publish(whole, folder, scratch, lambda there: _known(there) is not None)
            logger.info("Unpacked a zip archive to %s, where it is found again; remove that folder when it is no longer needed.", folder)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise DataError(
            f"The zip archive could not be unpacked ({reason(error)}); expected a readable file, and room in {home}: free some, or name another cache folder "
            "in the environment variable XDG_CACHE_HOME."
        ) from error
    return folder / FILES, refused


def _key(path: Path) -> str:
    about = path.stat()
    return hashlib.sha256(f"{VERSION}\n{path}\n{about.st_size}\n{about.st_mtime_ns}".encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _known(folder: Path) -> list[Refusal] | None:
    """What was refused when the archive was unpacked; ``None`` if it is not there, or files are missing since."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        refused = [Refusal(str(where), str(why), int(files)) for where, why, files, *_ in marker["refused"]]
        return refused if marker["files"] == _count(folder / FILES) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


class _Guarded(io.BufferedReader):
    """While the table of contents is read: never more of it than can be turned into a list."""

    guarded = True

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.guarded:
            return super().read(size)
        there = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        data = super().read(min(there if size is None or size < 0 else size, there, MAX_DIRECTORY_BYTES + 1))
        if len(data) > MAX_DIRECTORY_BYTES or data.count(b"PK\x01\x02") > MAX_MEMBERS:
            raise DataError(
                f"The zip archive lists more than {MAX_MEMBERS:,} files, or has more than {MAX_DIRECTORY_BYTES // 2**20} MiB of names; {TOO_LARGE}"
            )
        return data


def _unpack(path: Path, whole: Path) -> list[Refusal]:
    """Write all files and the marker; give what was refused."""
    target = _Target(whole, min(MAX_UNPACKED_BYTES, shutil.disk_usage(whole).free // 2))
    refused: dict[str, list[int]] = {}
    with _Guarded(io.FileIO(path)) as file:
        try:
            archive = zipfile.ZipFile(file)
        except DataError:
            raise
        except Exception as error:  # zipfile raises whatever a broken table of contents makes it raise
            raise DataError(
                f"The zip archive cannot be read ({reason(error)}); expected a whole archive: copy or export it again."
            ) from error
        file.guarded = False
        members = archive.infolist()
        overlapping = _overlapping(members, os.fstat(file.fileno()).st_size)
        size = sum(member.file_size for member in members)
        with tqdm(total=size, desc="unpacking", unit="B", unit_scale=True, disable=size < BAR_FROM_BYTES) as bar:
            for number, member in enumerate(members, start=1):
                why = _distrusted(member) or (OVERLAPS if number in overlapping else target.write(archive, member, bar))
                if why:
                    refused.setdefault(why, []).append(number)
    listed = [
        Refusal(f"entry {number}", why) for why, numbers in refused.items() for number in numbers[:LISTED]
    ] + [
        Refusal(f"entries {numbers[LISTED]} to {numbers[-1]}", why, len(numbers) - LISTED)
        for why, numbers in refused.items()
        if len(numbers) > LISTED
    ]  # fmt: skip
    marker = {"files": _count(whole / FILES), "refused": listed}
    (whole / MARKER).write_text(json.dumps(marker), encoding="utf-8")
    return listed


def _overlapping(members: list[zipfile.ZipInfo], size: int) -> set[int]:
    """Numbers of those that reach into the next one: a few bytes could be unpacked a million times."""
    order = sorted(range(len(members)), key=lambda index: (members[index].header_offset, -index))
    ends = [*(members[index].header_offset for index in order[1:]), size]
    return {
        index + 1
        for index, end in zip(order, ends, strict=True)
        if members[index].header_offset + LOCAL_HEADER_BYTES + members[index].compress_size > end
    }


def _distrusted(member: zipfile.ZipInfo) -> str:
    """Why a file in the archive is not unpacked, as far as the table of contents tells."""
    name = member.orig_filename
    parts = name.split("/")
    wrong = (
        "holds a control character" if any(ord(character) < 32 or ord(character) == 127 for character in name)
        else "holds a backslash" if "\\" in name
        else "begins with a drive letter" if re.match("[A-Za-z]:", name) or (os.name == "nt" and ":" in name)
        else "is an absolute path" if name.startswith("/")
        else "leads out of the archive" if any(part != "." and part and not part.strip(" .") for part in parts)
        else "is too long" if len(parts) > MAX_DEPTH or _long(name, MAX_PATH_BYTES) or any(_long(part, MAX_NAME_BYTES) for part in parts)
        else "is no file's name" if parts[-1] in ("", ".") and not _is_folder(member)
        else ""
    )  # fmt: skip
    if wrong:
        return f"Its name in the archive {wrong}; expected a plain path below the archive's folder: pack the archive again."
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFDIR if _is_folder(member) else stat.S_IFREG):
        return "It is a link or a device, not a file; expected files: pack the files themselves."
    if member.flag_bits & 0x1:
        return "It is encrypted; expected plain files: unpack the archive with its password, and name the folder."
    if member.compress_type not in METHODS:
        return f"It is packed by method {member.compress_type}; expected deflated or stored files: unpack the archive yourself, and name the folder."
    return ""


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.orig_filename.endswith("/") and not member.file_size


def _long(text: str, limit: int) -> bool:
    return len(text.encode("utf-8", "surrogatepass")) > limit


class _Target:
    """The folder that is written, and how much may still be."""

    def __init__(self, whole: Path, limit: int):
        self.scratch, self.folder = whole.parent, whole / FILES
        self.limit = self.left = limit
        self.folder.mkdir()
        self.made = {""}
        self.taken: Counter[str] = Counter()

    def write(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, bar: tqdm) -> str:
        """Unpack one file in pieces, counting what really comes; or say why not. Folders are made as files need them."""
        if _is_folder(member):
            return ""
        os.utime(self.scratch)  # still at it
        try:
            path, file = self._open([part for part in member.orig_filename.split("/") if part not in ("", ".")])
        except (FileExistsError, NotADirectoryError, UnicodeError):
            return NO_PLACE
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
                return NO_PLACE
            raise
        why, written = "", 0
        with file:
            for chunk in _pieces(archive, member):
                written += len(chunk)
                self.left -= len(chunk)
                bar.update(len(chunk))
                if self.left < 0:
                    raise DataError(
                        f"The zip archive unpacks to more than {self.limit / 2**30:.1f} GiB, the most allowed here; {TOO_LARGE}"
                    )
                if not chunk or written > member.file_size:
                    why = DAMAGED
                elif written > RATIO_FREE_BYTES and written > MAX_RATIO * max(member.compress_size, 1):
                    why = TOO_DENSE
                if why:
                    break
                file.write(chunk)
        if not why and written != member.file_size:
            why = DAMAGED
        if why:
            path.unlink()
            self.left += written
        return why

    def _open(self, parts: list[str]) -> tuple[Path, BinaryIO]:
        """A new file, never one that is there: on some disks ``a`` and ``A`` are the same."""
        self._make(parts[:-1])
        wanted = self.folder.joinpath(*parts)
        key = "/".join(parts).casefold()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        for number in count(self.taken[key] + 1):
            path = wanted if number == 1 else wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
            try:
                descriptor = os.open(path, flags, 0o666)  # the umask decides who may read; nobody may execute
            except FileExistsError:
                if path.is_dir():
                    raise
                continue
            if number > 1:
                self.taken[key] = number
            return path, os.fdopen(descriptor, "wb")
        raise AssertionError

    def _make(self, parts: list[str]) -> None:
        if "/".join(parts) not in self.made:
            self.folder.joinpath(*parts).mkdir(parents=True, exist_ok=True)
            self.made.update("/".join(parts[:n]) for n in range(1, len(parts) + 1))
            if len(self.made) > MAX_MEMBERS:
                raise DataError(f"The zip archive has more than {MAX_MEMBERS:,} folders; {TOO_LARGE}")


def _pieces(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of a file; an empty piece where it is damaged."""
    try:
        with archive.open(member) as file:
            while piece := file.read(CHUNK):
                yield piece
    except Exception:  # zipfile and zlib raise whatever damaged data make them raise; their messages hold names
        yield b""
