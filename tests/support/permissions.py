"""File permissions that hold for root, too: tests may run as root, whom they do not stop."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

VERSION_3 = 0x20080522
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2


@contextlib.contextmanager
def permissions_hold() -> Iterator[None]:
    """Give up, in this thread and those it starts, the two capabilities by which root passes over permissions; nothing to do for anybody else."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(VERSION_3, 0)
    # Effective, permitted, inheritable: the first 32 capabilities, then the others.
    before, without = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    _call(libc.capget, header, before)
    without[:] = before[:]
    without[0] &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    _call(libc.capset, header, without)
    try:
        yield
    finally:
        _call(libc.capset, header, before)


def _call(function, header, data) -> None:
    if function(header, data):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
