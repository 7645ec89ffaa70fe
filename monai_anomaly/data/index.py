"""What a folder or an export holds: a table to read, a table to compute with, and the cases of a datalist."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .cases import Case, Refusal
from .sources import Source

__all__ = ["COLUMNS", "index_cases", "index_rows", "index_table"]

WIDTH = 140
EXAMPLES = 3
MOST_REASONS = 50
TITLES = ("patient", "modality", "series", "kind", "slices", "rows x columns", "spacing in mm", "plane", "verdict")
WIDEST = (20, 8, WIDTH, 18, 9, 17, 22, 8, 7)
"""Of each column; the series take what the others leave, which is 15 characters at least."""
SERIES, RIGHT = TITLES.index("series"), TITLES.index("slices")

COLUMNS = (
    "verdict", "patient", "series", "modality", "kind", "files", "rows", "columns", "slices", "spacing_rows_mm", "spacing_columns_mm", "spacing_slices_mm",
    "plane", "place", "reason",
)  # fmt: skip
"""Of :func:`index_rows`."""


class _Row(NamedTuple):
    """One line of the table, and what stands below it."""

    cells: tuple[str, ...]
    reason: str = ""


def index_table(sources: Sequence[Source], refused: Sequence[Refusal], n_files: int) -> Iterator[str]:
    """The table for people, line by line, at most 140 characters wide.

    One line for each series, volume or film, read or refused; pictures of one folder and patient share a line, which counts them. Then how many files were
    found, read and refused, and why: refused files are grouped by reason, with examples.

    Args:
        sources: what can be read, as :func:`monai_anomaly.data.find.find_sources` gives it.
        refused: what cannot.
        n_files: how many files these are together.

    Example:
        >>> scan = Source("1.nii", "1", "p-1", "s-1", "volume", "MR", (256, 256, 20), (0.9375, 0.9375, 6.5), "axial")
        >>> for line in index_table([scan], [Refusal("2.png", "The file holds 0 bytes.")], 2):
        ...     print(line)
        patient  modality  series  kind    slices  rows x columns  spacing in mm        plane  verdict
        p-1      MR        s-1     volume      20  256 x 256       0.938 x 0.938 x 6.5  axial  read
        <BLANKLINE>
        2 files found: 1 read as 1 series or image of 1 patient, 1 refused.
        <BLANKLINE>
        Refused, by reason:
          1 file: The file holds 0 bytes.
            2.png
    """
    series = [_refused_series(refusal) for refusal in refused if refusal.series]
    rows = sorted([*_read(sources), *series], key=lambda row: [_natural(row.cells[n]) for n in (0, 1, 2)])
    if rows:
        yield from _aligned(rows)
        yield ""
    n_refused = sum(refusal.files for refusal in refused)
    patients = len({source.patient for source in sources})
    counts = f"{_n(n_files, 'file')} found: {n_files - n_refused:,} read as {len(sources):,} series or image{'s' * (len(sources) != 1)}"
    unnamed = sum(map(_is_unnamed, sources))
    each = " (each file that names none counted as one)" if unnamed and len(sources) > 1 else ""
    yield f"{counts} of {_n(patients, 'patient')}{each}, {n_refused:,} refused."
    files = [refusal for refusal in refused if not refusal.series]
    if files:
        yield ""
        yield f"Refused, by reason{' (refused series stand in the table)' if series else ''}:"
        yield from _reasons(files)


def index_rows(sources: Sequence[Source], refused: Sequence[Refusal]) -> list[dict[str, Any]]:
    """The table for :func:`monai_anomaly.files.write_csv`: one row for each source and each refusal, nothing folded, numbers in full.

    Example:
        >>> (row,) = index_rows([], [Refusal("2.png", "The file holds 0 bytes.")])
        >>> row["verdict"], row["place"], row["files"]
        ('refused', '2.png', 1)
    """
    empty: dict[str, Any] = dict.fromkeys(COLUMNS)
    rows = []
    for source in sources:
        spacing = dict(zip(("spacing_rows_mm", "spacing_columns_mm", "spacing_slices_mm"), source.spacing_mm, strict=False))
        size = dict(zip(("rows", "columns", "slices"), source.shape, strict=True))
        about = {
            "patient": source.patient,
            "series": source.series,
            "modality": source.modality,
            "kind": source.kind,
            "plane": source.plane,
        }
        files = 1 if isinstance(source.image, str) else len(source.image)
        rows.append({**empty, "verdict": "read", **about, "files": files, **size, **spacing, "place": source.place})
    for refusal in refused:
        named = {"series": refusal.series or None, "place": _place(refusal)}
        rows.append({**empty, "verdict": "refused", **named, "files": refusal.files, "reason": refusal.reason})
    return rows


def index_cases(sources: Sequence[Source]) -> list[Case]:
    """The sources as cases without label for :func:`monai_anomaly.data.write_datalist`, by patient.

    Example:
        >>> a, b = (Source(f"{n}.nii", n, f"p-{n}", f"s-{n}", "volume", "MR", (256, 256, 20)) for n in "ab")
        >>> index_cases([b, a])[0]["series"]
        's-a'
    """
    cases: list[Case] = [{"image": one.image, "patient": one.patient, "series": one.series, "split": "test"} for one in sources]
    return sorted(cases, key=lambda case: (_natural(case["patient"]), _natural(case["series"])))


def _read(sources: Sequence[Source]) -> Iterator[_Row]:
    """Rows of what can be read; pictures of one folder, modality and patient share one."""
    pictures: dict[tuple[str, str, str], list[Source]] = {}
    for source in sources:
        patient = "" if _is_unnamed(source) else source.patient
        if source.kind == "picture":
            pictures.setdefault((patient, source.modality, source.place.rpartition("/")[0]), []).append(source)
        else:
            yield _row(patient, source.modality, source.series, source.kind, [source])
    for (patient, modality, folder), group in pictures.items():
        if len(group) == 1:
            yield _row(patient, modality, group[0].series, "picture", group)
        else:
            yield _row(patient, modality, f"{folder}/*" if folder else "*", f"{len(group):,} pictures", group)


def _is_unnamed(source: Source) -> bool:
    """An image file or NIfTI volume names no patient, and is called after its path."""
    return source.patient in ("", source.series)


def _row(patient: str, modality: str, series: str, kind: str, group: Sequence[Source]) -> _Row:
    first = group[0]
    spacings = {one.spacing_mm for one in group}
    spacing = " x ".join(_rounded(distance) for distance in first.spacing_mm) if len(spacings) == 1 else "different"
    size = " x ".join(_range(one.shape[axis] for one in group) for axis in (0, 1))
    return _Row((patient, modality, series, kind, f"{first.shape[2]:,}", size, spacing, first.plane, "read"))


def _refused_series(refusal: Refusal) -> _Row:
    return _Row(("", "", refusal.series, "series", f"{refusal.files:,}", "", "", "", "refused"), f"in {_place(refusal)}: {refusal.reason}")


def _place(refusal: Refusal) -> str:
    """Where a refused file is, or the folder of a refused series."""
    return refusal.where.removeprefix(f"series {refusal.series} in ") if refusal.series else refusal.where


def _aligned(rows: Sequence[_Row]) -> Iterator[str]:
    lines = [tuple(_printable(cell) or "-" for cell in row.cells) for row in rows]
    widths = [min(max(map(len, column)), most) for column, most in zip(zip(TITLES, *lines, strict=True), WIDEST, strict=True)]
    widths[SERIES] = min(widths[SERIES], WIDTH - sum(widths) + widths[SERIES] - 2 * (len(widths) - 1))
    for cells, row in zip([TITLES, *lines], [None, *rows], strict=True):
        fitted = [_shortened(cell, width) for cell, width in zip(cells, widths, strict=True)]
        padded = [
            cell.rjust(width) if n == RIGHT else cell.ljust(width) for n, (cell, width) in enumerate(zip(fitted, widths, strict=True))
        ]
        yield "  ".join(padded).rstrip()
        if row is not None and row.reason:
            yield from _wrapped(row.reason, 4)


def _reasons(refused: Sequence[Refusal]) -> Iterator[str]:
    """Reasons that differ in their numbers alone count as one; the most frequent come first."""
    groups: dict[str, list[Refusal]] = {}
    files: Counter[str] = Counter()
    for refusal in refused:
        kind = re.sub(r"\d[\d.,]*", "0", refusal.reason)
        groups.setdefault(kind, []).append(refusal)
        files[kind] += refusal.files
    for kind, n in files.most_common(MOST_REASONS):
        group = groups[kind]
        like = "" if len({refusal.reason for refusal in group}) == 1 else "for instance: "
        yield from _wrapped(f"{_n(n, 'file')}: {like}{group[0].reason}", 2, 4)
        more = f", and {len(group) - EXAMPLES:,} more" if len(group) > EXAMPLES else ""
        yield from _wrapped(", ".join(refusal.where for refusal in group[:EXAMPLES]) + more, 4)
    if len(groups) > MOST_REASONS:
        rest = sum(n for _, n in files.most_common()[MOST_REASONS:])
        yield f"  {_n(rest, 'file')}: {len(groups) - MOST_REASONS:,} other reasons; the table in CSV lists all."


def _wrapped(text: str, indent: int, hanging: int | None = None) -> list[str]:
    return textwrap.wrap(
        _printable(text), WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent if hanging is None else hanging),
        break_on_hyphens=False,
    )  # fmt: skip


def _printable(text: str) -> str:
    """A name cannot speak to the terminal: control and other invisible characters become ``?``."""
    return text if text.isprintable() else "".join(character if character.isprintable() else "?" for character in text)


def _shortened(text: str, width: int) -> str:
    """Both ends of a text that is too long."""
    head = (width - 3) // 2
    return text if len(text) <= width else f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def _rounded(distance_mm: float) -> str:
    """Three digits that count, all before the point."""
    return f"{distance_mm:.0f}" if 100 <= distance_mm < 1e6 else f"{distance_mm:.3g}"


def _range(values: Iterator[int]) -> str:
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def _n(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _natural(text: str) -> tuple[str, list[tuple[int, str]]]:
    """Sorts ``2`` before ``10``, but not the digits of a pseudonym."""
    pseudonym = re.match(r"[psx]-[0-9a-f]{12}|", text)
    head = pseudonym[0] if pseudonym else ""
    rest = text[len(head) :].casefold()
    return head, [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d{1,18})", rest)]
