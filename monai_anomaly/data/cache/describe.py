"""What a transform does, as text that is equal only where the results are."""

from __future__ import annotations

import enum
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import sys
import sysconfig
import types
from collections.abc import Mapping, Set
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from monai.transforms.traits import RandomizableTrait
from torch import Tensor

from ...errors import OptionError

__all__ = ["describe"]

PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, type(...))
OPAQUE = (torch.dtype, torch.device, np.dtype, np.ufunc, re.Pattern, PurePath)
PACKAGES = ("site-packages", "dist-packages")
"""Names of folders that installers write to: those of the environment, of its user, and of the Python below it."""


def describe(transform: Any) -> str:
    """Describe a transform, or anything that one is made of.

    Objects are described by their class and attributes (a random state ``R`` left out), functions by their code, defaults and closure. Code of installed
    packages counts by version; any other code by the content of its file and of the files that it imports from.

    Args:
        transform: a transform, usually MONAI's ``Compose``.

    Returns:
        JSON, in which arrays and files are SHA-256 digests.

    Raises:
        OptionError: something in it draws random numbers or cannot be described; the message says what.

    Example:
        >>> from monai.transforms import ScaleIntensity
        >>> describe(ScaleIntensity(maxv=1.0)) == describe(ScaleIntensity(maxv=1.0)) != describe(ScaleIntensity(maxv=2.0))
        True
    """
    try:
        return json.dumps(_of(transform, ()))
    except OptionError:
        raise
    except Exception as error:  # anything may be an attribute of somebody's transform
        raise OptionError(
            f"The preprocessing cannot be described ({type(error).__name__}); expected plain values, arrays and transforms."
        ) from error


def _of(value: Any, around: tuple[int, ...]) -> Any:
    """``around`` holds what the value lies in, so that a loop is seen."""
    if id(value) in around:
        return ["see", around.index(id(value))]
    inside = (*around, id(value))
    if isinstance(value, enum.Enum):
        return [_code_of(type(value)), value.name]
    if isinstance(value, OPAQUE):
        return [type(value).__name__, repr(value)]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return [*_array(value), _of(getattr(value, "meta", None), inside)]
    content = _content(value, inside)
    if content is not None:
        more = getattr(value, "__dict__", None)  # of a subclass
        return [_code_of(type(value)), content, *([_of(more, inside)] if more else [])]
    return _code(value, inside) or _object(value, inside)


def _content(value: Any, inside: tuple[int, ...]) -> Any:
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Mapping):
        return [[_of(key, inside), _of(item, inside)] for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_of(item, inside) for item in value]
    if isinstance(value, Set):
        return sorted(json.dumps(_of(item, inside)) for item in value)
    return None


def _array(value: Any) -> list[Any]:
    array = value.detach().cpu().reshape(-1).view(torch.uint8).numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.hasobject:
        raise OptionError("An array of Python objects cannot be described; expected numbers.")
    return [str(value.dtype), list(value.shape), hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()]


def _code(value: Any, inside: tuple[int, ...]) -> list[Any] | None:
    """Classes, functions and what they are made of; ``None`` for anything else."""
    if isinstance(value, type):
        return [_code_of(value)]
    if isinstance(value, types.BuiltinFunctionType):
        return [_code_of(value), None if isinstance(value.__self__, types.ModuleType | None) else _of(value.__self__, inside)]
    if isinstance(value, types.MethodType):
        return [_of(value.__func__, inside), _of(value.__self__, inside)]
    if isinstance(value, functools.partial):
        return ["partial", *(_of(part, inside) for part in (value.func, value.args, value.keywords))]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_code_of(value), *(_of(part, inside) for part in (value.__code__, value.__defaults__, value.__kwdefaults__, cells))]
    if isinstance(value, types.CodeType):
        return [value.co_name, value.co_firstlineno, value.co_code.hex(), value.co_names, _of(value.co_consts, inside)]
    return None


def _object(value: Any, inside: tuple[int, ...]) -> list[Any]:
    name = _name(type(value))
    if isinstance(value, RandomizableTrait) and type(value) is not Compose:
        raise OptionError(
            f"{name} draws random numbers; expected a preprocessing that gives the same each time: put it into slice_transform."
        )
    slots = [slot for kind in type(value).__mro__ for slot in np.atleast_1d(getattr(kind, "__slots__", ())).tolist()]
    if not hasattr(value, "__dict__") and not slots:
        raise OptionError(f"{name} cannot be described, because its content cannot be seen; expected plain values, arrays and transforms.")
    state = {slot: getattr(value, slot) for slot in slots if hasattr(value, slot)} | getattr(value, "__dict__", {})
    state = {key: item for key, item in state.items() if not isinstance(item, np.random.RandomState)}
    return [_code_of(type(value)), [[key, _of(state[key], inside)] for key in sorted(state)]]


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _code_of(thing: Any) -> list[Any]:
    """Name and code of a class or function."""
    if thing.__module__ == "builtins":
        return [thing.__qualname__]
    return [_name(thing), *sorted({_module(kind.__module__ or "builtins") for kind in getattr(thing, "__mro__", (thing,))})]


@functools.cache
def _module(name: str) -> str:
    """SHA-256 of a module and of the modules that it takes names from: their files, or versions if they are installed."""
    versions: set[str] = set()
    files: dict[str, str] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in files or module is None:
            continue
        file = getattr(module, "__file__", None)
        if _is_installed(name, file):
            versions.add(_version(name.partition(".")[0]))
        elif file is None or not os.path.isfile(file):
            raise OptionError(
                f"Code in {name} cannot be described, because it stands in no file; expected it in a .py file: move it there."
            )
        else:
            files[name] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
            values = [value for value in vars(module).values() if value is not None]
            waiting += [
                str(value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", "")) for value in values
            ]
    return hashlib.sha256(json.dumps([sorted(versions), sorted(files.items())]).encode()).hexdigest()


def _is_installed(name: str, file: str | None) -> bool:
    if file is None:
        return name.partition(".")[0] in sys.builtin_module_names or name.partition(".")[0] in sys.stdlib_module_names - {"__main__"}
    folders = {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        *(path for path in sys.path if os.path.basename(path) in PACKAGES),
    }
    return os.path.abspath(file).startswith(tuple(folders))


@functools.cache
def _version(package: str) -> str:
    version = getattr(sys.modules.get(package), "__version__", None)
    if version is None:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = sys.version  # of the standard library
    return f"{package} {version}"
