"""The map volume lies where the series lies, by ITK's reading of both."""

from __future__ import annotations

from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.transforms import Compose, LoadImaged
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

from monai_anomaly.data import CaseReader, case_files, find_cases
from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.transforms import OrientSlicesd, ResizeSlicesd
from monai_anomaly.writers import AssembleSeries, MapGrid, SaveVolumes, SeriesMap, read_map_volume, write_map_volume

ROWS, COLUMNS, SLICES = 14, 20, 6
MARK = (3, 15, 4)  # row, column, slice


def write_series(folder: Path, rotation: Rotation) -> tuple[list[str], np.ndarray]:
    """An oblique CT series with one bright voxel; returns its files and the RAS affine of (row, column, slice), from the DICOM standard's equation."""
    along_row, along_column, normal = rotation.as_matrix().T  # direction of growing column index, of growing row index, of slices
    row_spacing, column_spacing, step = 1.5, 0.7, 2.5
    origin = np.array([-30.0, 12.0, 55.0])
    files = []
    series, study, frame = generate_uid(entropy_srcs=["s"]), generate_uid(entropy_srcs=["t"]), generate_uid(entropy_srcs=["f"])
    for k in range(SLICES):
        pixels = np.zeros((ROWS, COLUMNS), dtype=np.int16)
        if k == MARK[2]:
            pixels[MARK[:2]] = 1000
        header = FileMetaDataset()
        header.MediaStorageSOPClassUID = CTImageStorage
        header.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["i", str(k)])
        header.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = pydicom.Dataset()
        dataset.file_meta = header
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, header.MediaStorageSOPInstanceUID
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = series, study, frame
        dataset.Modality, dataset.PatientID, dataset.InstanceNumber = "CT", "made up", k + 1
        dataset.Rows, dataset.Columns = ROWS, COLUMNS
        dataset.PixelSpacing = [row_spacing, column_spacing]
        dataset.ImageOrientationPatient = [f"{x:.12f}"[:16] for x in (*along_row, *along_column)]
        dataset.ImagePositionPatient = [f"{x:.12f}"[:16] for x in origin + k * step * normal]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.PixelData = pixels.tobytes()
        files.append(str(folder / f"{k}.dcm"))
        dataset.save_as(files[-1], enforce_file_format=True)
    lps = np.eye(4)
    lps[:3] = np.stack([along_column * row_spacing, along_row * column_spacing, normal * step, origin], axis=1)
    return files, np.diag([-1.0, -1, 1, 1]) @ lps


def marked_point(image: itk.Image) -> tuple[np.ndarray, list[int]]:
    """World position (LPS) of the highest voxel, and the image's size (column, row, slice)."""
    index = np.unravel_index(np.argmax(itk.array_view_from_image(image)), itk.array_view_from_image(image).shape)
    return np.array(image.TransformIndexToPhysicalPoint([int(i) for i in reversed(index)])), list(itk.size(image))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (90, 0, 90), (20, -35, 50)], ids=["axial", "sagittal", "oblique"])
def test_marked_voxel_is_at_the_same_place_for_itk(tmp_path: Path, angles: tuple[int, int, int], ending: str) -> None:
    files, affine = write_series(tmp_path, Rotation.from_euler("xyz", angles, degrees=True))
    volume = np.zeros((ROWS, COLUMNS, SLICES))
    volume[MARK] = 1
    path = write_map_volume(tmp_path / f"map{ending}", volume, affine)
    expected, size = marked_point(itk.imread(files))
    found, map_size = marked_point(itk.imread(str(path)))
    assert map_size == size == [COLUMNS, ROWS, SLICES]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_series_read_and_turned_comes_back_onto_itks_grid(tmp_path: Path, scored, drive) -> None:
    """The whole way: DICOM files, the bundles' reader, slices of another plane, maps of network resolution, and back."""
    files, _ = write_series(tmp_path, Rotation.from_euler("xyz", (20, -35, 50), degrees=True))
    load = Compose([LoadImaged("image", reader=CaseReader, ensure_channel_first=True), OrientSlicesd("image", plane="sagittal")])
    image = load({"image": files[::-1]})["image"]
    meta = image.meta
    grid = MapGrid(meta["slice_affine"], tuple(meta["slice_shape"]), meta["original_affine"], tuple(meta["spatial_shape"]), True)
    maps = ResizeSlicesd("image", 32)({"image": image})["image"].as_tensor()[0].permute(2, 0, 1)
    drive(AssembleSeries([{"series": "s-a"}], [SaveVolumes(tmp_path / "out")]), [scored(maps, grid)])
    expected, size = marked_point(itk.imread(files))
    found, map_size = marked_point(itk.imread(str(tmp_path / "out" / "s-a.nii.gz")))
    assert map_size == size == [COLUMNS, ROWS, SLICES]
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.real
def test_real_series_come_back_onto_itks_grid_with_itks_values(shared: Path, tmp_path: Path, scored, drive) -> None:
    """Every stack of slices in the real DICOM files: the image taken for the map, cut into slices of another plane, and put back."""
    stacks = [case for case in find_cases(shared / "data" / "dicom").cases if len(case_files(case)) > 1]
    assert len(stacks) > 5
    load = Compose([LoadImaged("image", reader=CaseReader, ensure_channel_first=True), OrientSlicesd("image", plane="coronal")])
    for k, case in enumerate(stacks):
        image = load({"image": case["image"]})["image"]
        meta = image.meta
        grid = MapGrid(meta["slice_affine"], tuple(meta["slice_shape"]), meta["original_affine"], tuple(meta["spatial_shape"]), True)
        drive(AssembleSeries([{"series": str(k)}], [SaveVolumes(tmp_path)]), [scored(image.as_tensor()[0].permute(2, 0, 1), grid)], 64)
        expected, result = itk.imread(case_files(case), itk.F), itk.imread(str(tmp_path / f"{k}.nii.gz"), itk.F)
        assert itk.size(result) == itk.size(expected)
        for corner in np.ndindex(2, 2, 2):
            index = [int(i) for i in np.array(corner) * (np.array(itk.size(expected)) - 1)]
            places = [np.array(one.TransformIndexToPhysicalPoint(index)) for one in (result, expected)]
            np.testing.assert_allclose(*places, atol=0.01)
        np.testing.assert_allclose(itk.array_view_from_image(result), itk.array_view_from_image(expected), atol=0.01)


def test_nibabel_reads_the_same_geometry_and_type(tmp_path: Path) -> None:
    affine = np.array([[0.0, 0.7, 0, 1], [1.5, 0, 0, 2], [0, 0, 2.5, 3], [0, 0, 0, 1]])
    volume = np.random.default_rng(0).random((ROWS, COLUMNS, SLICES))
    volume[..., 1] = np.nan
    image = nib.load(write_map_volume(tmp_path / "map.nii.gz", volume, affine))
    assert image.get_data_dtype() == np.float32 and image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), volume.astype(np.float32).transpose(1, 0, 2))
    for matrix in (image.affine, image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]):
        np.testing.assert_allclose(matrix @ [MARK[1], MARK[0], MARK[2], 1], affine @ [*MARK, 1], atol=1e-4)


@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("unit", ["meter", "mm", "micron"])
def test_the_map_of_a_nifti_volume_lies_on_it_for_every_reader(tmp_path: Path, scored, drive, unit, placed, caplog) -> None:
    affine = np.array([[0.0, -2, 0, 10], [1, 0, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32), affine)
    image.header.set_xyzt_units(unit)
    image.set_sform(affine, int(placed))
    image.set_qform(affine, int(placed))
    image.to_filename(tmp_path / "a.nii")
    load = Compose([LoadImaged("image", reader=CaseReader, ensure_channel_first=True), OrientSlicesd("image")])
    turned = load({"image": str(tmp_path / "a.nii")})["image"]
    meta = turned.meta
    grid = MapGrid(meta["slice_affine"], tuple(meta["slice_shape"]), meta["original_affine"], tuple(meta["spatial_shape"]), placed)
    cases = [{"series": "a", "image": str(tmp_path / "a.nii")}]
    drive(AssembleSeries(cases, [SaveVolumes(tmp_path / "out")]), [scored(turned.as_tensor()[0].permute(2, 0, 1), grid)])
    out = nib.load(tmp_path / "out/a.nii.gz")
    np.testing.assert_allclose(out.affine, nib.load(tmp_path / "a.nii").affine, rtol=1e-6)
    np.testing.assert_array_equal(out.get_fdata(), image.get_fdata())
    back = read_map_volume(tmp_path / "out/a.nii.gz", grid.source_affine, grid.source_shape)
    np.testing.assert_array_equal(back.transpose(1, 0, 2), image.get_fdata())
    assert out.header.get_xyzt_units()[0] == unit and (out.header["sform_code"] > 0, out.header["qform_code"] > 0) == (placed, placed)
    source, result = itk.imread(str(tmp_path / "a.nii")), itk.imread(str(tmp_path / "out/a.nii.gz"))
    for corner in np.ndindex(2, 2, 2):
        index = [int(i) for i in np.array(corner) * [3, 4, 5]]
        np.testing.assert_allclose(*(np.array(one.TransformIndexToPhysicalPoint(index)) for one in (source, result)), rtol=1e-5)
    assert ("1 NIfTI volumes do not say where they lie" in caplog.text) is not placed


def test_network_resolution_goes_back_with_pixel_centres() -> None:
    """A map that is linear in the image plane comes back linear, at the right place, whatever the two resolutions."""
    small = (np.arange(32) + 0.5) / 32
    maps = torch.from_numpy(np.broadcast_to(2 * small[:, None] + small[None], (2, 32, 32)).astype(np.float32))
    for rows, columns in ((50, 77), (20, 12), (32, 32)):
        volume = SeriesMap(0, {}, maps, MapGrid(np.eye(4), (rows, columns, 2), np.eye(4), (rows, columns, 2), True)).source
        expected = 2 * ((np.arange(rows) + 0.5) / rows)[:, None] + ((np.arange(columns) + 0.5) / columns)[None]
        inner = (slice(4, -4), slice(4, -4))
        np.testing.assert_allclose(volume[..., 1][inner], expected[inner], atol=0.01)


def test_a_mask_is_written_as_zeros_and_ones(tmp_path: Path) -> None:
    mask = np.zeros((4, 5, 6), bool)
    mask[1, 2, 3] = True
    image = nib.load(write_map_volume(tmp_path / "mask.nii.gz", mask, np.eye(4)))
    assert (
        image.get_data_dtype() == np.uint8
        and np.argwhere(np.asarray(image.dataobj)).tolist() == [[2, 1, 3]]
        and np.asarray(image.dataobj).max() == 1
    )


def test_same_maps_same_bytes(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((8, 8, 2))
    a, b = (write_map_volume(tmp_path / name, volume, np.eye(4)).read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert a == b


def test_a_sheared_grid_keeps_its_sform_only(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.4
    image = nib.load(write_map_volume(tmp_path / "m.nii", np.zeros((8, 8, 2)), affine))
    assert image.header["qform_code"] == 0 and image.header["sform_code"] == 1
    np.testing.assert_allclose(image.affine, affine[:, [1, 0, 2, 3]])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    for shape in ((8, 8), (8, 8, 0), (1, 8, 8, 4)):
        with pytest.raises(DataError, match="expected \\(rows, columns, slices\\)"):
            write_map_volume(tmp_path / "m.nii", np.zeros(shape), np.eye(4))
    for affine in (np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)):
        with pytest.raises(DataError, match="invertible"):
            write_map_volume(tmp_path / "m.nii", np.zeros((8, 8, 3)), affine)
    with pytest.raises(OptionError, match=r"ends in \.nii"):
        write_map_volume(tmp_path / "m.mha", np.zeros((8, 8, 3)), np.eye(4))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SAL", "PIR"])
def test_a_map_is_read_back_with_its_holes_in_any_order_of_the_axes(tmp_path: Path, codes: str) -> None:
    values = np.random.default_rng(0).random((ROWS, COLUMNS, SLICES)).astype(np.float32)
    values[:, :, 2] = np.nan
    affine = np.array([[0.0, -0.7, 0, 3], [-1.5, 0, 0, 4], [0, 0, 2.5, 5], [0, 0, 0, 1]])
    written = nib.load(write_map_volume(tmp_path / "map.nii.gz", values, affine))
    change = nib.orientations.ornt_transform(nib.io_orientation(written.affine), nib.orientations.axcodes2ornt(codes))
    nib.save(written.as_reoriented(change), tmp_path / "turned.nii.gz")
    for name in ("map.nii.gz", "turned.nii.gz"):
        assert np.array_equal(read_map_volume(tmp_path / name, affine, values.shape), values, equal_nan=True)


@pytest.mark.parametrize("content", [b"", b"x", b"\x1f\x8b" + bytes(400)])
def test_a_map_that_cannot_be_read_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "map.nii.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"The heat map cannot be read as NIfTI .*have it made anew"):
        read_map_volume(tmp_path / "map.nii.gz", np.eye(4), (2, 2, 2), ("heat map", "image"))
