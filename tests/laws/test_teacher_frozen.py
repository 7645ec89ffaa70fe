"""Promise 3, numbers that can be believed: a training leaves the teacher as it was, and a seed gives one result, to the last bit."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from monai.bundle import ConfigWorkflow
from support.runs import rows
from support.tiny import write_image_folder

from monai_anomaly import bundle
from monai_anomaly.networks.teacher import build_resnet
from monai_anomaly.training import load_detector

TEACHER = "system.teacher."


class Run:
    """A small training through the bundle: the teacher before it, and all that it left."""

    def __init__(self, data, out, **flags):
        root = bundle.root("skipts")
        flow = ConfigWorkflow(
            f"{root}/train.json", logging_file=False, dataset_dir=str(data), output_dir=str(out), backbone="resnet18", image_size=64, epochs=2,
            batch_size=4, **{"teacher_weights": "random", **flags},
        )  # fmt: skip
        flow.initialize()
        detector = flow.parser.get_parsed_content("network_def")
        self.before = {key: value.clone() for key, value in detector.system.teacher.state_dict().items()}
        flow.run()
        self.after = detector.system.teacher.state_dict()
        self.model = torch.load(out / "model.pt", weights_only=True)
        self.losses = json.loads((out / "run.json").read_text())["epochs"]
        self.description = load_detector(out / "model.pt").description
        self.scores = [row["score"] for row in rows(out / "evaluation" / "images.csv")]

    @property
    def student(self):
        return {key: value for key, value in self.model.items() if "student" in key}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_image_folder(tmp_path_factory.mktemp("images") / "set", n_train=8, n_test=2)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return Run(data, tmp_path_factory.mktemp("run"))


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in one)


@pytest.mark.slow
@pytest.mark.parametrize("refresh", [True, False])
def test_a_training_leaves_the_teacher_as_it_was(data, run, tmp_path, refresh):
    """Parameters, running means and variances, and their counters; with and without the pass that measures batch statistics anew."""
    if not refresh:
        run = Run(data, tmp_path, refresh_batch_norm=False, val_interval=1)
    assert {"backbone.bn1.running_mean", "backbone.layer4.1.bn2.num_batches_tracked", "backbone.conv1.weight"} <= set(run.before)
    assert same(run.before, run.after)
    assert same(run.before, {key.removeprefix(TEACHER): value for key, value in run.model.items() if key.startswith(TEACHER)})
    counted = [value for key, value in run.student.items() if key.endswith("num_batches_tracked")]
    assert all(value > 0 for value in counted)  # the student's moved: these are not counters that nobody counts


@pytest.mark.slow
def test_the_model_tells_the_hash_of_the_teacher_that_is_in_it(data, run, tmp_path):
    digest = hashlib.sha256()
    for key in sorted(run.before):
        digest.update(run.model[f"{TEACHER}{key}"].contiguous().numpy().tobytes())
    assert run.description["teacher"]["sha256"] == digest.hexdigest()
    torch.save(build_resnet("resnet18", seed=3).state_dict(), tmp_path / "teacher.pth")
    of_file = Run(data, tmp_path / "out", teacher_weights=str(tmp_path / "teacher.pth"))
    assert of_file.description["teacher"]["sha256"] == hashlib.sha256((tmp_path / "teacher.pth").read_bytes()).hexdigest()
    assert same(of_file.before, of_file.after)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_result_and_another_seed_another(data, run, tmp_path):
    torch.manual_seed(1)  # what ran before does not matter
    again, other = Run(data, tmp_path / "again"), Run(data, tmp_path / "other", seed=7)
    weights = {key: value for key, value in run.model.items() if key != "_extra_state"}
    assert same(weights, {key: value for key, value in again.model.items() if key != "_extra_state"})
    assert (again.losses, again.scores, again.description["calibration"]) == (run.losses, run.scores, run.description["calibration"])
    assert not same(other.student, run.student) and other.losses != run.losses and other.scores != run.scores
