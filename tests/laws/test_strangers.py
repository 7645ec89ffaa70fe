"""Promise 5, nothing that can execute code is loaded: a file from a stranger is refused in one sentence, and nothing in it is executed."""

from __future__ import annotations

import json

import pytest
import torch
from monai.bundle import ConfigWorkflow
from safetensors.torch import save
from support.strangers import Evil, saved, strangers
from support.tiny import tiny_detector

from monai_anomaly import bundle
from monai_anomaly.errors import AnomalyError, CheckpointError, WeightsError, find_anomaly_error
from monai_anomaly.networks import Teacher
from monai_anomaly.networks.weights import find_weights
from monai_anomaly.training import load_detector
from monai_anomaly.training.training_state import read_training_state


def evaluate(path, key="network_def"):
    """Through the config, as a user would."""
    root = bundle.root("skipts")
    flow = ConfigWorkflow(f"{root}/evaluate.json", f"{root}/metadata.json", logging_file=False, workflow_type="infer", model=str(path))
    flow.parser.parse()
    try:
        flow.parser.get_parsed_content(key)
    except RuntimeError as error:  # MONAI's wrapping
        raise (find_anomaly_error(error) or error) from None


DOORS = {
    "model": (load_detector, "model.pt", CheckpointError),
    "checkpoint": (read_training_state, "checkpoint.pt", CheckpointError),
    "weights": (lambda path: find_weights("resnet18", str(path)), "weights.pth", WeightsError),
    "renamed weights": (lambda path: find_weights("resnet18", str(path)), "weights.safetensors", WeightsError),
}


@pytest.fixture(scope="module")
def canary(tmp_path_factory):
    return tmp_path_factory.mktemp("mine") / "canary"


@pytest.fixture(scope="module")
def files(canary):
    return strangers(canary)


@pytest.fixture(scope="module")
def described():
    """A complete model.pt's state dict."""
    return tiny_detector().state_dict()


def refusal(door, content, tmp_path):
    """The sentence with which a door refuses a file."""
    enter, name, kind = DOORS[door]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AnomalyError) as caught:
        enter(tmp_path / name)
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_them_and_executes_nothing(files, canary, tmp_path, door):
    for name, content in files.items():
        message = refusal(door, content, tmp_path)
        assert "expected" in message and DOORS[door][1] in message and "nothing in it was executed" in message and len(message) < 600, name
        assert not canary.exists() and len(list(tmp_path.iterdir())) == 1, name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reduce in a zip", "asks for __builtin__.getattr"),
        ("pickle of protocol 4", "is a pickle"),
        ("old tar", "is a tar archive"),
        ("tar and pickle", "is a tar archive"),
        ("TorchScript", "is a TorchScript archive"),
        ("second pickle", "entries in its zip archive that torch.save does not write"),
        ("bomb", "compressed"),
        ("numpy objects", "asks for numpy"),
        ("nested list", "nests containers"),
        ("list", "holds a list"),
        ("empty", "is empty"),
        ("stretched without end", "unfolds to 4096.0 GiB"),
        ("cut off at 100", "cut off"),
        ("overlapping", "overlapping entries"),
        ("storage longer than its entry", "asks for more values of a tensor than are in the file"),
        ("beyond the storage", "reaches beyond its own memory"),
        ("stride beyond the storage", "reaches beyond its own memory"),
        ("negative stride", "impossible shape"),
    ],
)
def test_the_sentence_says_what_it_is(files, tmp_path, name, words):
    assert words in refusal("model", files[name], tmp_path)
    assert words in refusal("weights", files[name], tmp_path)


@pytest.mark.parametrize("name", ["reduce in a zip", "TorchScript", "nested key"])
def test_through_a_bundle_too(files, canary, tmp_path, name):
    (tmp_path / "model.pt").write_bytes(files[name])
    with pytest.raises(CheckpointError, match="nothing in it was executed"):
        evaluate(tmp_path / "model.pt")
    assert not canary.exists()


def test_the_canary_sings_where_nobody_looks(tmp_path):
    """Otherwise the tests above would prove nothing."""
    for legacy in (False, True):
        (tmp_path / "evil.pt").write_bytes(saved({"x": Evil(tmp_path / "canary")}, legacy))
        torch.load(tmp_path / "evil.pt", weights_only=False)
        assert (tmp_path / "canary").exists()
        (tmp_path / "canary").unlink()


@pytest.mark.parametrize("door", ["model", "checkpoint"])
def test_wrong_keys_are_refused(tmp_path, door):
    assert "expected" in refusal(door, saved({"a": torch.zeros(1), "_extra": torch.zeros(1)}), tmp_path)


@pytest.mark.parametrize(("name", "content"), [("a.safetensors", save({"a": torch.zeros(1)})), ("a.pth", saved({"a": torch.zeros(1)}))])
def test_weights_with_wrong_keys_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match="does not fit the teacher"):
        Teacher("resnet18", weights=str(tmp_path / name))


@pytest.mark.parametrize("door", ["model", "checkpoint"])
def test_torchs_older_format_is_for_weights_alone(tmp_path, door):
    assert "format of before 2020" in refusal(door, saved({"a": torch.zeros(1)}, legacy=True), tmp_path)


@pytest.mark.parametrize("cut", [0, 7, 8, 20, 100, -1])
def test_cut_off_safetensors_are_refused(tmp_path, cut):
    assert "weights.safetensors" in refusal("renamed weights", save({"conv1.weight": torch.zeros(64, 3, 7, 7)})[:cut], tmp_path)


def changed(state, **entries):
    """The model with other entries in its description; a path's parts are divided by __."""
    description = json.loads(state["_extra_state"].numpy().tobytes())
    for path, value in entries.items():
        *folders, name = path.split("__")
        place = description
        for folder in folders:
            place = place[folder]
        place[name] = value
    return saved({**state, "_extra_state": torch.frombuffer(bytearray(json.dumps(description).encode()), dtype=torch.uint8)})


@pytest.mark.parametrize(
    "entries",
    [
        {"options__blocks": [10**9, 1, 1]},
        {"options__blocks": [True, 1, 1]},
        {"options__deconv_kernel": 10**6},
        {"teacher__name": "../../etc/passwd"},
        {"teacher__seed": 2**80},
        {"teacher__stages": "4"},
        {"preprocessing__image_size": 32 * 10**6},
        {"preprocessing__image_size": "64"},
        {"anomaly_map__sigma_px": 1e30},
        {"anomaly_map__maps": [[1]]},
        {"anomaly_map__fusion": ["sum"]},
        {"anomaly_map__refine": 1},
        {"pooling": ["max"]},
        {"calibration": []},
        {"calibration": {"colour_range": ["a", 2]}},
        {"calibration": {"colour_range": [1, float("nan")]}},
        {"calibration": {"series_pooling": 3}},
        {"calibration": {"image": {"scores": ["x"]}}},
        {"calibration": {"patient": 3}},
    ],
)
def test_a_description_that_asks_for_anything_else_is_refused(described, tmp_path, entries):
    assert "model.pt" in refusal("model", changed(described, **entries), tmp_path)


@pytest.mark.parametrize("name", ["image_size", "preset", "ct_window", "plane", "neighbours"])
def test_a_description_that_lacks_what_evaluation_needs_is_refused_there(described, tmp_path, name):
    complete = {"image_size": 64, "preset": "auto", "ct_window": "brain", "plane": "native", "neighbours": 0}
    (tmp_path / "model.pt").write_bytes(changed(described, preprocessing={key: value for key, value in complete.items() if key != name}))
    with pytest.raises(CheckpointError, match=f"does not tell '{name}'"):
        evaluate(tmp_path / "model.pt", name)
