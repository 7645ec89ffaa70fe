"""Tensors that share a few pieces of memory."""

from __future__ import annotations

import torch

from monai_anomaly.data.cache import tensor_pool
from monai_anomaly.data.cache.tensor_pool import TensorPool


def test_tensors_of_any_shape_come_back_from_a_few_blocks(monkeypatch):
    monkeypatch.setattr(tensor_pool, "LARGEST_BLOCK", 4000)
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3), (0, 1, 4), (1,), (50, 40), (7, 1, 5), (), (11,)] * 30
    given = [torch.randn(shape, generator=generator) for shape in shapes]
    pool = TensorPool(torch.float32)
    assert [pool.append(tensor) for tensor in given] == list(range(len(given))) and len(pool) == len(given)
    assert all(torch.equal(pool[number], tensor) for number, tensor in enumerate(given))
    assert pool.nbytes == sum(tensor.nbytes for tensor in given)
    storages = {pool[number].untyped_storage().data_ptr() for number in range(len(given)) if given[number].numel()}
    assert len(storages) < 80


def test_thousands_of_tensors_need_few_blocks():
    pool = TensorPool(torch.float32)
    for number in range(5000):
        pool.append(torch.full((16, 16), float(number)))
    assert len({pool[number].untyped_storage().data_ptr() for number in range(5000)}) < 20 and float(pool[4321][3, 3]) == 4321
