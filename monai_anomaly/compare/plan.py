"""What a comparison consists of: every system on every data set with every seed, each with a folder of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser

from ..data import CaseList, find_cases, fingerprint
from ..data.names import slug
from ..errors import DataError, OptionError
from ..files import file_sha256, safe_name
from ..training.identity import cases_digest
from .specs import BUDGET, Spec, check_flags, parse_spec

__all__ = ["DataSet", "Run", "plan_runs", "read_data_sets"]

FIRST_SEED, SEED_STEP = 42, 100

_RESCORED = ("batch_size", "cache_dir", "cache_gb", "device", "num_workers")
"""Flags that evaluate.json takes over from a training."""


class DataSet(NamedTuple):
    """A data set with what tells it from every other."""

    name: str
    folder: Path
    cases: CaseList
    fingerprint: str
    """Of its pixels."""
    digest: str
    """Of its images, labels, masks and order, training and test."""


class Run(NamedTuple):
    """A system on a data set with a seed."""

    dataset: DataSet
    spec: Spec
    seed: int
    epochs: int
    folder: Path
    """Of the training: model, record, log, and the evaluations below it."""
    flags: Mapping[str, Any]
    """All flags that train.json is given."""

    @property
    def name(self) -> str:
        """How it is called on the terminal."""
        return f"{self.dataset.name} {self.spec} seed {self.seed}"

    @property
    def evaluation(self) -> Path:
        """Folder of the evaluation; the training's own, or one more for flags of scoring."""
        rule = ",".join(f"{name}={value}" for name, value in sorted(self.spec.scoring.items()))
        return self.folder / (safe_name(f"evaluation,{rule}") if rule else "evaluation")

    @property
    def training(self) -> Run:
        """The run that trains the model; itself, unless flags of scoring are set."""
        return self._replace(spec=self.spec.trained)

    @property
    def evaluate_flags(self) -> dict[str, Any]:
        """All flags that evaluate.json is given, where flags of scoring are set."""
        kept = {name: self.flags[name] for name in _RESCORED if name in self.flags}
        told = {"dataset_dir": self.dataset.folder, "model": self.folder / "model.pt", "output_dir": self.evaluation}
        return {**kept, **self.spec.scoring, **told}


def read_data_sets(folders: Sequence[str | Path]) -> list[DataSet]:
    """Find the cases of data sets, and refuse those on which nothing can be compared.

    Args:
        folders: see :func:`~monai_anomaly.data.find_cases`.

    Raises:
        DataError: a data set without training cases, or without labelled normal and abnormal test cases.
        OptionError: two of the same name.
    """
    found: dict[str, DataSet] = {}
    for folder in folders:
        path = Path(folder).expanduser().absolute()
        cases = find_cases(path)
        train, test = cases.select(split="train"), cases.select(split="test")
        labels = {case.get("label") for case in test}
        counts = [len(train), *(len(cases.select("test", label)) for label in (0, 1))]
        # In a volume with a mask, slices have labels of their own.
        both = {0, 1} <= labels or (labels != {None} and any(".nii" in Path(case.get("mask", "")).suffixes for case in test))
        if not train or not both:
            raise DataError(
                f"{path} has {counts[0]} cases to train on, and {counts[1]} normal and {counts[2]} abnormal ones to test on; expected some of each, so "
                "that there is something to compare: train/good, test/good, test/<class>, or a datalist with labels."
            )
        name = slug(path.name)
        if name in found:
            raise OptionError(
                f"Two data sets are called {name}: {found[name].folder} and {path}; expected different names: rename one folder."
            )
        found[name] = DataSet(name, path, cases, fingerprint(cases.cases), cases_digest(train, test))
    return list(found.values())


def plan_runs(
    datasets: Sequence[DataSet], systems: Sequence[str], seeds: int, epochs: int, shared: Mapping[str, Any], out: Path
) -> list[Run]:
    """Every run, with all systems of a seed before the next seed.

    A run's folder is called after data set, system and seed, with a digest of the data and one of all settings in use: nothing finished is ever taken for a run
    of other data, settings or defaults.

    Args:
        datasets: from :func:`read_data_sets`.
        systems: see :func:`~monai_anomaly.compare.parse_spec`.
        seeds: how many; 42, 142, 242, ...
        epochs: of each training.
        shared: further flags for every training; a system's own go before.
        out: the comparison's folder.

    Raises:
        OptionError: an unknown system or flag, a system given twice, or a number below 1.
    """
    for name, number in (("seeds", seeds), ("epochs", epochs)):
        if number < 1:
            raise OptionError(f"{name} is {number}; expected a number from 1 upwards.")
    specs: list[Spec] = []
    for text in systems:
        spec = parse_spec(text)
        if spec in specs:
            raise OptionError(f"The system {text!r} is given twice; expected each once.")
        check_flags(spec, shared, "--set")
        specs.append(spec)
    runs = []
    plans = [(spec, _training_flags(spec, epochs, shared)) for spec in specs]
    digests = [_settings_digest(spec, flags) for spec, flags in plans]
    for dataset in datasets:
        place = out / f"{dataset.name}-{dataset.digest[:8]}"
        for seed in range(FIRST_SEED, FIRST_SEED + SEED_STEP * seeds, SEED_STEP):
            for (spec, flags), digest in zip(plans, digests, strict=True):
                folder = place / f"{slug(str(spec.trained))}-{digest[:8]}" / f"seed{seed}"
                told = {"dataset_dir": dataset.folder, "output_dir": folder, "seed": seed}
                runs.append(Run(dataset, spec, seed, epochs, folder, {**flags, **told}))
    return runs


def _training_flags(spec: Spec, epochs: int, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The whole split as the papers have it, and one look at the training normals instead of many."""
    return {"calibration_fraction": 0, "val_interval": epochs, **shared, **spec.trained.flags, "epochs": epochs}


def _settings_digest(spec: Spec, flags: Mapping[str, Any]) -> str:
    """Of every setting that a number can depend on, defaults included; they depend on the machine, too."""
    parser = ConfigParser()
    parser.read_config([str(path) for path in spec.configs])
    # The data set and the folder of the run come later, and no setting is made of them.
    parser.update({**flags, "dataset_dir": "", "output_dir": ""})
    try:
        settings = dict(parser.get_parsed_content("settings"))
    except Exception as error:  # a value that begins with $ is run, and can fail anywhere
        raise OptionError(
            f"The settings of {spec} cannot be made ({error}); expected values that its train.json can use: correct its flags or --set."
        ) from error
    weights = Path(str(settings.get("teacher_weights", ""))).expanduser()
    if weights.is_file():
        settings["teacher_weights"] = file_sha256(weights)
    kept = {name: value for name, value in settings.items() if name not in BUDGET or name == "epochs"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()
