"""One study in a running program has the numbers that the command line writes for it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from support.bulk import save_model, write_mixed
from support.bundles import BUNDLE, run_bundle
from support.runs import rows
from support.tiny import tiny_detector

from monai_anomaly.data import find_case
from monai_anomaly.errors import CalibrationError, CheckpointError, DataError
from monai_anomaly.files import file_sha256
from monai_anomaly.inference import StudyDetector, Verdict, prepare_slices
from monai_anomaly.training import load_detector, save_detector

STUDIES = ("a0.png", "d0.nii.gz", "d1.nii.gz", "ct0", "ct1")


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> Path:
    return write_mixed(tmp_path_factory.mktemp("studies") / "mixed")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Thresholds lie within the range of its maps, so that masks have holes and findings have neighbours."""
    path = save_model(tmp_path_factory.mktemp("model") / "model.pt")
    detector = load_detector(path)
    detector.calibration |= {"pixel": {"scores": np.linspace(1.75, 1.84, 19).tolist()}}
    return save_detector(detector, path)


@pytest.fixture(scope="module")
def detector(model) -> StudyDetector:
    return StudyDetector(BUNDLE, model, device="cpu")


def as_text(rows) -> list[dict[str, str]]:
    return [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("rate", [None, 0.4])
def test_the_same_numbers_to_the_last_digit_as_the_command_line(detector, model, studies, tmp_path, name, rate):
    alone = tmp_path / "study"
    alone.mkdir()
    (shutil.copytree if (studies / name).is_dir() else shutil.copy)(studies / name, alone / name)
    out = tmp_path / "out"
    run_bundle("inference", dataset_dir=str(alone), model=str(model), output_dir=str(out), device="cpu", false_alarm_rate=rate)
    verdict = detector.judge(studies / name, rate)
    assert as_text(verdict.slices) == rows(out / "images.csv")
    (patient,) = rows(out / "patients.csv")
    assert as_text([verdict.patient]) == [patient]
    assert [str(verdict.score), str(verdict.p_value), str(int(verdict.flagged))] == [
        patient[key] for key in ("score", "p_value", "flagged")
    ]
    findings = rows(out / "findings.csv")
    assert as_text(verdict.findings) == findings and verdict.n_findings == len(findings) > 0
    told = json.loads((out / "findings.json").read_text())
    assert (verdict.map_threshold, verdict.false_alarm_rate) == (told["threshold"], told["false_alarm_rate"])
    volumes = list((out / "volumes").glob("*.nii.gz")) if (out / "volumes").exists() else []
    assert len(volumes) == (name != "a0.png")
    for path in volumes:
        assert np.array_equal(np.asarray(nib.load(path).dataobj), verdict.map.source.transpose(1, 0, 2), equal_nan=True)
    assert [path.name for path in studies.iterdir() if path.suffix == ".json"] == []  # nothing is written beside the data


@pytest.mark.parametrize("name", ["d1.nii.gz", "ct0"])
def test_slices_are_prepared_as_those_that_are_scored(detector, model, studies, name):
    loaded = load_detector(model)
    slices = prepare_slices(loaded, find_case(studies / name).cases, drop_empty=True, progress=False)
    with torch.no_grad():
        scores = loaded.predict(torch.stack([slices[index]["image"] for index in range(len(slices))])).score
    np.testing.assert_allclose(scores, [row["score"] for row in detector.judge(studies / name).slices], atol=1e-6)


@pytest.mark.parametrize("rate", [None, 0.3, 0.6])
def test_the_mask_is_what_the_findings_are_the_regions_of(detector, studies, rate):
    verdict = detector.judge(studies / "ct1", rate)
    assert verdict.mask.dtype == bool and verdict.mask.shape == verdict.map.source.shape
    assert verdict.mask.sum() == sum(row["voxels"] for row in verdict.findings)
    assert 0.01 < verdict.mask.mean() < 0.99
    assert np.array_equal(verdict.mask, np.nan_to_num(verdict.map.source, nan=-1) > verdict.map_threshold)


def test_empty_slices_are_counted_and_an_empty_study_has_no_score(detector, studies, tmp_path):
    verdict = detector.judge(studies / "d0.nii.gz")
    assert (verdict.n_slices, len(verdict.slices)) == (5, 4) and [row["slice"] for row in verdict.slices] == [0, 1, 3, 4]
    assert np.isnan(verdict.map.slices[..., 2]).all() and np.isfinite(verdict.map.slices[..., 3]).all()
    nib.save(nib.Nifti1Image(np.zeros((30, 32, 5), np.int16), np.eye(4)), tmp_path / "black.nii.gz")
    black = detector.judge(tmp_path / "black.nii.gz")
    assert (black.score, black.p_value, black.flagged, black.patient) == (None, None, None, None)
    assert (black.n_slices, black.slices, black.findings, black.n_findings) == (5, (), (), 0)
    assert not black.mask.any() and np.isnan(black.map.source).all()


def test_what_cannot_be_judged_is_refused_with_a_sentence(detector, studies, tmp_path):
    with pytest.raises(DataError, match=r"m_broken.*cut|m_broken"):
        detector.judge(studies / "m_broken.png")
    with pytest.raises(DataError, match=r"There is no file or folder .*nowhere"):
        detector.judge(studies / "nowhere")
    with pytest.raises(DataError, match="images or series"):
        detector.judge(studies)
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match="0 images or series in 0 files"):
        detector.judge(tmp_path / "notes")
    with pytest.raises(CalibrationError, match=r"rate of 0\.01"):
        detector.judge(studies / "a0.png", 0.01)
    assert isinstance(detector.judge(studies / "a0.png"), Verdict)  # and goes on


def test_a_missing_model_is_named_and_one_that_comes_answers(studies, tmp_path):
    detector = StudyDetector(BUNDLE, tmp_path / "model.pt", device="cpu")
    with pytest.raises(CheckpointError, match="no model at"):
        detector.judge(studies / "a0.png")
    save_model(tmp_path / "model.pt")
    assert detector.judge(studies / "a0.png").model.name == "skipts"


def test_another_model_in_its_place_answers_the_next_call(model, studies, tmp_path):
    file = tmp_path / "model.pt"
    shutil.copy(model, file)
    detector = StudyDetector(BUNDLE, file, device="cpu")
    first = detector.judge(studies / "a0.png")
    other = save_model(tmp_path / "other.pt", seed=1)
    times = file.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same age, as a fast training or a coarse clock leaves it
    os.replace(other, file)
    second = detector.judge(studies / "a0.png")
    assert first.score != second.score and first.model.sha256 != second.model.sha256 == file_sha256(file)
    assert second.score == StudyDetector(BUNDLE, file, device="cpu").judge(studies / "a0.png").score
    file.write_bytes(b"no model")
    with pytest.raises(CheckpointError):
        detector.judge(studies / "a0.png")


def test_the_teacher_is_folded_once_for_all_studies(model, studies, monkeypatch):
    from monai_anomaly.networks import teacher

    folded, fold = [], teacher._fold_batch_norm
    monkeypatch.setattr(teacher, "_fold_batch_norm", lambda backbone: folded.append(1) or fold(backbone))
    detector = StudyDetector(BUNDLE, model, device="cpu")
    for name in ("a0.png", "d0.nii.gz"):
        detector.judge(studies / name)
    assert len(folded) == 1


def test_a_model_without_calibration_has_a_map_and_no_mask(studies, tmp_path):
    plain = tiny_detector()
    plain.preprocessing |= {"preset": "auto", "plane": "native", "neighbours": 0}
    verdict = StudyDetector(BUNDLE, save_detector(plain, tmp_path / "model.pt"), device="cpu").judge(studies / "a0.png")
    assert verdict.score is not None and np.isfinite(verdict.map.source).all()
    unknown = (verdict.p_value, verdict.flagged, verdict.threshold, verdict.map_threshold, verdict.false_alarm_rate, verdict.n_findings)
    assert unknown == (None,) * 6
    with pytest.raises(CalibrationError, match="heat map"):
        verdict.mask  # noqa: B018


def test_threads_that_share_a_detector_are_told_what_each_of_them_asked(detector, studies):
    expected = {name: detector.judge(studies / name) for name in STUDIES}
    found: list[tuple[str, Verdict]] = []
    threads = [threading.Thread(target=lambda n=name: found.append((n, detector.judge(studies / n)))) for name in STUDIES * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    for name, verdict in found:
        assert verdict.slices == expected[name].slices and verdict.case == expected[name].case
        assert np.array_equal(verdict.map.source, expected[name].map.source, equal_nan=True)
