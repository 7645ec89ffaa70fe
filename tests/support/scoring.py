"""The preprocessing of the Skip-TS bundle, and scores of an untrained detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.bundle import ConfigParser

from monai_anomaly.data import SliceDataset

from .bundles import BUNDLE
from .tiny import tiny_detector


def bundle_slices(cases: Sequence[Any], size: int = 64) -> SliceDataset:
    """The slices of cases, prepared as the Skip-TS bundle's JSON says."""
    parser = ConfigParser(ConfigParser.load_config_file(BUNDLE / "train.json"))
    parser["image_size"] = size
    parser.parse()
    chains = [parser.get_parsed_content(f"train#{name}") for name in ("preprocessing", "slice_preprocessing")]
    return SliceDataset(list(cases), chains[0], size, keep=False, slice_transform=chains[1])


def slice_scores(files: Sequence[Any], every: int = 1) -> list[torch.Tensor]:
    """For each case, the scores of every n-th slice by an untrained ResNet-18 detector."""
    dataset = bundle_slices([{"image": file, "series": f"s{k}"} for k, file in enumerate(files)])
    detector = tiny_detector().eval()
    scores: list[list[torch.Tensor]] = [[] for _ in files]
    with torch.no_grad():
        for number, (case, k) in enumerate(dataset.index):
            if k % every == 0:
                sample = dataset[number]
                assert not sample["refused"], sample["refused"]
                scores[case].append(detector.predict(sample["image"][None]).score)
    return [torch.cat(parts) for parts in scores]
