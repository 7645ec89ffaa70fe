"""Slices of a plane and back: a marked voxel stays where the tissue is, no value changes; nibabel is the second opinion."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from monai_anomaly.data import CaseReader
from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.transforms import MarkEmptySlicesd, OrientSlicesd, ResizeSlicesd, ScaleIntensityByModalityd
from monai_anomaly.transforms.grid import onto_grid

SHAPE = (7, 6, 5)
DISPLAY = {"axial": ("P", "L", "S"), "coronal": ("I", "L", "A"), "sagittal": ("I", "P", "L")}
PLANES = ["native", *DISPLAY]


def affine_of(codes, spacing=(1.0, 1.0, 1.0), turn=(0.0, 0.0, 0.0), tilt_deg=0.0):
    """Voxel (i, j, k) of SHAPE to RAS mm: axes named by ``codes``, then sheared like a tilted gantry and turned by ``turn`` degrees about R, A and S."""
    axes = inv_ornt_aff(axcodes2ornt(codes), SHAPE)[:3, :3].T @ np.diag(spacing)
    shear = np.eye(3)
    shear[2, 1] = np.tan(np.deg2rad(tilt_deg))  # further to the front, further up
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ shear @ axes
    affine[:3, 3] = 11.5, -20.25, 33.0
    return affine


GRIDS = {
    "RAS": affine_of("RAS"),
    "LAS": affine_of("LAS"),
    "LPS": affine_of("LPS"),
    "PSR": affine_of("PSR"),
    "DICOM axial": affine_of("PLS"),
    "DICOM sagittal": affine_of("IPL"),
    "anisotropic": affine_of("ASL", spacing=(0.4, 0.7, 6.5)),
    "oblique": affine_of("LPS", spacing=(0.9, 0.9, 3.0), turn=(22.0, -9.0, 14.0)),
    "oblique PSR": affine_of("PSR", turn=(-17.0, 20.0, 8.0)),
    "sheared": affine_of("LPS", spacing=(0.5, 0.5, 5.0), tilt_deg=25.0),
    "sheared PLS": affine_of("PLS", spacing=(0.5, 0.5, 5.0), tilt_deg=-22.0, turn=(0.0, 5.0, -6.0)),
}


def volume(affine, **meta):
    values = torch.randperm(int(np.prod(SHAPE)), generator=torch.Generator().manual_seed(0)).float().reshape(1, *SHAPE)
    meta = {"geometry": "patient", "original_affine": affine, "spatial_shape": np.array(SHAPE)} | meta
    return MetaTensor(values, meta={"affine": torch.as_tensor(affine)} | meta)


def orient(image, plane="native"):
    return OrientSlicesd("image", plane=plane)({"image": image})["image"]


def canonical(array, affine):
    """nibabel's closest RAS volume."""
    return nib.as_closest_canonical(nib.Nifti1Image(array, affine))


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("grid", GRIDS)
def test_every_voxel_stays_where_it_is_in_the_patient(grid, plane):
    source = volume(GRIDS[grid])
    out = orient(source, plane)
    before = np.stack([np.argwhere(source[0].numpy() == value)[0] for value in range(source.numel())])
    after = np.stack([np.argwhere(out[0].numpy() == value)[0] for value in range(source.numel())])
    np.testing.assert_allclose(apply_affine(out.meta["slice_affine"], after), apply_affine(GRIDS[grid], before), atol=1e-9)
    np.testing.assert_array_equal(out.affine, out.meta["slice_affine"])
    np.testing.assert_array_equal(out.meta["slice_shape"], out.shape[1:])
    np.testing.assert_array_equal(out.meta["original_affine"], GRIDS[grid])
    np.testing.assert_array_equal(out.meta["spatial_shape"], SHAPE)


@pytest.mark.parametrize("plane", DISPLAY)
@pytest.mark.parametrize("grid", GRIDS)
def test_planes_as_nibabel_has_them(grid, plane):
    source = volume(GRIDS[grid])
    out = orient(source, plane)
    assert nib.aff2axcodes(out.meta["slice_affine"]) == DISPLAY[plane]
    ras = canonical(source[0].numpy(), GRIDS[grid]).get_fdata()
    expected = {
        "axial": ras[::-1, ::-1, :].transpose(1, 0, 2),
        "coronal": ras[::-1, :, ::-1].transpose(2, 0, 1),
        "sagittal": ras[::-1, ::-1, ::-1].transpose(2, 1, 0),
    }[plane]
    np.testing.assert_array_equal(out[0], expected)


@pytest.mark.parametrize("grid", GRIDS)
def test_native_keeps_the_slices_and_shows_them_the_usual_way(grid):
    source = volume(GRIDS[grid])
    out = orient(source)
    assert out.shape[3] == SHAPE[2]
    kept = {frozenset(out[0, :, :, k].flatten().tolist()) for k in range(SHAPE[2])}
    assert kept == {frozenset(source[0, :, :, k].flatten().tolist()) for k in range(SHAPE[2])}
    plane = {"S": "axial", "I": "axial", "A": "coronal", "P": "coronal", "L": "sagittal", "R": "sagittal"}[nib.aff2axcodes(GRIDS[grid])[2]]
    assert torch.equal(out.as_tensor(), orient(source, plane).as_tensor())


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("grid", GRIDS)
def test_the_way_back_is_exact(grid, plane):
    source = volume(GRIDS[grid])
    out = orient(source, plane)
    back = onto_grid(out.as_tensor(), out.meta["slice_affine"], GRIDS[grid], SHAPE)
    assert torch.equal(back, source.as_tensor())
    array = onto_grid(out[0].numpy().astype(np.float64), out.affine, GRIDS[grid], torch.tensor(SHAPE))
    np.testing.assert_array_equal(array, source[0])
    assert array.dtype == np.float64


def test_agrees_with_nibabel_for_any_moderately_oblique_volume():
    random = np.random.default_rng(5)
    for _ in range(100):
        codes = nib.orientations.ornt2axcodes(np.column_stack([random.permutation(3), random.choice([-1, 1], 3)]))
        affine = affine_of(codes, spacing=random.uniform(0.3, 6, 3), turn=random.uniform(-20, 20, 3), tilt_deg=random.uniform(-10, 10))
        source = volume(affine)
        for plane, wanted in DISPLAY.items():
            order = ornt_transform(io_orientation(affine), axcodes2ornt(wanted))
            expected = nib.Nifti1Image(source[0].numpy(), affine).as_reoriented(order)
            out = orient(source, plane)
            np.testing.assert_array_equal(out[0], expected.get_fdata())
            np.testing.assert_allclose(out.meta["slice_affine"], expected.affine, atol=1e-9)


def test_the_slice_axis_is_the_one_closest_to_the_normal():
    for turn in Rotation.random(200, rng=np.random.default_rng(1)):
        affine = np.eye(4)
        affine[:3, :3] = turn.as_matrix() @ np.diag([0.5, 2.0, 1.0])
        closeness = np.abs(turn.as_matrix())
        if np.diff(np.sort(closeness))[:, -1].min() < 0.01:
            continue
        for plane, world in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
            normal = orient(volume(affine), plane).meta["slice_affine"][:3, 2]
            assert abs(normal[world]) / np.linalg.norm(normal) == pytest.approx(closeness[world].max())
            assert np.sign(normal[world]) == (-1 if plane == "sagittal" else 1)


@pytest.mark.parametrize("noise", [0.0, 1e-6, -1e-6])
@pytest.mark.parametrize("turn", [(45.0, 0.0, 0.0), (-45.0, 0.0, 0.0), (135.0, 0.0, 0.0)])
def test_at_45_degrees_rounding_noise_does_not_decide(turn, noise):
    exact, noisy = affine_of("PLS", turn=turn), affine_of("PLS", turn=np.add(turn, np.rad2deg(noise)))
    for plane in PLANES:
        out = orient(volume(noisy), plane)
        assert torch.equal(out.as_tensor(), orient(volume(exact), plane).as_tensor())
    for plane in ("axial", "coronal"):  # both are as close: the slices of the image stay together
        assert orient(volume(noisy), plane).shape[3] == SHAPE[2]
    assert torch.equal(orient(volume(noisy)).as_tensor(), orient(volume(noisy), "axial").as_tensor())


@pytest.mark.parametrize("plane", PLANES)
def test_what_does_not_lie_in_the_patient_stays(plane):
    source = volume(GRIDS["PSR"], geometry="none")
    out = orient(source, plane)
    assert torch.equal(out.as_tensor(), source.as_tensor())
    np.testing.assert_array_equal(out.meta["slice_affine"], GRIDS["PSR"])
    assert out.meta["slice_shape"].tolist() == list(SHAPE)


def test_without_geometry_in_the_metadata_the_affine_tells():
    values = torch.rand(1, *SHAPE)
    for picture in (MetaTensor(values), MetaTensor(values, affine=torch.eye(4))):
        assert torch.equal(orient(picture, "coronal").as_tensor(), values)
    assert orient(values, "coronal") is values
    patient = MetaTensor(values, affine=torch.as_tensor(GRIDS["RAS"]))
    assert tuple(orient(patient, "coronal").shape) == (1, 5, 7, 6)


def test_the_source_is_not_changed():
    source = volume(GRIDS["RAS"])
    before, affine = source.clone(), source.affine.clone()
    out = orient(source, "axial")
    assert torch.equal(source, before) and torch.equal(source.affine, affine) and "slice_affine" not in source.meta
    assert not torch.equal(out.as_tensor(), source.as_tensor())


def test_a_volume_that_does_not_say_where_it_lies_stays_as_it_is_stored():
    volume = MetaTensor(torch.rand(1, 7, 6, 5), meta={"affine": torch.diag(torch.tensor([-1.0, 2, 3, 1])), "geometry": "unknown"})
    assert torch.equal(OrientSlicesd("image")({"image": volume})["image"].as_tensor(), volume.as_tensor())
    with pytest.raises(DataError, match=r"does not say where it lies in the patient .* use plane native"):
        OrientSlicesd("image", plane="axial")({"image": volume})


def test_one_slice_is_turned_but_not_cut():
    source = MetaTensor(torch.rand(1, 7, 6, 1), meta={"affine": torch.as_tensor(GRIDS["LAS"]), "geometry": "patient"})
    assert tuple(orient(source, "axial").shape) == (1, 6, 7, 1)
    with pytest.raises(DataError, match="single slice, of which the coronal plane is a line"):
        orient(source, "coronal")


@pytest.mark.parametrize("plane", ["oblique", "", None, "Axial"])
def test_unknown_plane(plane):
    with pytest.raises(OptionError, match="expected native, axial, coronal, sagittal"):
        OrientSlicesd("image", plane=plane)


@pytest.mark.parametrize("spoil", [(0, 0, np.nan), (0, 3, np.inf), (0, slice(None), 0.0), (3, 3, 2.0), (slice(3), 0, 0.0)])
def test_an_affine_that_is_none_is_refused(spoil):
    affine = GRIDS["RAS"].copy()
    affine[spoil[0], spoil[1]] = spoil[2]
    with pytest.raises(DataError, match=r"affine of the image is .* expected an invertible"):
        orient(volume(affine))
    with pytest.raises(DataError, match="affine of the source"):
        onto_grid(np.zeros(SHAPE), GRIDS["RAS"], affine, SHAPE)


def test_another_grid_is_no_way_back():
    out = orient(volume(GRIDS["PSR"]), "axial")
    with pytest.raises(DataError, match=r"volume has .*, the source \(7, 6, 4\)"):
        onto_grid(out[0], out.affine, GRIDS["PSR"], (7, 6, 4))
    beside = GRIDS["PSR"].copy()
    beside[1, 3] += 0.3
    with pytest.raises(DataError, match=r"volume lies up to 0.30 voxels beside the source"):
        onto_grid(out[0], out.affine, beside, SHAPE)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("grid", ["LAS", "PSR", "oblique", "sheared"])
def test_a_mask_follows_its_image(grid, plane):
    source = volume(GRIDS[grid], modality="MR")
    mask = MetaTensor((source.as_tensor() > 150).float(), meta={"affine": source.affine})
    chain = Compose(
        [OrientSlicesd("image", plane), ScaleIntensityByModalityd("image"), MarkEmptySlicesd("image"), ResizeSlicesd(["image", "mask"], 42)]
    )
    out = chain({"image": source, "mask": mask})
    turned = orient(source, plane)
    marked = turned.as_tensor() > 150
    assert torch.equal(out["mask"].as_tensor(), ResizeSlicesd("mask", 42)({"mask": marked.float()})["mask"])
    assert out["mask_any"].tolist() == [bool(marked[..., k].any()) for k in range(marked.shape[3])]
    assert out["empty"].shape == (turned.shape[3],)
    torch.testing.assert_close(out["mask"].affine, out["image"].affine)
    np.testing.assert_array_equal(out["image"].meta["slice_affine"], turned.meta["slice_affine"])


@pytest.mark.real
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(
    "name", ["ct_gantry_pitch", "dwi_las_3mm", "pd_oblique_2p4mm", "fmri_pitch", "mr_lps_3mm", "t1_psr_2mm", "anatomical_bigendian_las"]
)
def test_real_volumes(shared, name, plane):
    path = shared / "data" / "nifti" / "geometry" / f"{name}.nii.gz"
    reader = CaseReader()
    array, meta = reader.get_data(reader.read(path))
    source = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(array))[None], meta={"affine": torch.as_tensor(meta["affine"]), "geometry": "patient"}
    )
    out = orient(source, plane)
    ras = canonical(np.asarray(nib.load(path).dataobj, dtype=np.float32), nib.load(path).affine)
    again = canonical(out[0].numpy(), out.meta["slice_affine"])
    np.testing.assert_array_equal(again.get_fdata(), ras.get_fdata())
    np.testing.assert_allclose(again.affine, ras.affine, atol=1e-4)
    if plane != "native":
        assert nib.aff2axcodes(out.meta["slice_affine"]) == DISPLAY[plane]
    np.testing.assert_array_equal(onto_grid(out[0].numpy(), out.affine, meta["affine"], array.shape), array)
