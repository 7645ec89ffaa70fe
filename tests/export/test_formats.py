"""Each format, opened in its own runtime, gives what the detector gives."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.repository import ROOT
from support.tiny import blob

from monai_anomaly.errors import OptionError
from monai_anomaly.export import FORMATS, ExportedDetector, open_exported
from monai_anomaly.export.describe import describe
from monai_anomaly.export.formats import choose_format
from monai_anomaly.networks import SYSTEMS, AnomalyDetector, Teacher
from monai_anomaly.scoring import AnomalyMap, Pooling
from monai_anomaly.training import load_detector, save_detector
from monai_anomaly.transforms import ResizeSlicesd

KINDS = {
    "max": ("SkipTS", {"maps": [1, 2, 3], "sigma_px": 4.0}, "max", 64),
    "mean": ("SCRD4AD", {"maps": [2, 3], "sigma_px": 0.0, "fusion": "weighted"}, "mean", 32),
    "top_5": ("RD4AD", {"maps": [1, 2, 3], "sigma_px": 4.0}, "top_5", 64),
    "top_100": ("DRD", {"maps": [1, 2, 3], "sigma_px": 1.5, "fusion": "mean", "refine": True}, "top_100", 64),
    "top_20%": ("ESCDRKD", {"maps": [3, 1], "sigma_px": 4.0}, "top_20%", 96),
}
BY_SUFFIX = {chosen.suffix: chosen for chosen in FORMATS.values()}


def detector_of(kind: str) -> AnomalyDetector:
    """An untrained detector whose batch statistics are not those of a new one."""
    system, rule, pooling, size = KINDS[kind]
    torch.manual_seed(1)
    network = SYSTEMS[system](Teacher("resnet18", weights="random", stages=SYSTEMS[system].stages), blocks=[1, 1, 1])
    detector = AnomalyDetector(network, AnomalyMap(**rule), Pooling(pooling), {"image_size": size, "preset": "auto"})
    detector.train()(torch.randn(4, 3, size, size))
    detector.calibration = {"colour_range": [0.25, 2.0], "image": {"scores": [0.1, 1 / 3]}}
    detector.provenance = {"settings": {"seed": 3}, "note": 'ü <&> "quoted"'}
    return detector.eval()


def images(n: int, size: int) -> torch.Tensor:
    """Noise, and grey discs as they come out of the preprocessing."""
    rng = np.random.default_rng(n)
    discs = torch.from_numpy(np.stack([blob(rng, size, lesion=k % 2 == 0)[0] for k in range(n)])).float()[:, None] / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    return torch.cat([(discs - mean) / std, torch.from_numpy(rng.standard_normal((n, 3, size, size))).float()])[::2]


@pytest.fixture(scope="module", params=[(kind, name) for kind in KINDS for name in FORMATS], ids="-".join)
def exported(request, tmp_path_factory):
    kind, name = request.param
    folder = tmp_path_factory.mktemp("exported")
    detector = load_detector(save_detector(detector_of(kind), folder / "model.pt"))
    path = folder / f"detector{FORMATS[name].suffix}"
    metadata = describe(detector, folder / "model.pt")
    FORMATS[name].write(ExportedDetector(detector), metadata, path)
    return detector, path, metadata


@pytest.mark.slow
def test_a_file_agrees_with_its_detector_for_any_number_of_images_and_describes_it(exported):
    detector, path, metadata = exported
    size = detector.preprocessing["image_size"]
    runner = open_exported(path)
    for n in (1, 3, 5):
        batch = images(n, size)
        with torch.no_grad():
            expected = detector.predict(batch)
        anomaly_map, score = runner(batch)
        assert anomaly_map.shape == (n, 1, size, size) and score.shape == (n,) and anomaly_map.dtype == score.dtype == torch.float32
        torch.testing.assert_close(anomaly_map, expected.anomaly_map, atol=1e-5, rtol=0)
        torch.testing.assert_close(score, expected.score, atol=1e-5, rtol=0)
    assert expected.anomaly_map.std() > 1e-3  # something to agree on
    assert runner.metadata == metadata == json.loads(json.dumps(metadata))
    assert {other.name for other in path.parent.iterdir()} == {"model.pt", *(file.name for file in BY_SUFFIX[path.suffix].files(path))}


@pytest.mark.slow
def test_a_file_tells_no_paths_of_this_machine(exported):
    _, path, _ = exported
    for file in BY_SUFFIX[path.suffix].files(path):
        content = file.read_bytes()
        for place in (ROOT, sys.prefix, path.parent):
            assert str(place).encode() not in content
    if path.suffix == ".ts":
        with zipfile.ZipFile(path) as archive:
            assert not archive.testzip() and all(str(ROOT).encode() not in archive.read(name) for name in archive.namelist())
    if path.suffix == ".onnx":
        onnx.checker.check_model(str(path), full_check=True)


def test_the_description_says_how_to_prepare_and_to_read(tmp_path):
    detector = detector_of("max")
    path = save_detector(detector, tmp_path / "model.pt")
    told = describe(detector, path)
    chain = json.loads((ROOT / "bundles" / "skipts" / "evaluate.json").read_text())["validate"]["slice_preprocessing"]["transforms"]
    normalise = next(step for step in chain if step["_target_"] == "NormalizeIntensityd")
    assert told["normalisation"] == {"mean": normalise["subtrahend"], "std": normalise["divisor"]}
    assert told["input"] == {"name": "image", "dtype": "float32", "shape": ["batch", 3, 64, 64]} and set(told["outputs"]) == {
        "map",
        "score",
    }
    (rule := dict(told["resizing"])).pop("keep_aspect_ratio")
    picture = torch.rand(1, 90, 70, 1, generator=torch.Generator().manual_seed(0))
    resized = torch.nn.functional.interpolate(picture[None, ..., 0], size=(64, 64), **rule)[0, ..., None]
    assert torch.equal(resized, ResizeSlicesd("image", 64)({"image": picture})["image"]) and not told["resizing"]["keep_aspect_ratio"]
    assert told["preprocessing"] == detector.preprocessing and told["calibration"] == detector.calibration
    assert told["pooling"] == "max" and told["anomaly_map"]["maps"] == [1, 2, 3] and told["colour_range"] == [0.25, 2.0]
    assert len(told["model_sha256"]) == 64 and told["monai_anomaly"]


def test_exporting_leaves_the_detector_as_it_is(tmp_path):
    detector = detector_of("max")
    trainable, before = len(detector.trainable_parameters()), detector(images(1, 64))
    FORMATS["torchscript"].write(ExportedDetector(detector), {}, tmp_path / "a.ts")
    assert len(detector.trainable_parameters()) == trainable > 0 and torch.equal(detector(images(1, 64)), before)


@pytest.mark.parametrize(("name", "file"), [("onnx", "a.ts"), ("openvino", "a"), ("torchscript", "a.pt"), ("coreml", "a.mlmodel")])
def test_a_name_that_does_not_fit_the_format_is_refused(name, file):
    with pytest.raises(OptionError, match="expected"):
        choose_format(name, Path(file))
    with pytest.raises(OptionError, match="expected"):
        open_exported("model.pt")


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(OptionError, match=r"openvino.*pip install.*monai_anomaly\[export\]"):
        choose_format("openvino", Path("a.xml"))
    assert choose_format("torchscript", Path("a.ts"))  # needs nothing
