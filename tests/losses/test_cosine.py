"""The one cosine that all losses and maps use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from monai_anomaly.losses import cosine_distance

DIMS = [1, (1, 2, 3), (2, 3)]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dim", DIMS, ids=str)
def test_values_and_gradients_are_those_of_double_precision(dim, channels_last):
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(2, 64, 32, 32, generator=generator).relu()
    b = a + 0.1 * torch.randn(a.shape, generator=generator)
    if channels_last:
        a, b = (x.contiguous(memory_format=torch.channels_last) for x in (a, b))
    b = b.requires_grad_()
    ours = cosine_distance(a, b, dim)
    ours.mean().backward()
    exact = b.detach().double().requires_grad_()
    rows = {1: lambda x: x, (1, 2, 3): lambda x: x.flatten(1), (2, 3): lambda x: x.flatten(2)}[dim]
    theirs = 1 - F.cosine_similarity(rows(a.double()), rows(exact), dim=2 if dim == (2, 3) else 1)
    theirs.mean().backward()
    np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=5e-7)
    np.testing.assert_allclose(b.grad, exact.grad, atol=1e-5 * exact.grad.abs().max())


@pytest.mark.parametrize("dim", DIMS, ids=str)
def test_equal_features_are_at_distance_zero_within_rounding(dim):
    a = torch.rand(2, 256, 64, 64, generator=torch.Generator().manual_seed(0))
    assert cosine_distance(a, a, dim).abs().max() <= 2.5e-7


@pytest.mark.parametrize("dim", DIMS, ids=str)
def test_a_zero_vector_has_a_gradient_and_it_is_finite(dim):
    a = torch.ones(1, 2, 2, 2)
    zero = torch.zeros(1, 2, 2, 2, requires_grad=True)
    distance = cosine_distance(a, zero, dim)
    distance.mean().backward()
    assert (distance == 1).all() and torch.isfinite(zero.grad).all()


@pytest.mark.parametrize("dim", DIMS, ids=str)
def test_nothing_of_the_features_size_is_kept_for_the_backward_pass(dim):
    a, b = torch.rand(2, 64, 32, 32), torch.rand(2, 64, 32, 32, requires_grad=True)
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        cosine_distance(a, b, dim)
    assert set(kept) >= {b.untyped_storage().data_ptr()}
    own = {x.untyped_storage().data_ptr() for x in (a, b)}
    assert sum(n for place, n in kept.items() if place not in own) < 0.1 * a.numel()
