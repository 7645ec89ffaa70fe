"""The bundle in the hands of MONAI's own tools, and away from the checkout."""

from __future__ import annotations

import copy
import json
import logging
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import monai.bundle
import onnxruntime
import pytest
import torch
from monai.data import load_net_with_metadata
from packaging.version import Version
from support.bundles import BUNDLE, BUNDLES, SMALL, SYSTEMS, bundle_workflow
from support.repository import ROOT, requirements
from support.tiny import write_image_folder

import monai_anomaly
from monai_anomaly.__main__ import main
from monai_anomaly.errors import CheckpointError, DataError, OptionError, find_anomaly_error
from monai_anomaly.pack import pack_bundle
from monai_anomaly.training import load_detector

SCHEMA = Path(__file__).with_name("metadata_schema.json")
IMAGE = torch.linspace(-2, 2, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)


def command(*words: object, cwd: Path) -> str:
    """A documented command line, word for word; what it printed."""
    done = subprocess.run([sys.executable, "-m", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_image_folder(tmp_path_factory.mktemp("images") / "set", n_train=6, n_test=2)


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    flow = bundle_workflow("train", dataset_dir=str(folder), output_dir=str(out), **SMALL)
    flow.initialize()
    flow.run()
    return out / "model.pt"


@pytest.fixture(scope="module")
def expected(model):
    with torch.no_grad():
        return load_detector(model)(IMAGE)


@pytest.fixture(scope="module")
def packed(model, tmp_path_factory):
    """The archive, and where it was unpacked: a folder of another name than the checkout's."""
    place = tmp_path_factory.mktemp("packed")
    assert main(["pack", "skipts", "--out", str(place / "anomalies.zip"), "--model", str(model)]) == 0
    with zipfile.ZipFile(place / "anomalies.zip") as archive:
        archive.extractall(place / "elsewhere")
    return place / "anomalies.zip", place / "elsewhere" / "anomalies"


@pytest.mark.parametrize("name", ["train", "inference"])
def test_check_properties_finds_nothing_missing(folder, model, tmp_path, name):
    flags = SMALL if name == "train" else {"model": str(model)}
    flow = bundle_workflow(name, dataset_dir=str(folder), output_dir=str(tmp_path), **flags)
    flow.initialize()
    assert flow.check_properties() == []


@pytest.mark.slow
def test_verify_metadata_passes_without_a_network(tmp_path):
    """MONAI does not download the schema where a file of that name is."""
    shutil.copy(SCHEMA, tmp_path / "schema.json")
    said = command("monai.bundle", "verify_metadata", "--meta_file", BUNDLE / "metadata.json", "--filepath", "schema.json", cwd=tmp_path)
    assert "metadata is verified with no error" in said


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], None),
        (["version"], "1"),
        (["changelog"], []),
        (["monai_version"], 1.6),
        (["required_packages_version", "itk"], ""),
        (["authors"], None),
        (["network_data_format", "outputs"], None),
        (["network_data_format", "inputs", "image", "num_channels"], "3"),
        (["network_data_format", "inputs", "image", "spatial_shape"], []),
        (["network_data_format", "inputs", "image", "dtype"], "float"),
        (["network_data_format", "outputs", "pred", "type"], "picture"),
        (["network_data_format", "outputs", "pred", "value_range"], [0]),
        (["network_data_format", "outputs", "pred", "channel_def"], {"anomaly": "0"}),
    ],
)
def test_verify_metadata_refuses_what_is_broken(tmp_path, path, value):
    metadata = json.loads((BUNDLE / "metadata.json").read_text())
    place = metadata
    for key in path[:-1]:
        place = place[key]
    place.pop(path[-1]) if value is None else place.update({path[-1]: value})
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    shutil.copy(SCHEMA, tmp_path / "schema.json")
    with pytest.raises(ValueError, match="Failed validating"):
        monai.bundle.verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(tmp_path / "schema.json"))


@pytest.mark.parametrize("system", SYSTEMS)
def test_metadata_tells_versions_that_are_true(system):
    metadata = json.loads((BUNDLES / system / "metadata.json").read_text())
    versions = sorted(metadata["changelog"], key=Version, reverse=True)
    assert versions == list(metadata["changelog"]) and metadata["version"] == versions[0]
    tested = {name: str(pin.specifier)[2:] for name, pin in requirements("constraints.txt").items()}
    tested["monai_anomaly"] = monai_anomaly.__version__
    told = {**metadata["required_packages_version"], "monai": metadata["monai_version"]}
    told |= {"torch": metadata["pytorch_version"], "numpy": metadata["numpy_version"]}
    assert told == {name: tested[name] for name in told}
    assert set(told) == {*requirements("setup.cfg"), "monai_anomaly"}


def test_the_configs_have_what_the_model_zoo_looks_for():
    train, inference = (json.loads((BUNDLE / f"{name}.json").read_text()) for name in ("train", "inference"))
    assert {"bundle_root", "device", "network_def", "inferer", "output_dir", "preprocessing", "dataset", "handlers"} <= set(inference)
    assert {"bundle_root", "device", "dataset_dir", "output_dir", "network_def", "val_interval"} <= set(train)
    assert {"trainer", "dataset", "handlers", "inferer", "preprocessing"} <= set(train["train"])
    assert {"evaluator", "dataset", "handlers", "inferer", "preprocessing"} <= set(train["validate"])
    (validation,) = (handler for handler in train["train"]["handlers"] if handler["_target_"] == "ValidationHandler")
    assert validation["interval"] == "@val_interval" and train["train"]["trainer"]["max_epochs"] == "@epochs"
    assert (BUNDLE / "LICENSE").is_file() and not any(path.stat().st_size > 2**20 for path in BUNDLE.glob("*.*"))


def test_verify_net_in_out_of_the_training_config():
    small = {"backbone": "resnet18", "teacher_weights": "random", "image_size": 64}
    monai.bundle.verify_net_in_out(
        net_id="network_def", config_file=str(BUNDLE / "train.json"), meta_file=str(BUNDLE / "metadata.json"), device="cpu", n=2, **small
    )
    with pytest.raises(ValueError, match="output channel number"):
        monai.bundle.verify_net_in_out(
            net_id="network_def", config_file=str(BUNDLE / "train.json"), meta_file=str(BUNDLE / "metadata.json"), device="cpu",
            **small, **{"_meta_#network_data_format#outputs#pred#num_channels": 2},
        )  # fmt: skip


@pytest.mark.slow
def test_verify_net_in_out_of_the_inference_config(model, tmp_path):
    files = ("--config_file", BUNDLE / "inference.json", "--meta_file", BUNDLE / "metadata.json")
    said = command("monai.bundle", "verify_net_in_out", "network_def", *files, "--model", model, "--device", "cpu", cwd=tmp_path)
    assert "data shape of network is verified with no error" in said and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ckpt_export_of_a_bundle_gives_the_same_map(packed, expected, tmp_path):
    bundle = packed[1]
    where = ("--bundle_root", bundle, "--config_file", bundle / "configs" / "inference.json")
    command("monai.bundle", "ckpt_export", *where, "--use_trace", True, "--input_shape", "[1,3,64,64]", cwd=tmp_path)
    script, metadata, extra = load_net_with_metadata(bundle / "models" / "model.ts", more_extra_files=["inference.json"])
    with torch.no_grad():
        torch.testing.assert_close(script(IMAGE), expected, rtol=0, atol=1e-5)
    assert metadata["version"] == json.loads((BUNDLE / "metadata.json").read_text())["version"]
    assert json.loads(extra["inference.json"])["network_def"]["_target_"] == "monai_anomaly.training.load_detector"
    (bundle / "models" / "model.ts").unlink()


def test_ckpt_export_of_files_gives_the_same_map(model, expected, tmp_path):
    monai.bundle.ckpt_export(
        net_id="network_def", filepath=str(tmp_path / "model.ts"), ckpt_file=str(model), meta_file=str(BUNDLE / "metadata.json"),
        config_file=str(BUNDLE / "inference.json"), use_trace=True, input_shape=[1, 3, 64, 64], model=str(model),
    )  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(IMAGE), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_onnx_export_gives_the_same_map(model, expected, tmp_path):
    files = ("--config_file", BUNDLE / "inference.json", "--meta_file", BUNDLE / "metadata.json", "--ckpt_file", model, "--model", model)
    command("monai.bundle", "onnx_export", "network_def", "--filepath", "model.onnx", *files, "--input_shape", "[2,3,64,64]", cwd=tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (anomaly_map,) = session.run(None, {session.get_inputs()[0].name: IMAGE.numpy()})
    torch.testing.assert_close(torch.from_numpy(anomaly_map), expected, rtol=0, atol=1e-4)


def test_load_gives_the_trained_network(packed, model, expected):
    """By the inference config, whose network is rebuilt from the model's own description."""
    bundle = packed[1]
    detector = monai.bundle.load(
        bundle.name, bundle_dir=str(bundle.parent), workflow_type="inference", device="cpu", args_file={"bundle_root": str(bundle)}
    )
    with torch.no_grad():
        assert torch.equal(detector(IMAGE), expected)
    assert detector.description == load_detector(model).description


def test_load_as_it_is_documented(packed, model, tmp_path, monkeypatch):
    """The line of bundles/common/README.md, word for word, from a folder with a bundle in it."""
    (line,) = re.findall(r"^detector = (monai\.bundle\.load\(.*\))$", (ROOT / "bundles" / "common" / "README.md").read_text(), re.MULTILINE)
    shutil.copytree(packed[1], tmp_path / "bundles" / "skipts")
    monkeypatch.chdir(tmp_path)
    assert eval(line).description == load_detector(model).description


def test_a_shared_config_in_python_asks_for_the_bundle(packed):
    with pytest.raises(Exception, match=r".*") as caught:
        monai.bundle.load(packed[1].name, bundle_dir=str(packed[1].parent), workflow_type="inference", device="cpu")
    assert "bundle_root='bundles/skipts' among the arguments" in str(find_anomaly_error(caught.value))


def test_load_by_the_training_config_gives_the_weights(packed, folder, expected, tmp_path):
    """MONAI's default: the network of train.json, with the weights copied into it; so the flags have to be those of the training."""
    bundle = packed[1]
    flags = {**SMALL, "bundle_root": str(bundle), "dataset_dir": str(folder), "output_dir": str(tmp_path)}
    detector = monai.bundle.load(bundle.name, bundle_dir=str(bundle.parent), device="cpu", args_file=flags)
    with torch.no_grad():
        assert torch.equal(detector.eval()(IMAGE), expected)


def test_load_bundle_config_of_a_folder_and_of_an_archive(packed):
    for bundle in (BUNDLE, *packed):
        parser = monai.bundle.load_bundle_config(str(bundle), "train.json")
        assert parser["_meta_#version"] and parser["train#trainer#_target_"] == "monai_anomaly.training.DistillationTrainer"


def test_an_archive_holds_files_where_the_checkout_has_links(packed):
    with zipfile.ZipFile(packed[0]) as archive:
        names = {info.filename.removeprefix("anomalies/"): archive.read(info) for info in archive.infolist()}
        assert not any(info.external_attr >> 16 & 0o170000 == 0o120000 for info in archive.infolist())
    assert {"LICENSE", "docs/README.md", "models/model.pt", "configs/metadata.json", "train.json"} <= set(names)
    configs = {name.removeprefix("configs/"): content for name, content in names.items() if name.startswith("configs/")}
    assert configs == {name: names[name] for name in configs} == {path.name: path.read_bytes() for path in (BUNDLE / "configs").iterdir()}
    assert not any(b"/home/" in content or bytes(ROOT) in content for content in names.values())


def test_the_same_bundle_gives_the_same_archive_and_no_other_is_written_over(packed, model, tmp_path, capsys):
    again = tmp_path / "anomalies.zip"
    pack_bundle("skipts", again, model)
    assert again.read_bytes() == packed[0].read_bytes()
    assert main(["pack", "skipts", "--out", str(again), "--model", str(model)]) == 2 and "--force" in capsys.readouterr().err
    copy = pack_bundle(str(packed[1]), again, force=True)  # an unpacked one can be packed again, with its own model
    assert again.read_bytes() == packed[0].read_bytes() and "anomalies/models/model.pt" in copy


def test_a_bundle_is_laid_out_for_changes(packed, tmp_path, capsys):
    assert main(["bundle", "skipts", "--to", str(tmp_path / "my bundles")]) == 0
    copy = tmp_path / "my bundles" / "skipts"
    assert f"--config_file '{copy}/train.json'" in capsys.readouterr().out
    found = {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*") if path.is_file() and not path.is_symlink()}
    with zipfile.ZipFile(packed[0]) as archive:
        names = [info.filename for info in archive.infolist()]
        assert found == {name.removeprefix("anomalies/"): archive.read(name) for name in names if not name.endswith("model.pt")}
    assert main(["bundle", "skipts", "--to", str(copy.parent)]) == 2 and "exists" in capsys.readouterr().err
    assert main(["bundle", "unet", "--to", str(tmp_path)]) == 2 and "no bundle at" in capsys.readouterr().err


def test_what_cannot_be_packed_is_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"no model")
    for error, bundle, out, model in (
        (OptionError, "skipts", "skipts.tar", None),
        (DataError, "nothing", "a.zip", None),
        (CheckpointError, "skipts", "a.zip", tmp_path / "model.pt"),
    ):
        with pytest.raises(error):
            pack_bundle(bundle, tmp_path / out, model)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.slow
def test_an_unpacked_bundle_trains_in_its_own_folder(packed, folder, tmp_path):
    """From another working directory, through two configs at once; neither that directory nor the checkout gets anything."""
    bundle = packed[1].parent / "trains"
    shutil.copytree(packed[1], bundle, ignore=shutil.ignore_patterns("models"))
    (bundle / "small.json").write_text(json.dumps({key: value for key, value in SMALL.items() if key != "epochs"}))
    before = {path: path.stat().st_mtime_ns for path in BUNDLE.rglob("*")}
    configs = f"['{bundle}/train.json','{bundle}/small.json']"
    command("monai.bundle", "run", "--config_file", configs, "--epochs", 1, "--dataset_dir", folder, cwd=tmp_path)
    assert (bundle / "models" / "model.pt").is_file() and (bundle / "models" / "evaluation" / "metrics.json").is_file()
    assert not list(tmp_path.iterdir()) and before == {path: path.stat().st_mtime_ns for path in BUNDLE.rglob("*")}


@pytest.mark.parametrize("place", [".", "configs"])
def test_an_unpacked_bundle_scores_with_its_own_model(packed, folder, tmp_path, monkeypatch, place):
    config = packed[1] / place / "inference.json"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", "--config_file", str(config), "--dataset_dir", str(folder)])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    root_logger = copy.copy(logging.getLogger().handlers)
    monai.bundle.run(config_file=str(config), dataset_dir=str(folder))
    logging.getLogger().handlers[:] = root_logger
    assert (packed[1] / "inference" / "metrics.json").is_file() and not list(tmp_path.iterdir())
    shutil.rmtree(packed[1] / "inference")
