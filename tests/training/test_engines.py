"""The training engine on tensors, without files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from support.slices import Slices
from support.tiny import tiny_detector

from monai_anomaly.errors import OptionError
from monai_anomaly.losses import ConsistencyLoss, SimilarityLoss, WeightedSum
from monai_anomaly.networks import AnomalyDetector, Features, System, Teacher
from monai_anomaly.scoring import AnomalyMap, Pooling
from monai_anomaly.training import DistillationTrainer, EpochSeed, RefreshBatchNorm
from monai_anomaly.transforms import to_unit_range
from monai_anomaly.transforms.pseudo import PseudoAbnormal


def loss():
    return WeightedSum({"similarity": SimilarityLoss(), "consistency": ConsistencyLoss()}, {"similarity": 1.0, "consistency": 0.05})


def train(seed: int, epochs: int = 3, num_workers: int = 0):
    torch.manual_seed(seed)
    detector = tiny_detector()
    loader = torch.utils.data.DataLoader(Slices(6), batch_size=4, shuffle=True, num_workers=num_workers)
    optimizer = torch.optim.Adam(detector.trainable_parameters(), lr=0.005, betas=(0.5, 0.999))
    outputs = []
    trainer = DistillationTrainer("cpu", epochs, loader, detector, optimizer, loss(), [EpochSeed(seed)])
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: outputs.append({k: v.item() for k, v in engine.state.output.items()})
    )
    trainer.run()
    return detector, outputs


def test_training_lowers_the_loss_and_logs_every_term():
    _, outputs = train(1, epochs=6)
    assert set(outputs[0]) == {"loss", "similarity", "consistency"}
    assert outputs[-1]["loss"] < 0.8 * outputs[0]["loss"]
    for terms in outputs:
        assert terms["loss"] == pytest.approx(terms["similarity"] + 0.05 * terms["consistency"], rel=1e-6)


class Blinking(System):
    """Needs pseudo-anomalies, and keeps what it was given."""

    stages, needs_pseudo = 3, True

    def __init__(self, teacher):
        super().__init__(teacher)
        self.student, self.given = torch.nn.Conv2d(3, 64, 3, stride=4, padding=1), []

    @property
    def config(self):
        return {}

    def forward(self, image, pseudo=None):
        self.given.append((image, pseudo))
        return Features(teacher=self.teacher(image)[:1], student=(self.student(image),))


def darken_the_left_half(image, generator):
    """One image stays as it was."""
    mask = torch.zeros(len(image), 1, *image.shape[2:], dtype=torch.bool)
    mask[1:, :, :, :32] = True
    return PseudoAbnormal(torch.where(mask, image * torch.rand((), generator=generator), image), mask)


def blink(seed: int, amp: bool = False):
    torch.manual_seed(0)
    system = Blinking(Teacher("resnet18", weights="random", stages=3))
    detector = AnomalyDetector(system, AnomalyMap([1]), Pooling("max"))
    loader = torch.utils.data.DataLoader(Slices(8), batch_size=4, shuffle=True)
    terms = WeightedSum({"similarity": SimilarityLoss()}, {"similarity": 1.0})
    optimizer = torch.optim.Adam(detector.trainable_parameters())
    outputs = []
    trainer = DistillationTrainer("cpu", 2, loader, detector, optimizer, terms, [EpochSeed(seed)], darken_the_left_half, amp)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    trainer.run()
    return system, outputs


def test_pseudo_abnormal_images_differ_where_their_mask_says_and_nowhere_else():
    (system, outputs), (again, _), (other, _) = blink(1), blink(1), blink(2)
    assert {terms["pseudo_unchanged"].item() for terms in outputs} == {0.25}
    for image, pseudo in system.given:
        assert ((image != pseudo.image).any(dim=1, keepdim=True) == pseudo.mask).all()
        assert (to_unit_range(pseudo.image)[:, :, :, :32] <= to_unit_range(image)[:, :, :, :32] + 1e-6).all()
    drawn, repeated, differing = ([pseudo.image for _, pseudo in run.given] for run in (system, again, other))
    assert all(map(torch.equal, drawn, repeated)) and not any(map(torch.equal, drawn, differing))
    assert len({pseudo.sum().item() for pseudo in drawn}) == len(drawn)  # each step draws anew


def test_bfloat16_is_the_networks_and_not_the_losses():
    system, outputs = blink(1, amp=True)
    _, full = blink(1)
    assert all(value.dtype == torch.float32 for terms in outputs for value in terms.values())
    assert all(parameter.dtype == torch.float32 for parameter in system.parameters())
    first, expected = outputs[0]["similarity"].item(), full[0]["similarity"].item()
    assert first != expected and first == pytest.approx(expected, rel=0.01)


def test_a_pseudo_anomaly_for_a_system_without_one_is_refused_and_the_other_way_round():
    detector = tiny_detector()
    optimizer = torch.optim.Adam(detector.trainable_parameters())
    with pytest.raises(OptionError, match="SkipTS is trained without pseudo-anomalies; the trainer was given function"):
        DistillationTrainer("cpu", 1, [], detector, optimizer, loss(), pseudo_anomaly=darken_the_left_half)
    detector.system = Blinking(Teacher("resnet18", weights="random", stages=3))
    with pytest.raises(OptionError, match="Blinking is trained with pseudo-anomalies; the trainer was given none"):
        DistillationTrainer("cpu", 1, [], detector, optimizer, loss())


def test_same_seed_same_weights_whatever_the_workers():
    (a, first), (b, second), (c, third) = train(1), train(1, num_workers=2), train(2)
    assert first == second != third
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert not torch.equal(a.trainable_parameters()[0], c.trainable_parameters()[0])


def test_refreshed_batch_statistics_are_those_of_one_pass_and_the_teacher_keeps_its_own():
    detector, dataset = tiny_detector(), Slices(6)
    teacher = {key: value.clone() for key, value in detector.system.teacher.state_dict().items()}
    engine = Engine(lambda engine, batch: None)
    RefreshBatchNorm(detector, dataset, batch_size=3, seed=0).attach(engine)
    norm = detector.system.student.D3[0].bn1
    inputs = []
    norm.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach()))
    engine.run([0])
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0))
    assert len(inputs) == 2 and norm.momentum == 0.1
    assert all(torch.equal(value, teacher[key]) for key, value in detector.system.teacher.state_dict().items())


def test_the_epoch_seed_does_not_depend_on_what_was_drawn_before():
    class Engine:
        class state:
            epoch = 4

    draws = []
    for noise in (0, 5):
        torch.rand(noise)
        EpochSeed(9)(Engine)
        draws.append((torch.rand(3).tolist(), np.random.rand(), torch.rand(3, generator=Engine.state.generator).tolist()))
    assert draws[0] == draws[1]
    assert draws[0][0] != draws[0][2]  # pseudo-anomalies do not follow the numbers that noise and order are made of
    Engine.state.epoch = 5
    EpochSeed(9)(Engine)
    assert torch.rand(3).tolist() != draws[0][0]  # every epoch has an order of its own
