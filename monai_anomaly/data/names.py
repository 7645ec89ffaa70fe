"""How patients, series and parts of paths are called: pseudonyms, safe letters, no name twice."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

__all__ = ["pseudonym", "slug", "unique_names"]

LONGEST_NAME = 100


def pseudonym(prefix: str, identifier: str) -> str:
    """A stable name that does not show the identifier: prefix and twelve hexadecimal digits of its SHA-256.

    It keeps identifiers out of logs, tables and file names. It is no anonymisation: who knows an identifier can compute its pseudonym.

    Example:
        >>> pseudonym("p", "12345")
        'p-5994471abb01'
    """
    return f"{prefix}-{hashlib.sha256(identifier.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def slug(name: str) -> str:
    """A name of letters (of any script), digits, ``.``, ``-`` and ``_``; long ones are cut and end in a hash.

    Different names may become equal (:func:`unique_names`). It is no file name yet: some systems keep names such as ``con`` for themselves
    (:func:`monai_anomaly.files.safe_name`).

    Example:
        >>> slug("test/good/no 96"), slug("../../etc/passwd")
        ('test_good_no_96', 'etc_passwd')
    """
    safe = re.sub(r"[^\w.-]+", "_", name).strip("._-") or pseudonym("case", name)
    return safe if len(safe) <= LONGEST_NAME else f"{safe[: LONGEST_NAME - 13]}{pseudonym('', name)}"


def unique_names(names: Iterable[str]) -> list[str]:
    """The same names in the same order; each that occurred before gets a number (upper and lower case count as the same).

    Example:
        >>> unique_names(["a", "b", "A", "a"])
        ['a', 'b', 'A-2', 'a-3']
    """
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name}-{number}"
        taken.add(candidate.casefold())
        result.append(candidate)
    return result
