"""The reader: pixels, order and affine against ITK, Pillow, nibabel and the formula of the made-up series."""

from __future__ import annotations

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import LoadImaged
from PIL import Image

from monai_anomaly.data import CaseReader, find_cases
from monai_anomaly.errors import DataError

COS, SIN = np.cos(0.3), np.sin(0.3)
OBLIQUE = (COS, SIN, 0.0, 0.0, 0.0, -1.0)  # along a row in the axial plane, down a column towards the feet
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def get(files):
    reader = CaseReader()
    return reader.get_data(reader.read(files))


def world(affine, shape):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    ras = index @ affine[:3, :3].T + affine[:3, 3]
    return ras * [-1, -1, 1]


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (1, 0, 0, 0, -1, 0), SAGITTAL, OBLIQUE])
def test_array_and_affine_agree_with_the_patient(tmp_path, series, hu, orientation):
    series(tmp_path, orientation=orientation, order=[3, 0, 4, 1, 2])
    array, meta = get(sorted(map(str, tmp_path.iterdir())))
    assert array.shape == (12, 9, 5) and array.dtype == np.float32 and meta["modality"] == "CT"
    assert np.abs(array - hu(world(meta["affine"], array.shape))).max() <= 0.51  # stored as whole numbers


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), SAGITTAL, OBLIQUE])
def test_equal_to_itk(tmp_path, series, orientation):
    series(tmp_path, orientation=orientation, order=[3, 0, 4, 1, 2], slopes=[1.0, 0.5, 0.25])
    array, meta = get(find_cases(tmp_path).cases[0]["image"])
    names = itk.GDCMSeriesFileNames.New(Directory=str(tmp_path))
    image = itk.imread(list(names.GetInputFileNames()), itk.F)  # else ITK cuts the later slices to the whole numbers of the first
    np.testing.assert_allclose(array, itk.array_from_image(image).transpose(1, 2, 0), atol=1e-4)
    steps = np.array(itk.array_from_matrix(image.GetDirection())) * np.array(image.GetSpacing())
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = steps[:, [1, 0, 2]], image.GetOrigin()
    np.testing.assert_allclose(meta["affine"], np.diag([-1, -1, 1, 1]) @ lps, atol=1e-5)


def test_tilted_gantry_keeps_its_shear(tmp_path, series):
    def shear(dataset, k):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + 0.4 * k, z]

    series(tmp_path, change=shear)
    _, meta = get(find_cases(tmp_path).cases[0]["image"])
    np.testing.assert_allclose(meta["affine"][:3, 2], [0, -0.4, 2.5], atol=1e-6)


def raster(tmp_path, image, name="image.png"):
    image.save(tmp_path / name)
    array, meta = get(str(tmp_path / name))
    return array, meta


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (7, 5), dtype=np.uint8)


@pytest.fixture
def colour():
    return np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "wrong.jpg"])
def test_grey_stays_the_same_whatever_the_mode(tmp_path, grey, mode, name):
    image = Image.fromarray(grey)
    image = image.convert("RGB").convert(mode) if mode in ("RGB", "RGBA") else image.convert(mode)
    image.save(tmp_path / name, format="TIFF" if name.endswith("tif") else "PNG")
    array, meta = get(str(tmp_path / name))
    np.testing.assert_array_equal(array, grey[:, :, None])
    assert array.dtype == np.uint8 and meta["value_range"] == (0, 255)


def test_colour_and_palette(tmp_path, colour):
    array, meta = raster(tmp_path, Image.fromarray(colour))
    np.testing.assert_array_equal(array, colour[:, :, None])
    assert meta["original_channel_dim"] == -1
    palette = Image.fromarray(colour).quantize(8)
    np.testing.assert_array_equal(raster(tmp_path, palette)[0][:, :, 0], np.asarray(palette.convert("RGB")))


def test_alpha_is_laid_on_black(tmp_path, grey):
    alpha = np.tile(np.array([0, 128, 255, 255, 64], dtype=np.uint8), (7, 1))
    expected = np.round(grey * (alpha / 255.0))
    for image in (
        Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]),
        Image.fromarray(np.dstack([grey, grey, grey, alpha])),
    ):
        array, _ = raster(tmp_path, image)
        assert np.abs(array[:, :, 0] - expected).max() <= 1


def test_bits(tmp_path, grey):
    deep = (grey.astype(np.uint16) * 257 + 3 * (grey < 200)).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        array, meta = raster(tmp_path, Image.fromarray(deep), name)
        np.testing.assert_array_equal(array[:, :, 0], deep)
        assert array.dtype == np.uint16 and meta["value_range"] == (0, 65535)
    array, meta = raster(tmp_path, Image.fromarray(((grey > 100) * 255).astype(np.uint8)).convert("1"))
    np.testing.assert_array_equal(array[:, :, 0], (grey > 100) * 255)


def test_cmyk(tmp_path, colour):
    image = Image.fromarray(colour).convert("CMYK")
    array, _ = raster(tmp_path, image, "a.tif")
    np.testing.assert_array_equal(array[:, :, 0], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: Image.new("L", (8000, 7000)).save(path, format="PNG"), "8000 x 7000 pixels"),
        (lambda path: Image.fromarray(np.zeros((4, 4), np.float32)).save(path, format="TIFF"), "32-bit"),
        (lambda path: Image.new("L", (4, 4)).save(path, format="TIFF", save_all=True, append_images=[Image.new("L", (4, 4))]), "2 pages"),
        (lambda path: path.write_bytes(b""), "0 bytes"),
        (lambda path: path.write_bytes(b"hello"), "unknown format"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50)), "cannot be decoded"),
    ],
)
def test_refusals_reach_the_user_through_load_image(tmp_path, make, words):
    make(tmp_path / "image")
    load = LoadImaged("image", reader=CaseReader, ensure_channel_first=True)
    with pytest.raises(DataError, match=words):
        load({"image": str(tmp_path / "image")})


def test_sixteen_bit_colour_is_refused_not_cut(tmp_path):
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x04\0\0\0\x04\x10\x02\0\0\0"
    (tmp_path / "a.png").write_bytes(head + bytes(40))
    with pytest.raises(DataError, match="16-bit colour"):
        get(str(tmp_path / "a.png"))


def test_truncated_image(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    with pytest.raises(DataError, match="cannot be decoded"):
        get(str(tmp_path / "b.png"))


@pytest.mark.parametrize("reader", ["monai_anomaly.data.CaseReader", "$mad.CaseReader"])
def test_both_ways_to_name_it_in_a_config(tmp_path, colour, reader):
    Image.fromarray(colour).save(tmp_path / "a.png")
    parser = ConfigParser(
        {
            "imports": ["$import monai_anomaly.data as mad"],
            "load": {"_target_": "LoadImaged", "keys": "image", "reader": reader, "ensure_channel_first": True},
        }
    )
    parser.parse()
    image = parser.get_parsed_content("load")({"image": str(tmp_path / "a.png")})["image"]
    assert image.shape == (3, 7, 5, 1) and image.dtype == torch.float32 and image.meta["value_range"] == (0, 255)


def test_nifti_in_the_order_of_the_series(tmp_path, series):
    series(tmp_path / "ct")
    array, meta = get(find_cases(tmp_path).cases[0]["image"])
    volume = nib.Nifti1Image(array.transpose(1, 0, 2), meta["affine"][:, [1, 0, 2, 3]])  # (column, row, slice), as ITK writes it
    nib.save(volume, tmp_path / "copy.nii.gz")
    again, again_meta = get(str(tmp_path / "copy.nii.gz"))
    np.testing.assert_array_equal(again, array)
    np.testing.assert_allclose(again_meta["affine"], meta["affine"], atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 2, 3)])
def test_nifti_must_have_three_axes(tmp_path, shape):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match="three axes"):
        get(str(tmp_path / "a.nii"))


@pytest.mark.real
def test_siemens_geometry(shared):
    found = find_cases(shared / "data/dicom/ct_siemens_j2k")
    assert found.found == 20 and len(found.cases) == 1 and not found.refused
    array, meta = get(found.cases[0]["image"])
    assert array.shape == (512, 512, 20) and (array.min(), array.max()) == (-1024, 1839)
    expected = np.diag([-1, -1, 1, 1]) @ np.array([[0, 0.9765625, 0, -249.5], [0.9765625, 0, 0, -437.5], [0, 0, 2, -804.5], [0, 0, 0, 1]])
    np.testing.assert_allclose(meta["affine"], expected, atol=0.02)


@pytest.mark.real
def test_ge_rotated_equals_itk(shared):
    found = find_cases(shared / "data/dicom/ct_ge_rotated")
    array, meta = get(found.cases[0]["image"])
    image = itk.imread(found.cases[0]["image"])
    np.testing.assert_array_equal(array, itk.array_from_image(image).transpose(1, 2, 0))
    assert array.shape == (128, 88, 17)
    np.testing.assert_allclose(meta["affine"] @ [0, 0, 0, 1], [-82.2, -122.2, -24.7, 1], atol=0.1)
    np.testing.assert_allclose(meta["affine"][:3, :3], [[0, 2, 0], [2, 0, 0], [0, 0, 2]], atol=0.01)
