"""DICOM results while series after series is scored, and by the command."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged
from PIL import Image
from pydicom import dcmread
from support.bulk import contents, save_model, write_mixed
from support.bundles import run_bundle
from support.dicom import OBLIQUE, make_picture, make_series
from support.dicom_results import dciodvfy, frames_of_result, slices_of_source
from support.tiny import tiny_detector

from monai_anomaly.data import CaseReader
from monai_anomaly.errors import OptionError
from monai_anomaly.transforms import OrientSlicesd
from monai_anomaly.writers import AssembleSeries, MapGrid, SaveFindings
from monai_anomaly.writers.dicom import SaveDicom

THRESHOLD = 0.0
CALIBRATION = {"pixel": {"scores": [THRESHOLD - k for k in range(19)]}}  # the threshold at 0.05 is the highest of them
CT = "1.2.840.10008.5.1.4.1.1.1"


@pytest.fixture
def save(tmp_path):
    """A writer, with or without a calibration."""

    def make(calibration=CALIBRATION) -> SaveDicom:
        return SaveDicom(tmp_path / "dicom", tiny_detector(), SaveFindings(tmp_path, calibration))

    return make


def as_scored(scored, image, plane: str = "native"):
    """A case whose map is its image."""
    image = Compose([LoadImaged("image", reader=CaseReader, ensure_channel_first=True), OrientSlicesd("image", plane=plane)])(
        {"image": image}
    )["image"]
    meta = image.meta
    in_patient = meta["geometry"] == "patient"
    grid = MapGrid(meta["slice_affine"], tuple(meta["slice_shape"]), meta["original_affine"], tuple(meta["spatial_shape"]), in_patient)
    return scored(image.as_tensor()[0].permute(2, 0, 1), grid)


@pytest.mark.parametrize("plane", ["native", "axial", "sagittal"])
def test_maps_of_any_plane_come_back_onto_the_slices(tmp_path, scored, drive, save, plane):
    files = [str(file) for file in sorted(make_series(tmp_path / "a", orientation=OBLIQUE, order=(4, 2, 0, 1, 3)).iterdir())]
    drive(AssembleSeries([{"series": "s-a", "image": files}], [None, save()]), [as_scored(scored, files, plane)])
    source = slices_of_source(files)
    maps, masks = (frames_of_result(tmp_path / "dicom" / f"s-a_{kind}.dcm") for kind in ("map", "seg"))
    assert set(maps) == set(source) and set(masks) <= set(source) and masks
    for place, one in source.items():
        np.testing.assert_array_equal(maps[place].plane, one.plane.astype(np.float32))
        np.testing.assert_array_equal(masks[place].plane if place in masks else False, one.plane > THRESHOLD)
    assert maps[next(iter(source))].refers_to == source[next(iter(source))].refers_to


def test_what_has_no_dicom_results_is_counted_and_said(tmp_path, scored, drive, save, caplog):
    caplog.set_level(logging.INFO)
    ct = [str(file) for file in sorted(make_series(tmp_path / "a").iterdir())]
    blank = [
        str(file)
        for file in sorted(make_series(tmp_path / "b", change=lambda dataset, k: dataset.__delitem__("FrameOfReferenceUID")).iterdir())
    ]
    cr = str(make_picture(tmp_path / "c", np.arange(108, dtype=np.uint16).reshape(12, 9), modality="CR", sop_class=CT, bits=12))
    Image.fromarray(np.zeros((12, 9), np.uint8)).save(tmp_path / "d.png")
    cases = [{"series": name, "image": image} for name, image in zip("abcd", (ct, blank, cr, str(tmp_path / "d.png")))]
    drive(AssembleSeries(cases, [save()]), [as_scored(scored, case["image"]) for case in cases])
    assert sorted(path.name for path in (tmp_path / "dicom").iterdir()) == ["a_map.dcm", "a_seg.dcm", "c_seg.dcm"]
    assert "Wrote 2 masks (DICOM SEG) and 1 maps (Parametric Map)" in caplog.text and "1 cases do not come from DICOM" in caplog.text
    assert "1 series have no DICOM results: FrameOfReferenceUID is missing" in caplog.text
    assert "Doe" not in caplog.text


def test_without_a_calibration_there_are_maps_alone(tmp_path, scored, drive, save, caplog):
    files = [str(file) for file in sorted(make_series(tmp_path / "a").iterdir())]
    drive(AssembleSeries([{"series": "s-a", "image": files}], [save(None)]), [as_scored(scored, files)])
    assert [path.name for path in (tmp_path / "dicom").iterdir()] == ["s-a_map.dcm"]
    assert "There are no DICOM masks, because the model has no calibration" in caplog.text


def test_smoothing_is_said(tmp_path, scored, drive, save):
    files = [str(file) for file in sorted(make_series(tmp_path / "a").iterdir())]
    drive(AssembleSeries([{"series": "s-a", "image": files}], [save()], smoothing_mm=1.5), [as_scored(scored, files)])
    for path in (tmp_path / "dicom").iterdir():
        assert "smoothing_mm 1.5" in dcmread(path).DerivationDescription


def test_files_that_moved_since_are_refused(tmp_path, scored, drive, save, caplog):
    files = [str(file) for file in sorted(make_series(tmp_path / "a").iterdir())]
    case = as_scored(scored, files)
    make_series(tmp_path / "a", origin=(0, 0, 0))
    drive(AssembleSeries([{"series": "s-a", "image": files}], [save()]), [case])
    assert not (tmp_path / "dicom").exists() and "lie elsewhere than when they were scored" in caplog.text


def test_the_objects_of_a_series_can_be_removed(tmp_path, scored, drive, save):
    files = [str(file) for file in sorted(make_series(tmp_path / "a").iterdir())]
    cases = [{"series": "s-a", "image": files}, {"series": "s-b", "image": files}]
    writer = save()
    drive(AssembleSeries(cases, [writer]), [as_scored(scored, files)] * 2)
    writer.remove(cases[0], range(5))
    writer.remove(cases[0], range(5))
    assert sorted(path.name for path in (tmp_path / "dicom").iterdir()) == ["s-b_map.dcm", "s-b_seg.dcm"]


TIMES = ("ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime", "ContributionDateTime")


def timeless(path: Path) -> bytes:
    """A file without the times of its making."""
    dataset = dcmread(path)
    for one in (dataset, *dataset.ContributingEquipmentSequence):
        for keyword in TIMES:
            if keyword in one:
                del one[keyword]
    return dataset.to_json().encode()


@pytest.mark.slow
def test_the_command_writes_and_resumes_them(tmp_path):
    """The flag of inference.json: same files as before but for DICOM; a changed series loses its objects and gets new ones; the flag is part of the run."""
    data, model = write_mixed(tmp_path / "data"), save_model(tmp_path / "model.pt")
    flags = {"dataset_dir": str(data), "model": str(model), "batch_size": 4}
    run_bundle("inference", output_dir=str(tmp_path / "plain"), **flags)
    for out in ("one", "two"):
        run_bundle("inference", output_dir=str(tmp_path / out), save_dicom=True, **flags)
    results = {path.name: path for path in (tmp_path / "one" / "dicom").iterdir()}
    assert len(results) == 4 and all(not dciodvfy(path)[0] for path in results.values())
    assert all(timeless(path) == timeless(tmp_path / "two" / "dicom" / name) for name, path in results.items())
    rest = [name for name in contents(tmp_path / "plain") if name != "finished/run.json"]
    plain, one = contents(tmp_path / "plain"), contents(tmp_path / "one")
    assert set(one) - set(plain) == {f"dicom/{name}" for name in results} and all(one[name] == plain[name] for name in rest)

    with pytest.raises(OptionError, match="save_dicom was False and is True"):
        run_bundle("inference", output_dir=str(tmp_path / "plain"), save_dicom=True, **flags)
    before = {name: (path.stat().st_mtime_ns, dcmread(path).SOPInstanceUID) for name, path in results.items()}
    make_series(data / "ct1", n=8, shape=(40, 36), origin=(0, 0.5, 0), uid="1.2.826.0.1.3680043.10.1", patient="p1")
    run_bundle("inference", output_dir=str(tmp_path / "one"), save_dicom=True, **flags)
    after = {name: (path.stat().st_mtime_ns, dcmread(path).SOPInstanceUID) for name, path in results.items()}
    changed = [name for name in results if before[name] != after[name]]
    assert len(changed) == 2 and len({name.rsplit("_", 1)[0] for name in changed}) == 1
