"""What every bundle's JSON calls: where it lives, which profile it runs, and what follows training.

Import it in a config as ``$import monai_anomaly.bundle as mab``.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import inspect
import json
import logging
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import monai.bundle
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from ._optional_decoder import ignore_optional_decoder
from .data import Case, CaseList, case_patient, is_builtin_study
from .errors import CalibrationError, DataError, OptionError, find_anomaly_error
from .scoring import Calibration
from .training import read_model_description

__all__ = [
    "announce",
    "begin",
    "check_cases",
    "check_output",
    "check_rate",
    "evaluate_trained",
    "refuse_flags",
    "root",
    "test_cases",
    "weights_fallback",
]

logger = logging.getLogger(__name__)

INSTALLED = Path(__file__).parent / "bundles"
"""The bundles as the package carries them; in a source checkout a link to those beside it."""

CONFIGS = (".json", ".yaml", ".yml")
"""What MONAI reads a config from."""

MEANT = {**dict.fromkeys(("true", "yes", "on"), True), **dict.fromkeys(("false", "no", "off"), False)}
"""Words that are meant as one of two values; to MONAI's command line only ``True`` and ``False`` are."""

OTHERS_FIRST_S = 5.0
"""How long a process of several waits before it tells its error: ``torchrun`` ends all of them within a second of the first one's end."""


def root(name: str | None = None) -> str:
    """The folder of a bundle, whatever the working directory.

    That of the config that is run on the command line (its parent, where that is called ``configs``): so a copy, such as an unpacked one, is its own root,
    and a file that several bundles share is the one of the bundle in whose folder it was named. Otherwise the folder beside the package in a source checkout,
    or the copy in the installed package, or else ``bundles/<name>`` in the working directory. Python names a copy itself:
    ``ConfigWorkflow(config_file, bundle_root=folder)``.

    Args:
        name: the bundle's folder name, such as ``"skipts"``; files that bundles share cannot give one.

    Raises:
        OptionError: no name, and no bundle's config is run on the command line.
    """
    run = _folder_that_is_run(name)
    if run is not None:
        return str(run)
    if name is None:
        raise OptionError(
            "A config that bundles share does not say which bundle it is of, and no bundle's config is run on the command line; expected the bundle's folder, "
            "such as bundle_root='bundles/skipts' among the arguments: name it."
        )
    beside_package = Path(__file__).parents[1] / "bundles"
    places = [place / name for place in (beside_package, INSTALLED, Path.cwd() / "bundles")]
    return str(next((place for place in places if place.is_dir()), places[-1]))


def _folder_that_is_run(name: str | None) -> Path | None:
    for config in _config_files(_given_flags(sys.argv).get("config_file", "")):
        folder = Path(config).absolute().parent  # as it was named: links are not followed, for behind them is what bundles share
        folder = folder.parent if folder.name == "configs" else folder
        # Scripts of the user's own may have such a flag too: the config has to be of a bundle, and of this one.
        if (folder / "metadata.json").is_file():
            told = re.fullmatch(r"\$mab\.root\((?:'(\w+)')?\)", str(ConfigParser.load_config_file(config).get("bundle_root")))
            if told and (name is None or told[1] in (None, name)):
                return folder
    return None


def begin() -> None:
    """Make a run on the command line speak plainly: one sentence instead of a traceback through MONAI when the toolkit refuses something.

    Of several processes, rank 0 tells what they all do; the others tell errors, and which of their files they leave out.
    """
    ignore_optional_decoder()
    sys.excepthook = _report
    if _rank() > 0:
        logging.getLogger().setLevel(logging.ERROR)
        logging.getLogger("monai_anomaly.data").setLevel(logging.WARNING)
    _check_flags(sys.argv)


def _rank() -> int:
    """Number of this process, from its environment: there may be no process group yet."""
    return int(os.environ.get("RANK", "0"))


def _check_flags(arguments: Sequence[str]) -> None:
    """MONAI adds a flag that the config does not have, silently; a mistyped one would change nothing. And it takes ``false`` for a text, which is true."""
    given = _given_flags(arguments)
    configs = _config_files(given.get("config_file", ""))
    keys = [
        key.removeprefix("+").replace("::", "#").split("#")[0] for config in configs for key in ConfigParser.load_config_file(config) or ()
    ]
    if "bundle_root" not in keys:
        return  # not a run of a bundle on the command line: scripts of the user's own may have such a flag, too
    known = {*keys, *inspect.signature(monai.bundle.run).parameters}
    for name, value in given.items():
        if value.lower() in MEANT and value not in ("True", "False"):
            raise OptionError(f"--{name} {value} is a text to MONAI's command line; expected --{name} {MEANT[value.lower()]}.")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise OptionError(
                f"{' + '.join(Path(config).name for config in configs)} has no flag --{name}"
                + (f"; did you mean --{near[0]}?" if near else "; its flags stand in docs/README.md and docs/shared.md.")
            )


def _given_flags(arguments: Sequence[str]) -> dict[str, str]:
    given = {}
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            given[name.replace("::", "#").split("#")[0]] = value or following
    return given


def _config_files(given: str) -> list[str]:
    """Those that are there, of one or of several as the command line names them: ``"['a.json','b.yaml']"`` or ``a.json,b.yaml``."""
    try:
        files = ast.literal_eval(given) if given.startswith(("[", "(")) else [given] if Path(given).is_file() else given.split(",")
    except (SyntaxError, ValueError):
        return []
    return [file for file in files if isinstance(file, str) and file.lower().endswith(CONFIGS) and Path(file).is_file()]


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    inner = find_anomaly_error(error)
    if torch.distributed.is_torchelastic_launched() and issubclass(kind, Exception) and (inner is None or _rank() > 0):
        # Most errors are the same in all processes, or follow from the end of one ("connection closed by peer"): what rank 0 refuses is told once.
        time.sleep(OTHERS_FIRST_S)
    if inner is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        logger.error("%s", inner)


def weights_fallback(dataset_dir: str | Path) -> str | None:
    """What a teacher without weights may fall back to: random ones on the built-in study, nothing on anybody's own data."""
    return "random" if is_builtin_study(dataset_dir) else None


def announce(settings: dict[str, Any], device: torch.device) -> None:
    """Log which profile runs and why.

    Args:
        settings: the bundle's flags with the values in use.
        device: where it trains.
    """
    device = torch.device(device)
    if device.type == "cuda":
        profile, why = "the paper's recipe", f"a GPU is there ({torch.cuda.get_device_name(device)})"
    else:
        profile, why = "the small CPU profile", f"no GPU is used ({torch.get_num_threads()} CPU threads)"
    flags = ", ".join(f"{name} {settings[name]}" for name in ("backbone", "image_size", "epochs", "batch_size", "lr", "seed"))
    logger.info("Defaults are those of %s because %s. In use: %s.", profile, why, flags)
    if is_builtin_study(settings["dataset_dir"]):
        logger.info("Data: the built-in, made-up head CT study at %s; name your own with --dataset_dir.", settings["dataset_dir"])


def refuse_flags(system: str, **flags: Any) -> None:
    """Refuse flags of the bundle that a system put in by an overlay config does not have: they would change nothing.

    Args:
        system: its name.
        flags: those flags; the overlay makes them ``None``.

    Raises:
        OptionError: one has another value.

    Example:
        >>> refuse_flags("TraditionalKD", skips=1)
        Traceback (most recent call last):
        ...
        monai_anomaly.errors.OptionError: TraditionalKD has no skips (1 is given); expected a run without it: leave --skips out.
    """
    for name, value in flags.items():
        if value is not None:
            raise OptionError(f"{system} has no {name} ({value} is given); expected a run without it: leave --{name} out.")


def check_rate(rate: float | None, held_out: Sequence[Case]) -> None:
    """Refuse, before the training and not after it, a false-alarm rate that the held-out patients cannot promise.

    Args:
        rate: the rate asked for, or ``None``.
        held_out: the cases kept for calibration.

    Raises:
        CalibrationError: there are too few held-out patients, or none.
    """
    if rate is None:
        return
    patients = {case_patient(case) for case in held_out}
    if not patients:
        raise CalibrationError(
            f"A false-alarm rate of {rate:g} was asked for, but no patients are held out: set calibration_fraction above 0."
        )
    # The scores themselves do not matter: their number decides what can be promised.
    Calibration([0.0] * len(patients)).threshold(rate)


def check_cases(trained: Sequence[Case], recorded: Sequence[Case]) -> None:
    """Refuse training cases that were put in from outside: record, held-out patients and calibration would be of others.

    Args:
        trained: the cases of the training data set.
        recorded: those that the run's record is about.

    Raises:
        OptionError: they are not the same.

    Example:
        >>> check_cases([{"image": "a.nii.gz"}], [{"image": "a.nii.gz"}])
    """
    if list(trained) != list(recorded):
        raise OptionError(
            f"The training data were replaced by {len(trained)} other cases, while record and calibration are of {len(recorded)} in the data set; expected "
            "its own: name another with --dataset_dir. MONAI Label's app monaibundle cannot train these bundles, for it hands in what was labelled: use "
            "apps/anomaly."
        )


def test_cases(cases: CaseList) -> list[Case]:
    """The cases to score.

    Raises:
        DataError: there are none.
    """
    found = cases.select(split="test")
    if not found:
        raise DataError(
            f"There is nothing to score in {cases.root}: expected test/good and test/<class>, a datalist with 'testing', or plain images."
        )
    return found


def check_output(output_dir: str | Path) -> None:
    """Refuse to write results into the installed package, where the next update deletes them.

    Args:
        output_dir: where the run is about to write.

    Raises:
        OptionError: it lies there, as the default does for an installed bundle that was not laid out first.

    Example:
        >>> check_output("runs/first")
    """
    if Path(output_dir).absolute().is_relative_to(INSTALLED):
        raise OptionError(
            f"Results would go to {output_dir}, which is inside the installed package; expected a folder of yours: name it with --output_dir, or make a "
            "bundle that is yours: python -m monai_anomaly bundle NAME --to DIR."
        )


def evaluate_trained(
    bundle_root: str,
    output_dir: str | Path,
    device: torch.device,
    cases: CaseList,
    complete: bool,
    **overrides: Any,
) -> None:
    """Run the bundle's ``evaluate.json`` on the model of a training, where the data set has labelled test cases.

    Args:
        bundle_root: folder of the bundle.
        output_dir: folder of the training, with ``model.pt``; results go to ``evaluation/`` in it.
        device: where to score.
        cases: what was found in the training's data set, which is not searched again.
        complete: whether the model was there before. If its evaluation is there, too, it stays; one that was interrupted is done again.
        overrides: further top-level keys of ``evaluate.json``.
    """
    if not any("label" in case for case in cases.select(split="test")):
        logger.info("The data set has no labelled test cases: nothing to evaluate. Score new scans with inference.json.")
        return
    model, evaluation = Path(output_dir) / "model.pt", Path(output_dir) / "evaluation"
    if complete and _is_evaluated(model, evaluation / "metrics.json"):
        logger.info("Its evaluation is complete, too: %s", evaluation)
        return
    with contextlib.suppress(OSError):  # from here on the folder holds no complete evaluation
        (evaluation / "metrics.json").unlink()
    workflow = ConfigWorkflow(
        config_file=str(Path(bundle_root) / "evaluate.json"),
        meta_file=str(Path(bundle_root) / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(bundle_root),
        cases=cases,
        model=str(model),
        output_dir=str(evaluation),
        device=device,
        **overrides,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def _is_evaluated(model: Path, metrics: Path) -> bool:
    """Whether metrics, which an evaluation writes last, are of this very model: made with the same settings, data and epochs."""
    try:
        told = json.loads(metrics.read_text("utf-8"))["provenance"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(told == read_model_description(model)["provenance"])
