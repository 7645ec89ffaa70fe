"""Randomness derived from (seed, epoch, rank), so that an epoch draws the same numbers whatever happened before it."""

from __future__ import annotations

import hashlib
import random
import struct

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events

from ..errors import OptionError

__all__ = ["EpochSeed"]


class EpochSeed:
    """Handler: seed Python, NumPy and torch at the start of every epoch, before the loader shuffles.

    Attach it before handlers that draw numbers. Each of several processes draws its own numbers. ``engine.state.generator`` is a generator for what is
    drawn in the main process during the epoch, such as pseudo-anomalies; it starts elsewhere than torch's global one, and the loader's order does not
    depend on how much is drawn from it.

    Args:
        seed: the run's seed, not negative.

    Raises:
        OptionError: a seed that is no whole number from 0 upwards.
    """

    def __init__(self, seed: int):
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise OptionError(f"The seed is {seed!r}; expected a whole number from 0 upwards.")
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed the generators for the epoch that starts."""
        place = f"{self.seed}/{engine.state.epoch}" + (f"/{idist.get_rank()}" if idist.get_rank() else "")
        derived, another = struct.unpack_from("<2I", hashlib.sha256(place.encode()).digest())
        random.seed(derived)
        np.random.seed(derived)
        torch.manual_seed(derived)
        engine.state.generator = torch.Generator().manual_seed(another)  # type: ignore[attr-defined]
