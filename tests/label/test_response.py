"""Masks and heat maps lie where the image does, voxel for voxel, through the server's own endpoint."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

import SimpleITK as sitk  # noqa: N813
from support.dicom import AXIAL, OBLIQUE, SAGITTAL, make_series
from support.label import client, infer, lesion_volume, make_app, map_is_brightness, refusal


def affine(axes: str, spacing=(0.7, 0.9, 4.0), turn: float = 0.0, shear: float = 0.0) -> np.ndarray:
    """From voxels to RAS+ millimetres: ``axes`` names where each index grows to, as nibabel does."""
    steps = np.zeros((3, 3))
    for axis, letter in enumerate(axes):
        steps["LPI".find(letter) if letter in "LPI" else "RAS".find(letter), axis] = -1 if letter in "LPI" else 1
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    sheared = np.eye(3) + shear * np.eye(3, k=1)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation @ tilt @ sheared @ steps * np.array(spacing)
    matrix[:3, 3] = (-31, 42, -53)
    return matrix


VOLUMES = {
    "RAS": affine("RAS"), "LAS": affine("LAS"), "LPS": affine("LPS"), "permuted": affine("PIR"), "another": affine("SLA"),
    "oblique": affine("LAS", turn=0.35), "isotropic": affine("LPS", (1, 1, 1)), "steep": affine("AIL", turn=0.6),
}  # fmt: skip
SHEARED = affine("LAS", shear=0.2)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("places")
    (place / "studies").mkdir()
    values, _ = lesion_volume()
    for name, matrix in {**VOLUMES, "sheared": SHEARED}.items():
        nib.save(nib.Nifti1Image(values, matrix), place / "studies" / f"{name}.nii.gz")
    cube, _ = lesion_volume((64, 64, 64))
    for name in ("LAS", "permuted", "steep"):
        nib.save(nib.Nifti1Image(cube, VOLUMES[name]), place / "studies" / f"cube_{name}.nii.gz")
    for name, orientation in {"axial": AXIAL, "sagittal": SAGITTAL, "oblique_ct": OBLIQUE}.items():
        for backwards in (False, True):
            pixels = values.transpose(1, 0, 2)[..., :: -1 if backwards else 1]
            order = list(range(20))[::-1] if backwards else np.random.default_rng(0).permutation(20).tolist()
            make_series(
                place / "studies" / f"{name}{backwards:d}",
                n=20,
                shape=(64, 64),
                orientation=orientation,
                pixels=pixels,
                order=order,
                modality="MR",
            )
    grey = np.random.default_rng(0).integers(10, 60, (96, 64), np.uint8)
    grey[6:30, 40:60] = 255
    Image.fromarray(grey).save(place / "studies" / "picture.png")
    make_app(place / "app", "skipts")
    make_app(place / "axial", "skipts", plane="axial")
    return place


@pytest.fixture(scope="module")
def server(place):
    with pytest.MonkeyPatch.context() as patch, client(place / "app", place / "studies") as server:
        map_is_brightness(patch)
        yield server


def by_sitk(content: bytes, path: Path) -> sitk.Image:
    path.write_bytes(content)
    return sitk.ReadImage(str(path))


def same_grid(image: sitk.Image, source: sitk.Image, tolerance: float = 1e-3) -> None:
    assert image.GetSize() == source.GetSize()
    for corner in itertools.product(*((0, n - 1) for n in source.GetSize())):
        apart = np.subtract(image.TransformIndexToPhysicalPoint(corner), source.TransformIndexToPhysicalPoint(corner))
        assert np.abs(apart).max() < tolerance, corner


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes(server, place, tmp_path, name):
    values, lesion = lesion_volume()
    source = place / "studies" / f"{name}.nii.gz"
    told, content = infer(server, name)
    (tmp_path / "mask.nii.gz").write_bytes(content)
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(mask.dataobj), lesion) and np.allclose(mask.affine, VOLUMES[name], atol=1e-4)
    same_grid(sitk.ReadImage(str(tmp_path / "mask.nii.gz")), sitk.ReadImage(str(source)))
    nrrd = by_sitk(infer(server, name, result_extension=".nrrd", result_dtype="uint8")[1], tmp_path / "mask.nrrd")
    assert (
        np.array_equal(sitk.GetArrayFromImage(nrrd).transpose(2, 1, 0), lesion)
        and nrrd.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    )
    same_grid(nrrd, sitk.ReadImage(str(source)))
    heat = by_sitk(infer(server, name, "skipts_map", result_extension=".nrrd")[1], tmp_path / "map.nrrd")
    assert heat.GetPixelIDTypeAsString() == "32-bit float"
    assert np.corrcoef(sitk.GetArrayFromImage(heat).ravel(), values.transpose(2, 1, 0).ravel())[0, 1] > 0.999
    (finding,) = told["findings"]
    middle = VOLUMES[name] @ [*np.argwhere(lesion).mean(axis=0), 1]
    found = [-finding["centroid_lps_x_mm"], -finding["centroid_lps_y_mm"], finding["centroid_lps_z_mm"]]
    assert found == pytest.approx(middle[:3], abs=1e-3) and finding["voxels"] == lesion.sum()


@pytest.mark.parametrize("name", ["LAS", "permuted", "steep"])
def test_volumes_that_are_cut_in_another_plane(place, tmp_path, monkeypatch, name):
    map_is_brightness(monkeypatch)
    _, lesion = lesion_volume((64, 64, 64))
    with client(place / "axial", place / "studies") as server:
        (tmp_path / "mask.nii.gz").write_bytes(infer(server, f"cube_{name}")[1])
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(mask.dataobj), lesion) and np.allclose(mask.affine, VOLUMES[name], atol=1e-4)


def test_a_sheared_volume_keeps_its_affine_and_is_refused_as_nrrd(server, tmp_path):
    (tmp_path / "mask.nii.gz").write_bytes(infer(server, "sheared")[1])
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(mask.dataobj), lesion_volume()[1]) and np.allclose(mask.affine, SHEARED, atol=1e-4)
    response = server.post("/infer/skipts?image=sheared", data={"params": '{"result_extension": ".nrrd"}'})
    assert "right angles" in refusal(response, 422)


@pytest.mark.parametrize("extension", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("name", ["axial0", "axial1", "sagittal0", "sagittal1", "oblique_ct0", "oblique_ct1"])
def test_dicom_series_in_the_voxel_order_of_itk(server, place, tmp_path, name, extension):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(place / "studies" / name)))
    source = reader.Execute()
    mask = by_sitk(infer(server, name, result_extension=extension)[1], tmp_path / f"mask{extension}")
    same_grid(mask, source)
    found = sitk.GetArrayFromImage(mask)
    assert np.array_equal(found, sitk.GetArrayFromImage(source) == 1000) and found.any()


@pytest.mark.parametrize("extension", [".nii.gz", ".nrrd"])
def test_a_picture_lies_where_itk_puts_it(server, place, tmp_path, extension):
    source = sitk.ReadImage(str(place / "studies" / "picture.png"))
    mask = by_sitk(infer(server, "picture", result_extension=extension)[1], tmp_path / f"mask{extension}")
    assert mask.GetSize() == (*source.GetSize(), 1) and np.allclose(mask.GetOrigin(), 0) and np.allclose(mask.GetSpacing(), 1)
    assert np.allclose(mask.GetDirection(), np.eye(3).ravel())
    marked, bright = sitk.GetArrayFromImage(mask)[0] > 0, sitk.GetArrayFromImage(source) == 255
    assert 2 * (marked & bright).sum() / (marked.sum() + bright.sum()) > 0.95


@pytest.mark.real
@pytest.mark.parametrize(
    "series", ["ct_ge_rotated", "ct_siemens_j2k", "mr_siemens_patient_position/HFP", "mr_siemens_patient_position/HFDL"]
)
def test_real_series(shared, tmp_path, monkeypatch, series):
    map_is_brightness(monkeypatch)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "one").symlink_to(shared / "data" / "dicom" / series)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "studies" / "one")))
    source = reader.Execute()
    with client(make_app(tmp_path / "app", "skipts", image_size=128, ct_window=[-1000, 1000]), tmp_path / "studies") as server:
        heat = by_sitk(infer(server, "one", "skipts_map", result_extension=".nrrd")[1], tmp_path / "map.nrrd")
    same_grid(heat, source, 0.01)
    values, expected = sitk.GetArrayFromImage(heat), sitk.GetArrayFromImage(source).clip(-1000, 1000)
    scored = np.isfinite(values)  # a slice of air alone is empty

    def alike(other: np.ndarray) -> float:
        return np.corrcoef(values[scored], other[scored])[0, 1]

    assert scored.mean() > 0.5 and alike(expected) > 0.9
    assert all(alike(np.flip(expected, axis)) < alike(expected) - 0.01 for axis in range(3))
