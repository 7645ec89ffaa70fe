from __future__ import annotations

import pytest
import torch
from support.golden import feature_set

from monai_anomaly.errors import OptionError
from monai_anomaly.losses import (
    ConsistencyLoss,
    ContrastiveLoss,
    ProjectionLoss,
    SegmentationLoss,
    SimilarityLoss,
    SpatialLoss,
    WeightedSum,
)
from monai_anomaly.networks import Features

TEACHER, STUDENT = feature_set("small")
FEATURES = Features(teacher=tuple(TEACHER), student=tuple(STUDENT))


def terms():
    return {"similarity": SimilarityLoss(), "consistency": ConsistencyLoss()}


def test_equation_5():
    values = WeightedSum(terms(), {"similarity": 1.0, "consistency": 0.05})(FEATURES)
    torch.testing.assert_close(values["loss"], values["similarity"] + 0.05 * values["consistency"])
    assert values["consistency"] == ConsistencyLoss()(FEATURES)


def test_a_term_of_weight_zero_is_not_computed():
    loss = WeightedSum(terms(), {"similarity": 1.0, "consistency": 0.0})
    assert set(loss(FEATURES)) == {"similarity", "loss"}


@pytest.mark.parametrize("weights", [{"similarity": 1.0}, {"similarity": 0.0, "consistency": 0.0}, {"similarity": 1, "mac": 1}])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(OptionError, match="weights"):
        WeightedSum(terms(), weights)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SimilarityLoss("l1"), lambda: SimilarityLoss(variant="x"), lambda: ConsistencyLoss("x"), lambda: ConsistencyLoss(pairs="all"),
        lambda: ContrastiveLoss("mean"), lambda: ContrastiveLoss(variant="x"), lambda: SpatialLoss("teacher"), lambda: SegmentationLoss("grey"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(make):
    with pytest.raises(OptionError, match="expected"):
        make()


@pytest.mark.parametrize(
    ("loss", "missing"),
    [
        (ProjectionLoss(), "projected of"), (ContrastiveLoss(), "pseudo_teacher, scale_weights of"), (SpatialLoss("pseudo_student"), "pseudo_student of"),
        (SegmentationLoss(), "pseudo_teacher, pseudo_student, image, pseudo of"),
    ],
)  # fmt: skip
def test_a_loss_of_another_system_says_what_the_features_lack(loss, missing):
    with pytest.raises(
        OptionError, match=f"{type(loss).__name__} needs {missing} the features; the system gave only teacher, student: choose"
    ):
        loss(FEATURES)
