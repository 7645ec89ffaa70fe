"""Promise 5, stop it any time: killed at any moment and started again by the same command, a run ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import killing
from support.bundles import BUNDLE, SMALL, run_bundle
from support.permissions import permissions_hold
from support.runs import assert_same_end, losses, state
from support.tiny import write_image_folder

from monai_anomaly.errors import CheckpointError, DataError, OptionError
from monai_anomaly.networks.teacher import build_resnet
from monai_anomaly.training import DistillationTrainer, RunRecord, SaveDetector

FLAGS = {**SMALL, "epochs": 4}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Rounding depends on the number of threads; processes of this file have one, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images") / "set")


@pytest.fixture(scope="module")
def uninterrupted(images, tmp_path_factory) -> Path:
    """Four epochs in one go."""
    out = tmp_path_factory.mktemp("uninterrupted")
    train(images, out)
    return out


@pytest.fixture(scope="module")
def two_epochs(images, tmp_path_factory) -> Path:
    """A complete run of two epochs, to be copied."""
    out = tmp_path_factory.mktemp("two")
    train(images, out, epochs=2)
    return out


@pytest.fixture
def run_of_two(two_epochs, tmp_path) -> Path:
    return Path(shutil.copytree(two_epochs, tmp_path / "run"))


def train(images: Path, out: Path, **flags) -> None:
    run_bundle("train", dataset_dir=str(images), output_dir=str(out), **{**FLAGS, **flags})


def command(images: Path, out: Path, instant: str, **flags) -> tuple[int, str]:
    """Exit status and output. Not through a pipe: loader processes outlive their killed parent for seconds, and would hold it open."""
    words = [f"--{name}={value}" for name, value in {"dataset_dir": images, "output_dir": out, **FLAGS, **flags}.items()]
    line = [sys.executable, killing.__file__, instant, "run", f"--config_file={BUNDLE / 'train.json'}", *words]
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(line, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"})
        said.seek(0)
        return done.returncode, said.read()


def content(folder: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of every file."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_killed_in_the_middle_of_an_epoch(images, uninterrupted, tmp_path, num_workers):
    status, said = command(images, tmp_path, "in_the_middle_of_epoch_3", num_workers=num_workers)
    assert status == -signal.SIGKILL, said[-2000:]
    assert (tmp_path / "checkpoint.pt").is_file() and not (tmp_path / "model.pt").exists()
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "training"
    train(images, tmp_path, num_workers=num_workers)
    assert_same_end(tmp_path, uninterrupted)
    assert [stop["after_epoch"] for stop in json.loads((tmp_path / "run.json").read_text())["resumed"]] == [2]


@pytest.mark.slow
def test_killed_in_a_checkpoint_write(images, uninterrupted, tmp_path):
    status, said = command(images, tmp_path, "in_the_second_writing_of_the_checkpoint")
    assert status == -signal.SIGKILL, said[-2000:]
    assert len(list(tmp_path.glob(".checkpoint.pt.*.part"))) == 1
    train(images, tmp_path)
    assert_same_end(tmp_path, uninterrupted)
    assert [stop["after_epoch"] for stop in json.loads((tmp_path / "run.json").read_text())["resumed"]] == [1]


@pytest.mark.slow
def test_killed_in_the_evaluation(images, uninterrupted, tmp_path, caplog):
    status, said = command(images, tmp_path, "in_the_evaluation")
    assert status == -signal.SIGKILL, said[-2000:]
    assert (tmp_path / "evaluation" / "images.csv").is_file() and not (tmp_path / "evaluation" / "metrics.json").exists()
    before = content(tmp_path)
    with caplog.at_level("INFO"):
        train(images, tmp_path)
    assert_same_end(tmp_path, uninterrupted)
    assert "already complete" in caplog.text and "evaluation is complete" not in caplog.text
    assert {name: value for name, value in content(tmp_path).items() if "evaluation" not in name} == {
        name: value for name, value in before.items() if "evaluation" not in name
    }


@pytest.mark.slow
def test_a_full_disk_ends_in_a_sentence_and_leaves_the_checkpoint_whole(images, uninterrupted, run_of_two):
    before = content(run_of_two)
    status, said = command(images, run_of_two, "with_room_for_10_mb")
    assert status == 1 and "checkpoint.pt could not be written (File too large)" in said and "Traceback" not in said
    after = content(run_of_two)
    assert {name for name in before if before[name] != after.get(name)} == {"run.json"}
    assert {name.split("/")[0] for name in set(after) - set(before)} == {"tensorboard"}
    assert json.loads((run_of_two / "run.json").read_text())["status"] == "ended by DataError"
    train(images, run_of_two)
    assert_same_end(run_of_two, uninterrupted)


def test_more_epochs_end_as_if_they_had_been_asked_for_at_once(images, uninterrupted, run_of_two, caplog):
    with caplog.at_level("INFO"):
        train(images, run_of_two)
    assert_same_end(run_of_two, uninterrupted)
    assert "Going on after epoch 2 of 4." in caplog.text


@pytest.mark.parametrize(("handler", "call"), [(SaveDetector, "__call__"), (RunRecord, "_complete")])
def test_stopped_between_the_last_epoch_and_the_end(images, uninterrupted, tmp_path, monkeypatch, caplog, handler, call):
    """Before the model is written, and after it, when only the record is missing."""
    with monkeypatch.context() as patch:
        patch.setattr(handler, call, stop)
        with pytest.raises(KeyboardInterrupt):
            train(images, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "ended by KeyboardInterrupt"
    with caplog.at_level("INFO"), monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "_iteration", stop)  # no batch is trained
        train(images, tmp_path)
    assert_same_end(tmp_path, uninterrupted)
    assert "Going on after epoch 4 of 4." in caplog.text


def test_stopped_before_the_first_checkpoint_it_starts_anew(images, uninterrupted, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("somebody's own")
    with monkeypatch.context() as patch:
        patch.setattr("monai_anomaly.training.TrainingCheckpoint.__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            train(images, tmp_path, lr=0.1)
    train(images, tmp_path)  # other settings, too: there is nothing to lose
    assert_same_end(tmp_path, uninterrupted)
    assert (tmp_path / "notes.txt").read_text() == "somebody's own"


def test_by_the_papers_recipe_and_with_a_longer_interval(images, tmp_path, monkeypatch):
    """As on a GPU: the running averages of batch normalisation are those of the training, and few epochs are written, but the last one always."""
    flags = {"refresh_batch_norm": False, "checkpoint_interval": 3}
    train(images, tmp_path / "whole", **flags)
    out = tmp_path / "out"
    train(images, out, epochs=1, **flags)
    with monkeypatch.context() as patch:
        patch.setattr(SaveDetector, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            train(images, out, epochs=2, **flags)
    train(images, out, **flags)
    assert_same_end(out, tmp_path / "whole")
    assert [stop["after_epoch"] for stop in json.loads((out / "run.json").read_text())["resumed"]] == [1, 2]


def stop(*_) -> None:
    raise KeyboardInterrupt


def test_a_complete_run_is_left_as_it_is(images, run_of_two, caplog):
    before = content(run_of_two)
    with caplog.at_level("INFO"):
        train(images, run_of_two, epochs=2)
    assert content(run_of_two) == before
    assert "already complete" in caplog.text and "Its evaluation is complete, too" in caplog.text


def test_the_same_content_elsewhere_is_the_same_run(images, tmp_path):
    """The data set moved, its files renamed in the same order, the teacher's file moved and renamed."""
    weights = tmp_path / "weights.pth"
    torch.save(build_resnet("resnet18", seed=1).state_dict(), weights)
    whole, out = tmp_path / "whole", tmp_path / "out"
    train(images, whole, teacher_weights=str(weights))
    train(images, out, teacher_weights=str(weights), epochs=1)
    moved = Path(shutil.copytree(images, tmp_path / "elsewhere"))
    for path in (moved / "train" / "good").iterdir():
        path.rename(path.with_name(f"scan {path.name}"))
    (tmp_path / "other").mkdir()
    train(moved, out, teacher_weights=str(weights.rename(tmp_path / "other" / "teacher.pt")))
    here, there = state(out), state(whole)
    assert not [key for key in here if key != "_extra_state" and not torch.equal(here[key], there[key])] and losses(out) == losses(whole)


def other_teacher(folder: Path) -> dict[str, str]:
    torch.save(build_resnet("resnet18", seed=1).state_dict(), folder / "other.pth")
    return {"teacher_weights": str(folder / "other.pth")}


def other_data(folder: Path) -> dict[str, str]:
    return {"dataset_dir": str(write_image_folder(folder / "other", seed=1))}


@pytest.mark.parametrize(
    ("flags", "said", "error"),
    [
        ({"epochs": 1}, ["2 epochs are done", "only 1 are asked for"], OptionError),
        ({"image_size": 32}, ["image_size was 64 and is 32"], CheckpointError),
        ({"seed": 7, "lr": 0.1}, ["seed was 42 and is 7", "lr was 0.005 and is 0.1"], CheckpointError),
        ({"skips": 0}, ["skips was 2 and is 0"], CheckpointError),
        ({"blocks": [1, 1, 1]}, ["blocks was None and is [1, 1, 1]"], CheckpointError),
        ({"false_alarm_rate": 0.4}, ["false_alarm_rate was None and is 0.4"], CheckpointError),
        ({"refresh_batch_norm": False}, ["refresh_batch_norm was True and is False"], CheckpointError),
        (other_teacher, ["the teacher's weights (SHA-256) was "], CheckpointError),
        (other_data, ["the images (fingerprint) was "], CheckpointError),
        ({"epochs": 0}, ["epochs is 0"], OptionError),
    ],
)
@pytest.mark.parametrize("left", ["checkpoint.pt", "model.pt"])
def test_another_run_is_refused_and_nothing_is_lost(images, run_of_two, tmp_path, flags, said, error, left, capsys):
    """Whichever of the two files is there: that of an interrupted run, or of one whose checkpoint was deleted."""
    (run_of_two / {"checkpoint.pt": "model.pt", "model.pt": "checkpoint.pt"}[left]).unlink()
    before = content(run_of_two)
    flags = {"epochs": 2, **(flags(tmp_path) if callable(flags) else flags)}
    with pytest.raises(error) as caught:
        train(flags.pop("dataset_dir", images), run_of_two, **flags)
    assert all(words in str(caught.value) for words in said) and content(run_of_two) == before
    assert "reading" not in capsys.readouterr().err  # nothing was decoded to train on


def test_labels_masks_order_and_patients_are_part_of_a_run(images, tmp_path):
    """None of them changes the pixels of the data set, each changes what is trained on, or held out."""
    names = [str(path) for path in sorted((images / "train" / "good").iterdir())]
    masks = [str(path) for path in sorted((images / "ground_truth" / "square").iterdir())]
    cases = [{"image": name, "patient": str(k)} for k, name in enumerate(names)]
    cases[0]["mask"] = masks[0]
    variants = {
        "order": [*cases[1:], cases[0]],
        "patients": [cases[0], {**cases[1], "patient": "0"}, *cases[2:]],
        "labels": [{**cases[0], "label": 0}, *cases[1:]],
        "masks": [{**cases[0], "mask": masks[1]}, *cases[1:]],
    }
    datalist, out = tmp_path / "datalist.json", tmp_path / "out"

    def run(entries: list[dict[str, str]], epochs: int) -> None:
        datalist.write_text(json.dumps({"training": entries}))
        train(datalist, out, epochs=epochs, calibration_fraction=0)

    run(cases, 1)
    for entries in variants.values():
        with pytest.raises(CheckpointError, match="order, labels, masks or patients"):
            run(entries, 2)
    run(cases, 2)


@pytest.mark.parametrize("epochs", [2, 4])
def test_a_model_without_its_checkpoint_is_complete_or_the_end(images, run_of_two, epochs):
    (run_of_two / "checkpoint.pt").unlink()
    before = content(run_of_two)
    with contextlib.nullcontext() if epochs == 2 else pytest.raises(CheckpointError, match=r"no checkpoint\.pt to go on from to 4"):
        train(images, run_of_two, epochs=epochs)
    assert content(run_of_two) == before


@pytest.mark.parametrize("name", ["checkpoint.pt", "model.pt"])
def test_a_file_that_cannot_be_read_is_never_written_over(images, run_of_two, name):
    path = run_of_two / name
    path.write_bytes(path.read_bytes()[:-1000])
    before = content(run_of_two)
    with pytest.raises(CheckpointError, match=name):
        train(images, run_of_two)
    assert content(run_of_two) == before


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_training(tmp_path, capsys):
    images = write_image_folder(tmp_path / "set")
    train(images, tmp_path / "run", epochs=1)
    before = content(tmp_path)
    capsys.readouterr()
    with read_only(tmp_path):
        with pytest.raises(DataError, match=r"could not be written \(Permission denied\)"):
            train(images, tmp_path / "run", epochs=2)
        with pytest.raises(DataError, match=r"could not be written \(Permission denied\)"):
            train(images, tmp_path / "new", epochs=2)
        assert "reading" not in capsys.readouterr().err
        train(images, tmp_path / "run", epochs=1)  # complete: nothing needs to be written
    assert content(tmp_path) == before


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for place in places:
        place.chmod(0o555)
    try:
        with permissions_hold():
            yield
    finally:
        for place in places:
            place.chmod(0o755)


def test_other_versions_are_said_and_recorded(images, run_of_two, caplog):
    path = run_of_two / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    about = json.loads(saved["about"].numpy().tobytes())
    about["record"]["versions"]["torch"] = "2.8.0"
    torch.save({**saved, "about": torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)}, path)
    train(images, run_of_two)
    (said,) = [record.getMessage() for record in caplog.records if "goes on elsewhere" in record.getMessage()]
    assert f"torch was 2.8.0 and is {torch.__version__}." in said
    (resumed,) = json.loads((run_of_two / "run.json").read_text())["resumed"]
    assert resumed == {"after_epoch": 2, "changed": {"torch": ["2.8.0", torch.__version__]}}
