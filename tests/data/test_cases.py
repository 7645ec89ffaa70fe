"""Whose case it is, told alike wherever patients are counted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_anomaly.bundle import check_rate
from monai_anomaly.data import Case, case_patient, check_patients
from monai_anomaly.errors import CalibrationError, DataError
from monai_anomaly.evaluation import SliceScore, pool_patients
from monai_anomaly.scoring import Pooling
from monai_anomaly.training.identity import cases_digest
from monai_anomaly.training.record import _count


class Dataset:
    """As far as the run's record counts it."""

    n_empty = n_marked = n_cached = 0
    intensity, refused = (), ()

    def __init__(self, cases: list[Case]):
        self.cases = cases

    def __len__(self) -> int:
        return len(self.cases)


@pytest.fixture
def nameless(tmp_path) -> list[Case]:
    for k in range(3):
        Image.fromarray(np.full((8, 8), 20 * k, np.uint8)).save(tmp_path / f"{k}.png")
    return [{"image": str(tmp_path / f"{k}.png")} for k in range(3)]


def test_a_patient_is_named_by_the_case_by_its_series_or_by_its_image():
    whole: Case = {"image": "1.png", "patient": "a", "series": "a_1"}
    assert case_patient(whole) == "a"
    assert case_patient({**whole, "patient": ""}) == case_patient({"image": "1.png", "series": "a_1"}) == "a_1"
    assert case_patient({"image": "1.png"}) == "1.png" != case_patient({"image": ["1.dcm", "2.dcm"]})


def test_cases_without_a_name_are_patients_of_their_own(nameless):
    rows = [SliceScore(k, 0, 0, float(k), 0.0) for k in range(3)]
    assert [row.score for row in pool_patients(rows, nameless, Pooling("max"))] == [0.0, 1.0, 2.0]
    assert len(_count(Dataset(nameless))["patients"]) == 3
    named = [{**case, "patient": f"p{k}"} for k, case in enumerate(nameless)]
    assert cases_digest(nameless) == cases_digest(named) != cases_digest([{**case, "patient": "p"} for case in nameless])
    check_rate(0.25, nameless)
    with pytest.raises(CalibrationError):
        check_rate(0.25, [{**case, "patient": "p"} for case in nameless])
    with pytest.raises(DataError, match="1 patient is in training and in test"):
        check_patients(nameless, nameless[:1])
