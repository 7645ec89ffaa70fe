"""Promise 3, numbers that can be believed: nothing is chosen on the test set, patients are not divided, and each figure says what it is of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.bundles import SMALL, run_bundle
from support.runs import losses
from support.tiny import write_image_folder

from monai_anomaly.data import split_calibration
from monai_anomaly.training import load_detector

FLAGS = {**SMALL, "epochs": 2, "calibration_fraction": 0.25}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Two trainings on the same normal images; in the second data set normal and abnormal test images have changed places."""
    place, found = tmp_path_factory.mktemp("runs"), {}
    write_image_folder(place / "true", n_train=8, n_test=3)
    shutil.copytree(place / "true" / "train", place / "flipped" / "train")
    for here, there in (("good", "square"), ("square", "good")):
        shutil.copytree(place / "true" / "test" / here, place / "flipped" / "test" / there)
    for name in ("true", "flipped"):
        found[name] = place / f"{name}_out"
        run_bundle("train", dataset_dir=str(place / name), output_dir=str(found[name]), val_interval=1, **FLAGS)
    return found


def metrics(run: Path) -> dict:
    return json.loads((run / "evaluation" / "metrics.json").read_text())


def test_test_labels_change_no_weight_and_no_threshold(runs):
    models = [torch.load(run / "model.pt", weights_only=True) for run in runs.values()]
    described = {"_extra_state"}  # says which data set it was
    assert not [key for key in models[0].keys() - described if not torch.equal(models[0][key], models[1][key])]
    calibrations = [load_detector(run / "model.pt").calibration for run in runs.values()]
    assert calibrations[0] == calibrations[1]
    one, other = (metrics(run)["metrics"]["image"] for run in runs.values())
    assert one["threshold"] == other["threshold"] and one["auroc"] == pytest.approx(1 - other["auroc"])


def test_the_model_is_that_of_the_last_epoch(runs):
    assert len(losses(runs["true"])) == 2 == metrics(runs["true"])["provenance"]["epochs"]


def test_seed_versions_teacher_and_data_stand_beside_every_figure(runs):
    told, run = metrics(runs["true"]), json.loads((runs["true"] / "run.json").read_text())
    assert told["provenance"]["settings"]["seed"] == run["settings"]["seed"] == 42
    assert told["teacher"]["sha256"] == run["teacher"]["sha256"] and len(told["teacher"]["sha256"]) == 64
    assert told["provenance"]["data_fingerprint"] == run["data"]["fingerprint"] and len(run["data"]["fingerprint"]) == 64
    assert told["provenance"]["cases_fingerprint"] == run["data"]["cases_fingerprint"]
    assert {"monai_anomaly", "python", "torch", "torchvision", "monai", "numpy"} <= told["versions"].keys() & told["provenance"][
        "versions"
    ].keys()


@pytest.mark.parametrize("seed", range(5))
def test_the_series_of_a_patient_stay_together(seed):
    cases = [{"image": f"{patient}_{k}.nii.gz", "series": f"{patient}_{k}", "patient": patient} for k in range(3) for patient in "abcdefgh"]
    train, held_out = split_calibration(cases, 0.25, seed)
    here, there = ({case["patient"] for case in part} for part in (train, held_out))
    assert len(train) + len(held_out) == len(cases) and here and len(there) == 2 and not here & there
