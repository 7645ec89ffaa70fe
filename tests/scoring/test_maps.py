from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score
from support.golden import SHAPES, feature_set, load, teacher_feature
from torch.nn import functional as F

from monai_anomaly.errors import OptionError
from monai_anomaly.losses import level_map
from monai_anomaly.networks import RD4AD, AnomalyDetector, Features, Teacher
from monai_anomaly.scoring import AnomalyMap, Pooling, upsample_blur_matrix


def pair(name, sample=slice(None)):
    teacher, student = feature_set(name)
    return Features(teacher=tuple(t[sample] for t in teacher), student=tuple(s[sample] for s in student))


def test_golden_maps():
    golden = load("maps.npz")
    features = pair("small", slice(0, 1))
    for level in (1, 2, 3):
        one = AnomalyMap(maps=[level], sigma_px=0)(features, (64, 64))[0, 0]
        np.testing.assert_allclose(one, golden[f"small_level{level}"].reshape(64, 64), atol=1e-5)
    raw = AnomalyMap(sigma_px=0)(features, (64, 64))
    smooth = AnomalyMap()(features, (64, 64))
    np.testing.assert_allclose(raw[0, 0], golden["small_fuse_a"].reshape(64, 64), atol=1e-5)
    np.testing.assert_allclose(smooth[0, 0], golden["small_fuse_a_sigma4"].reshape(64, 64), atol=1e-5)
    np.testing.assert_allclose(raw.max(), golden["small_score_max_unsmoothed"], atol=1e-5)
    np.testing.assert_allclose(smooth.max(), golden["small_score_max_sigma4"], atol=1e-5)


@pytest.fixture(scope="module")
def six_images():
    """The features of the released evaluations in ``metrics.npz``, as one batch."""
    shapes = [(1, *shape[1:]) for shape in SHAPES["canon"][0]]
    images = []
    for k in range(6):
        g = np.float32(0.35 + 0.05 * k)
        teacher = [teacher_feature(shape, 3000 + 100 * k + 10 * j) for j, shape in enumerate(shapes)]
        other = [teacher_feature(shape, 3000 + 100 * k + 10 * j + 1000) for j, shape in enumerate(shapes)]
        images.append((teacher, [(1 - g) * t + g * o for t, o in zip(teacher, other)]))
    return Features(*(tuple(torch.cat(level) for level in zip(*of)) for of in zip(*images)))


def test_released_evaluation_of_six_images(six_images):
    scores = AnomalyMap()(six_images, (256, 256)).amax(dim=(1, 2, 3))
    golden = load("metrics.npz")
    np.testing.assert_allclose(scores, golden["skipts_eval_scores_before_rounding"], atol=1e-5)
    labels = golden["skipts_eval_labels"]
    told = [roc_auc_score(labels, scores), average_precision_score(labels, scores)]
    np.testing.assert_allclose(told, golden["skipts_eval_auroc_ap"], atol=5e-4)  # of scores and figures rounded to 3 decimals


def test_released_drd_evaluation_of_six_images(six_images):
    """Released, one image at a time; paper and released are the same for it."""
    golden = load("metrics.npz")
    maps, factor = AnomalyMap(fusion="mean", refine=True).with_refinement(six_images, (256, 256))
    highest = Pooling("max")(maps)
    np.testing.assert_allclose(maps[:, 0, ::16, ::16], golden["drd_eval_map_strided16"], atol=1e-5)
    np.testing.assert_allclose(highest, golden["drd_eval_map_max"], atol=1e-5)
    np.testing.assert_allclose(factor * highest, golden["drd_eval_image_scores"], atol=1e-5)


def test_golden_mean_maps():
    """Released ESC-DRKD."""
    golden = load("maps.npz")
    raw, smooth = (AnomalyMap(fusion="mean", sigma_px=sigma)(pair("canon"), (256, 256))[:, 0] for sigma in (0, 4))
    np.testing.assert_allclose(raw[:, ::8, ::8], golden["canon_esc_mean256_strided8"], atol=1e-5)
    flat = raw.flatten(1)
    stats = torch.stack([flat.mean(1), flat.std(1), flat.amax(1), flat.amin(1)], dim=1)
    np.testing.assert_allclose(stats, golden["canon_esc_mean256_stats"], atol=1e-5)
    np.testing.assert_allclose(smooth[:, ::8, ::8], golden["canon_esc_sigma4_strided8"], atol=1e-5)
    np.testing.assert_allclose(smooth.amax(dim=(1, 2)), golden["canon_esc_sigma4_max"], atol=1e-5)


@pytest.mark.parametrize("maps", [[1, 2, 3], [1, 2], [2, 3], [3, 1], [1], [2], [3]])
def test_golden_refinement(maps):
    """Released DRD: the highest value, at its own size, of the level whose map at 256 x 256 has the smallest variance."""
    golden = load("maps.npz")
    factor = AnomalyMap(maps, refine=True).with_refinement(pair("canon"), (256, 256))[1]
    for image in range(2):
        highest, variance = (golden[f"canon_drd_b{image}_{what}"][[level - 1 for level in maps]] for what in ("max", "var"))
        np.testing.assert_allclose(factor[image], 1 + highest[np.argmin(variance)], atol=1e-5)


def test_of_levels_that_vary_equally_the_first_one_refines():
    """Maps 0, 0, 0, 1 and 1, 1, 1, 2: both have the variance 1/4."""
    teacher = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, 2, 2)
    zero, one, two = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([-1.0, 0.0])
    low, high = (torch.stack(pixels, dim=1).reshape(1, 2, 2, 2) for pixels in ([zero, zero, zero, one], [one, one, one, two]))
    features = Features((teacher, teacher), (low, high))
    factors = [AnomalyMap(maps, refine=True).with_refinement(features, (2, 2))[1].item() for maps in ([1, 2], [2, 1])]
    assert factors == [2, 3]


def test_the_refinement_is_that_of_numpy():
    rng = np.random.default_rng(0)
    teacher = [rng.random((7, c, n, n)).astype(np.float32) for c, n in ((4, 16), (4, 8), (8, 4))]
    student = [t + rng.random((7, 1, 1, 1)).astype(np.float32) * rng.random(t.shape).astype(np.float32) for t in teacher]
    features = Features(*(tuple(map(torch.from_numpy, of)) for of in (teacher, student)))
    expected = []
    for b in range(7):
        highest, variance = [], []
        for t, s in zip(teacher, student):
            t, s = t[b].astype(np.float64), s[b].astype(np.float64)
            m = 1 - (t * s).sum(0) / np.sqrt((t**2).sum(0) * (s**2).sum(0))
            rows, columns = (upsample_blur_matrix(len(m), n, 0.0).double().numpy() for n in (48, 64))
            highest.append(m.max())
            variance.append((rows @ m @ columns.T).var(ddof=1))
        expected.append(1 + highest[int(np.argmin(variance))])
    factor = AnomalyMap(refine=True).with_refinement(features, (48, 64))[1]
    np.testing.assert_allclose(factor, expected, atol=1e-5)
    assert len({np.round(e, 6) for e in expected}) == 7


def test_the_map_is_the_same_with_and_without_refinement():
    features = pair("canon")
    plain = AnomalyMap(fusion="mean")
    assert plain.with_refinement(features, (64, 64))[1] is None
    refined = AnomalyMap(fusion="mean", refine=True).with_refinement(features, (64, 64))[0]
    assert torch.equal(plain(features, (64, 64)), refined) and torch.equal(plain.with_refinement(features, (64, 64))[0], refined)


def test_golden_weighted_map():
    """Paper SCRD4AD. In the released code the weights cancel: its map is the sum."""
    golden = load("maps.npz")
    features = pair("small", slice(0, 1))._replace(scale_weights=torch.from_numpy(golden["small_scrd_w"]))
    weighted = AnomalyMap(fusion="weighted", sigma_px=0)(features, (64, 64))
    np.testing.assert_allclose(weighted[0, 0], golden["small_scrd_outside_fuse"].reshape(64, 64), atol=1e-5)
    np.testing.assert_allclose(AnomalyMap(sigma_px=0)(features, (64, 64))[0, 0], golden["small_scrd_ref_fuse"].reshape(64, 64), atol=1e-5)


def test_each_image_is_weighted_by_its_own_weights_and_levels_left_out_take_theirs_along():
    weights = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    features = pair("canon")._replace(scale_weights=weights)
    levels = [AnomalyMap([level])(features, (64, 64)) for level in (1, 2, 3)]
    expected = weights[:, 2, None, None, None] * levels[2] + weights[:, 0, None, None, None] * levels[0]
    torch.testing.assert_close(AnomalyMap([3, 1], fusion="weighted")(features, (64, 64)), expected)


def test_a_weighted_map_of_a_system_without_weights_is_refused():
    with pytest.raises(OptionError, match="needs scale_weights of the features; the system gave only teacher, student"):
        AnomalyMap(fusion="weighted")(pair("small"), (64, 64))
    with pytest.raises(OptionError, match="RD4AD gives no weights of the levels"):  # before anything is trained
        AnomalyDetector(RD4AD(Teacher("resnet18", weights=None, stages=3)), AnomalyMap(fusion="weighted"), Pooling("max"))


@pytest.mark.parametrize(("fusion", "expected"), [("sum", [3.0, 2.0]), ("mean", [1.0, 1.0]), ("weighted", [1.0, 1.0])])
def test_the_full_scale_is_the_map_of_opposed_features(fusion, expected):
    teacher = tuple(torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, n, n) for n in (16, 8, 4))
    features = Features(teacher, tuple(t.flip(1) for t in teacher), scale_weights=torch.tensor([[0.5, 0.25, 0.25]]))
    assert [AnomalyMap(maps, fusion=fusion).full_scale for maps in ([1, 2, 3], [1, 3])] == expected
    torch.testing.assert_close(AnomalyMap(fusion=fusion)(features, (64, 64)), torch.full((1, 1, 64, 64), expected[0]))


@pytest.mark.parametrize("sigma", [0.0, 1.0, 4.0, 9.5])
@pytest.mark.parametrize("size", [(256, 256), (96, 160)])
def test_equals_interpolation_followed_by_scipys_filter(sigma, size):
    features = pair("canon")
    total = sum(
        F.interpolate(level_map(t, s).unsqueeze(1), size=size, mode="bilinear", align_corners=True)
        for t, s in zip(features.teacher, features.student)
    )
    expected = np.stack([gaussian_filter(m.numpy(), sigma) if sigma else m.numpy() for m in total[:, 0]])
    np.testing.assert_allclose(AnomalyMap(sigma_px=sigma)(features, size)[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("fusion", ["sum", "mean", "weighted"])
def test_one_at_a_time_equals_a_batch(six_images, fusion):
    rule = AnomalyMap(fusion=fusion, refine=True)
    features = six_images._replace(scale_weights=torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).softmax(dim=1))
    whole = rule.with_refinement(features, (256, 256))
    each = [
        rule.with_refinement(
            Features(*(tuple(x[k : k + 1] for x in of) for of in features[:2]), scale_weights=features.scale_weights[k : k + 1]), (256, 256)
        )
        for k in range(6)
    ]
    for batched, single in zip(whole, zip(*each)):
        torch.testing.assert_close(batched, torch.cat(single), atol=1e-6, rtol=0)


def test_the_chosen_levels_are_summed_or_averaged():
    features = pair("canon")
    both = AnomalyMap(maps=[2, 3])(features, (64, 64))
    torch.testing.assert_close(both, AnomalyMap(maps=[2])(features, (64, 64)) + AnomalyMap(maps=[3])(features, (64, 64)))
    torch.testing.assert_close(AnomalyMap(maps=[2, 3], fusion="mean")(features, (64, 64)), both / 2)


def test_each_row_of_a_matrix_keeps_the_mean():
    torch.testing.assert_close(upsample_blur_matrix(16, 256, 4.0).sum(1), torch.ones(256))


def test_prepared_matrices_change_nothing_and_stay_out_of_the_state_dict():
    features, plain = pair("canon"), AnomalyMap()
    image_size = 4 * features.teacher[0].shape[-1]
    prepared = AnomalyMap().prepare(image_size, (4, 8, 16, 32))
    assert prepared.state_dict() == {} and len(list(prepared.buffers())) == 3 and prepared.config == plain.config
    assert len(list(AnomalyMap([3, 1]).prepare(image_size, (4, 8, 16, 32)).buffers())) == 2
    for size in (image_size, 96):
        assert torch.equal(prepared(features, (size, size)), plain(features, (size, size)))


@pytest.mark.parametrize(("sigma", "matrices"), [(4.0, 6), (0.0, 3)])
def test_refinement_keeps_the_unsmoothed_matrices_too(sigma, matrices, monkeypatch):
    features, plain = pair("canon"), AnomalyMap(sigma_px=sigma, refine=True)
    expected = plain.with_refinement(features, (256, 256))
    prepared = AnomalyMap(sigma_px=sigma, refine=True).prepare(256, (4, 8, 16))
    assert prepared.state_dict() == {} and len(list(prepared.buffers())) == matrices
    monkeypatch.setattr("monai_anomaly.scoring.maps.upsample_blur_matrix", None)  # nothing is made or copied during a call
    assert all(torch.equal(a, b) for a, b in zip(prepared.with_refinement(features, (256, 256)), expected))


def test_prepared_matrices_follow_to_a_device_but_not_to_half_precision():
    prepared = AnomalyMap().prepare(64, (4, 8, 16))
    exact = [matrix.clone() for matrix in prepared.buffers()]
    prepared.half()
    assert all(torch.equal(a, b) for a, b in zip(exact, prepared.buffers()))
    half = Features(*(tuple(torch.rand(1, 4, n, n).half() for n in (16, 8, 4)) for _ in range(2)))
    assert prepared(half, (64, 64)).dtype == torch.float32
    assert all(matrix.is_meta for matrix in prepared.to("meta").buffers())


@pytest.mark.parametrize(
    ("size", "options"),
    [(64, {}), (96, {}), (64, {"fusion": "mean", "refine": True}), (96, {"fusion": "weighted"}), (64, {"maps": [3, 1], "fusion": "weighted", "refine": True})],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # the size is meant to be constant
def test_exporters_can_follow_for_any_number_of_images_whatever_their_size_is(size, options):
    """MONAI's onnx_export takes the image size that it likes. The files that exporters write are tested in ``tests/export``."""

    class Map(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rule = AnomalyMap(sigma_px=3.25, **options).prepare(64, (4, 8, 16))

        def forward(self, *inputs):
            features = Features(inputs[:3], inputs[3:6], scale_weights=inputs[6] if inputs[6:] else None)
            return tuple(output for output in self.rule.with_refinement(features, (size, size)) if output is not None)

    def inputs(batch):
        generator = torch.Generator().manual_seed(batch)
        levels = [torch.rand(batch, 4, size // n, size // n, generator=generator) for n in (4, 8, 16)]
        others = [level + torch.rand(level.shape, generator=generator) for level in levels]
        weights = [torch.rand(batch, 3, generator=generator).softmax(dim=1)] if options.get("fusion") == "weighted" else []
        return (*levels, *others, *weights)

    any_number = (tuple({0: torch.export.Dim("batch")} for _ in inputs(2)),)
    for exported in (torch.export.export(Map(), inputs(2), dynamic_shapes=any_number).module(), torch.jit.trace(Map(), inputs(2))):
        for batch in (2, 5):
            torch.testing.assert_close(exported(*inputs(batch)), Map()(*inputs(batch)), atol=1e-6, rtol=0)


def test_a_description_of_an_older_version_is_a_sum_without_refinement():
    rule = AnomalyMap(maps=[1, 2], sigma_px=2.0)
    assert rule.config == {"maps": [1, 2], "sigma_px": 2.0, "fusion": "sum", "refine": False}
    other = AnomalyMap([2, 3], 1.0, "mean", True)
    assert AnomalyMap(**other.config).config == other.config


@pytest.mark.parametrize(
    "options",
    [
        {"maps": 2}, {"maps": "2"}, {"maps": []}, {"maps": [1, 1]}, {"maps": [0]}, {"maps": [1.0]}, {"maps": [True]}, {"maps": [[1]]},
        {"sigma_px": -1}, {"sigma_px": float("nan")},
        {"fusion": "max"}, {"fusion": None}, {"fusion": ["sum"]}, {"refine": 1}, {"refine": "yes"}, {"refine": None},
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options):
    with pytest.raises(OptionError, match="expected"):
        AnomalyMap(**options)
