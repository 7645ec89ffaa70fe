from __future__ import annotations

from pathlib import Path

import pytest

from monai_anomaly import bundle
from monai_anomaly.data import CaseList
from monai_anomaly.errors import DataError, OptionError


def test_training_cases_from_outside_are_refused():
    own = [{"image": "a", "series": "a", "split": "train"}]
    bundle.check_cases(own, [dict(case) for case in own])
    for other in ([], [{"image": "a", "label": "lesion.nii.gz"}]):  # as MONAI Label's app monaibundle hands in what was labelled
        with pytest.raises(OptionError, match=rf"replaced by {len(other)} other cases.*apps/anomaly"):
            bundle.check_cases(other, own)


def test_the_cases_to_score_are_the_test_cases_and_none_is_refused():
    cases = [{"image": name, "series": name, "split": name} for name in ("train", "test")]
    assert bundle.cases_to_score(CaseList(tuple(cases), (), 2, Path("scans"))) == cases[1:]
    with pytest.raises(DataError, match="nothing to score in scans: expected test/good"):
        bundle.cases_to_score(CaseList((cases[0],), (), 1, Path("scans")))
