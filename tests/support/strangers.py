"""Files of tensors as an attacker or an accident makes them."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

PLAIN = {"weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(3)}


class Evil:
    """Touches a file when it is unpickled by anything that calls what a pickle names."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return (self.canary.touch, ())


def saved(content: Any, legacy: bool = False) -> bytes:
    """What ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def zipped(entries: Mapping[str, bytes], top: str = "archive/", method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with these entries."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(top + name, content)
    return file.getvalue()


def entries(content: bytes) -> dict[str, bytes]:
    """The entries of what ``torch.save`` wrote."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


class Claim:
    """A tensor of any storage, offset, shape and strides."""

    def __init__(self, n_items: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...], key: str = "0"):
        self.storage = ("storage", torch.FloatStorage, key, "cpu", n_items)
        self.arguments = (offset, size, stride, False, OrderedDict())

    def __reduce__(self):
        return (torch._utils._rebuild_tensor_v2, (Persistent(self.storage), *self.arguments))


class Persistent:
    """What a pickle names by an id instead of holding it."""

    def __init__(self, told: tuple):
        self.told = told


class ClaimPickler(pickle.Pickler):
    def persistent_id(self, thing: Any) -> Any:
        return thing.told if isinstance(thing, Persistent) else None


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    ClaimPickler(file, protocol=2).dump(content)
    return file.getvalue()


def claiming(claim: Claim | dict, n_values: int = 4) -> bytes:
    """An archive whose pickle asks for this tensor, and whose one storage has ``n_values`` float32."""
    content = claim if isinstance(claim, dict) else {"weight": claim}
    return zipped({"data.pkl": pickled(content), "byteorder": b"little", "data/0": bytes(4 * n_values), "version": b"3\n"})


def old_tar(canary: Path) -> bytes:
    """torch's first format, with something to execute in each of its pickles."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = pickle.dumps(Evil(canary), protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def tar_and_pickle(canary: Path) -> bytes:
    """Begins as a legacy pickle and is a tar archive too: its first member's name is the magic number."""
    content = bytearray(old_tar(canary))
    content[:16] = saved({}, legacy=True)[:16]
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    return bytes(content)


def scripted() -> bytes:
    """TorchScript in place of weights."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 2), torch.zeros(1, 3)), file)
    return file.getvalue()


def nested(kind: str, depth: int) -> bytes:
    """Containers in containers, deeper than any stack; as a key, hashing them has no guard in Python."""
    inner = {
        "tuple": b")" + b"\x85" * depth,
        "list": b"]" * depth + b"a" * (depth - 1),
        "dict": b"}X\1\0\0\0k" * depth + b"}" + b"s" * depth,
    }
    if kind == "key":
        body = b"\x80\x02}" + inner["tuple"] + b"Ns."
    elif kind == "loop":
        body = b"\x80\x02}X\1\0\0\0k]q\0h\0as."
    else:
        body = b"\x80\x02}X\1\0\0\0k" + inner[kind] + b"s."
    return body


def archive_of(pickle_bytes: bytes) -> bytes:
    return zipped({"data.pkl": pickle_bytes, "byteorder": b"little", "version": b"3\n"})


class Shadowed:
    """An ``OrderedDict`` with an attribute that hides one of its methods."""

    def __reduce__(self):
        return (OrderedDict, (), {"items": 5}, None, iter({"epoch": 3}.items()))


def overlapping() -> bytes:
    """Many entries that all are the same bytes of the file."""
    block = bytes(2**20)
    content = bytearray(zipped({"data.pkl": pickle.dumps({}, protocol=2), "data/0": block, **{f"data/{n}": b"" for n in range(1, 40)}}))
    start = struct.unpack("<I", content[-6:-2])[0]
    place, first = start, None
    while content[place : place + 4] == b"PK\x01\x02":
        name_length, extra, comment = struct.unpack("<HHH", content[place + 28 : place + 34])
        name = bytes(content[place + 46 : place + 46 + name_length])
        if name == b"archive/data/0":
            first = bytes(content[place + 16 : place + 28]), bytes(content[place + 42 : place + 46])
        elif name.startswith(b"archive/data/"):
            content[place + 16 : place + 28], content[place + 42 : place + 46] = first
        place += 46 + name_length + extra + comment
    return bytes(content)


def forgetful() -> bytes:
    """A legacy file whose list of storages is empty: torch would hand out memory as it found it."""
    content = saved(PLAIN, legacy=True)
    start = content.rindex(b"\x80\x02]q\x00")
    return content[:start] + b"\x80\x02]q\x00." + content[content.index(b"e.", start) + 2 :]


def strangers(canary: Path) -> dict[str, bytes]:
    """Files by what is wrong with them, each refused through every door."""
    plain, evil = saved(PLAIN), Evil(canary)
    legacy = saved(PLAIN, legacy=True)
    files = {
        "reduce in a zip": saved({**PLAIN, "x": evil}),
        "reduce at the top": saved(evil),
        "reduce in the legacy format": saved({**PLAIN, "x": evil}, legacy=True),
        "legacy prelude": legacy[:15] + pickle.dumps(evil, protocol=2) + legacy[15:],
        **{f"pickle of protocol {number}": pickle.dumps(evil, protocol=number) for number in range(6)},
        "legacy without its values": forgetful(),
        "a module": saved(torch.nn.Linear(3, 2)),
        "numpy array": saved({**PLAIN, "x": np.arange(3)}),
        "numpy scalar": saved({**PLAIN, "x": np.float64(3)}),
        "numpy objects": saved({**PLAIN, "x": np.array([evil, None], dtype=object)}),
        "counter": saved({**PLAIN, "x": Counter("abc")}),
        "sparse tensor": saved({**PLAIN, "x": torch.eye(3).to_sparse()}),
        "shadowed method": archive_of(pickled(Shadowed())),
        "list": saved(list(PLAIN.values())),
        "tensor": saved(torch.zeros(3)),
        "keys that are tuples": saved({("a", 1): torch.zeros(1)}),
        "old tar": old_tar(canary),
        "tar and pickle": tar_and_pickle(canary),
        "TorchScript": scripted(),
        "TorchScript's constants": zipped({**entries(plain), "constants.pkl": pickle.dumps(evil, protocol=2)}),
        "code": zipped({**entries(plain), "code/__torch__.py": b"raise SystemExit"}),
        "second pickle": zipped({**entries(plain), "extra.pkl": pickle.dumps(evil, protocol=2)}),
        "pickle elsewhere": zipped({**entries(plain), "../archive2/data.pkl": pickle.dumps(evil, protocol=2)}),
        "no pickle": zipped({name: content for name, content in entries(plain).items() if name != "data.pkl"}),
        "another zip": zipped({"notes.txt": b"hello"}, top=""),
        "empty zip": zipped({}),
        "bomb": zipped({**entries(plain), "data/0": bytes(64 * 2**20)}, method=zipfile.ZIP_DEFLATED),
        "overlapping": overlapping(),
        "crowd": zipped({**entries(plain), **{f"data/{n}": b"" for n in range(100, 60_000)}}),
        "with a comment": plain[:-2] + b"\4\0abcd",
        "bytes behind": plain + bytes(8),
        "archive behind an archive": plain + zipped({"data.pkl": pickle.dumps(evil, protocol=2)}),
        **{f"nested {kind}": archive_of(nested(kind, 20_000)) for kind in ("tuple", "list", "dict", "loop")},
        "nested key": archive_of(nested("key", 200_000)),  # deep enough for torch.load to end the process
        "storage longer than its entry": claiming(Claim(10**6, 0, (10**6,), (1,))),
        "storage without end": claiming(Claim(2**61, 0, (2**61,), (1,))),
        "storage that is not there": claiming(Claim(4, 0, (4,), (1,), key="7")),
        "storage of negative length": claiming(Claim(-1, 0, (0,), (1,))),
        "beyond the storage": claiming(Claim(4, 0, (2**40,), (1,))),
        "stride beyond the storage": claiming(Claim(4, 0, (2,), (4,))),
        "offset beyond the storage": claiming(Claim(4, 4, (1,), (1,))),
        "negative stride": claiming(Claim(4, 3, (4,), (-1,))),
        "negative size": claiming(Claim(4, 0, (-4,), (1,))),
        "stretched without end": claiming(Claim(1, 0, (2**40,), (0,)), 1),
        "stretched beyond numbers": claiming(Claim(1, 0, (2**62, 2**62), (0, 0)), 1),
        "two lengths of one storage": claiming({"a": Claim(4, 0, (4,), (1,)), "b": Claim(2, 0, (2,), (1,))}),
        "empty": b"",
        "zeros": bytes(4096),
        "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "safetensors header": struct.pack("<Q", 2**60) + b"{}",
    }
    cuts = sorted({1, 2, 4, 30, 100, len(plain) // 2, len(plain) - 98, len(plain) - 60, len(plain) - 22, len(plain) - 21, len(plain) - 1})
    cuts_of_legacy = (5, 14, 16, 40, len(legacy) // 2, len(legacy) - 1)
    files |= {f"cut off at {cut}": plain[:cut] for cut in cuts}
    return files | {f"legacy cut off at {cut}": legacy[:cut] for cut in cuts_of_legacy}
