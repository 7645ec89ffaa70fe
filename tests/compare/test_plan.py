from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.tiny import write_image_folder

from monai_anomaly.compare import parse_flags
from monai_anomaly.compare.plan import plan_runs, read_data_sets
from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.networks.teacher import build_resnet

OUT = Path("/out")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images") / "toy")


def plan(images, *systems, seeds=1, epochs=2, shared=()):
    return plan_runs(read_data_sets([images]), systems, seeds, epochs, parse_flags(shared), OUT)


def test_every_system_on_every_data_set_with_every_seed(images, tmp_path):
    other = write_image_folder(tmp_path / "other", seed=1)
    runs = plan_runs(read_data_sets([images, other]), ["skipts", "skipts:beta=0"], 3, 5, {}, OUT)
    assert [(run.dataset.name, run.seed, str(run.spec)) for run in runs] == [
        (name, seed, system) for name in ("toy", "other") for seed in (42, 142, 242) for system in ("skipts", "skipts:beta=0")
    ]
    assert len({run.folder for run in runs}) == 12
    flags = runs[1].flags
    assert (flags["calibration_fraction"], flags["val_interval"], flags["epochs"], flags["seed"], flags["beta"]) == (0, 5, 5, 42, 0)
    assert flags["dataset_dir"] == images and flags["output_dir"] == runs[1].folder


def test_a_systems_own_flags_go_before_those_of_all(images):
    first, second = plan(images, "skipts", "skipts:lr=0.1", shared=["lr=0.2", "calibration_fraction=0.25"])
    assert (first.flags["lr"], second.flags["lr"]) == (0.2, 0.1) and first.flags["calibration_fraction"] == 0.25


def test_other_rules_of_scoring_share_the_training(images):
    full, maps, pooled = plan(images, "skipts", "skipts:maps=[2,3]", "skipts:maps=[2,3],pooling=mean")
    assert full.folder == maps.folder == pooled.folder and full.flags == maps.flags
    assert len({run.evaluation for run in (full, maps, pooled)}) == 3 and full.evaluation == full.folder / "evaluation"
    assert maps.training == full and maps.evaluate_flags["maps"] == [2, 3] and "pooling" not in maps.evaluate_flags


def test_a_folder_is_that_of_data_and_settings_and_of_nothing_else(images, tmp_path):
    (run,) = plan(images, "skipts")
    moved = shutil.copytree(images, tmp_path / "elsewhere" / "toy")
    assert plan(moved, "skipts")[0].folder == run.folder
    assert plan(images, "skipts", shared=["num_workers=1", "lr=0.005"])[0].folder == run.folder
    for other in (plan(images, "skipts", epochs=3), plan(images, "skipts", shared=["image_size=64"]), plan(images, "skipts:lr=0.1")):
        assert other[0].folder != run.folder
    (moved / "test" / "good" / "000.png").rename(moved / "test" / "square" / "zzz.png")
    assert plan(moved, "skipts")[0].folder != run.folder


def test_a_changed_mask_is_another_data_set(images, tmp_path):
    moved = shutil.copytree(images, tmp_path / "toy")
    (mask,) = sorted((moved / "ground_truth" / "square").iterdir())[:1]
    Image.open(mask).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(mask)
    assert plan(moved, "skipts")[0].folder != plan(images, "skipts")[0].folder


def test_a_weight_file_counts_by_its_content(images, tmp_path):
    folders = []
    torch.save(build_resnet("resnet18", 0).state_dict(), tmp_path / "a.pth")
    shutil.copy(tmp_path / "a.pth", tmp_path / "b.pth")
    torch.save(build_resnet("resnet18", 1).state_dict(), tmp_path / "c.pth")
    for name in ("a.pth", "b.pth", "c.pth"):
        folders.append(plan(images, "skipts", shared=[f"teacher_weights={tmp_path / name}"])[0].folder)
    assert folders[0] == folders[1] != folders[2]


@pytest.mark.parametrize(("seeds", "epochs"), [(0, 1), (1, 0)])
def test_numbers_below_one_are_refused(images, seeds, epochs):
    with pytest.raises(OptionError, match="from 1 upwards"):
        plan(images, "skipts", seeds=seeds, epochs=epochs)


def test_a_system_given_twice_is_refused(images):
    with pytest.raises(OptionError, match="given twice"):
        plan(images, "skipts:beta=0,lr=1", "skipts:lr=1,beta=0")


def test_a_value_that_cannot_be_evaluated_is_refused(images):
    with pytest.raises(OptionError, match="settings of skipts"):
        plan(images, "skipts:lr=$1/0")


def test_two_data_sets_of_one_name_are_refused(images, tmp_path):
    with pytest.raises(OptionError, match="Two data sets are called toy"):
        read_data_sets([images, write_image_folder(tmp_path / "toy")])


@pytest.mark.parametrize("missing", ["train", "test/good", "test/square"])
def test_a_data_set_without_something_to_compare_is_refused(images, tmp_path, missing):
    folder = shutil.copytree(images, tmp_path / "toy")
    shutil.rmtree(folder / missing)
    with pytest.raises(DataError, match="something to compare"):
        read_data_sets([folder])
