"""From batches of slices to volumes on the grid of the source, by nibabel's reading of both."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.transforms import Compose, LoadImaged
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation
from torch.nn.functional import interpolate

from monai_anomaly.data import CaseReader
from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.scoring import smooth_through_slices
from monai_anomaly.transforms import OrientSlicesd
from monai_anomaly.transforms.grid import onto_grid
from monai_anomaly.writers import AssembleSeries, MapGrid, SaveVolumes, SeriesMap, SeriesWriter, series_map

SHAPE = (9, 12, 7)
MARK = (6, 2, 5)
RAS = np.array([[1.0, 0, 0, -20], [0, 1.0, 0, 30], [0, 0, 1.0, 5], [0, 0, 0, 1]])
CASES = [{"series": "s-a"}, {"series": "s-b"}, {"series": "s-c"}]


def turned(letters: str, spacing: tuple[float, float, float] = (1.5, 1.5, 1.5), degrees: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """An affine whose voxel axes run to the letters' directions, then turned."""
    axes = np.zeros((3, 3))
    for column, letter in enumerate(letters):
        row = next(k for k, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        axes[row, column] = 1 if letter in "RAS" else -1
    affine = RAS.copy()
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ axes * spacing
    return affine


SHEARED = turned("RAS", (0.8, 0.8, 2.3))
SHEARED[1, 2] = 0.7
GRIDS = {
    "RAS": turned("RAS"),
    "LAS": turned("LAS"),
    "oblique": turned("LPS", (0.9, 0.9, 3.0), (20, -35, 50)),
    "anisotropic": turned("LPS", (0.4, 0.9, 5.0)),
    "permuted": turned("PSR", (1.0, 2.0, 3.0)),
    "sheared": SHEARED,
}


class Keep(SeriesWriter):
    """Holds what it is handed."""

    def __init__(self) -> None:
        self.series: list[SeriesMap] = []

    def add(self, series: SeriesMap) -> None:
        self.series.append(series)


def oriented(path: Path, plane: str = "native"):
    """The slices of a NIfTI file, as the bundles read them, and where they lie."""
    load = Compose([LoadImaged("image", reader=CaseReader, ensure_channel_first=True), OrientSlicesd("image", plane=plane)])
    image = load({"image": str(path)})["image"]
    meta = image.meta
    grid = MapGrid(
        np.asarray(meta["slice_affine"]),
        tuple(meta["slice_shape"]),
        np.asarray(meta["original_affine"]),
        tuple(meta["spatial_shape"]),
        True,
    )
    return image.as_tensor()[0].permute(2, 0, 1), grid


@pytest.mark.parametrize("plane", ["native", "axial", "coronal", "sagittal"])
@pytest.mark.parametrize("name", GRIDS)
def test_a_marked_voxel_comes_back_to_its_place_in_the_file(tmp_path: Path, scored, drive, name: str, plane: str) -> None:
    values = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    values[MARK] = 5
    nib.save(nib.Nifti1Image(values, GRIDS[name]), tmp_path / "source.nii.gz")
    maps, grid = oriented(tmp_path / "source.nii.gz", plane)
    drive(AssembleSeries(CASES, [SaveVolumes(tmp_path / "out")]), [scored(maps, grid)])
    source, result = nib.load(tmp_path / "source.nii.gz"), nib.load(tmp_path / "out" / "s-a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(result.dataobj), values)
    np.testing.assert_array_equal(result.affine, source.affine)
    assert result.header.get_zooms() == pytest.approx(source.header.get_zooms())
    where = np.unravel_index(np.argmax(result.get_fdata()), result.shape)
    np.testing.assert_allclose(apply_affine(result.affine, where), apply_affine(GRIDS[name], MARK), atol=1e-5)


@pytest.mark.real
@pytest.mark.parametrize("plane", ["native", "sagittal"])
@pytest.mark.parametrize(
    "name", ["anatomical_bigendian_las", "ct_gantry_pitch", "dwi_las_3mm", "fmri_pitch", "mr_lps_3mm", "pd_oblique_2p4mm", "t1_psr_2mm"]
)
def test_real_volumes_come_back_voxel_for_voxel(shared: Path, tmp_path: Path, scored, drive, name: str, plane: str) -> None:
    source = nib.load(shared / "data" / "nifti" / "geometry" / f"{name}.nii.gz")
    maps, grid = oriented(Path(source.get_filename()), plane)
    drive(AssembleSeries(CASES, [SaveVolumes(tmp_path)]), [scored(maps, grid)], size=16)
    result = nib.load(tmp_path / "s-a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(result.dataobj), np.asarray(source.dataobj, dtype=np.float32))
    np.testing.assert_allclose(result.affine, source.affine, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_each_series_is_whole_however_it_was_cut_into_batches(tmp_path: Path, scored, drive, size: int) -> None:
    grid = MapGrid(RAS, (6, 12, 3), RAS, (6, 12, 3), True)
    values = [torch.arange(float(n))[:, None, None].expand(-1, 8, 8) for n in (3, 1, 4)]
    study = [
        scored(values[0], grid),
        scored(values[1], grid._replace(slice_shape=(6, 12, 1), source_shape=(6, 12, 1))),
        scored(values[2], grid._replace(slice_shape=(6, 12, 4), source_shape=(6, 12, 4)), scored=[True, False, True, True]),
    ]
    drive(AssembleSeries(CASES, [SaveVolumes(tmp_path)]), study, size)
    a, b, c = (nib.load(tmp_path / f"s-{name}.nii.gz") for name in "abc")
    assert (a.shape, b.shape, c.shape) == ((12, 6, 3), (12, 6, 1), (12, 6, 4))
    np.testing.assert_array_equal(a.get_fdata()[3, 2], [0, 1, 2])
    np.testing.assert_array_equal(c.get_fdata()[3, 2], [0, np.nan, 2, 3])
    assert np.isnan(c.get_fdata()[..., 1]).all()


def test_pictures_and_frames_have_no_volume_and_a_refused_case_nothing(tmp_path: Path, scored, drive, caplog) -> None:
    caplog.set_level(logging.INFO)
    keep = Keep()
    study = [scored(torch.rand(1, 8, 8)), scored(torch.rand(5, 8, 8)), scored(torch.rand(2, 8, 8), refused="unreadable")]
    drive(AssembleSeries(CASES, [SaveVolumes(tmp_path), keep]), study)
    assert not list(tmp_path.iterdir()) and [series.number for series in keep.series] == [0, 1]
    assert "2 cases have no place in the patient" in caplog.text
    np.testing.assert_array_equal(keep.series[1].slices.transpose(2, 0, 1), study[1].maps)


def test_a_series_is_handed_on_with_its_last_slice_and_a_new_run_starts_anew(scored, drive) -> None:
    grid = MapGrid(RAS, (8, 8, 2), RAS, (8, 8, 2), True)
    keep = Keep()

    class Stopping(AssembleSeries):
        def __call__(self, engine) -> None:
            super().__call__(engine)
            if engine.state.iteration == 2:
                raise KeyboardInterrupt

    handler = Stopping(CASES, [keep])
    study = [scored(torch.rand(2, 8, 8), grid), scored(torch.rand(2, 8, 8), grid)]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            drive(handler, study, size=1)
    assert [series.number for series in keep.series] == [0, 0]


def test_an_incomplete_series_is_empty_where_nothing_came_and_says_so(scored, drive, caplog) -> None:
    grid = MapGrid(RAS, (8, 8, 5), RAS, (8, 8, 5), True)
    keep = Keep()
    drive(AssembleSeries(CASES, [keep]), [scored(torch.ones(3, 8, 8), grid)])
    assert "Only 3 of the 5 slices of series s-a" in caplog.text
    assert np.isnan(keep.series[0].source[..., 3:]).all() and (keep.series[0].source[..., :3] == 1).all()


def test_mixed_up_slices_are_refused(scored) -> None:
    """Written in parts, the second part of a series would replace the first."""
    series = scored(torch.ones(2, 8, 8), MapGrid(RAS, (8, 8, 2), RAS, (8, 8, 2), True))
    (first, second), other = series.samples(0), next(series.samples(1))
    engine = Engine(lambda engine, batch: batch)
    AssembleSeries(CASES, []).attach(engine)
    with pytest.raises(OptionError, match="series s-a do not come one after another"):
        engine.run([torch.utils.data.default_collate([sample]) for sample in (first, other, second)])


@pytest.mark.parametrize("plane", ["native", "coronal"])
def test_in_blocks_equals_all_at_once(tmp_path: Path, plane: str) -> None:
    """The formula: resize every slice to the slices' rows and columns, then exchange and reverse axes."""
    nib.save(nib.Nifti1Image(np.zeros((30, 41, 37), dtype=np.float32), GRIDS["permuted"]), tmp_path / "source.nii.gz")
    _, grid = oriented(tmp_path / "source.nii.gz", plane)
    maps = torch.rand(grid.slice_shape[2], 16, 16, generator=torch.Generator().manual_seed(0))
    maps[5] = torch.nan
    large = interpolate(maps[:, None], size=grid.slice_shape[:2], mode="bilinear", align_corners=False, antialias=True)[:, 0]
    expected = onto_grid(large.permute(1, 2, 0), grid.slice_affine, grid.source_affine, grid.source_shape)
    series = SeriesMap(0, CASES[0], maps, grid)
    np.testing.assert_allclose(series.source, expected, atol=1e-6)
    assert np.shares_memory(series.slices, series.source) and series.source is series.source
    np.testing.assert_allclose(series.slices, large.permute(1, 2, 0), atol=1e-6)


@pytest.mark.parametrize("size", [(64, 80), (16, 16), (7, 5)])
def test_resizing_never_raises_the_highest_value(size: tuple[int, int]) -> None:
    """Thresholds rely on it, to the last bit."""
    maps = torch.rand(200, 16, 16, generator=torch.Generator().manual_seed(0))
    maps[100:] = maps[100:, :1, :1]  # constant slices: rounding alone could raise them
    grid = MapGrid(RAS, (*size, 200), RAS, (*size, 200), True)
    highest = SeriesMap(0, CASES[0], maps, grid).slices.max(axis=(0, 1))
    assert (highest <= maps.amax(dim=(1, 2)).numpy()).all()
    np.testing.assert_allclose(highest[100:], maps[100:, 0, 0], rtol=1e-6)


def test_a_thin_lesion_does_not_fall_between_the_pixels_of_a_small_source() -> None:
    maps = torch.zeros(1, 64, 64)
    maps[0, 32, 32] = 1
    grid = MapGrid(RAS, (16, 16, 1), RAS, (16, 16, 1), True)
    assert SeriesMap(0, CASES[0], maps, grid).source.sum() == pytest.approx(1 / 16, rel=0.01)


def test_a_large_volume_lies_in_a_file_that_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    grid = MapGrid(RAS, (20, 30, 40), RAS, (20, 30, 40), True)
    maps = torch.rand(40, 8, 8)
    in_memory = SeriesMap(0, CASES[0], maps, grid).source
    monkeypatch.setattr(series_map, "_IN_MEMORY", 0)
    series = SeriesMap(0, CASES[0], maps, grid, scratch_dir=tmp_path / "new")
    assert isinstance(series.source, np.memmap)
    np.testing.assert_array_equal(series.source, in_memory)
    del series
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="temporary file of 0 MiB, which cannot be made"):
        _ = SeriesMap(0, CASES[0], maps, grid, scratch_dir=tmp_path / "file").source


def test_smoothing_acts_on_volumes_of_the_patient_only(scored, drive) -> None:
    affine = np.diag([1.0, 1.0, 2.5, 1.0])
    maps = torch.rand(6, 8, 8)
    patient, frames = scored(maps, MapGrid(affine, (8, 8, 6), affine, (8, 8, 6), True)), scored(maps)
    keep = Keep()
    drive(AssembleSeries(CASES, [keep], smoothing_mm=3.0), [patient, frames])
    np.testing.assert_array_equal(keep.series[0].maps, smooth_through_slices(maps.clone(), 2.5, 3.0))
    np.testing.assert_array_equal(keep.series[1].maps, maps)
    assert [series.smoothing_mm for series in keep.series] == [3.0, 0.0]
    for wrong in (-1.0, float("inf"), float("nan")):
        with pytest.raises(OptionError, match="smoothing_mm"):
            AssembleSeries(CASES, [], smoothing_mm=wrong)


def test_grids_that_are_not_the_same_are_refused() -> None:
    grid = MapGrid(RAS, (8, 8, 3), RAS, (8, 8, 3), True)
    with pytest.raises(DataError, match="expected \\(S, h, w\\)"):
        _ = SeriesMap(0, CASES[0], torch.zeros(2, 8, 8), grid).source
    with pytest.raises(DataError, match="expected the same grid"):
        _ = SeriesMap(0, CASES[0], torch.zeros(3, 8, 8), grid._replace(source_affine=GRIDS["oblique"])).source
