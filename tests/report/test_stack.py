"""A scan in display orientation, and what belongs to it on the same grid, whatever the order in which it is stored."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from monai_anomaly.errors import DataError
from monai_anomaly.report import DisplayStack, slice_picture
from monai_anomaly.transforms import from_unit_range

SHAPE = (20, 24, 6)  # right to left, posterior to anterior, feet to head


def volume() -> tuple[np.ndarray, np.ndarray]:
    """A head that is marked on its right (bright), in front (half as bright) and at the top; and a mask of the right mark."""
    head, mark = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    mark[16:19, 10:13, 2:5] = 1  # x grows to the right: RAS
    head[mark > 0] = 100
    head[9:12, 20:23, 2:5] = 50
    head[9:12, 10:13, 5] = 70
    return head, mark


def saved(folder, codes: str, turned: float = 0.0):
    c, s = np.cos(turned), np.sin(turned)
    affine = np.array([[1, 0, 0, 5], [0, c, -s, -3], [0, s, c, 9], [0, 0, 0, 1]]) @ np.diag([0.8, 0.8, 4.0, 1.0])
    for name, values in zip(("head", "mark"), volume(), strict=True):
        image = nib.Nifti1Image(values, affine)
        change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
        nib.save(image.as_reoriented(change), folder / f"{name}.nii.gz")
    return DisplayStack.read(folder / "head.nii.gz", plane="axial"), folder / "mark.nii.gz"


@pytest.mark.parametrize("codes, turned", [("RAS", 0), ("LAS", 0), ("LPS", 0), ("PSR", 0), ("SAL", 0), ("RAS", 0.3), ("LPS", -0.3)])
def test_right_is_left_and_front_is_up_and_a_mask_lies_on_what_it_marks(codes, turned, tmp_path):
    stack, mark = saved(tmp_path, codes, turned)
    assert stack.values.shape == (1, 24, 20, 6) and stack.edges == "APRL"
    np.testing.assert_allclose(stack.spacing_mm, (0.8, 0.8, 4.0))
    _, rows, columns, slices = np.nonzero(stack.values == 1)
    assert columns.max() < 4 and set(slices) == {2, 3, 4}  # the patient's right is on the left of the picture
    assert rows.max() < 15 and np.nonzero((stack.values > 0.4) & (stack.values < 0.6))[1].max() < 5  # the front mark is at the top
    assert np.nonzero((stack.values > 0.6) & (stack.values < 0.8))[3].min() == 5  # and the last slice is that of the head
    np.testing.assert_array_equal(stack.aligned(mark) > 0, stack.values[0] == 1)


def test_a_picture_has_its_part_of_each_volume(tmp_path):
    stack, mark = saved(tmp_path, "LAS")
    inside = stack.aligned(mark)
    picture = stack.picture(3, anomaly_map=2 * inside, mask=inside, title="three")
    np.testing.assert_array_equal(picture.image, stack.values[..., 3])
    np.testing.assert_array_equal(picture.anomaly_map, 2 * picture.mask)
    assert picture.edges == "APRL" and picture.title == "three"
    np.testing.assert_allclose(picture.spacing_mm, (0.8, 0.8))


def test_a_photograph_has_neither_sides_nor_millimetres(tmp_path):
    Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(tmp_path / "a.png")
    stack = DisplayStack.read(tmp_path / "a.png")
    assert stack.values.shape == (1, 10, 20, 1) and stack.edges == "" and stack.spacing_mm is None
    assert stack.picture(0).spacing_mm is None


def test_what_lies_on_another_grid_is_refused(tmp_path):
    stack, mark = saved(tmp_path, "RAS")
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), tmp_path / "other.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(mark.read_bytes()[:50])
    damaged = bytearray(mark.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF  # zlib's own error
    (tmp_path / "damaged.nii.gz").write_bytes(damaged)
    for name in ("other.nii.gz", "broken.nii.gz", "damaged.nii.gz", "absent.nii.gz"):
        with pytest.raises(DataError, match=name):
            stack.aligned(tmp_path / name)


def test_a_sample_is_drawn_as_its_slice_is_and_knows_the_size_of_its_pixels(tmp_path):
    stack, _ = saved(tmp_path, "LAS")
    sample = {"image": from_unit_range(torch.from_numpy(stack.values[..., 3]).expand(3, -1, -1)), "in_patient": True}
    sample |= {"slice_affine": torch.from_numpy(stack.affine), "slice_shape": torch.tensor(stack.values.shape[1:])}
    mark = torch.ones(1, 24, 20)
    whole, drawn = stack.picture(3), slice_picture(sample, anomaly_map=2 * mark[0], mask=mark, title="three")
    np.testing.assert_allclose(drawn.image, np.repeat(whole.image, 3, axis=0), atol=1e-6)
    assert (drawn.edges, drawn.title, drawn.spacing_mm) == (whole.edges, "three", pytest.approx(whole.spacing_mm))
    np.testing.assert_array_equal(drawn.anomaly_map, 2 * np.asarray(drawn.mask)[0])
    half = slice_picture({**sample, "image": sample["image"][:, ::2, ::4]})  # brought to another size
    assert half.spacing_mm == pytest.approx((1.6, 3.2)) and half.edges == "APRL"
    photograph = slice_picture({**sample, "in_patient": False})
    assert photograph.spacing_mm is None and photograph.edges == ""
