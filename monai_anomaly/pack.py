"""A bundle to hand on, in the layout that MONAI's specification asks for: as a folder, or as one zip archive."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import BinaryIO

from .bundle_root import root
from .errors import DataError, OptionError
from .files import refuse_existing, write_whole
from .training import load_detector

__all__ = ["bundle_names", "lay_out_bundle", "pack_bundle"]

MODEL = "models/model.pt"


def bundle_names() -> list[str]:
    """The bundles that can be trained.

    Example:
        >>> "skipts" in bundle_names()
        True
    """
    return sorted(path.parent.name for path in Path(root("common")).parent.glob("*/train.json"))


def lay_out_bundle(bundle: str | Path, folder: str | Path) -> Path:
    """Copy a bundle, without a model: its configs are there to be changed, and what is trained with it stays in it.

    Args:
        bundle: a bundle's name, such as ``"skipts"``, or its folder.
        folder: where it goes, under its own name.

    Returns:
        The new bundle's folder.

    Raises:
        OptionError: it is there already.
        DataError: there is no such bundle, or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (lay_out_bundle("skipts", folder) / "train.json").is_file()
        True
    """
    source = _bundle_folder(bundle)
    target = Path(folder) / source.name
    if os.path.lexists(target):
        raise OptionError(f"{target} exists; expected a new folder: choose another place, or remove it.")
    for name, path in _members(source).items():
        write_whole(target / name, path.read_bytes())
    return target


def pack_bundle(bundle: str, out: str | Path, model: str | Path | None = None, force: bool = False) -> list[str]:
    """Write ``out``: one folder, called as the archive, with configs, documents, licence and model.

    In a checkout what bundles share, and ``configs/``, are symbolic links, which some archives and Windows lose; here they are files. The same content gives
    the same archive, byte for byte: nothing is compressed, and all times are 1980.

    Args:
        bundle: a bundle's name, such as ``"skipts"``, or its folder.
        out: the archive, ``.zip``.
        model: the ``model.pt`` to put in; default: the bundle's own, if it has one.
        force: replace an archive that exists.

    Returns:
        The names in the archive.

    Raises:
        OptionError: ``out`` is no ``.zip``, or exists.
        DataError: there is no such bundle, or the archive cannot be written.
        CheckpointError: the model cannot be read.
    """
    out = Path(out)
    if out.suffix.lower() != ".zip":
        raise OptionError(f"{out} is no .zip; expected a name such as {out.stem or 'skipts'}.zip.")
    refuse_existing(out, force)
    folder = _bundle_folder(bundle)
    members = _members(folder)
    model = Path(model) if model is not None else folder / MODEL if (folder / MODEL).is_file() else None
    if model is not None:
        load_detector(model)  # what cannot be used is not handed on
        members[MODEL] = model
    write_whole(out, lambda file: _write(file, out.stem, members))
    return [f"{out.stem}/{name}" for name in sorted(members)]


def _bundle_folder(bundle: str | Path) -> Path:
    folder = Path(bundle) if Path(bundle).is_dir() else Path(root(str(bundle)))
    if not (folder / "metadata.json").is_file():
        raise DataError(f"There is no bundle at {folder}; expected the name or the folder of one, with metadata.json in it: correct it.")
    return folder


def _members(folder: Path) -> dict[str, Path]:
    names = sorted(path.name for path in (folder / "configs").iterdir())
    members = {f"{place}{name}": folder / name for name in names for place in ("", "configs/")}
    members |= {path.relative_to(folder).as_posix(): path for path in (folder / "docs").rglob("*") if path.is_file()}
    members["LICENSE"] = folder / "LICENSE"
    return members


def _write(file: BinaryIO, top: str, members: dict[str, Path]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(f"{top}/{name}")
            member.create_system, member.external_attr = 3, 0o644 << 16
            member.file_size = members[name].stat().st_size
            with archive.open(member, "w") as target, members[name].open("rb") as source:
                shutil.copyfileobj(source, target)
