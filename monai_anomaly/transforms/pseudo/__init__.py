"""Pseudo-anomalies: normal images made abnormal, with the mask of what changed; whole batches, any device."""

from .base import PseudoAbnormal

__all__ = ["PseudoAbnormal"]
