"""Which normal scans are held out, so that no patient and no image is on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError, OptionError
from .cases import Case, case_patient
from .digests import find_duplicates

__all__ = ["check_patients", "split_calibration"]


def split_calibration(cases: Sequence[Case], fraction: float, seed: int) -> tuple[list[Case], list[Case]]:
    """Hold out some normal patients for calibration; patients that share an identical image stay on the same side.

    Args:
        cases: normal cases, in any order: the choice depends only on the patients' names and the seed.
        fraction: share of the patients to hold out, 0 <= fraction < 1; rounded to whole patients, at least one unless it is 0.
        seed: of a generator of its own; 0 or more.

    Returns:
        Cases to train on and cases held out, each in the order given.

    Raises:
        OptionError: a fraction or seed outside its range.
        DataError: the patients cannot be parted: there are fewer than two, or all are linked by identical images.

    Example:
        >>> split_calibration([{"image": "1.png", "patient": "a"}], fraction=0, seed=0)
        ([{'image': '1.png', 'patient': 'a'}], [])
    """
    if not 0 <= fraction < 1 or seed < 0:
        raise OptionError(
            f"calibration_fraction is {fraction} and seed {seed}; expected 0 <= calibration_fraction < 1 and a seed of 0 or more."
        )
    if fraction == 0:
        return list(cases), []
    groups = _linked_patients(cases)
    n_patients = sum(map(len, groups))
    wanted = max(1, round(fraction * n_patients))
    held_out: set[str] = set()
    for number in np.random.default_rng(seed).permutation(len(groups)):
        if len(held_out) + len(groups[number]) <= wanted:
            held_out |= groups[number]
    if not held_out:  # only large groups: the smallest one is as close as one can get
        held_out = min(groups, key=len, default=set())
    if n_patients - len(held_out) < 1 or not held_out:
        raise DataError(
            f"{n_patients} normal patients cannot be parted into training and calibration (fraction {fraction}); expected at least two that share no "
            "identical image: add normal patients, or set calibration_fraction to 0 and do without a threshold."
        )
    train = [case for case in cases if case_patient(case) not in held_out]
    return train, [case for case in cases if case_patient(case) in held_out]


def check_patients(train: Sequence[Case], test: Sequence[Case]) -> None:
    """Refuse a patient on both sides of a split.

    Raises:
        DataError: there is one.

    Example:
        >>> check_patients([{"image": "1.png", "patient": "a"}], [{"image": "2.png", "patient": "b"}])
    """
    both = sorted({case_patient(case) for case in train} & {case_patient(case) for case in test})
    if both:
        shown = ", ".join(both[:5]) + (", ..." if len(both) > 5 else "")
        raise DataError(
            f"{len(both)} patient{'s are' if len(both) > 1 else ' is'} in training and in test ({shown}); expected each on one side: "
            "move all scans of a patient together. If the files of different patients carry one PatientID, name the patients in a datalist."
        )


def _linked_patients(cases: Sequence[Case]) -> list[set[str]]:
    """Patients, merged where they share an identical image, in an order that does not depend on that of the cases."""
    group_of = {patient: {patient} for patient in sorted({case_patient(case) for case in cases})}
    for copies in find_duplicates(cases):
        merged = set().union(*(group_of[case_patient(case)] for case in copies))
        group_of |= dict.fromkeys(merged, merged)
    return [members for patient, members in sorted(group_of.items()) if patient == min(members)]
