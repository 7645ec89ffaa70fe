"""The bundles there are, and their commands in the test's own process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.bundle import ConfigWorkflow

from monai_anomaly.errors import find_anomaly_error

from .repository import ROOT

BUNDLES = ROOT / "bundles"
BUNDLE = BUNDLES / "skipts"
SYSTEMS = sorted(path.parent.name for path in BUNDLES.glob("*/train.json"))
"""The bundles there are."""
SMALL = {"image_size": 64, "epochs": 1, "batch_size": 4, "teacher_weights": "random", "backbone": "resnet18"}
"""Flags of a training that takes a moment."""


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
