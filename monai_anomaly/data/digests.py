"""Digests of decoded pixels: which images are the same, whatever their files look like."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from ..errors import DataError
from ..files import file_sha256
from .cases import Case, case_files, case_name
from .reader import CaseReader

__all__ = ["find_duplicates", "fingerprint", "report_duplicates"]

logger = logging.getLogger(__name__)

SHOWN = 20


def find_duplicates(cases: Sequence[Case]) -> list[list[Case]]:
    """Groups of cases with identical pixels: copies under other names, and as PNG, RGB or RGBA of the same grey values.

    Args:
        cases: each is decoded once in the life of the process; those that cannot be decoded are equal to none.

    Returns:
        Groups of two or more, in the order of their first case.

    Example:
        >>> find_duplicates([])
        []
    """
    groups: dict[str, list[Case]] = {}
    for case, digest in zip(cases, _digests(cases), strict=True):
        if not digest.startswith("undecodable"):
            groups.setdefault(digest, []).append(case)
    return [group for group in groups.values() if len(group) > 1]


def report_duplicates(train: Sequence[Case], calibration: Sequence[Case], test: Sequence[Case]) -> list[list[Case]]:
    """Find identical images on both sides of a split, and warn of them: scores of such test images are too good.

    Args:
        train: cases to train on.
        calibration: cases to calibrate with.
        test: cases to test on.

    Returns:
        The groups of identical images that lie in more than one of them.

    Example:
        >>> report_duplicates([], [], [])
        []
    """
    splits = {"train": train, "calibration": calibration, "test": test}
    side = {id(case): name for name, cases in splits.items() for case in cases}
    crossing = [
        group
        for group in find_duplicates([case for cases in splits.values() for case in cases])
        if len({side[id(case)] for case in group}) > 1
    ]
    for group in crossing[:SHOWN]:
        logger.warning(
            "Identical images on both sides of a split: %s.", " = ".join(f"{case_name(case)} in {side[id(case)]}" for case in group)
        )
    if crossing:
        logger.warning(
            "%d groups of identical images lie on both sides of a split%s; scores of these images say nothing about new ones: remove the copies.",
            len(crossing), f", the first {SHOWN} shown above" if len(crossing) > SHOWN else "",
        )  # fmt: skip
    return crossing


def fingerprint(cases: Sequence[Case]) -> str:
    """SHA-256 of the pixels of a data set: the same whatever names, order and lossless formats its files have.

    Example:
        >>> fingerprint([])[:8]
        'e3b0c442'
    """
    return hashlib.sha256("\n".join(sorted(_digests(cases))).encode()).hexdigest()


def _digests(cases: Sequence[Case]) -> list[str]:
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(_digest, cases))


def _digest(case: Case) -> str:
    try:
        return _digest_files(tuple((name, (stat := os.stat(name)).st_size, stat.st_mtime_ns) for name in case_files(case)))
    except (OSError, ValueError):
        return f"undecodable {case_name(case)}"


@cache
def _digest_files(files: tuple[tuple[str, int, int], ...]) -> str:
    """Size and time of the files are part of the key, so that a changed file is read again."""
    names = [name for name, _, _ in files]
    reader = CaseReader()
    try:
        array, _ = reader.get_data(reader.read(names))
    except DataError:
        content = hashlib.sha256("".join(map(file_sha256, names)).encode())
        return f"undecodable {content.hexdigest()}"
    digest = hashlib.sha256(f"{array.dtype} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).data)  # no second copy of a large volume
    return digest.hexdigest()
