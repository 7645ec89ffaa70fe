"""Systems beside each other on the same data, under one budget, with the floors that each of them has to beat."""

from .session import compare
from .specs import Spec, parse_flags, parse_spec

__all__ = ["Spec", "compare", "parse_flags", "parse_spec"]
