"""The training and scoring engines on tensors, without files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from sklearn.metrics import average_precision_score, roc_auc_score
from support.golden import load
from support.tiny import tiny_detector

from monai_anomaly.errors import OptionError
from monai_anomaly.losses import ConsistencyLoss, SimilarityLoss, WeightedSum
from monai_anomaly.networks import AnomalyDetector, Features, System, Teacher
from monai_anomaly.scoring import AnomalyMap, Calibration, Pooling
from monai_anomaly.training import (
    AnomalyEvaluator,
    DistillationTrainer,
    EpochSeed,
    PixelMetrics,
    RefreshBatchNorm,
    ScoreCollector,
    SliceScore,
    pool_patients,
    pool_series,
    score_metrics,
)
from monai_anomaly.transforms import to_unit_range
from monai_anomaly.transforms.pseudo import PseudoAbnormal


class Slices(torch.utils.data.Dataset):
    """Slice samples as the data package gives them."""

    def __init__(self, n: int, refused: tuple[int, ...] = (), empty: tuple[int, ...] = ()):
        self.images = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(n))
        self.refused, self.empty = refused, empty
        self.cases = [{"patient": f"p{k // 2}", "series": f"s{k}", "image": f"{k}.png", "label": k % 2} for k in range(n)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, k):
        mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
        mask[:, : k % 2 * 8] = 1
        return {
            "image": self.images[k], "mask": mask, "has_mask": True, "label": k % 2, "case": k, "slice_index": 0,
            "empty": k in self.empty, "refused": "unreadable" if k in self.refused else "",
        }  # fmt: skip


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


def score(dataset, detector, batch_size=3, handlers=()):
    collector = ScoreCollector(dataset.cases)
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch_size)
    evaluator = AnomalyEvaluator(torch.device("cpu"), loader, detector, val_handlers=[collector, *handlers])
    evaluator.run()
    return collector


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


def test_pixel_metrics_equal_scikit_learn_on_all_pixels():
    detector, pixels = tiny_detector().eval(), PixelMetrics()
    dataset = Slices(4, empty=(0,))
    score(dataset, detector, handlers=[pixels])
    with torch.no_grad():
        maps = detector(dataset.images[1:]).flatten().numpy()
    masks = np.concatenate([dataset[k]["mask"].numpy().ravel() for k in (1, 2, 3)])
    result = pixels.compute()
    assert result["auroc"] == pytest.approx(roc_auc_score(masks, maps), abs=1e-6)
    assert result["ap"] == pytest.approx(average_precision_score(masks, maps), abs=1e-6)


def test_golden_pixel_and_image_metrics():
    """On the arrays of ``metrics.npz``; nothing is rounded before it is ranked."""
    golden = load("metrics.npz")
    maps, masks = (torch.from_numpy(golden[name])[:, None] for name in ("amaps", "masks"))
    pixels, engine = PixelMetrics(), Engine(lambda engine, batch: batch)
    pixels.attach(engine)
    engine.run([{"pred": maps, "mask": masks, "score": maps.amax(dim=(1, 2, 3)), "has_mask": torch.ones(len(maps), dtype=torch.bool)}])
    expected = {"auroc": "pixel_auroc", "ap": "pixel_ap", "aupro": "std_aupro_030_conn8"}
    assert pixels.compute() == pytest.approx({name: float(golden[key]) for name, key in expected.items()}, abs=1e-6)
    for labels, scores, auroc, ap in (
        ("round_labels", "round_scores", "round_auroc_exact", "round_ap_exact"),
        ("image_labels", "image_scores_max", "image_auroc", "image_ap"),
    ):
        rows = [SliceScore(k, 0, int(label), float(score), 0.0) for k, (label, score) in enumerate(zip(golden[labels], golden[scores]))]
        result = score_metrics(rows, None, None)
        assert (result["auroc"], result["ap"]) == pytest.approx((float(golden[auroc]), float(golden[ap])), abs=1e-9)


def test_patients_pool_their_slices():
    rows = [SliceScore(0, 0, 0, 1.0, 0.0), SliceScore(0, 1, 1, 3.0, 2.0), SliceScore(1, 0, 0, 2.0, 4.0), SliceScore(2, 0, -1, 0.5, 0.0)]
    cases = [{"patient": "a", "label": 1}, {"patient": "a", "label": 1}, {"patient": "b"}]
    a, b = pool_patients(rows, cases, Pooling("mean"))
    assert (a.patient, a.label, a.score, a.mean_intensity, a.n_slices) == ("a", 1, 2.0, 2.0, 3) and a.worst.score == 3.0
    assert (b.patient, b.label, b.score) == ("b", -1, 0.5)


def test_series_pool_their_slices():
    rows = [SliceScore(1, 4, 0, 1.0, 0.0), SliceScore(0, 0, -1, 2.0, 0.0), SliceScore(1, 5, 1, 5.0, 0.0), SliceScore(2, 0, -1, 0.5, 0.0)]
    cases = [{"patient": "a"}, {"patient": "a", "label": 1}, {}]
    b, a, c = pool_series(rows, cases, Pooling("mean"))
    assert (b.case, b.patient, b.label, b.score, b.n_slices, b.worst.slice_index) == (1, "a", 1, 3.0, 2, 5)
    assert (a.case, a.patient, a.label, a.score, a.n_slices) == (0, "a", -1, 2.0, 1) and (c.patient, c.score) == ("2", 0.5)


def test_score_metrics_against_hand_counts():
    rows = [
        SliceScore(k, 0, label, s, m) for k, (label, s, m) in enumerate([(0, 0.1, 5), (0, 0.4, 4), (1, 0.35, 3), (1, 0.8, 2), (-1, 9.0, 1)])
    ]
    result = score_metrics(rows, Calibration([0.05, 0.2, 0.3]), rate=0.5)
    assert result["auroc"] == 0.75 and result["n_normal"] == 2 and result["n_abnormal"] == 2
    assert result["baseline_mean_intensity_auroc"] == 1.0
    # Rate 0.5 of 3 scores: flagged above the second highest, 0.2: both abnormal and one of two normal cases.
    assert (result["threshold"], result["sensitivity"], result["specificity"]) == (0.2, 1.0, 0.5)
    assert "auroc" not in score_metrics(rows[:2], None, None)
    # A score that equals the threshold has a p-value above the rate: it is not flagged.
    assert score_metrics([SliceScore(0, 0, 1, 0.2, 0.0)], Calibration([0.05, 0.2, 0.3]), rate=0.5)["sensitivity"] == 0.0
