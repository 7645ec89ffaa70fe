"""Which slices are scored together: the same ones, whatever was scored before and however many processes share the work."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ..errors import OptionError

__all__ = ["UnitBatches", "cut_units"]


def cut_units(index: Sequence[tuple[int, int]], batch_size: int) -> list[range]:
    """Cut a data set into units of work that depend on nothing but the data set.

    A series of several slices is a unit of its own; consecutive cases of one slice (pictures) are grouped up to ``batch_size``. What shares a batch can change
    the last digits of a score, and batches never cross a unit: so a series has the same score to the last bit in a run that was interrupted, and in one
    that was divided among several processes.

    Args:
        index: (case, slice) of each sample, the slices of a case one after another; see :attr:`~monai_anomaly.data.SliceDataset.index`.
        batch_size: slices in a batch.

    Returns:
        The positions in ``index`` of each unit, in order.

    Raises:
        OptionError: a batch size below 1.

    Example:
        >>> cut_units([(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (4, 0)], batch_size=2)
        [range(0, 2), range(2, 3), range(3, 5), range(5, 6)]
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise OptionError(f"batch_size is {batch_size!r}; expected a whole number of at least 1.")
    units: list[range] = []
    pictures = False
    start = 0
    while start < len(index):
        stop = start + 1
        while stop < len(index) and index[stop][0] == index[start][0]:
            stop += 1
        single = stop == start + 1
        if single and pictures and len(units[-1]) < batch_size:
            units[-1] = range(units[-1].start, stop)
        else:
            units.append(range(start, stop))
        pictures, start = single, stop
    return units


class UnitBatches:
    """Batch sampler: the batches of those units that are not finished, one process's share of them.

    A unit of which any case is unfinished is scored whole. The units that are left are dealt to the processes in turn.

    Args:
        index: as for :func:`cut_units`.
        batch_size: slices in a batch.
        finished: cases that need not be scored; the same on every rank.
        rank: number of this process, from 0.
        processes: how many share the work.

    Raises:
        OptionError: a batch size below 1.

    Example:
        >>> index = [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0)]
        >>> [list(batch) for batch in UnitBatches(index, batch_size=2, finished={0})]
        [[1, 2], [3], [4]]
        >>> [list(batch) for batch in UnitBatches(index, batch_size=2, finished={0}, rank=1, processes=2)]
        [[4]]
    """

    def __init__(
        self, index: Sequence[tuple[int, int]], batch_size: int, finished: Collection[int] = (), rank: int = 0, processes: int = 1
    ):
        done = frozenset(finished)
        left = [unit for unit in cut_units(index, batch_size) if any(index[position][0] not in done for position in unit)]
        self._batches = [unit[start : start + batch_size] for unit in left[rank::processes] for start in range(0, len(unit), batch_size)]

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[range]:
        """Positions of the samples of each batch."""
        return iter(self._batches)
