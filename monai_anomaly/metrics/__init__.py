"""Metrics that MONAI and scikit-learn lack; AUROC and average precision are scikit-learn's own."""

from .aupro import compute_aupro
from .aupro_released import compute_aupro_reference
from .classification import f1_max, sensitivity_specificity

__all__ = ["compute_aupro", "compute_aupro_reference", "f1_max", "sensitivity_specificity"]
