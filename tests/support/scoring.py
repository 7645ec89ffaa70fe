"""The bundles in the test's own process: their commands, their preprocessing, and scores of an untrained detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_anomaly.data import SliceDataset
from monai_anomaly.errors import find_anomaly_error

from .tiny import tiny_detector

BUNDLES = Path(__file__).parents[2] / "bundles"
BUNDLE = BUNDLES / "skipts"
SYSTEMS = sorted(path.parent.name for path in BUNDLES.glob("*/train.json"))
"""The bundles there are."""


def bundle_workflow(name: str, bundle: str = "skipts", overlays: Sequence[str] = (), **flags: Any) -> ConfigWorkflow:
    """``train``, ``evaluate`` or ``inference`` as MONAI's Python interface holds it, with other configs of the bundle laid over it; not yet begun."""
    folder = BUNDLES / bundle
    if name != "train":  # shared by all bundles, so that Python has to say which one is meant
        flags = {"bundle_root": str(folder), **flags}
    return ConfigWorkflow(
        config_file=[str(folder / f"{part}.json") for part in (name, *overlays)], meta_file=str(folder / "metadata.json"), logging_file=False,
        workflow_type="train" if name == "train" else "infer", **flags,
    )  # fmt: skip


def run_bundle(name: str, bundle: str = "skipts", overlays: Sequence[str] = (), **flags: Any) -> None:
    """Run ``train``, ``evaluate`` or ``inference``; an AnomalyError comes out as it is, without what MONAI wraps around it."""
    flow = bundle_workflow(name, bundle, overlays, **flags)
    try:
        flow.initialize()
        flow.run()
        flow.finalize()
    except Exception as error:
        raise (find_anomaly_error(error) or error) from None


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
