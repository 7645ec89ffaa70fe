"""The file that a run goes on from, and what makes two runs the same run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from support.strangers import Evil
from support.tiny import tiny_detector, write_image_folder

from monai_anomaly.data import CaseList, find_cases
from monai_anomaly.errors import CheckpointError, DataError, OptionError
from monai_anomaly.training import TrainingCheckpoint, identify, is_complete
from monai_anomaly.training.identity import identity_differences, identity_of_model
from monai_anomaly.training.training_state import check_fits, read_training_state, write_training_state

IDENTITY = {"settings": {"lr": 0.005}, "teacher": "5f", "data": "ab", "cases": "cd", "processes": 1}
RECORD = {"epochs": [{"loss": 0.1}, {"loss": 0.30000000000000004}], "resumed": [], "device": "CPU", "versions": {}, "wall_time_s": 1.5}
ABOUT = {"epoch": 2, "iteration": 6, "identity": IDENTITY, "record": RECORD}


def pair(seed: int = 0):
    detector = tiny_detector(seed)
    return detector, torch.optim.Adam(detector.trainable_parameters(), lr=0.005, betas=(0.5, 0.999))


def step(detector, optimizer, seed: int) -> None:
    """One batch: weights, batch statistics and moments all change."""
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    detector.train()
    features = detector(image)
    sum(((t - s) ** 2).mean() for t, s in zip(features.teacher, features.student)).backward()
    optimizer.step()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    detector, optimizer = pair()
    step(detector, optimizer, 1)
    return write_training_state(path, detector, optimizer, **ABOUT)


def test_a_restored_training_takes_the_same_next_step(written):
    (here, here_optimizer), (there, there_optimizer) = pair(), pair()
    step(here, here_optimizer, 1)
    state = read_training_state(written)
    check_fits(written, state, there)
    assert (state.epoch, state.iteration, state.identity, state.record) == (2, 6, IDENTITY, RECORD)
    state.restore(there, there_optimizer)
    for seed in (2, 3):
        step(here, here_optimizer, seed)
        step(there, there_optimizer, seed)
    ours, theirs = here.state_dict(), there.state_dict()
    assert not [key for key in ours if not torch.equal(ours[key], theirs[key])]


def test_the_teacher_is_not_in_the_file(written):
    network = read_training_state(written).network
    n_student = sum(p.numel() for p in tiny_detector().trainable_parameters())
    assert not any("teacher" in key or "_extra_state" in key for key in network)
    assert sum(value.numel() for value in network.values() if value.is_floating_point()) < 1.01 * n_student
    assert any(key.endswith("running_mean") for key in network) and any(key.endswith("num_batches_tracked") for key in network)


def changed_about(**changes):
    return lambda state: state | {"about": torch.frombuffer(bytearray(json.dumps(ABOUT | changes).encode()), dtype=torch.uint8)}


def changed(part: str, key, value):
    return lambda state: state | {part: state[part] | {key: value}}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {},
        lambda state: state | {"format": 2},
        lambda state: state | {"more": 1},
        lambda state: state | {"about": "x"},
        lambda state: state | {"about": torch.tensor([300, 2])},
        lambda state: state | {"about": torch.tensor(list(b"[" * 100_000), dtype=torch.uint8)},
        lambda state: state | {"network": torch.zeros(3)},
        changed_about(epoch=0),
        changed_about(epoch=True),
        changed_about(epoch=3),
        changed_about(iteration="6"),
        changed_about(network={}),
        changed_about(identity={}),
        changed_about(identity={**IDENTITY, "settings": 3}),
        changed_about(record={}),
        changed_about(record={**RECORD, "epochs": [1, 2]}),
        changed_about(record={**RECORD, "wall_time_s": "x"}),
    ],
)
def test_a_file_with_other_content_is_refused(written, tmp_path, change):
    path = tmp_path / "checkpoint.pt"
    torch.save(change(torch.load(written, weights_only=True)), path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is no state of a training .*delete it to start anew"):
        read_training_state(path)


def test_nothing_in_the_file_is_executed(written, tmp_path):
    path, canary = tmp_path / "checkpoint.pt", tmp_path / "canary"
    torch.save(torch.load(written, weights_only=True) | {"format": Evil(canary)}, path)
    with pytest.raises(CheckpointError, match=r"nothing in it was executed"):
        read_training_state(path)
    assert not canary.exists()


KEY = "system.student.D3.0.conv1.weight"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state | {"network": {k: v for k, v in state["network"].items() if k != KEY}}, KEY),
        (changed("network", "more.weight", torch.zeros(1)), "more.weight"),
        (changed("network", 3, torch.zeros(1)), "3"),
        (changed("network", "system.teacher.backbone.conv1.weight", torch.zeros(64, 3, 7, 7)), "system.teacher.backbone.conv1.weight"),
        (changed("network", KEY, torch.zeros(1)), KEY),
        (changed("network", KEY, 0.5), KEY),
        (lambda state: state | {"network": {k: v.double() for k, v in state["network"].items()}}, "weight"),
        (lambda state: state | {"optimizer": {}}, "optimizer"),
        (changed("optimizer", "param_groups", []), "optimizer.param_groups"),
        (changed("optimizer", "param_groups", [{"params": [0], "lr": 1.0}]), "optimizer.param_groups"),
        (changed("optimizer", "state", {10_000: {}}), "optimizer.state"),
        (changed("optimizer", "state", {0: {"exp_avg": torch.zeros(3, 7)}}), "optimizer.state.0"),
        (changed("optimizer", "state", {0: {"exp_avg": "x"}}), "optimizer.state.0"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_as_a_whole(written, tmp_path, change, named):
    path, (detector, _) = tmp_path / "checkpoint.pt", pair(1)
    torch.save(change(torch.load(written, weights_only=True)), path)
    with pytest.raises(CheckpointError, match="does not fit the network") as caught:
        check_fits(path, read_training_state(path), detector)
    assert named in str(caught.value)


def test_groups_of_the_optimiser_hold_plain_values_only(written, tmp_path):
    state, path = torch.load(written, weights_only=True), tmp_path / "checkpoint.pt"
    state["optimizer"]["param_groups"][0]["lr"] = torch.zeros(2)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"optimizer\.param_groups"):
        check_fits(path, read_training_state(path), tiny_detector())


def test_a_training_with_other_batches_does_not_go_on(written):
    (detector, optimizer), engine = pair(1), Engine(lambda engine, batch: None)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    TrainingCheckpoint(written, IDENTITY, detector, optimizer, record=None).attach(engine)
    with pytest.raises(CheckpointError, match="6 batches in 2 epochs, but an epoch has 4 batches"):
        engine.run([0] * 4, max_epochs=3)
    assert not [key for key, value in detector.state_dict().items() if not torch.equal(value, before[key])]


def test_it_goes_on_with_the_next_epoch_and_batch(written):
    class Record:
        def load_state_dict(self, state):
            self.state = state

    (detector, optimizer), record, seen = pair(1), Record(), []
    engine = Engine(lambda engine, batch: seen.append((engine.state.epoch, engine.state.iteration, batch)))
    TrainingCheckpoint(written, IDENTITY, detector, optimizer, record, interval=9).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=lambda engine, epoch: epoch == 4), lambda engine: engine.terminate())
    engine.run("abc", max_epochs=5)
    assert seen == [(3, 7, "a"), (3, 8, "b"), (3, 9, "c"), (4, 10, "a"), (4, 11, "b"), (4, 12, "c")] and record.state == RECORD


@pytest.mark.parametrize("interval", [0, -1, 1.5, True])
def test_an_interval_is_a_number_of_epochs(interval):
    with pytest.raises(OptionError, match="checkpoint_interval"):
        TrainingCheckpoint("checkpoint.pt", IDENTITY, None, None, None, interval)


def test_a_checkpoint_is_written_at_intervals_and_at_the_end(tmp_path):
    class Record:
        def state_dict(self):
            return RECORD | {"epochs": [{}] * engine.state.epoch}

    (detector, optimizer), engine, seen = pair(), Engine(lambda engine, batch: None), []
    TrainingCheckpoint(tmp_path / "c.pt", IDENTITY, detector, optimizer, Record(), interval=3).attach(engine)
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda engine: seen.append((tmp_path / "c.pt").exists() and read_training_state(tmp_path / "c.pt").epoch)
    )
    engine.run([0, 0], max_epochs=5)
    assert seen == [False, False, 3, 3, 5]


def test_a_write_that_fails_leaves_the_old_file(written, tmp_path, monkeypatch):
    """An error in the middle of torch.save comes out of torch as another one."""
    (detector, optimizer), path = pair(), tmp_path / "checkpoint.pt"
    path.write_bytes(written.read_bytes())

    class Full:
        def __init__(self, file):
            self.file, self.room = file, 10**6

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(28, "No space left on device")
            return self.file.write(data)

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: save(state, Full(file)))
    with pytest.raises(DataError, match="No space left on device"):
        write_training_state(path, detector, optimizer, **ABOUT)
    assert path.read_bytes() == written.read_bytes() and [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_identity_is_of_content(tmp_path):
    cases, detector = find_cases(write_image_folder(tmp_path / "a")), tiny_detector()
    moved = find_cases(write_image_folder(tmp_path / "b"))
    train, held_out = cases.select(split="train")[2:], cases.select(split="train")[:2]

    def who(found: CaseList = cases, train=train, held_out=held_out, **settings):
        settings = {"lr": 0.1, "epochs": 3, "dataset_dir": str(found.root), "teacher_weights": "x.pth", "maps": (1, 2), **settings}
        return identify(settings, detector, found, train, held_out)

    assert json.loads(json.dumps(who())) == who() and len(who()["cases"]) == 64
    there = moved.select(split="train")
    assert identity_differences(who(), who(moved, there[2:], there[:2], epochs=9, teacher_weights="y.pth", maps=[1, 2])) == []
    assert identity_differences(who(), who(lr=0.2, new=1)) == ["lr was 0.1 and is 0.2", "new was not known and is 1"]
    for other in (who(train=train[::-1]), who(train=train[1:]), who(train=[*train, *held_out], held_out=[])):
        (only,) = identity_differences(who(), other)
        assert "order, labels, masks or patients" in only


def test_a_model_of_before_says_little_and_is_of_another_run():
    description = tiny_detector().description
    assert identity_differences(identity_of_model(description), IDENTITY)
    assert identity_differences(identity_of_model(description | {"provenance": {"settings": "x"}}), IDENTITY)


@pytest.mark.parametrize("epochs", [0, -3, 1.5, True, "4"])
def test_epochs_are_a_number(tmp_path, epochs):
    with pytest.raises(OptionError, match="epochs is"):
        is_complete(tmp_path / "new", IDENTITY, tiny_detector(), epochs)
    assert not (tmp_path / "new").exists()
