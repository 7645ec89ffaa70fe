"""The stand-in for pydicom-seg reads what highdicom wrote, in its place in the patient."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from support.dicom import AXIAL, OBLIQUE, SAGITTAL, make_series, plane

if not any(True for _ in importlib.metadata.distributions(name="pydicom-seg")):
    pytest.skip("needs the environment of MONAI Label: make test-label", allow_module_level=True)

import pydicom_seg
import SimpleITK as sitk  # noqa: N813 - as its own documents name it

SPACING = (0.5, 0.8)


def write_seg(
    folder: Path, mask: np.ndarray, segments: int = 2, kind: str = "BINARY", omit: bool = True, **series: object
) -> tuple[Path, list]:
    """A segmentation (slices, rows, columns) of a series made up for it; the file and the series in the order of its slices."""
    make_series(folder / "series", n=len(mask), shape=mask.shape[1:3], spacing=SPACING, **series)
    sources = [pydicom.dcmread(path) for path in sorted((folder / "series").iterdir())]
    lesion = codes.SCT.MorphologicallyAbnormalStructure
    described = [
        SegmentDescription(number, f"segment {number}", lesion, lesion, SegmentAlgorithmTypeValues.MANUAL)
        for number in range(1, segments + 1)
    ]
    Segmentation(
        sources, mask, kind, described, generate_uid(), 300, generate_uid(), 1, "made up", "none", "0", "0", omit_empty_frames=omit
    ).save_as(folder / "seg.dcm")  # fmt: skip
    return folder / "seg.dcm", sources


def two_lesions() -> np.ndarray:
    """Off centre in all axes, with an empty slice between them and at both ends."""
    mask = np.zeros((6, 12, 9), np.uint8)
    mask[1:3, 2:5, 6:8] = 1
    mask[4, 7:11, 1:3] = 2
    return mask


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("omit", [True, False], ids=["frames with findings", "all frames"])
def test_every_voxel_lies_where_the_images_say(tmp_path: Path, orientation: tuple[float, ...], omit: bool):
    mask = two_lesions()
    path, sources = write_seg(tmp_path, mask, omit=omit, orientation=orientation, step=2.5)
    image = pydicom_seg.MultiClassReader().read(pydicom.dcmread(path)).image
    assert image.GetSize() == (9, 12, 4 if omit else 6)
    values = sitk.GetArrayFromImage(image)
    assert np.bincount(values.ravel()).tolist()[1:] == np.bincount(mask.ravel()).tolist()[1:]
    for k, source in enumerate(sources):
        places = plane(np.array(source.ImagePositionPatient, float), orientation, mask.shape[1:], SPACING)
        for row, column in np.argwhere(mask[k]):
            x, y, z = image.TransformPhysicalPointToIndex(places[row, column].tolist())
            assert values[z, y, x] == mask[k, row, column]


def test_slices_are_ordered_as_itk_reads_the_series(tmp_path: Path):
    mask = two_lesions()
    path, _ = write_seg(tmp_path, mask, omit=False, orientation=OBLIQUE)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    series, image = reader.Execute(), pydicom_seg.MultiClassReader().read(pydicom.dcmread(path)).image
    assert np.array_equal(sitk.GetArrayFromImage(image), mask)
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(image, get)() == pytest.approx(getattr(series, get)(), abs=1e-4)


def test_monai_label_reads_a_final_label(tmp_path: Path):
    convert = pytest.importorskip("monailabel.datastore.utils.convert")
    path, _ = write_seg(tmp_path / "in", two_lesions())
    label = sitk.ReadImage(convert.dicom_seg_to_itk_image(str(path)))
    assert sorted(np.unique(sitk.GetArrayFromImage(label))) == [0, 1, 2]


def test_what_cannot_be_one_label_image_is_refused(tmp_path: Path):
    reader = pydicom_seg.MultiClassReader()
    path, sources = write_seg(tmp_path / "fractional", two_lesions()[:, :, :] * np.float32(0.5) / 2, segments=1, kind="FRACTIONAL")
    with pytest.raises(ValueError, match="ractional"):
        reader.read(pydicom.dcmread(path))
    with pytest.raises(ValueError):
        reader.read(sources[0])
    overlapping = np.stack([two_lesions() > 0, two_lesions() > 0], axis=-1).astype(np.uint8)
    path, _ = write_seg(tmp_path / "overlapping", overlapping)
    with pytest.raises(RuntimeError, match="overlap"):
        reader.read(pydicom.dcmread(path))


def test_what_is_left_out_says_what_to_use():
    with pytest.raises(AttributeError, match=r"MultiClassWriter is not part of this stand-in.*monai_anomaly\.writers\.dicom"):
        pydicom_seg.MultiClassWriter  # noqa: B018
