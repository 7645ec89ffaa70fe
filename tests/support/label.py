"""MONAI Label's server in the test's own process, with a model whose map is known."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from requests_toolbelt.multipart.decoder import MultipartDecoder

from monai_anomaly.networks import AnomalyDetector
from monai_anomaly.networks.detector import Prediction
from monai_anomaly.pack import bundle_names, lay_out_bundle

from .bulk import save_model

APP = Path(__file__).parents[2] / "apps" / "anomaly"


def make_app(folder: Path, *trained: str, **changed: Any) -> Path:
    """The app in a folder of its own, with calibrated but untrained models of these bundles; ``changed``: other preprocessing."""
    folder.mkdir(parents=True)
    shutil.copy(APP / "main.py", folder)
    for name in trained:
        save_model(folder / "model" / name / "model.pt", **changed)
    return folder


def untrained(folder: Path, names: str) -> str:
    """``models`` for ``--conf``: copies of the bundles with these names, because somebody may have trained those of the checkout."""
    places = {name: folder / name for name in names.split(",") if name in bundle_names()}
    for name, place in places.items():
        if not place.exists():
            lay_out_bundle(name, folder)
    return ",".join(str(places.get(name, name)) for name in names.split(","))


def client(app_dir: Path, studies: Path | str, models: str = "skipts", **conf: str) -> AbstractContextManager[Any]:
    """A client of our app, with untrained bundles; scores are not made by themselves."""
    return client_of_app(app_dir, studies, models=untrained(app_dir / "bundles", models), **conf)


@contextmanager
def client_of_app(app_dir: Path, studies: Path | str, **conf: str) -> Iterator[Any]:
    """A client of an app with its options."""
    from monai_anomaly import _torchvision  # noqa: F401  # before MONAI Label looks for it

    os.environ.setdefault("PYTHONPATH", "")
    from fastapi.testclient import TestClient
    from monailabel.config import settings
    from monailabel.interfaces.utils.app import apps

    sessions = tempfile.mkdtemp()
    changed = {
        "MONAI_LABEL_APP_DIR": str(app_dir), "MONAI_LABEL_STUDIES": str(studies), "MONAI_LABEL_APP_CONF": conf,
        "MONAI_LABEL_AUTO_UPDATE_SCORING": False, "MONAI_LABEL_SESSION_PATH": f"{sessions}/sessions",
    }  # fmt: skip
    before = {name: getattr(settings, name) for name in changed}
    for name, value in changed.items():
        setattr(settings, name, value)
    from monailabel.app import app

    try:
        apps.pop(f"{app_dir}{studies}", None)
        with TestClient(app, raise_server_exceptions=False) as found:
            yield found
    finally:  # for a client around this one
        shutil.rmtree(sessions)
        apps.pop(f"{app_dir}{studies}", None)
        for name, value in before.items():
            setattr(settings, name, value)


def infer(server: Any, image: str, model: str = "skipts", **params: Any) -> tuple[dict[str, Any], bytes]:
    """JSON and file of a result."""
    response = server.post(f"/infer/{model}", params={"image": image}, data={"params": json.dumps(params)})
    assert response.status_code == 200, response.text
    parts = {}
    for part in MultipartDecoder(response.content, response.headers["content-type"]).parts:
        name = part.headers[b"Content-Disposition"].decode().split('name="')[1].split('"')[0]
        parts[name] = part.content
    return json.loads(parts["params"]), parts["image"]


def refusal(response: Any, status: int) -> str:
    """The sentence that a client is told."""
    assert response.status_code == status, response.text
    return response.json()["detail"]


def map_is_brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors whose map is the image's own brightness, 0 to 1."""

    def predict(self: AnomalyDetector, image: torch.Tensor) -> Prediction:
        shown = image[:, :1] * 0.229 + 0.485
        return Prediction(shown, shown.flatten(1).amax(dim=1))

    monkeypatch.setattr(AnomalyDetector, "predict", predict)


def lesion_volume(shape: tuple[int, int, int] = (64, 64, 20)) -> tuple[np.ndarray, np.ndarray]:
    """A volume with texture and a bright block off the centre in all three axes, and where the block is."""
    rng = np.random.default_rng(0)
    mask = np.zeros(shape, bool)
    mask[8:28, shape[1] - 25 : shape[1] - 9, 2 : shape[2] // 3] = True
    values = rng.integers(10, 60, shape)
    values[mask] = 1000
    return values.astype(np.int16), mask
