"""Which study a radiologist should see next: the most unusual one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.tasks.strategy import Strategy

from ..errors import CheckpointError
from .models import ServedModel
from .record import SharedRecord
from .refusals import check_known
from .scoring import told_by, unreviewed

__all__ = ["MostAnomalous"]


class MostAnomalous(Strategy):
    """The study with the highest score first, of those that nobody has looked at; then those without a score, then those that cannot be judged.

    A score counts if the model that answers now gave it. Equal ones come in the order of their names. A study stays the next one until it has a final
    label or a mark that says whether it is normal.

    Args:
        served: the models; the first one's scores count, unless the request names another under ``model``.
    """

    def __init__(self, served: Mapping[str, ServedModel]):
        super().__init__("The most unusual study first, by the scores of the scoring methods")
        self.served = served

    def __call__(self, request: Mapping[str, Any], datastore: SharedRecord) -> dict[str, Any] | None:
        """Choose.

        Args:
            request: may hold ``model``.
            datastore: the studies.

        Returns:
            The study's ``id``, its ``anomaly_score`` and ``p_value`` (``None`` if not known), and how many studies of the worklist have a score, have none yet,
            and cannot be judged. ``None`` if all have been looked at.

        Raises:
            RequestError: no such model is served.
        """
        name = request.get("model") or next(iter(self.served))
        check_known("model", name, self.served)
        try:
            model = self.served[name].digest()
        except CheckpointError:
            model = ""
        known = {study: told_by(datastore.get_image_info(study), name) for study in unreviewed(datastore)}
        told = {study: said if said.get("model") == model else {} for study, said in known.items()}
        if not told:
            return None
        scored = {study for study, said in told.items() if said.get("score") is not None}
        refused = {study for study, said in told.items() if "refused" in said}
        first = min(told, key=lambda study: (study not in scored, study in refused, -(told[study].get("score") or 0.0), study))
        return {
            "id": first,
            "anomaly_score": told[first].get("score"),
            "p_value": told[first].get("p_value"),
            "scored_by": name,
            "worklist": {"scored": len(scored), "not_scored": len(told) - len(scored) - len(refused), "refused": len(refused)},
        }
