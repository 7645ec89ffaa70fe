"""The one door through which files of tensors come in: looked through before torch opens them, read without executing anything."""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from .errors import AnomalyError, CheckpointError
from .memory import available_bytes
from .pickle_claims import Claims, ForeignPickleError, read_claims

__all__ = ["read_state"]

MAX_ENTRIES = 50_000
"""In a zip archive: torch writes one for each tensor and half a dozen more."""
MAX_DIRECTORY_BYTES, MAX_PICKLE_BYTES = 16 * 2**20, 16 * 2**20

ENTRY = re.compile(r"data\.pkl|data/\d+|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id")
# A pickle of torch's magic number, protocol 2: how files began before they were zip archives.
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
END, LOCATOR, END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
DAMAGED = "is cut off or damaged"


def read_state(path: str | os.PathLike[str], error: type[AnomalyError] = CheckpointError, foreign: bool = False) -> dict[str, Any]:
    """Read a dictionary of tensors and plain values that ``torch.save`` wrote.

    The file is not trusted. Before torch sees it, it must be a zip archive as ``torch.save`` writes it (one pickle, nothing compressed, nothing else),
    whose pickle asks for plain types and for tensors within the bytes that are there, and what it unfolds to must fit into the memory. Then it is read with
    ``weights_only=True``. There is no second way in when that fails.

    Args:
        path: the file.
        error: what a refusal is raised as.
        foreign: it comes from another program: ``.safetensors`` files are read too, and torch's format of before 2020, that of torchvision's older weights.

    Raises:
        AnomalyError: as ``error``; the file is absent, cut off, damaged, too large, or of another kind.

    Example:
        >>> import io, tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"epoch": 3, "weight": torch.ones(2)}, Path(folder) / "a.pt")
        ...     read_state(Path(folder) / "a.pt")
        {'epoch': 3, 'weight': tensor([1., 1.])}
    """
    path = Path(path)
    kinds = (
        "a state dict of tensors (.pth as torch.save writes it, or .safetensors)"
        if foreign
        else "a file as training writes it, by torch.save"
    )
    try:
        if not path.is_file():
            raise ForeignPickleError("is not there, or is no file")
        with path.open("rb") as file:
            state = _reader(path, file, foreign)(file)
    except Exception as reason:
        # torch, zipfile, pickle and safetensors each have their own family of errors; recursion and memory are among them
        found = str(reason) if isinstance(reason, ForeignPickleError) else f"{DAMAGED} ({type(reason).__name__})"
        advice = "export it again as a plain state dict" if foreign else "fetch the file anew, or train again"
        raise error(
            f"{path.name} cannot be read: it {found}; expected {kinds}, read with weights_only=True: nothing in it was executed; {advice}."
        ) from reason
    if type(state) is not dict:
        state = dict(state)  # an OrderedDict
    return state


def _reader(path: Path, file: BinaryIO, foreign: bool) -> Callable[[BinaryIO], dict[str, Any]]:
    """By what the file is, not by what it is called; only safetensors have no mark of their own."""
    size = os.fstat(file.fileno()).st_size
    room = available_bytes()
    if room is not None and size > room:
        raise ForeignPickleError(f"has {_gib(size)}, and {_gib(room)} of memory are free")
    start = file.read(512)
    file.seek(0)
    if not start.strip(b"\0"):
        raise ForeignPickleError("begins with nothing but zeros, as a download that was broken off" if start else "is empty")
    if foreign and path.suffix.lower() == ".safetensors":
        return _read_safetensors
    # Before the look at the first bytes: torch, too, tries tar first, and a file can be both.
    if _is_tar(file):
        raise ForeignPickleError("is a tar archive")
    if start.startswith(b"PK\x03\x04"):
        return _read_zip
    if start.startswith(LEGACY) and foreign:
        return _read_legacy
    if start.startswith(LEGACY):
        raise ForeignPickleError("is in torch's format of before 2020")
    if start[8:9] == b"{":
        raise ForeignPickleError("is a safetensors file by another name" if foreign else "is a safetensors file")
    raise ForeignPickleError("is a pickle" if start.startswith(b"\x80") else "is none that torch.save wrote, or its beginning is damaged")


def _is_tar(file: BinaryIO) -> bool:
    try:
        with tarfile.open(fileobj=file, mode="r:"):
            return True
    except tarfile.TarError:
        return False
    finally:
        file.seek(0)


def _read_zip(file: BinaryIO) -> dict[str, Any]:
    _check_directory(file)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        top = members[0].filename.split("/")[0] + "/" if members else ""
        names = {member.filename.removeprefix(top): member for member in members if member.filename.startswith(top)}
        if "constants.pkl" in names or any(name.startswith("code/") for name in names):
            raise ForeignPickleError("is a TorchScript archive")
        if "data.pkl" not in names:
            raise ForeignPickleError("is a zip archive that torch.save did not write")
        if len(names) < len(members) or not all(map(ENTRY.fullmatch, names)):
            raise ForeignPickleError("has entries in its zip archive that torch.save does not write")
        # Stored, not compressed: then no entry is longer than its bytes in the file, and together they are no longer than the file.
        if any(member.compress_type or member.flag_bits & 1 or member.compress_size != member.file_size for member in members):
            raise ForeignPickleError("has compressed or encrypted entries in its zip archive")
        if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
            raise ForeignPickleError("has overlapping entries in its zip archive")
        if names["data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise ForeignPickleError(f"has a pickle of more than {MAX_PICKLE_BYTES // 2**20} MiB")
        claims = read_claims(io.BytesIO(archive.read(names["data.pkl"])))
        for storage in claims.storages.values():
            # torch takes the pickle's word for the length, and would read beyond the entry.
            member = names.get(f"data/{storage.key}")
            if member is None or member.file_size < storage.nbytes:
                raise ForeignPickleError("asks for more values of a tensor than are in the file")
    return _load(file, claims)


def _check_directory(file: BinaryIO) -> None:
    """The table of contents must be where ``torch.save`` puts it, with nothing behind: then torch and Python read the same one, and it is bounded."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 22 - 20 - 56, 0))
    tail = file.read()
    end = tail[-22:]
    if len(tail) < 22 or not end.startswith(END) or end[20:] != b"\0\0":
        raise ForeignPickleError(DAMAGED)
    n_entries, length, start = struct.unpack("<HII", end[10:20])
    behind = 22
    if tail[-42:-22].startswith(LOCATOR):
        if len(tail) < 98 or not tail.startswith(END64) or struct.unpack("<Q", tail[64:72])[0] != size - 98:
            raise ForeignPickleError(DAMAGED)
        n_entries, length, start = struct.unpack("<QQQ", tail[32:56])
        behind = 98
    if start + length + behind != size:
        raise ForeignPickleError(DAMAGED)
    if n_entries > MAX_ENTRIES or length > MAX_DIRECTORY_BYTES:
        raise ForeignPickleError(f"has more than {MAX_ENTRIES:,} entries in its zip archive")


def _read_legacy(file: BinaryIO) -> dict[str, Any]:
    """Five pickles (magic number, protocol, the writer's integers, the state, the order of its storages), then the values."""
    for _ in range(3):
        read_claims(file)
    claims = read_claims(file)
    order = read_claims(file).value
    # torch leaves the memory of storages that are not in this list as it found it.
    if type(order) is not list or sorted(order) != sorted(claims.storages):
        raise ForeignPickleError(DAMAGED)
    rest = os.fstat(file.fileno()).st_size - file.tell()
    if sum(storage.nbytes + 8 for storage in claims.storages.values()) > rest:
        raise ForeignPickleError(f"{DAMAGED}: values of its tensors are missing")
    return _load(file, claims)


def _load(file: BinaryIO, claims: Claims) -> dict[str, Any]:
    import torch

    if not isinstance(claims.value, dict):
        raise ForeignPickleError(f"holds a {type(claims.value).__name__.strip('_').lower()} where a dictionary belongs")
    _check_room(claims.tensor_bytes)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _read_safetensors(file: BinaryIO) -> dict[str, Any]:
    """Nothing in this format can be executed, and the library itself holds every claim of the header against the file."""
    from safetensors.torch import load_file

    state: dict[str, Any] = load_file(file.name)
    return state


def _check_room(wanted: int) -> None:
    room = available_bytes()
    if room is not None and wanted > room:
        raise ForeignPickleError(f"unfolds to {_gib(wanted)}, and {_gib(room)} of memory are free")


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
