"""Anomaly detection in medical images for MONAI, trained on normal scans alone."""

__version__ = "0.1.0"
