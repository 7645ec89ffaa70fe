from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from support.golden import SHAPES, feature_set, load, teacher_feature
from torch.nn import functional as F

from monai_anomaly.errors import OptionError
from monai_anomaly.losses import level_map
from monai_anomaly.networks import Features
from monai_anomaly.scoring import AnomalyMap, upsample_blur_matrix


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


def test_released_evaluation_of_six_images():
    golden = load("metrics.npz")
    shapes = [(1, *shape[1:]) for shape in SHAPES["canon"][0]]
    scores = []
    for k in range(6):
        g = np.float32(0.35 + 0.05 * k)
        teacher = [teacher_feature(shape, 3000 + 100 * k + 10 * j) for j, shape in enumerate(shapes)]
        other = [teacher_feature(shape, 3000 + 100 * k + 10 * j + 1000) for j, shape in enumerate(shapes)]
        student = [(1 - g) * t + g * o for t, o in zip(teacher, other)]
        scores.append(AnomalyMap()(Features(teacher=tuple(teacher), student=tuple(student)), (256, 256)).max().item())
    key = next(key for key in golden if key.startswith("skipts_eval") and "score" in key)
    np.testing.assert_allclose(scores, golden[key].ravel()[:6], atol=1e-5)


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


def test_one_at_a_time_equals_a_batch():
    whole = AnomalyMap()(pair("canon"), (256, 256))
    single = torch.cat([AnomalyMap()(pair("canon", slice(k, k + 1)), (256, 256)) for k in range(2)])
    torch.testing.assert_close(whole, single, atol=1e-6, rtol=0)


def test_the_chosen_levels_are_summed():
    features = pair("canon")
    both = AnomalyMap(maps=[2, 3])(features, (64, 64))
    torch.testing.assert_close(both, AnomalyMap(maps=[2])(features, (64, 64)) + AnomalyMap(maps=[3])(features, (64, 64)))


def test_each_row_of_a_matrix_keeps_the_mean():
    torch.testing.assert_close(upsample_blur_matrix(16, 256, 4.0).sum(1), torch.ones(256))


def test_prepared_matrices_change_nothing_and_stay_out_of_the_state_dict():
    features, plain = pair("canon"), AnomalyMap()
    image_size = 4 * features.teacher[0].shape[-1]
    prepared = AnomalyMap().prepare(image_size, (4, 8, 16, 32))
    assert prepared.state_dict() == {} and len(list(prepared.buffers())) == 4 and prepared.config == plain.config
    for size in (image_size, 96):
        assert torch.equal(prepared(features, (size, size)), plain(features, (size, size)))


def test_prepared_matrices_follow_to_a_device_but_not_to_half_precision():
    prepared = AnomalyMap().prepare(64, (4, 8, 16))
    exact = [matrix.clone() for matrix in prepared.buffers()]
    prepared.half()
    assert all(torch.equal(a, b) for a, b in zip(exact, prepared.buffers()))
    half = Features(*(tuple(torch.rand(1, 4, n, n).half() for n in (16, 8, 4)) for _ in range(2)))
    assert prepared(half, (64, 64)).dtype == torch.float32
    assert all(matrix.is_meta for matrix in prepared.to("meta").buffers())


@pytest.mark.parametrize("size", [64, 96])
def test_an_exporter_can_follow_whatever_the_size_is(size):
    """MONAI's onnx_export takes the image size that it likes."""
    features = Features(*(tuple(torch.rand(2, 4, size // n, size // n) for n in (4, 8, 16)) for _ in range(2)))

    class Map(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rule = AnomalyMap(sigma_px=3.25).prepare(64, (4, 8, 16))

        def forward(self, *levels):
            return self.rule(Features(levels[:3], levels[3:]), (size, size))

    inputs = (*features.teacher, *features.student)
    exported = torch.export.export(Map(), inputs).module()
    torch.testing.assert_close(exported(*inputs), Map()(*inputs), atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", [{"maps": []}, {"maps": [1, 1]}, {"maps": [0]}, {"sigma_px": -1}, {"sigma_px": float("nan")}])
def test_wrong_options_are_refused(options):
    with pytest.raises(OptionError, match="expected"):
        AnomalyMap(**options)
