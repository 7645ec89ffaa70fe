"""The scoring engine on tensors, without files."""

from __future__ import annotations

import numpy as np
from support.slices import Slices, score
from support.tiny import tiny_detector


def test_batches_and_single_images_give_the_same_scores():
    detector = tiny_detector().eval()
    whole, single = (score(Slices(7), detector, batch_size=n).slices for n in (7, 1))
    np.testing.assert_allclose([row.score for row in whole], [row.score for row in single], atol=1e-6)
    assert [row.case for row in whole] == list(range(7)) and not detector.training


def test_refused_and_empty_slices_are_counted_and_never_scored():
    collector = score(Slices(6, refused=(1,), empty=(2, 3)), tiny_detector().eval())
    assert [row.case for row in collector.slices] == [0, 4, 5]
    assert collector.n_empty == 2 and [(r.where, r.reason) for r in collector.refused] == [("s1 (1.png)", "unreadable")]
    assert all(np.isfinite(row.score) for row in collector.slices)
