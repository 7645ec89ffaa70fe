"""What this machine offers to a run, what is missing, and what to do: ``python -m monai_anomaly doctor``.

Nothing is downloaded, written or sent, and no data set is opened. Packages and their floors are those that the installed metadata ask for (``setup.cfg``).
"""

from __future__ import annotations

import importlib.metadata as metadata
import importlib.util
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from . import __version__

__all__ = ["Finding", "examine", "summary"]

OK, ABSENT, NOTE, BROKEN = "ok", "-", "note", "BROKEN"
"""As expected; an optional part that is not there; works, but may surprise; nothing runs until it is mended."""

PACKAGE = "monai_anomaly"
BACKBONES = ("resnet18", "wide_resnet50_2")
"""The teachers that the bundles take without and with a GPU."""
WEIGHTS = "IMAGENET1K_V1"
LITTLE_BYTES = 10**9


class Finding(NamedTuple):
    """One line of the table.

    Example:
        >>> Finding("packages", "pydicom", "2.4.4, expected >=3.0.2", "BROKEN", 'pip install "pydicom>=3.0.2"').is_broken
        True
    """

    group: str
    part: str
    found: str
    state: str = OK
    advice: str = ""
    """What to do, where the state is not ``"ok"``."""

    @property
    def is_broken(self) -> bool:
        """Whether no run can work."""
        return self.state == BROKEN


def examine() -> list[Finding]:
    """Look at packages, bundles, devices, weights, folders and optional parts.

    Returns:
        What was found, in the order of the table; a part that could not be looked at is a finding, too.

    Example:
        >>> {finding.group for finding in examine()} >= {"packages", "devices", "weights", "folders", "optional"}
        True
    """
    groups: dict[str, Callable[[], Iterator[Finding]]] = {
        "packages": _packages, "bundles": _bundles, "devices": _devices, "weights": _weights, "folders": _folders, "optional": _optional,
    }  # fmt: skip
    findings: list[Finding] = []
    for group, look in groups.items():
        try:
            findings += look()
        except Exception as error:  # a half-installed package fails in any way, and the other groups are to be told all the same
            reason = (str(error).splitlines() or [""])[0]
            advice = "mend the packages above first; if they are fine, this is an error of monai_anomaly: please report it."
            findings.append(Finding(group, "(all)", f"could not be looked at: {type(error).__name__} {reason}", BROKEN, advice))
    return findings


def summary(findings: list[Finding]) -> list[str]:
    """The lines to print: a table, and below it what to do.

    Args:
        findings: see :func:`examine`.

    Example:
        >>> for line in summary([Finding("devices", "CPU", "2 cores")])[2:]:
        ...     print(line)
        devices
          ok      CPU  2 cores
        <BLANKLINE>
        Nothing that every run needs is broken.
    """
    width = max(len(finding.part) for finding in findings)
    lines = [f"{PACKAGE} {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    for group in dict.fromkeys(finding.group for finding in findings):
        lines += ["", group]
        lines += [f"  {each.state:<6}  {each.part:<{width}}  {each.found}".rstrip() for each in findings if each.group == group]
    for title, states in (("To mend:", (BROKEN,)), ("To know:", (NOTE,)), ("To have what is optional:", (ABSENT,))):
        told = [f"  {each.part}: {each.advice}" for each in findings if each.state in states]
        lines += ["", title, *told] if told else []
    broken = sum(finding.is_broken for finding in findings)
    things = f"{broken} thing{'s' if broken > 1 else ''} to mend before a run can work."
    return [*lines, "", things if broken else "Nothing that every run needs is broken."]


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    for requirement in map(Requirement, metadata.requires(PACKAGE) or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package("packages", requirement.name, requirement.specifier, BROKEN)
    from ._torchvision import stands_in, torchvision

    if stands_in:
        yield Finding(
            "packages", "torchvision", f"{torchvision.__version__} was built for another torch: networks work, its detection operators do not", NOTE,
            "no run needs them; a build that fits comes from where this torch came from.",
        )  # fmt: skip


def _package(group: str, name: str, wanted: object, otherwise: str) -> Finding:
    """A package by its metadata; ``otherwise`` is the state where it is missing or of another version than the specifier says."""
    advice = f'pip install "{name}{wanted}"'
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(group, name, f"missing, expected {wanted or 'any version'}", otherwise, advice)
    fits = wanted.contains(version, prereleases=True)  # type: ignore[attr-defined]
    return Finding(group, name, version) if fits else Finding(group, name, f"{version}, expected {wanted}", otherwise, advice)


def _bundles() -> Iterator[Finding]:
    from .bundle_root import root
    from .pack import bundle_names

    folder, names = Path(root("common")).parent, bundle_names()
    advice = "it is a symbolic link, which git wrote as text: git config core.symlinks true, and check it out again; or install a wheel."
    for name in names:
        try:
            json.loads((folder / name / "evaluate.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            yield Finding("bundles", name, f"{folder / name / 'evaluate.json'} is no JSON", BROKEN, advice)
    if not names:
        yield Finding("bundles", "(all)", f"none in {folder}", BROKEN, "install monai_anomaly again, from a wheel or a whole clone.")
    else:
        yield Finding("bundles", "folder", f"{folder}: {', '.join(names)}")


def _devices() -> Iterator[Finding]:
    import torch

    from .memory import available_bytes

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = available_bytes()
    yield Finding("devices", "CPU", f"{usable} cores to use, {torch.get_num_threads()} threads of torch")
    yield Finding("devices", "memory", "unknown" if memory is None else f"{_size(memory)} to use")
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        # Tensor cores for bfloat16 and TF32 came together, with compute capability 8.0; older ones compute bfloat16 slowly, so that asking torch does not tell.
        fast = "bfloat16 (--amp True) and TF32 in hardware" if gpu.major >= 8 else "no bfloat16 or TF32 in hardware: leave --amp off"
        yield Finding(
            "devices", f"cuda:{index}", f"{gpu.name}, {_size(gpu.total_memory)}, compute capability {gpu.major}.{gpu.minor}, {fast}"
        )
    if torch.cuda.device_count() > 1:
        yield Finding(
            "devices", "several GPUs", "a run takes the first; all of them with multi_gpu_train.json (docs/shared.md of a bundle)"
        )
    if torch.backends.mps.is_available():
        found = "available, but not tested, and a run takes the CPU unless it is named"
        yield Finding("devices", "Apple GPU", found, NOTE, """to try it: --device '$torch.device("mps")'.""")
    elif not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        advice = (
            f"a run takes the small CPU profile. If there is a GPU: nvidia-smi tells whether its driver is there and new enough for CUDA {built}."
            if built
            else "a run takes the small CPU profile. If there is a GPU: this torch is a build for the CPU alone; install one for CUDA."
        )
        yield Finding("devices", "GPU", f"none that torch {torch.__version__} can use", NOTE, advice)


def _weights() -> Iterator[Finding]:
    from .errors import WeightsError
    from .networks.weights import find_weights, named_file

    for model in BACKBONES:
        path, address = named_file(model, WEIGHTS)
        if path.is_file():
            try:
                yield Finding("weights", model, f"{path}, SHA-256 {find_weights(model, WEIGHTS).sha256[:16]}...")
            except WeightsError as error:
                yield Finding("weights", model, f"{path} cannot be used", BROKEN, str(error))
        else:
            advice = (
                f"the first run that needs it downloads {address}. Without a network: bring that file into {path.parent} (another place: TORCH_HOME), or name "
                "it with --teacher_weights FILE."
            )
            yield Finding("weights", model, f"not yet at {path}", NOTE, advice)


def _folders() -> Iterator[Finding]:
    import torch

    from .data.folders import user_cache
    from .data.study.folder import study_folder

    places: Mapping[str, tuple[Path, str]] = {
        "built-in study": (study_folder(), "name another folder in MONAI_DATA_DIRECTORY."),
        "cache": (user_cache(), "name another folder in XDG_CACHE_HOME: zip archives are unpacked there."),
        "teacher weights": (Path(torch.hub.get_dir()), "name another folder in TORCH_HOME."),
        "temporary": (Path(tempfile.gettempdir()), "name another folder in TMPDIR."),
        "working": (Path.cwd(), "results go where --output_dir says; start in a folder of yours, or name one."),
    }
    for part, (folder, advice) in places.items():
        there = next(place for place in (folder, *folder.parents) if place.is_dir())
        free = shutil.disk_usage(there).free
        state = "" if os.access(there, os.W_OK | os.X_OK) else ", NOT WRITABLE"
        surprise = bool(state) or free < LITTLE_BYTES
        yield Finding("folders", part, f"{folder}, {_size(free)} free{state}", NOTE if surprise else OK, advice if surprise else "")


def _optional() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    export = [
        each for each in map(Requirement, metadata.requires(PACKAGE) or []) if each.marker and each.marker.evaluate({"extra": "export"})
    ]
    found = [_package("optional", each.name, each.specifier, ABSENT) for each in export]
    lacking = [f"{each.part} ({each.found})" for each in found if each.state != OK]
    advice = 'pip install "monai_anomaly[export]", for python -m monai_anomaly export.'
    told = ", ".join(lacking or [f"{each.part} {each.found}" for each in found])
    yield Finding("optional", "export", told, ABSENT if lacking else OK, advice if lacking else "")
    if importlib.util.find_spec("monailabel"):
        yield Finding("optional", "MONAI Label", metadata.version("monailabel"))
    else:
        yield Finding(
            "optional", "MONAI Label", "missing", ABSENT, "make label, in a clone of the repository, gives it an environment of its own."
        )
    for part, program, advice in (
        ("Orthanc", "Orthanc", "a PACS to try things with: apt install orthanc orthanc-dicomweb."),
        ("dciodvfy", "dciodvfy", "checks DICOM results: apt install dicom3tools."),
    ):
        where = shutil.which(program) or shutil.which(program, path="/usr/sbin")  # Debian's Orthanc, which only root has on its PATH
        yield Finding("optional", part, where or "missing", OK if where else ABSENT, "" if where else advice)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
