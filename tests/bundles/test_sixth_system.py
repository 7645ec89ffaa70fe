"""A sixth system takes one network file and one bundle folder, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.bundles import BUNDLES
from support.repository import ROOT
from support.tiny import write_image_folder

NETWORK = '''"""Tiny: a convolution for each level."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .features import Features
from .system import System
from .teacher import Teacher


class Tiny(System):
    """The student of each level sees the level itself, through a few channels."""

    stages = 3

    def __init__(self, teacher: Teacher, width: int = 8):
        super().__init__(teacher)
        self.width = width
        self.student = nn.ModuleList(nn.Sequential(nn.Conv2d(c, width, 1), nn.ReLU(), nn.Conv2d(width, c, 1)) for c in teacher.channels)

    @property
    def config(self) -> dict[str, Any]:
        return {"width": self.width}

    def forward(self, image: Tensor) -> Features:
        levels = self.teacher(image)
        return Features(teacher=levels, student=tuple(student(level) for student, level in zip(self.student, levels)))
'''


@pytest.fixture
def clone(tmp_path) -> Path:
    """The package, what bundles share, and the sixth bundle, made of the baseline's folder as CONTRIBUTING says."""
    ignore = shutil.ignore_patterns("__pycache__", "models", "evaluation", "inference")
    shutil.copytree(ROOT / "monai_anomaly", tmp_path / "clone" / "monai_anomaly", ignore=ignore)
    for source, target in (("common", "common"), ("rd4ad", "tiny")):
        shutil.copytree(BUNDLES / source, tmp_path / "clone" / "bundles" / target, symlinks=True, ignore=ignore)
    (tmp_path / "clone" / "monai_anomaly" / "networks" / "tiny.py").write_text(NETWORK)
    config = tmp_path / "clone" / "bundles" / "tiny" / "train.json"
    train = json.loads(config.read_text())
    train |= {"bundle_root": "$mab.root('tiny')", "width": 4, "lr": 0.01}
    train["network_def"]["system"] = {
        "_target_": "monai_anomaly.networks.tiny.Tiny", "teacher": train["network_def"]["system"]["teacher"], "width": "@width",
    }  # fmt: skip
    train |= {"dataset_dir": str(write_image_folder(tmp_path / "set")), "image_size": 64, "epochs": 2, "batch_size": 4}
    train |= {"backbone": "resnet18", "teacher_weights": "random"}
    config.write_text(json.dumps(train))
    return tmp_path / "clone"


def run(clone: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "monai.bundle", "run", *words], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_one_network_file_and_one_bundle_folder_are_a_system(clone):
    """The literal lines, in a copy of the repository; only the numbers of the recipe are small."""
    bundle = clone / "bundles" / "tiny"
    assert "The model of the last epoch (2)" in run(clone, "--config_file", "bundles/tiny/train.json")
    first, second = json.loads((bundle / "models" / "run.json").read_text())["epochs"]
    assert second["loss"] < first["loss"]
    assert json.loads((bundle / "models" / "evaluation" / "metrics.json").read_text())["metrics"]["image"]["n_abnormal"] == 4
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert json.loads(state["_extra_state"].numpy().tobytes())["system"] == "Tiny" and state["system.student.0.0.weight"].shape[0] == 4
    data = json.loads((bundle / "train.json").read_text())["dataset_dir"]
    run(clone, "--config_file", "bundles/tiny/inference.json", "--dataset_dir", data)
    here, there = (bundle / place / "images.csv" for place in ("inference", "models/evaluation"))
    assert len(here.read_text().splitlines()) == len(there.read_text().splitlines()) == 9
    assert {path.name for path in (clone / "bundles" / "common").iterdir()} == {path.name for path in (BUNDLES / "common").iterdir()}
