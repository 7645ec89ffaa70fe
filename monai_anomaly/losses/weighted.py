"""The one place where loss terms are weighted and summed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import OptionError
from ..networks import Features

__all__ = ["WeightedSum"]


class WeightedSum(nn.Module):
    r"""Named terms with their weights; for Skip-TS eq. (5): :math:`L_{DRKD} = \alpha L_{sim} + \beta L_{mac}`, alpha 1, beta 0.05.

    Args:
        terms: modules from :class:`~monai_anomaly.networks.Features` to a scalar, by name.
        weights: one number per term. A term of weight 0 is not computed.

    Raises:
        OptionError: names of terms and weights differ, a term is called ``"loss"``, or no weight differs from 0.

    Example:
        >>> import torch
        >>> from monai_anomaly.losses import ConsistencyLoss, SimilarityLoss
        >>> loss = WeightedSum({"similarity": SimilarityLoss(), "consistency": ConsistencyLoss()}, {"similarity": 1.0, "consistency": 0.05})
        >>> t, s = (tuple(torch.rand(2, 4, n, n) for n in (8, 4, 2)) for _ in range(2))
        >>> sorted(loss(Features(teacher=t, student=s)))
        ['consistency', 'loss', 'similarity']
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]):
        super().__init__()
        if set(terms) != set(weights) or "loss" in terms or not any(weights.values()):
            raise OptionError(
                f"Loss terms {sorted(terms)} have the weights {dict(weights)}; expected one number per term, not all 0, none named 'loss'."
            )
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        self.terms = nn.ModuleDict({name: terms[name] for name in self.weights})

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return each term unweighted under its name, and the weighted sum under ``"loss"``."""
        values = {name: term(features) for name, term in self.terms.items()}
        values["loss"] = sum(self.weights[name] * value for name, value in values.items())
        return values
