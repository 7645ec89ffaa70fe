"""From many values to one score: pixels of a map to the image's score, slices to the series' score."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..errors import DataError, OptionError

__all__ = ["Pooling"]

_TOP = re.compile(r"top_(?P<number>\d{1,9}(?:\.\d{1,6})?)(?P<percent>%?)", re.ASCII)


@dataclass(frozen=True)
class Pooling:
    """Named rule from the values of each sample to one score.

    ``"max"`` (Skip-TS, eq. (8)), ``"mean"`` (SCRD4AD), ``"top_100"``: mean of the 100 highest values, or of all where there are fewer, ``"top_20%"``:
    mean of the highest 20 %, rounded down, at least one value.

    Args:
        rule: one of the names above, with any number.

    Raises:
        OptionError: another rule.

    Example:
        >>> values = torch.tensor([[1.0, 4.0, 2.0, 3.0, 0.0]])
        >>> [Pooling(rule)(values).item() for rule in ("max", "mean", "top_2", "top_40%")]
        [4.0, 2.0, 3.5, 3.5]
    """

    rule: str

    def __post_init__(self) -> None:
        if self.rule in ("max", "mean"):
            return
        match = _TOP.fullmatch(self.rule) if isinstance(self.rule, str) else None
        number = Fraction(match["number"]) if match else Fraction(0)
        good = match is not None and (
            0 < number <= 100 if match["percent"] else number >= 1 and number.denominator == 1 and "." not in match["number"]
        )
        if not good:
            raise OptionError(
                f"The pooling is {self.rule!r}; expected 'max', 'mean', 'top_K' such as 'top_100', or 'top_P%' such as 'top_20%'."
            )

    def count(self, n: int) -> int:
        """How many of ``n`` values the score is the mean of.

        Example:
            >>> Pooling("top_20%").count(65536), Pooling("top_20%").count(3), Pooling("top_100").count(3)
            (13107, 1, 3)
        """
        if self.rule == "max":
            return min(1, n)
        if self.rule == "mean":
            return n
        match = _TOP.fullmatch(self.rule)
        assert match is not None
        wanted = Fraction(match["number"]) * n / 100 if match["percent"] else Fraction(match["number"])
        return min(max(1, int(wanted)), n)

    def __call__(self, values: Tensor) -> Tensor:
        """Pool ``(B, ...)`` to ``(B,)`` on the values' device; float32, or float64 where the values are.

        A NaN among the values makes the score NaN under every rule.

        Raises:
            DataError: no value to pool.
        """
        flat = values.flatten(1)
        if flat.dtype not in (torch.float32, torch.float64):
            flat = flat.float()
        n_values = int(flat.shape[1])  # a tensor while torch.jit.trace looks on
        if not n_values:
            raise DataError(f"There is nothing to pool in values of shape {tuple(values.shape)}; expected at least one value per sample.")
        if self.rule == "max":
            return flat.amax(dim=1)
        if self.rule == "mean":
            return flat.mean(dim=1)
        return flat.topk(self.count(n_values), dim=1, sorted=False).values.mean(dim=1)
