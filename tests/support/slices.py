"""Slice samples as the data package gives them, made up, and engines over them: no files."""

from __future__ import annotations

import torch
from ignite.engine import Engine

from monai_anomaly.evaluation import AnomalyEvaluator, ScoreCollector
from monai_anomaly.training import CalibrateDetector

GEOMETRY = {
    "slice_affine": torch.eye(4, dtype=torch.float64), "slice_shape": torch.tensor([64, 64, 2]), "source_affine": torch.eye(4, dtype=torch.float64),
    "source_shape": torch.tensor([64, 64, 2]), "in_patient": True,
}  # fmt: skip


class Slices(torch.utils.data.Dataset):
    """One slice to a case, two cases to a patient; every second one is abnormal. ``refused`` and ``empty`` are places."""

    def __init__(self, n: int, refused: tuple[int, ...] = (), empty: tuple[int, ...] = ()):
        self.images = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(n))
        self.refused, self.empty = refused, empty
        self.cases = [{"patient": f"p{k // 2}", "series": f"s{k}", "image": f"{k}.png", "label": k % 2} for k in range(n)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, k):
        mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
        mask[:, : k % 2 * 8] = 1
        return {
            "image": self.images[k], "mask": mask, "has_mask": True, "label": k % 2, "case": k, "slice_index": 0,
            "empty": k in self.empty, "refused": "unreadable" if k in self.refused else "",
        }  # fmt: skip


class Series(torch.utils.data.Dataset):
    """Cases of two slices; ``patients`` names the patient of each case, ``empty`` are (case, slice)."""

    def __init__(self, patients: list[str], empty: tuple[tuple[int, int], ...] = ()):
        n = 2 * len(patients)
        self.images = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(n))
        self.empty = empty
        self.cases = [{"patient": name, "series": f"s{k}", "image": f"{k}.png"} for k, name in enumerate(patients)]
        self.index = [divmod(item, 2) for item in range(n)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, item):
        place = divmod(item, 2)
        return {
            "image": self.images[item], "has_mask": False, "label": -1, "case": place[0], "slice_index": place[1], "empty": place in self.empty,
            "refused": "", **GEOMETRY,
        }  # fmt: skip


def evaluator(detector, dataset, handlers=(), batch_size=3):
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch_size)
    return AnomalyEvaluator(torch.device("cpu"), loader, detector, val_handlers=list(handlers))


def calibrate(detector, dataset, are_held_out=True, series_pooling="max"):
    engine = Engine(lambda engine, batch: None)
    CalibrateDetector(evaluator(detector, dataset), dataset.cases, detector, are_held_out, series_pooling).attach(engine)
    for _ in range(2):  # the second run starts anew
        engine.run([0])
    return detector.calibration


def maps_of(detector, dataset):
    """``(cases, slices, pixels)``."""
    with torch.no_grad():
        return detector(dataset.images).flatten(1).reshape(-1, 2, 64 * 64).numpy()


def score(dataset, detector, batch_size=3, handlers=()):
    collector = ScoreCollector(dataset.cases)
    evaluator(detector, dataset, [collector, *handlers], batch_size).run()
    return collector
