"""The overlay that puts traditional knowledge distillation into the Skip-TS bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.bundles import SMALL, run_bundle
from support.tiny import write_image_folder

from monai_anomaly.errors import CheckpointError, OptionError
from monai_anomaly.networks import TraditionalKD
from monai_anomaly.training import load_detector

TINY = {**SMALL, "image_size": 32, "calibration_fraction": 0}


def train(*overlays: str, **flags) -> None:
    run_bundle("train", overlays=overlays, **{**TINY, **flags})


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images") / "toy")


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("kd")
    train("traditional_kd", dataset_dir=str(images), output_dir=str(out))
    return out


@pytest.mark.slow
def test_it_trains_another_system_and_its_record_says_so(trained):
    detector = load_detector(trained / "model.pt")
    assert isinstance(detector.system, TraditionalKD) and detector.system.teacher.stages == 3 and detector.system.seed == 43
    for settings in (json.loads((trained / "run.json").read_text())["settings"], detector.provenance["settings"]):
        assert settings["system"] == "TraditionalKD" and [settings[name] for name in ("skips", "deconv_kernel", "blocks")] == [None] * 3
    assert "auroc" in json.loads((trained / "evaluation" / "metrics.json").read_text())["metrics"]["image"]


@pytest.mark.slow
def test_its_student_starts_elsewhere_with_another_seed(images, tmp_path):
    train("traditional_kd", dataset_dir=str(images), output_dir=str(tmp_path), lr=0.0, seed=142)
    student = load_detector(tmp_path / "model.pt").system
    assert not torch.equal(student.stem[0].weight, TraditionalKD(student.teacher, seed=43).stem[0].weight)
    assert torch.equal(student.stem[0].weight, TraditionalKD(student.teacher, seed=143).stem[0].weight)


@pytest.mark.slow
def test_it_is_never_taken_for_the_bundles_own_system(images, trained):
    with pytest.raises(CheckpointError, match=r"is of another run: .*skips was None and is 2; system was TraditionalKD and is not known"):
        train(dataset_dir=str(images), output_dir=str(trained))


@pytest.mark.parametrize("flag", [{"skips": 1}, {"deconv_kernel": 3}, {"blocks": [1, 1, 1]}])
def test_flags_of_the_decoder_are_refused(images, tmp_path, flag):
    (name,) = flag
    with pytest.raises(OptionError, match=f"TraditionalKD has no {name}"):
        train("traditional_kd", dataset_dir=str(images), output_dir=str(tmp_path), **flag)
    assert not list(tmp_path.iterdir())
