"""Which bundles a server serves, and where the model of each is."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from ..bundle_root import root
from ..errors import CheckpointError, OptionError
from ..files import file_sha256, file_stamp
from ..inference import StudyDetector
from ..pack import bundle_names

__all__ = ["ServedModel", "served_models"]

MODEL = "model.pt"


class ServedModel:
    """A bundle as the server serves it. A model that the server trained comes before the bundle's own.

    Args:
        bundle_root: the bundle's folder, which gives the name.
        app_dir: the app's folder; what is trained goes to ``model/<name>/`` in it.

    Attributes:
        name: of the bundle.
        folder: where the server's own model, its record and its runs are.

    Example:
        >>> served = ServedModel("bundles/skipts", "apps/anomaly")
        >>> served.name, served.own.as_posix()
        ('skipts', 'apps/anomaly/model/skipts/model.pt')
    """

    def __init__(self, bundle_root: str | Path, app_dir: str | Path):
        self.bundle_root = Path(bundle_root)
        self.name = self.bundle_root.name
        self.folder = Path(app_dir) / "model" / self.name
        self._lock = threading.Lock()
        self._detector: StudyDetector | None = None
        self._digest: tuple[tuple[str | int, ...], str] = ((), "")

    @property
    def own(self) -> Path:
        """Where training puts the model, whether it is there or not."""
        return self.folder / MODEL

    @property
    def file(self) -> Path:
        """The model that answers now.

        Raises:
            CheckpointError: nothing has been trained yet; the message tells how.
        """
        bundled = self.bundle_root / "models" / MODEL
        for path in (self.own, bundled):
            if path.is_file():
                return path
        raise CheckpointError(
            f"The model {self.name} is not trained yet: there is neither {self.own} nor {bundled}. Train it on normal scans: python -m monai.bundle run "
            f"--config_file {self.bundle_root / 'train.json'} --dataset_dir DATA, or mark normal studies on this server and POST /train/{self.name}."
        )

    def digest(self) -> str:
        """SHA-256 of :attr:`file`, read only when it has changed.

        Raises:
            CheckpointError: nothing has been trained yet, or it cannot be read.
        """
        file = self.file
        try:
            stamp = (str(file), *file_stamp(file))
            if self._digest[0] != stamp:
                self._digest = stamp, file_sha256(file)
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read ({error.strerror}); expected a model.pt: check its permissions.") from error
        return self._digest[1]

    def detector(self) -> StudyDetector:
        """The detector of :attr:`file`, the same one for all who ask.

        Raises:
            CheckpointError: nothing has been trained yet.
        """
        with self._lock:
            file = self.file.absolute()
            if self._detector is None or self._detector.model != file:
                self._detector = StudyDetector(self.bundle_root, file)
            return self._detector


def served_models(conf: Mapping[str, str], app_dir: str | Path) -> dict[str, ServedModel]:
    """The bundles that ``--conf models skipts,rd4ad`` names.

    Args:
        conf: what was given with ``--conf``. Under ``models`` names of bundles, or folders of unpacked ones, with commas between them.
        app_dir: the app's folder.

    Returns:
        The models by name, in the order given.

    Raises:
        OptionError: nothing is named, there is no such bundle, or two are called the same.

    Example:
        >>> [*served_models({"models": "skipts,rd4ad"}, "apps/anomaly")]
        ['skipts', 'rd4ad']
    """
    wanted = [name.strip() for name in conf.get("models", "").split(",") if name.strip()]
    known = bundle_names()
    expected = f"expected bundles ({', '.join(known)}) or folders of unpacked ones: --conf models skipts"
    if not wanted:
        raise OptionError(f"No model is named; {expected}.")
    models: dict[str, ServedModel] = {}
    for name in wanted:
        folder = Path(root(name)) if name in known else Path(name)
        if not (folder / "inference.json").is_file():
            raise OptionError(f"There is no bundle {name!r}; {expected}.")
        served = ServedModel(folder.absolute(), app_dir)
        if served.name in models:
            raise OptionError(f"Two models are called {served.name!r}; expected different names: rename one folder.")
        models[served.name] = served
    return models
