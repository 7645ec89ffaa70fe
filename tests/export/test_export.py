"""``python -m monai_anomaly export``: a file that agrees with its model, or none."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from support.bundles import bundle_workflow
from support.tiny import write_image_folder

from monai_anomaly.__main__ import main
from monai_anomaly.errors import CheckpointError, DataError, OptionError
from monai_anomaly.export import FORMATS, ExportedDetector, export, export_detector, open_exported
from monai_anomaly.export.held_out import held_out_slices, training_data
from monai_anomaly.training import load_detector, save_detector

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_image_folder(tmp_path_factory.mktemp("images") / "set", n_train=45, n_test=1)


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    flow = bundle_workflow(
        "train", dataset_dir=str(data), output_dir=str(out), image_size=64, epochs=1, batch_size=4, teacher_weights="random",
        backbone="resnet18", blocks=[1, 1, 1], calibration_fraction=0.4, refresh_batch_norm=False,
    )  # fmt: skip
    flow.initialize()
    flow.parser.get_parsed_content("train#trainer").run()
    return out / "model.pt"


def command(model, data, name, out, *more):
    return main(["export", "--model", str(model), "--format", name, "--out", str(out), "--dataset_dir", str(data), *more])


@pytest.mark.parametrize("name", FORMATS)
def test_the_command_writes_a_file_that_is_used_as_it_says(model, data, name, tmp_path, capsys, monkeypatch):
    def refuse(*args):
        raise AssertionError("exporting must not go to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    out = tmp_path / f"new/detector{FORMATS[name].suffix}"
    assert command(model, data, name, out) == 0
    told = capsys.readouterr().out
    assert "18 held-out normal slices, 1 or 2 or 15 at a time" in told  # the first one alone, the rest of a batch of 16, what is left
    assert "same p-value for each slice" in told and "allowed 1e-04" in told
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(path.name for path in FORMATS[name].files(out))

    detector = load_detector(model)
    image = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = detector(image)
    import onnxruntime
    import openvino

    line = next(line for line in told.splitlines() if "anomaly_map, score" in line or "result['map']" in line)
    monkeypatch.chdir(out.parent)
    used = {"torch": torch, "onnxruntime": onnxruntime, "openvino": openvino, "image": image if name == "torchscript" else image.numpy()}
    exec(line, used)
    anomaly_map = used["result"]["map"] if name == "openvino" else used["anomaly_map"]
    np.testing.assert_allclose(np.asarray(anomaly_map), expected.numpy(), atol=1e-5)
    assert open_exported(out).metadata["calibration"] == detector.calibration


def test_an_export_that_differs_leaves_nothing_and_the_old_file_stays(model, data, tmp_path, capsys, monkeypatch):
    def other_sigma(detector):
        changed = ExportedDetector(detector)
        changed.detector.set_map(type(detector.anomaly_map)(detector.anomaly_map.maps, 4.05))
        return changed

    def bfloat16(detector):
        changed = ExportedDetector(detector)
        for value in [*changed.parameters(), *changed.buffers()]:
            if value.is_floating_point():
                value.data = value.data.bfloat16().float()
        return changed

    def one_batch_size(detector):
        """Statistics over the batch: right for one number of images only."""
        changed = ExportedDetector(detector)
        changed.detector.system.student.train()
        return changed

    for number, wrong in enumerate((other_sigma, bfloat16, one_batch_size)):
        monkeypatch.setattr(export, "ExportedDetector", wrong)
        out = tmp_path / str(number) / "detector.ts"
        assert command(model, data, "torchscript", out) == 2
        told = capsys.readouterr().err
        assert "does not agree" in told and "expected at most 0.0001" in told and float(told.split("of a map is ")[1].split()[0]) > 1e-4
        assert list(out.parent.iterdir()) == []
        out.write_bytes(b"old")
        assert command(model, data, "torchscript", out, "--force") == 2
        assert out.read_bytes() == b"old" and list(out.parent.iterdir()) == [out]


def test_what_cannot_be_made_leaves_nothing_and_says_so(model, data, tmp_path, capsys, monkeypatch):
    class Dynamic(ExportedDetector):
        def forward(self, image):
            return super().forward(image if image.sum() > 0 else -image)

    monkeypatch.setattr(export, "ExportedDetector", Dynamic)
    assert command(model, data, "openvino", tmp_path / "detector.xml") == 2
    assert "could not be made" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_only_when_asked(model, data, tmp_path):
    (tmp_path / "detector.bin").write_bytes(b"of another model")
    with pytest.raises(OptionError, match=r"detector\.bin exists.*--force"):
        export_detector(model, "openvino", tmp_path / "detector.xml", data)
    (tmp_path / "detector.ts").write_bytes(b"old")
    with pytest.raises(OptionError, match="--force"):
        export_detector(model, "torchscript", tmp_path / "detector.ts", data)
    export_detector(model, "torchscript", tmp_path / "detector.ts", data, force=True)
    assert len(open_exported(tmp_path / "detector.ts")(torch.zeros(1, 3, 64, 64))) == 2
    with pytest.raises(DataError, match="cannot be written"):
        export_detector(model, "torchscript", tmp_path / "detector.ts" / "below.ts", data)


def test_the_slices_are_those_of_the_calibration(model, data):
    detector = load_detector(model)
    slices = held_out_slices(detector, data)
    with torch.no_grad():
        scores = [float(detector.predict(slices[k]["image"][None]).score) for k in range(len(slices))]
    np.testing.assert_allclose(sorted(scores), detector.calibration["image"]["scores"], atol=1e-6)


def test_another_data_set_is_refused(model, tmp_path):
    other = write_image_folder(tmp_path / "other", n_train=45, n_test=1, seed=1)
    with pytest.raises(DataError, match="not the data set"):
        export_detector(model, "torchscript", tmp_path / "a.ts", other)
    with pytest.raises(OptionError, match="--dataset_dir"):
        export_detector(model, "torchscript", tmp_path / "a.ts")
    assert not (tmp_path / "a.ts").exists()


def test_the_built_in_study_is_found_without_being_named(model, tmp_path, monkeypatch):
    from monai_anomaly.data.study import folder

    monkeypatch.setattr(folder, "PATIENTS", {("training", "good"): 1, ("testing", "good"): 1})
    monkeypatch.setenv("MONAI_DATA_DIRECTORY", str(tmp_path))
    detector = load_detector(model)
    detector.provenance["settings"]["dataset_dir"] = "head_ct_phantom"
    assert training_data(detector) == tmp_path / "head_ct_phantom"


def test_a_model_that_held_nothing_out_is_refused(model, data, tmp_path):
    detector = load_detector(model)
    detector.provenance["settings"]["calibration_fraction"] = 0
    path = save_detector(detector, tmp_path / "model.pt")
    with pytest.raises(OptionError, match=r"calibration_fraction 0.*train again"):
        export_detector(path, "torchscript", tmp_path / "a.ts", data)


def test_text_in_a_strangers_model_is_never_run(model, data, tmp_path):
    canary = tmp_path / "canary"
    evil = f"$__import__('pathlib').Path({str(canary)!r}).touch()"
    for place, name in (
        ("settings", "calibration_fraction"),
        ("settings", "seed"),
        ("settings", "dataset_dir"),
        ("preprocessing", "ct_window"),
    ):
        detector = load_detector(model)
        (detector.provenance["settings"] if place == "settings" else detector.preprocessing)[name] = evil
        path = save_detector(detector, tmp_path / "model.pt")
        try:
            export_detector(path, "torchscript", tmp_path / "a.ts", None if name == "dataset_dir" else data)
        except (CheckpointError, OptionError):
            pass
        else:
            assert name == "ct_window"  # not used for pictures
        assert not canary.exists()
        (tmp_path / "a.ts").unlink(missing_ok=True)


def test_a_model_that_does_not_fit_its_calibration_is_refused(model, data, tmp_path):
    detector = load_detector(model)
    detector.calibration["image"]["scores"].pop()
    with pytest.raises(CheckpointError, match="18 slices are held out, but the model was calibrated on 17"):
        held_out_slices(detector, data)
    detector.calibration["image"] = {"scores": "many"}
    with pytest.raises(CheckpointError, match="saved calibration"):
        held_out_slices(detector, data)
    detector = load_detector(model)
    del detector.provenance["settings"]["seed"]
    with pytest.raises(CheckpointError, match="how its normal scans were split"):
        export_detector(save_detector(detector, tmp_path / "model.pt"), "torchscript", tmp_path / "a.ts", data)


def test_the_formats_in_the_help_are_those_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    told = capsys.readouterr().out
    assert "{" + ",".join(FORMATS) + "}" in told and all(chosen.suffix in told for chosen in FORMATS.values())


def test_halves_of_two_exports_never_lie_together(tmp_path, monkeypatch):
    """Killed between the two files of an OpenVINO export: the one that is opened is absent."""
    trial, final = [tmp_path / f"trial.{s}" for s in ("xml", "bin")], [tmp_path / f"final.{s}" for s in ("xml", "bin")]
    for path in (*trial, *final):
        path.write_text(path.stem)

    def killed(path, content):
        if path == final[0]:
            raise KeyboardInterrupt
        Path(path).write_bytes(content)

    monkeypatch.setattr(export, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        export._publish(trial, final)
    assert not final[0].exists() and final[1].read_text() == "trial"
