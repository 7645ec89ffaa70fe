"""Every group of real NIfTI volumes: nibabel and ITK are the truth."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.reading import adds_up, is_sentence, read
from support.scoring import bundle_slices
from support.truth import by_itk

from monai_anomaly.data import find_cases, write_datalist

pytestmark = pytest.mark.real

GEOMETRY = {
    "ct_gantry_pitch": ((175, 248, 58), (0.81, 0.81, 2.4), "RAS", None),
    "ct_avm": ((256, 242, 154), (0.72, 0.72, 1.0), "RAS", (0, 563.2)),
    "dwi_las_3mm": ((72, 72, 39), (3, 3, 3), "LAS", None),
    "pd_oblique_2p4mm": ((191, 256, 54), (0.86, 0.86, 2.4), "RAS", None),
    "fmri_pitch": ((64, 64, 35), (3.25, 3.25, 3.6), "RAS", None),
    "mr_lps_3mm": ((117, 91, 20), (3, 3, 3), "LPS", (-47, 833)),
    "t1_psr_2mm": ((120, 120, 90), (2, 2, 2), "PSR", None),
    "anatomical_bigendian_las": ((33, 41, 25), (2, 2, 2), "LAS", None),
}
"""Shape of the stored array, spacing, axes and range, as in the table of the README."""


def assert_like_nibabel(path: Path) -> tuple[np.ndarray, dict]:
    """(column, row, slice) of the file is (row, column, slice) of the array; values with their scale."""
    array, meta = read(str(path))
    image = nib.load(path)
    assert array.dtype == np.float32 and meta["geometry"] == "patient" and meta["value_range"] == () and meta["units"] == ""
    np.testing.assert_array_equal(array, np.asarray(image.dataobj, np.float32).transpose(1, 0, 2))
    np.testing.assert_allclose(meta["affine"], image.affine[:, [1, 0, 2, 3]], atol=1e-5)
    return array, meta


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry(nifti, name):
    shape, spacing, axes, range_ = GEOMETRY[name]
    path = nifti / f"geometry/{name}.nii.gz"
    array, meta = assert_like_nibabel(path)
    assert array.shape == (shape[1], shape[0], shape[2])
    assert nib.aff2axcodes(meta["affine"][:, [1, 0, 2, 3]]) == tuple(axes)
    np.testing.assert_allclose(np.linalg.norm(meta["affine"][:3, :3], axis=0), np.array(spacing)[[1, 0, 2]], atol=0.011)
    assert range_ is None or (array.min(), array.max()) == pytest.approx(range_)
    truth, affine = by_itk(path)
    np.testing.assert_allclose(array, truth, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(meta["affine"], affine, atol=1e-3)


@pytest.mark.parametrize(("name", "shape"), [("pcasl_4d", "(52, 68, 20, 10)"), ("example4d_oblique", "(128, 96, 24, 2)")])
def test_time_series_are_refused(nifti, name, shape):
    found = find_cases(nifti / "geometry")
    assert adds_up(found) and found.found == 10 and len(found.cases) == 8 and len(found.refused) == 2
    (reason,) = [refusal.reason for refusal in found.refused if name in refusal.where]
    assert is_sentence(reason) and shape in reason


@pytest.mark.parametrize(
    ("folder", "n", "voxels"),
    [
        ("wmh_flair", 16, (770, 4635)),
        ("tumour_mr", 3, (143, 4137)),
        ("ct_organs", 1, None),
    ],
)
def test_images_and_their_masks(nifti, folder, n, voxels):
    images = sorted((nifti / folder / "images").iterdir())
    assert len(images) == n
    marked = []
    for path in images:
        array, meta = assert_like_nibabel(path)
        mask, of_mask = assert_like_nibabel(nifti / folder / "masks" / path.name)
        assert mask.shape == array.shape
        np.testing.assert_array_equal(meta["affine"], of_mask["affine"])
        marked.append(int((mask > 0).sum()))
    assert voxels is None or (min(marked), max(marked)) == voxels


def test_named_volumes(nifti):
    assert read(str(nifti / "tumour_mr/images/brain1.nii.gz"))[0].shape == (256, 256, 25)
    assert read(str(nifti / "tumour_mr/images/brain2.nii.gz"))[0].shape == (256, 256, 23)
    assert read(str(nifti / "tumour_mr/images/breast1.nii.gz"))[0].shape == (120, 45, 21)
    ct, _ = read(str(nifti / "ct_organs/images/example_ct_sm.nii.gz"))
    labels, _ = read(str(nifti / "ct_organs/masks/example_ct_sm.nii.gz"))
    assert ct.shape == (101, 122, 30) and ct.min() < -1000 and (labels.min(), labels.max()) == (0, 117)


def test_a_datalist_of_patients_with_masks(nifti, tmp_path):
    """The slices that carry a lesion are those of the mask, in the image's own order."""
    entries = [
        {
            "image": str(nifti / f"wmh_flair/images/{name}.nii.gz"),
            "mask": str(nifti / f"wmh_flair/masks/{name}.nii.gz"),
            "patient": name,
            "label": 1,
        }
        for name in ("Subj01_FLAIR", "Subj06_FLAIR")
    ]
    found = find_cases(write_datalist(tmp_path / "datalist.json", entries))
    assert adds_up(found) and len(found.cases) == 2 and not found.refused
    dataset = bundle_slices(found.cases)
    for number, case in enumerate(found.cases):
        mask = np.asarray(nib.load(case["mask"]).dataobj)
        rows = [row for row, (owner, _) in enumerate(dataset.index) if owner == number]
        assert [dataset[row]["label"] for row in rows] == [int(mask[..., k].any()) for k in range(mask.shape[2])]
        assert not any(dataset[row]["refused"] for row in rows)
