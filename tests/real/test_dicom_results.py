"""DICOM results for every real series that the reader accepts: on the right slices, and without an error that is not the source's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from support.dicom_results import HASH, dciodvfy, frames_of_result, slices_of_source
from support.reading import is_sentence

from monai_anomaly.data import find_cases
from monai_anomaly.data.cases import case_files
from monai_anomaly.data.reader import case_grid
from monai_anomaly.errors import DataError
from monai_anomaly.writers.dicom import Algorithm, parametric_map, read_sources, segmentation, write_dicom

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::UserWarning")]

ALGORITHM = Algorithm("SkipTS", HASH, threshold=0.5, false_alarm_rate=0.05)
OF_THE_SOURCE = (
    "Module=<Patient", "(0x0010,", "(0x0008,0x0020)", "(0x0008,0x0030)", "Patient's Sex", "contains invalid data values",
    "StudyInstanceUID has same value as FrameOfReferenceUID",
)  # fmt: skip
"""Errors of patient and study, which are taken over as they are."""
REFUSED = {
    "picture without a place": 49, "frames without a place": 18, "mosaic of slices": 22, "FrameOfReferenceUID is missing": 4,
    "UID is missing in a source image": 10, "is no UID in a source image": 4,
}  # fmt: skip
"""Masks and maps that there cannot be."""


def own_errors(path) -> list[str]:
    return [error for error in dciodvfy(path)[0] if not any(known in error for known in OF_THE_SOURCE)]


def made(make: Callable[[], Dataset], path: Path, reasons: list[str]) -> Path | None:
    """The file, or a further reason why there is none."""
    try:
        return write_dicom(path, make())
    except DataError as error:
        reasons.append(str(error))
        return None


def test_every_real_series_has_results_on_its_slices_or_a_reason_why_not(dicom, tmp_path):
    counts: Counter[str] = Counter()
    reasons: list[str] = []
    for number, case in enumerate(find_cases(dicom).cases):
        files = case_files(case)
        try:
            place = case_grid(files)
        except DataError:
            continue
        values = np.random.default_rng(number).random(place.shape, dtype=np.float32)
        mask, sources = values > 0.5, read_sources(files)
        seg = made(partial(segmentation, sources, mask, algorithm=ALGORITHM), tmp_path / "seg.dcm", reasons)
        pm = made(partial(parametric_map, sources, values, algorithm=ALGORITHM, window=(0, 1)), tmp_path / "map.dcm", reasons)
        for path in filter(None, (seg, pm)):
            assert not own_errors(path), files[0]
            assert dcmread(path).get("PatientName") == dcmread(files[0], force=True).get("PatientName"), files[0]
        counts.update(masks=seg is not None, maps=pm is not None, volumes=pm is not None and place.shape[2] > 1)
        if pm is None or seg is None:
            assert seg is None or np.array_equal(dcmread(seg).pixel_array, mask[..., 0])
            continue
        # Where slice k lies follows from the reader's affine; that this is where the file says is the test of the reader.
        source, found, marked = slices_of_source(files, pixels=False), frames_of_result(pm), frames_of_result(seg)
        assert set(found) == set(source) == set(marked)
        for at, frame in found.items():
            k = int(np.rint(np.linalg.inv(place.affine) @ [-at[0], -at[1], at[2], 1])[2])
            np.testing.assert_array_equal(frame.plane, values[..., k])
            np.testing.assert_array_equal(marked[at].plane, mask[..., k])
            assert frame.refers_to == marked[at].refers_to == source[at].refers_to
    assert all(map(is_sentence, reasons)), reasons
    assert {words: sum(words in reason for reason in reasons) for words in REFUSED} == REFUSED
    assert len(reasons) == sum(REFUSED.values())
    assert counts == {"masks": 85, "maps": 36, "volumes": 11}
