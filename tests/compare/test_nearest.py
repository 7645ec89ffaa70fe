from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny import blob, tiny_detector, write_image_folder

from monai_anomaly.compare.nearest import nearest_neighbour
from monai_anomaly.data import find_cases
from monai_anomaly.networks import AnomalyDetector
from monai_anomaly.networks.teacher import build_resnet


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Lesions so faint that some normal images lie farther off: a wrong distance would be told by its order."""
    folder, rng = write_image_folder(tmp_path_factory.mktemp("images") / "toy", n_test=6, seed=3), np.random.default_rng(0)
    for file in (folder / "test" / "square").iterdir():
        pixels = blob(rng)[0]
        pixels[20:32, 20:32] += 8
        Image.fromarray(pixels).save(file)
    return folder


def detector(seed: int) -> AnomalyDetector:
    made = tiny_detector(seed)
    made.preprocessing.update(preset="auto", plane="native", neighbours=0)
    return made


def features(files: list[Path], seed: int) -> np.ndarray:
    """Written again: torchvision's own network, one image at a time, one stage after the other."""
    net, rows = build_resnet("resnet18", seed).eval(), []
    for file in files:
        pixels = np.array(Image.open(file), dtype=np.float32) / 255
        image = (pixels - np.array([0.485, 0.456, 0.406])[:, None, None]) / np.array([0.229, 0.224, 0.225])[:, None, None]
        row = []
        with torch.no_grad():
            x = net.maxpool(net.relu(net.bn1(net.conv1(torch.from_numpy(image).float()[None]))))
            for stage in (net.layer1, net.layer2, net.layer3):
                x = stage(x)
                mean = x[0].numpy().astype(np.float64).mean(axis=(1, 2))
                row.append(mean / np.sqrt((mean**2).sum()))
        rows.append(np.concatenate(row))
    return np.array(rows)


def test_the_floor_is_the_distance_to_the_nearest_training_image(images):
    cases = find_cases(images)
    found = nearest_neighbour(detector(5), cases.select(split="train"), cases.select(split="test"))
    train, good, bad = (features(sorted((images / group).iterdir()), seed=5) for group in ("train/good", "test/good", "test/square"))
    normal, abnormal = (np.sqrt(((rows[:, None] - train[None]) ** 2).sum(-1)).min(axis=1) for rows in (good, bad))
    wins = (abnormal[:, None] > normal[None]).mean()
    assert 0 < wins < 1
    assert found["auroc"] == pytest.approx(wins, abs=1e-12) and (found["n_normal"], found["n_abnormal"]) == (6, 6)
    order = np.argsort(-np.concatenate([normal, abnormal]))
    hits = np.repeat([0, 1], 6)[order]
    assert found["ap"] == pytest.approx((np.cumsum(hits) / np.arange(1, 13) * hits).sum() / 6, abs=1e-12)


def test_what_cannot_be_read_is_left_out(images, tmp_path):
    cases = find_cases(images)
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(cases.cases[0]["image"]).read_bytes()[:100])
    test = [*cases.select(split="test"), {"image": str(broken), "series": "broken", "patient": "broken", "label": 0, "split": "test"}]
    assert nearest_neighbour(detector(0), cases.select(split="train"), test)["n_normal"] == 6
