"""What a pickle of tensors asks for, read from its instructions without carrying them out."""

from __future__ import annotations

import math
import pickletools
from collections.abc import Iterable
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Claims", "ForeignPickleError", "Storage", "read_claims"]

MAX_INSTRUCTIONS = 2_000_000
"""In one pickle. A state dict of a thousand tensors has some forty thousand."""
MAX_NESTING = 64
"""Containers within containers."""

ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
ORDERED, TENSOR, OLD_TENSOR, PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_parameter",
)
GLOBALS = {ORDERED, TENSOR, OLD_TENSOR, PARAMETER, *(f"torch {name}" for name in ITEM_BYTES)}
"""Everything by name that a state dict of plain tensors needs. torch's own list is longer, and other packages add to it."""

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NUMBERS_AND_TEXT = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class ForeignPickleError(ValueError):
    """A pickle that is no state dict of plain tensors; the message completes a sentence that begins with the file's name."""


class Storage(NamedTuple):
    """A piece of memory that tensors lie in."""

    key: str
    kind: str
    n_items: int

    @property
    def nbytes(self) -> int:
        """What it asks for."""
        return self.n_items * ITEM_BYTES[self.kind]


class Claims(NamedTuple):
    """What a pickle would build."""

    value: Any
    """Plain types as they are; a stand-in for each tensor."""
    storages: dict[str, Storage]
    tensor_bytes: int
    """Of all tensors, if each had memory of its own: many can lie in one storage, and one element can be stretched to any shape."""


class _Global(NamedTuple):
    name: str


class _Tensor(NamedTuple):
    nbytes: int


class _Ordered(dict[Any, Any]):
    """An ``OrderedDict``: the only one that may carry an attribute, the ``_metadata`` of a module's state dict."""


def read_claims(file: BinaryIO) -> Claims:
    """Follow one pickle of ``torch.save`` up to its end, with stand-ins for tensors and storages; nothing is imported, called or allocated.

    It keeps the same stack as torch's restricted unpickler, so both see the same values; it knows fewer instructions and names.

    Args:
        file: an open binary file, at the pickle's first byte; afterwards behind its last.

    Raises:
        ForeignPickleError: an instruction, a name, a shape or a nesting that no state dict of plain tensors has.

    Example:
        >>> import io, pickle
        >>> read_claims(io.BytesIO(pickle.dumps({"epoch": 3, "lr": [0.1]}, protocol=2))).value
        {'epoch': 3, 'lr': [0.1]}
        >>> read_claims(io.BytesIO(pickle.dumps(print, protocol=2)))
        Traceback (most recent call last):
        ...
        monai_anomaly.pickle_claims.ForeignPickleError: asks for __builtin__.print, which no state dict needs
    """
    try:
        claims = _Walk().follow(file)
        _check_nesting(claims.value)
    except ForeignPickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, EOFError) as error:
        raise ForeignPickleError("holds a damaged or foreign pickle") from error
    return claims


class _Walk:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self.tensor_bytes = 0

    def follow(self, file: BinaryIO) -> Claims:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number >= MAX_INSTRUCTIONS:
                raise ForeignPickleError(f"holds a pickle of more than {MAX_INSTRUCTIONS:,} instructions")
            if opcode.name == "STOP":
                return Claims(self.stack.pop(), self.storages, self.tensor_bytes)
            self._step(opcode.name, argument)
        raise EOFError  # genops itself complains; this is for the type checker

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in NUMBERS_AND_TEXT:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.below.append(stack)
            self.stack = []
        elif name in TUPLES:
            stack.append(tuple(self._pop(TUPLES[name])))
        elif name == "TUPLE":
            items = tuple(self._pop_mark())
            self.stack.append(items)
        elif name in ("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT"):
            stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[name])
        elif name in ("APPEND", "APPENDS"):
            items = tuple(self._pop(1) if name == "APPEND" else self._pop_mark())
            _of(list, self.stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            self._set(self._pop(2) if name == "SETITEM" else self._pop_mark())
        elif name == "GLOBAL":
            if argument not in GLOBALS:
                raise ForeignPickleError(f"asks for {_shown(argument)}, which no state dict needs")
            stack.append(_Global(argument))
        elif name == "BINPERSID":
            stack.append(self._storage(_of(tuple, stack.pop())))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(self._call(_of(_Global, function).name, _of(tuple, arguments)))
        elif name == "BUILD":
            _of(_Ordered, stack[-2])
            if set(_of(dict, stack.pop())) - {"_metadata"}:
                raise ForeignPickleError("gives a dictionary attributes of its own")
        elif (name, argument) != ("PROTO", 2):
            raise ForeignPickleError(f"holds a pickle with the instruction {name}, which no state dict needs")

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, _Ordered) or not all(type(key) in (str, int) for key in items[::2]):
            raise ForeignPickleError("holds a dictionary whose keys are neither text nor whole numbers")
        target.update(zip(items[::2], items[1::2], strict=True))

    def _storage(self, told: tuple[Any, ...]) -> Storage:
        word, kind, key, _, n_items, *view = told
        if word != "storage" or type(key) is not str or type(n_items) is not int or n_items < 0 or any(part is not None for part in view):
            raise ForeignPickleError("holds a damaged or foreign pickle")
        storage = Storage(key, _of(_Global, kind).name.removeprefix("torch "), n_items)
        if storage.kind not in ITEM_BYTES or self.storages.setdefault(key, storage) != storage:
            raise ForeignPickleError("describes the memory of its tensors in two ways")
        return storage

    def _call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        if function == ORDERED and not arguments:
            return _Ordered()
        if function == PARAMETER:
            tensor, _, _ = arguments
            return _of(_Tensor, tensor)
        if function == TENSOR:
            storage, offset, size, stride, _, _ = arguments
        elif function == OLD_TENSOR:
            storage, offset, size, stride = arguments
        else:
            raise ForeignPickleError(f"calls {_shown(function)} as no state dict does")
        tensor = _tensor(_of(Storage, storage), offset, _of(tuple, size), _of(tuple, stride))
        self.tensor_bytes += tensor.nbytes
        return tensor


def _tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> _Tensor:
    if not all(type(number) is int and number >= 0 for number in (offset, *size, *stride)):
        raise ForeignPickleError("holds a tensor of impossible shape")
    last = sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if all(size) and offset + last >= storage.n_items:
        raise ForeignPickleError("holds a tensor that reaches beyond its own memory")
    return _Tensor(math.prod(size) * ITEM_BYTES[storage.kind])


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value


def _shown(name: str) -> str:
    """A name from the file, in a message."""
    return name.replace(" ", ".")[:100].encode("ascii", "backslashreplace").decode()


def _check_nesting(value: Any) -> None:
    """Level by level, each container once: a container within itself has no last level, and sharing cannot multiply the work."""
    level = _containers([value])
    for _ in range(MAX_NESTING):
        if not level:
            return
        level = _containers(item for container in level for item in (container.values() if isinstance(container, dict) else container))
    raise ForeignPickleError(f"nests containers more than {MAX_NESTING} deep")


def _containers(values: Iterable[Any]) -> list[Any]:
    return list({id(value): value for value in values if type(value) in (list, tuple, dict, _Ordered)}.values())
