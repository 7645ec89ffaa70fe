"""What a clinic sends, made up, and a calibrated model to score it with: for tests of bulk inference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from monai_anomaly.training import save_detector

from .dicom import make_series
from .tiny import blob, tiny_detector

PREPROCESSING = {"image_size": 64, "preset": "auto", "ct_window": "brain", "plane": "native", "neighbours": 0}
N_PICTURES, N_VOLUMES, N_SERIES = 9, 2, 2


def save_model(path: Path, seed: int = 0, **changed: Any) -> Path:
    """An untrained detector with a calibration made by hand, in which some slices are flagged and have findings; ``changed``: its preprocessing."""
    detector = tiny_detector(seed)
    detector.preprocessing = {**PREPROCESSING, **changed}
    spread = {"scores": [1 + k / 20 for k in range(19)]}
    detector.calibration = {
        "image": spread, "patient": spread, "pixel": {"scores": [k / 19 for k in range(19)]}, "series_pooling": "max", "series_per_patient": 1,
        "colour_range": [0.0, 2.0],
    }  # fmt: skip
    return save_detector(detector, path)


def write_mixed(folder: Path) -> Path:
    """Pictures, a broken one among them, two NIfTI volumes and two DICOM series, in an order that mixes them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(N_PICTURES):
        Image.fromarray(blob(rng, lesion=k % 3 == 0)[0]).save(folder / f"{'am'[k % 2]}{k}.png")
    (folder / "m_broken.png").write_bytes((folder / "a0.png").read_bytes()[:300])
    for k in range(N_VOLUMES):
        values = rng.integers(0, 200, (30, 32, 5 + k)).astype(np.int16)
        values[..., 2] = 0
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])), folder / f"d{k}.nii.gz")
    for k in range(N_SERIES):
        make_series(folder / f"ct{k}", n=5 + 3 * k, shape=(40, 36), origin=(0, 0, 0), uid=f"1.2.826.0.1.3680043.10.{k}", patient=f"p{k}")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a results folder by its path: name and bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
