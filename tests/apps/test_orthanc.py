"""Orthanc behind the data store: what a radiologist accepts lies in the study, in its place, and is read back; the whole way is gone by round_trip.py."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

from dicomweb_client import DICOMwebClient
from support.bulk import save_model
from support.dicom import AXIAL, OBLIQUE, SAGITTAL, make_picture, make_series
from support.orthanc import APP, held, push, remove_series, results_of

from monai_anomaly.bundle_root import root
from monai_anomaly.data import CaseReader, case_files, find_case
from monai_anomaly.inference import StudyDetector
from monai_anomaly.label.pacs.cache import dicom_behind
from monai_anomaly.label.pacs.store import PacsDatastore
from monai_anomaly.label.refusals import RequestError


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> StudyDetector:
    return StudyDetector(root("skipts"), save_model(tmp_path_factory.mktemp("model") / "model.pt"), device="cpu")


@pytest.fixture
def new_store(pacs, tmp_path):
    """Data stores of one PACS, each with an empty cache."""
    return lambda name="cache", **changed: PacsDatastore(
        DICOMwebClient(pacs), cache_path=str(tmp_path / name), listing_seconds=0, **changed
    )


@pytest.fixture
def store(new_store) -> PacsDatastore:
    return new_store()


def make_brain(folder: Path, n: int = 5, shape: tuple[int, int] = (12, 9), **options) -> Path:
    """A series in whose slices there is something to score."""
    pixels = np.random.default_rng(0).integers(10, 70, (*shape, n)).astype(float)
    return make_series(folder, n=n, shape=shape, pixels=pixels, **options)


def judge(store: PacsDatastore, detector: StudyDetector, uid: str):
    image = store.get_image_uri(uid)
    verdict = detector.judge(dicom_behind(image))
    store.keep_heatmap(image, verdict)
    return verdict


def mask_file(store: PacsDatastore, uid: str, path: Path, *blocks: tuple[slice, ...]) -> np.ndarray:
    """A mask on the grid of the image, (column, row, slice)."""
    image = nib.load(store.get_image_uri(uid))
    mask = np.zeros(image.shape, np.uint8)
    for block in blocks:
        mask[block] = 1
    nib.save(nib.Nifti1Image(mask, image.affine), path)
    return mask


def by_place(result: pydicom.Dataset, frames: np.ndarray) -> dict[tuple[float, ...], list[list[float]]]:
    """Each frame by where it says that it lies."""
    groups = [group.PlanePositionSequence[0].ImagePositionPatient for group in result.PerFrameFunctionalGroupsSequence]
    found = {tuple(round(float(x), 3) for x in place): frame.tolist() for place, frame in zip(groups, frames)}
    assert len(found) == len(groups) == len(frames)
    return found


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_accepted_mask_and_map_lie_on_their_slices(pacs, store, detector, tmp_path, orientation, modality):
    folder = make_brain(tmp_path / "a", n=6, shape=(20, 14), orientation=orientation, modality=modality, order=[3, 0, 5, 1, 4, 2])
    uid = push(pacs, folder)
    verdict = judge(store, detector, uid)
    block = (slice(1, 5), slice(2, 9), slice(1, 3))
    mask = mask_file(store, uid, tmp_path / "mask.nii.gz", block)
    assert store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {"label_info": [{"name": "anomaly", "idx": 1}]}) == uid

    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    normal = np.cross(orientation[:3], orientation[3:])
    slices.sort(key=lambda one: float(np.dot(one.ImagePositionPatient, normal)))
    places = [tuple(round(float(x), 3) for x in one.ImagePositionPatient) for one in slices]
    (seg,), (shown,) = (results_of(pacs, slices[0].StudyInstanceUID, kind) for kind in ("SEG", "OT"))
    assert (seg.FrameOfReferenceUID, seg.PatientID, seg.SegmentSequence[0].SegmentAlgorithmType) == (
        slices[0].FrameOfReferenceUID, slices[0].PatientID, "SEMIAUTOMATIC",
    )  # fmt: skip
    assert by_place(seg, seg.pixel_array) == {places[k]: mask[:, :, k].T.tolist() for k in (1, 2)}
    values = np.frombuffer(shown.FloatPixelData, "<f4").reshape(6, 20, 14)
    assert by_place(shown, values) == {place: verdict.map.source[:, :, k].tolist() for k, place in enumerate(places)} and np.ptp(values) > 0
    assert verdict.model.sha256 in seg.DerivationDescription and verdict.model.sha256 in shown.DerivationDescription


def test_the_volume_holds_the_values_of_the_files(pacs, store, tmp_path):
    folder = make_series(tmp_path / "a", orientation=OBLIQUE, slopes=(1.0, 2.0), order=[2, 4, 0, 1, 3])
    volume = nib.load(store.get_image_uri(push(pacs, folder)))
    reader = CaseReader()
    array, meta = reader.get_data(reader.read(case_files(find_case(folder).cases[0])))
    assert np.array_equal(np.asarray(volume.dataobj), array.transpose(1, 0, 2))
    assert np.allclose(volume.affine[:, [1, 0, 2, 3]], meta["affine"], atol=1e-4)


def test_a_normal_study_is_saved_and_counts_as_normal_everywhere(pacs, new_store, detector, tmp_path):
    store = new_store()
    folder = make_brain(tmp_path / "a")
    uid = push(pacs, folder)
    store.update_image_info(uid, {"normal": False})
    judge(store, detector, uid)
    mask_file(store, uid, tmp_path / "mask.nii.gz")
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
    study = pydicom.dcmread(next(folder.iterdir())).StudyInstanceUID
    assert not results_of(pacs, study, "SEG")[0].pixel_array.any() and len(results_of(pacs, study, "OT")) == 1
    assert store.get_image_info(uid)["normal"] is True and uid in store.get_labeled_images()
    other = new_store("elsewhere")
    assert other.get_image_info(uid) == {"normal": True}  # told by the PACS alone
    assert not np.asarray(nib.load(other.get_label_uri(uid, "final")).dataobj).any()
    assert other.get_image_info(uid)["normal"] is True


def test_the_last_accepted_mask_counts_though_it_was_accepted_before(pacs, new_store, detector, tmp_path):
    store = new_store()
    folder = make_brain(tmp_path / "a")
    uid = push(pacs, folder)
    judge(store, detector, uid)
    first, second = (slice(0, 2), slice(1, 4), slice(0, 1)), (slice(3, 6), slice(2, 9), slice(3, 4))
    masks = {}
    for name, block in (("a", first), ("b", second), ("a", first)):
        masks[name] = mask_file(store, uid, tmp_path / "mask.nii.gz", block)
        store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
        for reader in (store, new_store(f"other {len(masks)} {name}")):
            assert np.array_equal(np.asarray(nib.load(reader.get_label_uri(uid, "final")).dataobj), masks[name])
    study = pydicom.dcmread(next(folder.iterdir())).StudyInstanceUID
    assert len(results_of(pacs, study, "SEG")) == 3 and len(results_of(pacs, study, "OT")) == 1  # the same map is the same object
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
    assert len(results_of(pacs, study, "SEG")) == 3


def test_masks_and_maps_are_no_images_and_others_masks_are_no_labels(pacs, store, new_store, detector, tmp_path):
    uid, without = push(pacs, make_brain(tmp_path / "a")), push(pacs, make_series(tmp_path / "b", modality="MR"))
    judge(store, detector, uid)
    mask_file(store, uid, tmp_path / "mask.nii.gz", (slice(0, 2),) * 3)
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
    study = store.get_image_info(uid)["StudyInstanceUID"]
    results = {one["MainDicomTags"]["SeriesInstanceUID"] for one in held(pacs, study)} - {uid}
    assert len(results) == 2
    foreign = results_of(pacs, study, "SEG")[0]
    foreign.SegmentSequence[0].SegmentLabel, foreign.SeriesInstanceUID, foreign.SOPInstanceUID = "Liver", "1.2.3.4", "1.2.3.5"
    foreign.ReferencedSeriesSequence[0].SeriesInstanceUID = without
    foreign.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5"
    DICOMwebClient(pacs).store_instances([foreign])
    for everything in (store, new_store("all", search_filter={})):
        listed = everything.list_images()
        assert {uid, without} <= {*listed} and not {*results, "1.2.3.4"} & {*listed} and listed == sorted(listed)
        assert uid in everything.get_labeled_images() and without in everything.get_unlabeled_images()
    remove_series(pacs, "1.2.3.4")


def test_a_mask_that_was_drawn_without_a_model_says_so(pacs, new_store, tmp_path):
    store = new_store()
    folder = make_brain(tmp_path / "a")
    uid = push(pacs, folder)
    mask = mask_file(store, uid, tmp_path / "mask.nii.gz", (slice(0, 2), slice(1, 4), slice(0, 1)))
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {"label_info": [{"name": "anomaly", "idx": 1}]})
    study = store.get_image_info(uid)["StudyInstanceUID"]
    (seg,) = results_of(pacs, study, "SEG")
    (segment,) = seg.SegmentSequence
    assert segment.SegmentAlgorithmType == "MANUAL" and "SegmentationAlgorithmIdentificationSequence" not in segment
    assert "drawn by a person" in seg.SeriesDescription and "teacher_sha256" not in seg.DerivationDescription
    assert results_of(pacs, study, "OT") == []  # there is no map of it
    for reader in (store, new_store("other")):
        assert uid in reader.get_labeled_images() and reader.get_image_info(uid)["normal"] is False
        assert np.array_equal(np.asarray(nib.load(reader.get_label_uri(uid, "final")).dataobj), mask)


def test_an_accepted_mask_that_cannot_be_read_ends_no_list(pacs, store, new_store, detector, tmp_path, caplog):
    uid = push(pacs, make_brain(tmp_path / "a"))
    judge(store, detector, uid)
    mask_file(store, uid, tmp_path / "mask.nii.gz")
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
    (seg,) = results_of(pacs, store.get_image_info(uid)["StudyInstanceUID"], "SEG")
    remove_series(pacs, seg.SeriesInstanceUID)
    seg.PixelData = seg.PixelData[:2]
    DICOMwebClient(pacs).store_instances([seg])
    assert new_store("other").get_image_info(uid) == {"normal": False} and "does not count as normal" in caplog.text


def test_what_is_scored_in_passing_is_the_first_to_make_room(pacs, new_store, detector, tmp_path):
    uids = [push(pacs, make_brain(tmp_path / name)) for name in "abc"]
    opened, scored, last = uids
    store = new_store(cache_gb=1e-9)  # none fits
    store.get_image_uri(opened)
    version = store.version(scored)
    with store.in_passing(scored) as folder:
        assert detector.judge(folder).score is not None
    assert {path.name for path in store.cache.root.glob("1.*")} == {
        opened,
        f"{opened}.nii.gz",
        scored,
    }  # and no volume, which viewers alone need
    store.update_image_info(scored, {"anomaly": {}})
    store.get_image_uri(last)
    assert not Path(folder).exists() and store.version(scored) == version and store.get_image_info(scored)["anomaly"] == {}
    assert Path(store.get_image_uri(opened)).exists() and Path(store.get_image_uri(last)).exists()  # asked for within a day
    with store.in_passing(opened):
        pass
    assert time.time() - Path(store.source(opened)).stat().st_mtime < 60


def test_what_a_model_saves_by_itself_is_not_accepted(pacs, store, detector, tmp_path):
    uid = push(pacs, make_brain(tmp_path / "a"))
    judge(store, detector, uid)
    mask_file(store, uid, tmp_path / "mask.nii.gz")
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {"model": "skipts", "params": {}})
    (seg,) = results_of(pacs, store.get_image_info(uid)["StudyInstanceUID"], "SEG")
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert uid in store.get_unlabeled_images() and "normal" not in store.get_image_info(uid) and store.get_label_uri(uid, "final") == ""
    assert store.get_label_info(uid, "original")["model"] == "skipts"


def test_the_map_of_the_model_that_answered_last_goes_with_the_mask(pacs, store, detector, tmp_path):
    uid = push(pacs, make_brain(tmp_path / "a", shape=(20, 14)))
    judge(store, detector, uid)
    path = Path(store.get_label_uri(uid, "heatmap"))
    first = path.stat().st_mtime_ns
    judge(store, detector, uid)
    assert path.stat().st_mtime_ns == first  # the same model says the same
    other = judge(store, StudyDetector(root("skipts"), save_model(tmp_path / "other.pt", seed=1), device="cpu"), uid)
    mask_file(store, uid, tmp_path / "mask.nii.gz", (slice(1, 4),) * 3)
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
    (shown,) = results_of(pacs, store.get_image_info(uid)["StudyInstanceUID"], "OT")
    values = np.sort(np.frombuffer(shown.FloatPixelData, "<f4"))
    assert np.array_equal(values, np.sort(other.map.source, axis=None)) and other.model.sha256 in shown.DerivationDescription


def test_a_client_cannot_put_another_map_or_model_in_its_place(pacs, store, detector, tmp_path):
    uid = push(pacs, make_brain(tmp_path / "a"))
    judge(store, detector, uid)
    known, content = store.get_label_info(uid, "heatmap"), Path(store.get_label_uri(uid, "heatmap")).read_bytes()
    mask_file(store, uid, tmp_path / "mask.nii.gz", (slice(0, 2),) * 3)
    with pytest.raises(RequestError, match="the server's own"):
        store.save_label(uid, str(tmp_path / "mask.nii.gz"), "heatmap", {"algorithm": {"name": "Other"}})
    store.save_label(
        uid, str(tmp_path / "mask.nii.gz"), "heatmap", {"model": "skipts_map"}
    )  # a client who has the model's map saved by that name
    for info in ({"algorithm": {}}, {"window": [0, 9]}, {"made": "1.2", "note": ""}):
        with pytest.raises(RequestError, match="the server's own"):
            store.update_label_info(uid, "heatmap", info)
    store.update_label_info(uid, "heatmap", {"note": "seen"})
    assert store.get_label_info(uid, "heatmap") == {**known, "note": "seen"}
    assert Path(store.get_label_uri(uid, "heatmap")).read_bytes() == content


def test_filters_name_modalities(pacs, new_store, tmp_path):
    ct, mr = push(pacs, make_series(tmp_path / "a")), push(pacs, make_series(tmp_path / "b", modality="MR"))
    for wanted in ("CT", "CT,US", ["US", "CT"], "CT\\US"):
        listed = new_store(search_filter={"Modality": wanted}).list_images()
        assert ct in listed and mr not in listed
    assert mr not in new_store(search_filter={"Modality": "MR", "SeriesInstanceUID": ct}).list_images()


def test_a_series_that_was_still_arriving_is_fetched_again(pacs, store, detector, tmp_path):
    folder = make_series(tmp_path / "a", n=6)
    names = sorted(path.name for path in folder.iterdir())
    uid = push(pacs, folder, names[:3])
    assert nib.load(store.get_image_uri(uid)).shape[2] == 3
    judge(store, detector, uid)
    store.update_image_info(uid, {"anomaly": {"skipts": {"score": 1}}})
    push(pacs, folder, names[3:])
    assert nib.load(store.get_image_uri(uid)).shape[2] == 6
    assert "anomaly" not in store.get_image_info(uid) and not store.get_label_uri(uid, "heatmap")
    written = (tmp_path / "cache").rglob("*.nii.gz")
    before = {path: path.stat().st_mtime_ns for path in written}
    store.get_image_uri(uid)
    assert before == {path: path.stat().st_mtime_ns for path in before}  # nothing is fetched or written twice


def test_what_is_gone_from_the_pacs_is_gone_here(pacs, store, detector, tmp_path):
    folder = make_brain(tmp_path / "a")
    uid = push(pacs, folder)
    judge(store, detector, uid)
    mask_file(store, uid, tmp_path / "mask.nii.gz", (slice(0, 2),) * 3)
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
    (seg,) = results_of(pacs, store.get_image_info(uid)["StudyInstanceUID"], "SEG")
    remove_series(pacs, seg.SeriesInstanceUID)
    assert store.get_image_info(uid)["normal"] is False
    assert uid in store.get_unlabeled_images() and store.get_label_uri(uid, "final") == ""
    assert "normal" not in store.get_image_info(uid) and "final" not in store.get_labels_by_image_id(uid)
    assert not [pair for pair in store.datalist() if uid in pair["image"]]
    remove_series(pacs, uid)
    with pytest.raises(RequestError, match=r"There is no series .* in the PACS") as refused:
        store.get_image_uri(uid)
    assert refused.value.status_code == 404
    assert not [path for path in (tmp_path / "cache").rglob("*") if uid in path.name and path.parent.name != ".locks"]


def test_what_cannot_be_saved_is_refused_and_nothing_is_stored(pacs, store, detector, tmp_path):
    folder = make_series(tmp_path / "a", n=5, shape=(12, 9))
    uid = push(pacs, folder)
    mask_file(store, uid, tmp_path / "mask.nii.gz", (slice(0, 2),) * 3)
    with pytest.raises(RequestError, match=r"The verdict on series .* is gone"):  # a model's own mask, without its map
        store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {"model": "skipts"})
    judge(store, detector, uid)
    image = nib.load(store.get_image_uri(uid))
    shifted = image.affine.copy()
    shifted[0, 3] += 1
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), shifted), tmp_path / "beside.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((9, 12, 4), np.uint8), image.affine), tmp_path / "short.nii.gz")
    (tmp_path / "mask.bin").write_bytes(bytes(9 * 12 * 4))
    (tmp_path / "mask.txt").write_bytes(b"1")
    for name, words in (
        ("beside.nii.gz", "voxels beside"),
        ("short.nii.gz", "expected the same grid"),
        ("mask.bin", "one byte for each"),
        ("mask.txt", "nrrd"),
    ):
        with pytest.raises(RequestError, match=words):
            store.save_label(uid, str(tmp_path / name), "final", {})
    for tag in ("../final", "", "a b"):
        with pytest.raises(RequestError, match="tag"):
            store.save_label(uid, str(tmp_path / "mask.nii.gz"), tag, {})
    with pytest.raises(RequestError, match="push the series to the PACS"):
        store.add_image("../x", str(tmp_path / "mask.nii.gz"), {})
    assert [one["MainDicomTags"]["Modality"] for one in held(pacs, store.get_image_info(uid)["StudyInstanceUID"])] == ["CT"]


def test_a_series_with_nothing_to_score_gets_a_mask_and_no_map(pacs, store, detector, tmp_path):
    uid = push(pacs, make_series(tmp_path / "a", pixels=np.full((12, 9, 5), -1000.0)))
    assert judge(store, detector, uid).score is None
    mask_file(store, uid, tmp_path / "mask.nii.gz")
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
    study = store.get_image_info(uid)["StudyInstanceUID"]
    assert len(results_of(pacs, study, "SEG")) == 1 and results_of(pacs, study, "OT") == []


def test_a_picture_gets_a_mask_and_no_map(pacs, store, detector, tmp_path):
    rng = np.random.default_rng(0)
    make_picture(
        tmp_path / "a" / "1.dcm",
        rng.integers(0, 255, (40, 30), np.uint8),
        modality="CR",
        sop_class=pydicom.uid.ComputedRadiographyImageStorage,
    )
    uid = push(pacs, tmp_path / "a")
    judge(store, detector, uid)
    mask = mask_file(store, uid, tmp_path / "mask.nii.gz", (slice(3, 9), slice(20, 33), slice(0, 1)))
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
    study = store.get_image_info(uid)["StudyInstanceUID"]
    assert np.array_equal(results_of(pacs, study, "SEG")[0].pixel_array, mask[:, :, 0].T) and results_of(pacs, study, "OT") == []


def test_the_cache_is_private_and_names_nobody(pacs, store, detector, tmp_path):
    uid = push(pacs, make_series(tmp_path / "a", patient="Roe^Jane 0815"))
    judge(store, detector, uid)
    (cache,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert b"Roe" not in (cache / "datastore_v2.json").read_bytes() and not [path for path in cache.rglob("*") if "Roe" in path.name]
    assert [path.name for path in (cache / uid).iterdir() if b"Roe^Jane" in path.read_bytes()]  # the images themselves do
    store.remove_image(uid)
    assert not [
        path
        for path in cache.rglob("*")
        if path.is_file() and ((uid in path.name and path.parent.name != ".locks") or path.suffix == ".dcm")
    ]
    assert uid in store.list_images()  # the PACS keeps it


@pytest.mark.slow
def test_the_round_trip_of_real_series(request, pacs, tmp_path):
    """The script, as a user runs it; the model that it trains from the server answers."""
    shared = Path(__file__).parents[2].parent / "shared" / "data" / "dicom"
    names = ("ct_ge_rotated", "mr_siemens_patient_position/HFDL", "mr_siemens_patient_position/HFP")
    real = [str(shared / name) for name in names if (shared / name).is_dir()]
    out = tmp_path / "results of the round trip"
    command = [sys.executable, str(APP / "round_trip.py"), "--out", str(out), *real]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert ran.stdout.count("the mask lies on the right slices") == ran.stdout.count("the map lies on the right slices") == len(real) + 2
    assert ran.stdout.count("dciodvfy finds no error") == (2 * (len(real) + 2) if shutil.which("dciodvfy") else 0)
    assert "a PACS that is down: 503" in ran.stdout and len([*out.glob("*_seg.dcm")]) == len([*out.glob("*_map.dcm")]) == len(real) + 2
    log = (out / "server.log").read_text(errors="replace")
    patients = {str(pydicom.dcmread(path, specific_tags=["PatientName"]).PatientName) for path in out.glob("*_seg.dcm")}
    assert patients and not [name for name in patients if re.search(rf"\b{re.escape(name)}\b", log)]
    assert "Traceback" not in log
