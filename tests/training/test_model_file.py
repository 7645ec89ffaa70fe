from __future__ import annotations

import json

import pytest
import torch
from support.tiny import tiny_detector

from monai_anomaly.errors import CheckpointError, OptionError
from monai_anomaly.networks import AnomalyDetector, Teacher, TraditionalKD
from monai_anomaly.scoring import AnomalyMap, Pooling
from monai_anomaly.training import load_detector, save_detector

IMAGE = torch.linspace(-2, 2, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    detector = tiny_detector(skips=1)
    detector.calibration = {"colour_range": [0.1, 0.9], "series_pooling": "max", "image": {"scores": [0.5]}, "patient": {"scores": [0.5]}}
    detector.provenance = {"epochs": 3}
    detector.train()(IMAGE)  # the student's running statistics move
    return detector.eval(), save_detector(detector, tmp_path_factory.mktemp("model") / "model.pt")


def test_a_detector_comes_back_whole(saved):
    detector, path = saved
    loaded = load_detector(path)
    with torch.no_grad():
        assert torch.equal(loaded(IMAGE), detector(IMAGE))
    assert loaded.description == detector.description
    assert loaded.system.skips == 1 and loaded.colour_range == (0.1, 0.9) and not loaded.training
    assert loaded.system.teacher.source == "random" and loaded.system.teacher.sha256 == detector.system.teacher.sha256


def test_the_file_is_a_plain_state_dict_that_monai_can_copy(saved):
    from monai.networks.utils import copy_model_state

    detector, path = saved
    state = torch.load(path, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    fresh = tiny_detector(seed=1, skips=1).eval()
    copy_model_state(fresh, state)
    with torch.no_grad():
        assert torch.equal(fresh(IMAGE), detector(IMAGE))


def test_other_systems_come_back_too(tmp_path):
    system = TraditionalKD(Teacher("resnet18", weights="random", stages=3), seed=4)
    detector = AnomalyDetector(system, AnomalyMap([2, 3], 2.0), Pooling("top_20%")).eval()
    loaded = load_detector(save_detector(detector, tmp_path / "model.pt"))
    with torch.no_grad():
        assert torch.equal(loaded(IMAGE), detector(IMAGE))
    assert loaded.pooling.rule == "top_20%" and loaded.anomaly_map.sigma_px == 2.0


def test_another_rule_drops_the_calibration_and_says_so(saved, caplog):
    _, path = saved
    loaded = load_detector(path, maps=[3], pooling="mean")
    assert loaded.anomaly_map.maps == (3,) and loaded.pooling.rule == "mean"
    assert loaded.calibration == {"series_pooling": "max"} and "does not apply" in caplog.text
    assert loaded.colour_range == (0.0, 1.0)


def test_other_maps_keep_the_fusion_and_the_refinement(tmp_path):
    detector = tiny_detector()
    detector.set_map(AnomalyMap(sigma_px=2.0, fusion="mean", refine=True))
    loaded = load_detector(save_detector(detector, tmp_path / "model.pt"), maps=[2, 3])
    assert loaded.anomaly_map.config == {"maps": [2, 3], "sigma_px": 2.0, "fusion": "mean", "refine": True}


def test_a_model_from_before_fusions_is_a_sum(saved, tmp_path):
    detector, path = saved
    torch.save(describe(torch.load(path, weights_only=True), anomaly_map={"maps": [1, 2, 3], "sigma_px": 4.0}), tmp_path / "model.pt")
    loaded = load_detector(tmp_path / "model.pt")
    assert loaded.anomaly_map.config == detector.anomaly_map.config == AnomalyMap().config


def test_a_number_is_no_list_of_maps(saved):
    with pytest.raises(OptionError, match=r"maps is 2; expected a list of levels, such as \[1, 2, 3\]"):
        load_detector(saved[1], maps=2)  # as the command line gives --maps 2


def test_the_trainings_own_rule_keeps_the_calibration(saved):
    assert load_detector(saved[1], maps=[1, 2, 3], pooling="max").calibration == saved[0].calibration
    assert load_detector(saved[1], pooling="mean").colour_range == (0.1, 0.9)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match="train first"):
        load_detector(tmp_path / "model.pt")


def test_a_pickle_is_refused_without_running_it(tmp_path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (canary.write_text, ("executed",))

    torch.save({"_extra_state": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="nothing in it was executed"):
        load_detector(tmp_path / "evil.pt")
    assert not canary.exists()


def test_broken_files_are_refused(saved, tmp_path):
    _, path = saved
    data = path.read_bytes()
    for name, content in {"truncated": data[: len(data) // 2], "empty": b"", "text": b"not a model"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            load_detector(tmp_path / name)


def describe(state, **changes):
    description = json.loads(state["_extra_state"].numpy().tobytes()) | changes
    return {**state, "_extra_state": torch.frombuffer(bytearray(json.dumps(description).encode()), dtype=torch.uint8)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system": "os.system"}, "cannot build"),
        ({"options": {"skips": 7}}, "cannot build"),
        ({"options": {"surprise": 1}}, "cannot build"),
        ({"teacher": {"source": "x", "sha256": ""}}, "cannot build"),
        ({"teacher": {"name": "resnet34", "stages": 4, "seed": 0, "source": "x", "sha256": ""}}, "do not fit"),
        ({"pooling": "median"}, "cannot build"),
        ({"format": 99}, "format 99"),
        ({"extra": 1}, "cannot be read"),
        ({"options": []}, "cannot be read"),
    ],
)
def test_a_changed_description_is_refused(saved, tmp_path, change, message):
    state = torch.load(saved[1], weights_only=True)
    torch.save(describe(state, **change), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=message):
        load_detector(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "extra", [torch.zeros(3, dtype=torch.uint8), torch.zeros(2), torch.tensor(list(b"[" * 100_000), dtype=torch.uint8), "text"]
)
def test_an_unreadable_description_is_refused(saved, tmp_path, extra):
    torch.save({**torch.load(saved[1], weights_only=True), "_extra_state": extra}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="description cannot be read"):
        load_detector(tmp_path / "model.pt")


def test_missing_and_foreign_keys_are_refused(saved, tmp_path):
    state = torch.load(saved[1], weights_only=True)
    first = next(key for key in state if key != "_extra_state")
    for wrong in ({k: v for k, v in state.items() if k != first}, {**state, "foreign": torch.zeros(1)}):
        torch.save(wrong, tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match="do not fit"):
            load_detector(tmp_path / "model.pt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="no description"):
        load_detector(tmp_path / "model.pt")
