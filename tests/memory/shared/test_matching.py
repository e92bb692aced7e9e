"""Gradient matching, and DC and DSA, which are little more."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from harness.core import augment, compute, models
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import LowRank, Parametrisation, Pixels
from harness.core.progress import Progress
from harness.memory import dc, dsa
from harness.memory.dc import DCConfig
from harness.memory.dsa import DSAConfig
from harness.memory.shared import matching as gradient_matching
from harness.memory.shared.distances import DISTANCES, Gradients, rows_distance
from harness.memory.shared.gradients import GradientMatching, matching_statistics
from harness.memory.shared.matching import GradientMatchingConfig
from harness.memory.shared.sampling import rows_by_class
from harness.memory.shared.synthetic import Synthetic, real_batches
from tests.memory import plain_matching
from tests.memory.toys import FOUR, SHAPE, a_set, check_resumes, not_finite, noted_precisions, seeded

SMALL: dict[str, Any] = dict(
    iterations=2, updates=3, epochs=2, lr=0.5, real_batch=8, network_lr=0.1, network_batch=4, model="convnet2-w4"
)
DC, DSA = DCConfig(**SMALL), DSAConfig(**SMALL)
Build = Callable[..., Memory]
each_method = pytest.mark.parametrize(("build", "cfg"), [(dc.METHOD, DC), (dsa.METHOD, DSA)], ids=["dc", "dsa"])


def cut(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `chunk` images through a network at a time."""
    monkeypatch.setattr(compute, "gradient_chunk", lambda _: chunk)


def matching(images: Tensor, classes: int, model: str = "convnet2-w4", distance: str = "rows") -> GradientMatching:
    """Of a network drawn from seed 3."""
    network = models.scratch(model, SHAPE, classes, images.device, images.dtype)
    models.draw_weights(network, seeded(3))
    return GradientMatching(network, DISTANCES[distance], form="eager", real_dtype="float32", device=images.device)


def batches_of(images: Tensor, labels: Tensor) -> list[Tensor]:
    return [images[rows] for rows in rows_by_class(labels).values()]


# --- the distances ---------------------------------------------------------------------------------------------------


def one_class(**parts: list[Any]) -> Gradients:
    return {name: torch.tensor([part], dtype=torch.float64) for name, part in parts.items()}


def test_rows_distance_by_hand() -> None:
    # Rows (3, 4) and (4, 3): 1 - 24 / (5 * 5 + 1e-6). Rows (2, 0) and (0, 3): 1 - 0. The bias counts nothing.
    real = one_class(weight=[[3.0, 4.0], [2.0, 0.0]], bias=[1.0, 1.0])
    synthetic = one_class(weight=[[4.0, 3.0], [0.0, 3.0]], bias=[-7.0, 0.0])
    assert rows_distance(real, synthetic).item() == pytest.approx(1 - 24 / (25 + 1e-6) + 1, abs=1e-12)


def test_short_rows_count_as_unlike_themselves() -> None:
    # Rows of length 1e-3 against themselves: 1 - 1e-6 / (1e-6 + 1e-6). This is what the published 1e-6 does.
    short = one_class(weight=[[1e-3, 0.0], [0.0, 1e-3]])
    assert rows_distance(short, short).item() == pytest.approx(2 * 0.5)


def test_the_rows_of_a_convolution_are_its_filters() -> None:
    # Two filters of 1 x 1 x 2: (3, 4) on both sides, and (1, 0) against (-1, 0).
    real = one_class(weight=[[[[3.0, 4.0]]], [[[1.0, 0.0]]]])
    synthetic = one_class(weight=[[[[3.0, 4.0]]], [[[-1.0, 0.0]]]])
    assert rows_distance(real, synthetic).item() == pytest.approx(0 + 2, abs=1e-5)


@pytest.mark.parametrize(("name", "expected"), [("cos", 1 - 8 / 9), ("mse", 1 + 1 + 0), ("l1", 1 + 1 + 0)])
def test_the_other_distances_by_hand(name: str, expected: float) -> None:
    # Weight and bias are one vector: (1, 2, 2) against (2, 1, 2). Product 2 + 2 + 4, lengths 3 and 3.
    real, synthetic = one_class(weight=[[1.0, 2.0]], bias=[2.0]), one_class(weight=[[2.0, 1.0]], bias=[2.0])
    assert DISTANCES[name](real, synthetic).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_a_distance_is_the_sum_of_those_of_each_class(name: str) -> None:
    real, synthetic = (
        {"a": torch.randn(3, 4, 2, 3, 3, generator=seeded(s)), "b": torch.randn(3, 4, generator=seeded(s + 9))}
        for s in (0, 1)
    )
    alone = [
        DISTANCES[name](*({key: part[k : k + 1] for key, part in side.items()} for side in (real, synthetic)))
        for k in range(3)
    ]
    torch.testing.assert_close(DISTANCES[name](real, synthetic), torch.stack(alone).sum())


def test_rows_distance_does_not_see_the_length_of_a_row() -> None:
    real, synthetic = ({"weight": torch.randn(2, 5, 7, generator=seeded(s)).double()} for s in (0, 1))
    longer = {"weight": synthetic["weight"] * torch.rand(2, 5, 1, generator=seeded(2)).double().add(0.5)}
    torch.testing.assert_close(rows_distance(real, longer), rows_distance(real, synthetic), rtol=0, atol=1e-5)


# --- the plain loops -------------------------------------------------------------------------------------------------


@each_method
@pytest.mark.parametrize(
    ("ipc", "chunk", "change"),
    [
        (1, 64, {}),
        (3, 64, {}),  # all classes in one group
        (3, 6, {}),  # two classes, then one; real batches of 8 in two parts, the last one short
        (3, 1, {}),  # fewer images than one class has
        (3, 64, {"epochs": 1, "network_batch": 256, "momentum": 0.0}),
        (2, 7, {"model": "convnet1-w4-gn-leakyrelu-max", "real_batch": 3}),
        (2, 7, {"model": "convnet2-w4-ln-sigmoid"}),  # which vmap gets wrong
        (2, 64, {"model": "mlp"}),
        (2, 64, {"model": "convnet2-w4-bn"}),
        (2, 4, {"model": "convnet2-w4-bn", "batchnorm": "exact"}),
        (2, 4, {"distance": "cos"}),
        (2, 4, {"distance": "mse"}),
        (2, 4, {"distance": "l1"}),
        (2, 64, {"augment": "crop_rotate"}),
        (2, 64, {"init": "real"}),
        (2, 64, {"init": "noise"}),
    ],
)
def test_the_plain_loops_are_followed(
    build: Build,
    cfg: GradientMatchingConfig,
    ipc: int,
    chunk: int,
    change: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut(chunk, monkeypatch)
    images, labels = a_set(dtype=torch.float64)
    cfg, rngs = replace(cfg, **change), (seeded(1), seeded(1))
    memory = build(images, labels, Budget(ipc), rngs[0], cfg)
    expected = plain_matching.build(images, labels, ipc, rngs[1], cfg)
    torch.testing.assert_close(memory.images, expected, rtol=0, atol=1e-5)
    assert (memory.images - start(images, labels, ipc, cfg)).abs().max() > 1e-2  # it did move
    assert memory.labels.tolist() == [2] * ipc + [5] * ipc + [7] * ipc
    assert torch.equal(rngs[0].get_state(), rngs[1].get_state())


@each_method
@pytest.mark.parametrize("init", ["noise", "real"])
@pytest.mark.parametrize(("ipc", "rank"), [(1, 2), (3, 2), (3, 3)])  # 2, 6 and 4 images of a class
def test_the_gradient_passes_through_low_rank_factors(
    build: Build, cfg: GradientMatchingConfig, init: str, ipc: int, rank: int
) -> None:
    images, labels = a_set(dtype=torch.float64)
    cfg, form = replace(cfg, init=init), LowRank(rank)
    memory = build(images, labels, Budget(ipc), seeded(1), cfg, form=form)
    expected = plain_matching.build(images, labels, ipc, seeded(1), cfg, rank=rank)
    torch.testing.assert_close(memory.images, expected, rtol=0, atol=1e-5)
    assert (memory.images - start(images, labels, ipc, cfg, form)).abs().max() > 1e-2


def start(
    images: Tensor, labels: Tensor, ipc: int, cfg: GradientMatchingConfig, form: Parametrisation = Pixels()
) -> Tensor:
    """The images of seed 1 before the first update."""
    begun = Synthetic(images, labels, Budget(ipc), seeded(1), form=form, start=cfg.init, lr=1.0, momentum=0.0)
    return begun.memory().images


# --- both sides ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_real_gradients_are_those_of_the_mean_loss_whatever_the_chunk(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(chunk, monkeypatch)
    images, labels = a_set(dtype=torch.float64)
    match = matching(images, 3)
    gradients = match.real_gradients(batches_of(images, labels))  # of 5, 9 and 20 images: short last parts
    for k, real in enumerate(batches_of(images, labels)):
        loss = F.cross_entropy(match.network(real), torch.full((len(real),), k))
        expected = torch.autograd.grad(loss, list(match.network.parameters()))
        for (name, _), one in zip(match.network.named_parameters(), expected, strict=True):
            torch.testing.assert_close(gradients[name][k], one)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("norm", ["in", "ln", "gn", "nn"])
def test_backward_returns_the_loss_and_adds_its_gradient(norm: str, together: bool) -> None:
    images, labels = a_set(dtype=torch.float64)
    match = matching(images, 3, f"convnet2-w4-{norm}-swish")  # smooth, for the differences below
    real = match.real_gradients(batches_of(images, labels))
    backward = match.backward_together if together else match.backward
    pixels = images[:6].clone().requires_grad_()
    loss = backward(pixels, real)
    assert pixels.grad is not None
    assert not loss.requires_grad
    once = pixels.grad.clone()
    bit = 1e-5 * torch.randn(pixels.shape, generator=seeded(5)).double()
    ends = [backward((pixels + sign * bit).detach().requires_grad_(), real) for sign in (1, -1)]
    # The directional derivative by central differences.
    assert (ends[0] - ends[1]).item() / 2 == pytest.approx((once * bit).sum().item(), rel=1e-3)
    torch.testing.assert_close(backward(pixels, real), loss)
    torch.testing.assert_close(pixels.grad, 2 * once)


@pytest.mark.parametrize("together", [False, True])
def test_the_gradient_reaches_the_synthetic_pixels_alone(together: bool) -> None:
    images, labels = a_set()
    images.requires_grad_()
    match = matching(images, 3)
    weights = {name: weight.clone() for name, weight in match.network.state_dict().items()}
    real = match.real_gradients(batches_of(images, labels))
    assert not any(part.requires_grad for part in real.values())
    pixels = images[:6].detach().clone().requires_grad_()
    (match.backward_together if together else match.backward)(pixels, real)
    assert pixels.grad is not None
    assert (pixels.grad.flatten(1).norm(dim=1) > 0).all()  # all of them
    assert images.grad is None
    assert all(weight.grad is None for weight in match.network.parameters())
    assert all(torch.equal(weight, weights[name]) for name, weight in match.network.state_dict().items())


@pytest.mark.parametrize("together", [False, True])
def test_a_classs_images_are_pulled_by_other_classes_only_where_gradients_are_summed(together: bool) -> None:
    images, labels = a_set(dtype=torch.float64)
    match = matching(images, 3)
    real = match.real_gradients(batches_of(images, labels))
    pulls = []
    for others in (images[:4], images[10:14]):
        pixels = torch.cat([images[4:6], others]).clone().requires_grad_()
        (match.backward_together if together else match.backward)(pixels, real)
        assert pixels.grad is not None
        pulls.append(pixels.grad[:2])  # of the first class
    assert torch.equal(*pulls) is not together
    if together:
        assert (pulls[0] - pulls[1]).norm() > 0.01 * pulls[0].norm()


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_a_memory_of_all_images_is_matched(name: str) -> None:
    images, labels = a_set({0: 6, 1: 6}, torch.float64)
    match = matching(images, 2, distance=name)
    everything = batches_of(images, labels)
    real = match.real_gradients(everything)
    same = match.backward(torch.cat(everything).clone().requires_grad_(), real)
    other = match.backward(torch.randn(12, *SHAPE, generator=seeded(0)).double().requires_grad_(), real)
    assert same.item() == pytest.approx(0, abs=1e-3)  # the 1e-6 of short rows is left
    assert other.item() > 20 * same.item()


@pytest.mark.parametrize("distance", sorted(DISTANCES))
@pytest.mark.parametrize("together", [False, True])
def test_where_the_memory_does_not_do_fewer_synthetic_images_are_in_a_graph(
    together: bool, distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve of three classes on devices that hold 12, 6, 3 (not a class), 2 and 1: halved once, and for good."""
    images, labels = a_set(dtype=torch.float64)
    match, found = matching(images, 3, distance=distance), []
    real = match.real_gradients(batches_of(images, labels))
    tried: list[int] = []
    fits = [12]
    plain = GradientMatching._traced

    def limited(self: GradientMatching, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(images: Tensor, labels: Tensor, *others: Any) -> Any:
            if name != "gradient":  # a second derivative
                tried.append(labels.numel())
                if labels.numel() > fits[0]:
                    raise torch.OutOfMemoryError
            return plain(self, name, function)(images, labels, *others)

        return call

    monkeypatch.setattr(GradientMatching, "_traced", limited)
    for fits[0] in (12, 6, 3, 2, 1):
        pixels = images[:12].clone().requires_grad_()
        loss = (match.backward_together if together else match.backward)(pixels, real)
        found.append((loss, pixels.grad))
    six, three = ([6] * 2, [3] * 4) if together else ([4] * 3, [3, 1] * 3)  # of all classes together, or of each
    assert tried == [12, 12, *six, six[0], *three, 3, *[2] * 6, 2, *[1] * 12]
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        torch.testing.assert_close(gradient, found[0][1])
    fits[0] = 0
    with pytest.raises(torch.OutOfMemoryError):
        match.backward(images[:6].clone().requires_grad_(), real)


def test_where_the_memory_does_not_do_fewer_real_images_are_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = a_set({0: 6, 1: 5}, torch.float64)
    match = matching(images, 2)
    whole, plain = match.real_gradients(batches_of(images, labels)), match._logits
    sizes: list[int] = []

    def logits(some: Tensor) -> Tensor:
        sizes.append(len(some))
        if len(some) > 3:
            raise torch.OutOfMemoryError
        return plain(some)

    monkeypatch.setattr(match, "_logits", logits)
    for _ in range(2):
        for name, part in match.real_gradients(batches_of(images, labels)).items():
            torch.testing.assert_close(part, whole[name])
    assert sizes == [6, *[3, 3, 3, 2] * 2]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", ["convnet2-w4", "convnet1-w4-nn-sigmoid-max", "convnet2-w4-ln"])
def test_the_last_layers_gradients_are_mean_features_under_uniform_predictions(seed: int, model: str) -> None:
    # methods.md 4.3: for a batch of one class, times 1/C in the rows of the others and 1/C - 1 in its own. So there
    # the distance of rows is C times that of the classes' mean features, which is what distribution matching compares.
    images, labels = a_set(dtype=torch.float64)
    match = matching(images, 3, model)
    models.draw_weights(match.network, seeded(seed))
    with torch.no_grad():
        match.network.classifier.weight.zero_()
        match.network.classifier.bias.zero_()
    real = batches_of(images, labels)
    gradient = match.real_gradients(real)["classifier.weight"]
    features = [match.network.embed(of_class).mean(0).detach() for of_class in real]
    for k, feature in enumerate(features):
        for row in range(3):
            torch.testing.assert_close(gradient[k, row], (1 / 3 - (row == k)) * feature)
    others = [of_class[:2] for of_class in real]
    synthetic = match.real_gradients(others)["classifier.weight"]
    cosines = [
        F.cosine_similarity(feature, match.network.embed(some).mean(0).detach(), 0)
        for feature, some in zip(features, others, strict=True)
    ]
    distance = rows_distance({"classifier.weight": gradient}, {"classifier.weight": synthetic})
    torch.testing.assert_close(distance, 3 * (1 - torch.stack(cosines)).sum(), rtol=1e-3, atol=1e-5)


def test_the_real_side_alone_is_multiplied_in_real_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    stack, seen = noted_precisions(monkeypatch), []
    images, labels = a_set()
    network = models.build("convnet2-w4", SHAPE, 3, seeded(3))
    network.register_forward_hook(lambda *_: seen.append(stack[-1]))
    for weight in network.parameters():
        weight.register_hook(lambda _: seen.append(stack[-1]))
    match = GradientMatching(network, DISTANCES["rows"], form="eager", real_dtype="tf32", device=images.device)
    real = match.real_gradients(batches_of(images, labels))
    assert set(seen) == {"tf32"}
    seen.clear()
    match.backward(images[:6].requires_grad_(), real)
    assert set(seen) == {"float32"}


# --- batch norm ------------------------------------------------------------------------------------------------------


def batch_normed(images: Tensor, classes: int) -> tuple[models.Network, nn.BatchNorm2d, nn.Module]:
    network = models.build("convnet1-w4-bn", SHAPE, classes, seeded(3)).to(images.dtype)
    convolution, norm = network.features[0], network.features[1]
    assert isinstance(norm, nn.BatchNorm2d)
    return network, norm, convolution


@pytest.mark.parametrize("mode", ["reference", "exact"])
def test_statistics_by_hand(mode: str) -> None:
    images, labels = a_set(dtype=torch.float64)  # classes of 5, 9 and 20 images: 5, 9 and 16 of them count
    real = batches_of(images, labels)
    network, norm, convolution = batch_normed(images, 3)
    maps = convolution(torch.cat([real[0], real[1], real[2][:16]])).detach()
    mean, var = maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=True)
    for mean_share, var_start in ((0.1, 0.9), (0.19, 0.81)):  # after one pass and after two: 0.9 * 0.1 + 0.1, 0.9^2
        with matching_statistics(network, real, mode):
            assert not norm.training
            assert norm.running_mean is not None
            assert norm.running_var is not None
            if mode == "exact":
                mean_share, var_start = 1.0, 0.0  # however many passes
            torch.testing.assert_close(norm.running_mean, mean_share * mean)
            torch.testing.assert_close(norm.running_var, var_start + mean_share * var)
        assert norm.training
        assert norm.momentum == 0.1


@pytest.mark.parametrize("mode", ["reference", "exact"])
def test_both_sides_share_the_statistics_and_leave_them(mode: str) -> None:
    images, labels = a_set(dtype=torch.float64)
    real = batches_of(images, labels)
    network, _, _ = batch_normed(images, 3)
    match = GradientMatching(network, rows_distance, form="eager", real_dtype="float32", device=images.device)
    with matching_statistics(network, real, mode):
        held = {name: part.clone() for name, part in network.state_dict().items()}
        alone = network(images[:1])
        torch.testing.assert_close(network(images)[:1], alone)  # whatever else is in the batch
        targets = match.real_gradients(real)
        one = match.real_gradients([real[0][:1], real[1][:1], real[2][:1]])
        pixels = torch.cat([of_class[:1] for of_class in real]).clone().requires_grad_()
        assert match.backward(pixels, one).item() == pytest.approx(0, abs=1e-3)  # the same image, the same gradient
        match.backward(pixels, targets)
        match.backward_together(pixels, targets)
        assert all(torch.equal(part, held[name]) for name, part in network.state_dict().items())


def test_networks_without_batch_norm_are_left_alone() -> None:
    network = models.build("convnet1-w4", SHAPE, 3, seeded(0))
    with matching_statistics(network, [], "reference"):
        assert network.training


# --- the loops -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ipc", "loops"),
    [
        (1, (1, 1)),
        (2, (10, 50)),
        (10, (10, 50)),
        (11, (20, 25)),
        (20, (20, 25)),
        (30, (30, 20)),
        (40, (40, 15)),
        (45, (50, 10)),
        (50, (50, 10)),
        (100, (50, 10)),  # above the last one listed
    ],
)
def test_the_loops_are_the_published_ones(ipc: int, loops: tuple[int, int]) -> None:
    for cfg in (DCConfig().for_setting("cifar10", ipc), DCConfig().with_loops(ipc)):
        assert (cfg.updates, cfg.epochs) == loops
    assert DCConfig(updates=7).for_setting("cifar10", ipc) == DCConfig(updates=7, epochs=loops[1])
    assert DCConfig(epochs=7).for_setting("cifar10", ipc) == DCConfig(updates=loops[0], epochs=7)


def test_the_loops_of_dsa_have_two_exceptions() -> None:
    def loops(dataset: str, ipc: int) -> tuple[int | None, int | None]:
        cfg = DSAConfig().for_setting(dataset, ipc)
        return cfg.updates, cfg.epochs

    assert loops("cifar100", 50) == (10, 10)
    assert loops("cifar10", 100) == (100, 2)
    assert loops("cifar10", 50) == loops("cifar100", 100) == (50, 10)
    assert loops("cifar100", 10) == (10, 50)
    assert DSAConfig(updates=3).for_setting("cifar10", 100) == DSAConfig(updates=3, epochs=2)


@each_method
def test_a_builder_takes_the_loops_of_its_budget(
    build: Build, cfg: GradientMatchingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    monkeypatch.setattr(
        gradient_matching, "fit", lambda network, images, labels, inner, rng: trained.append(inner.epochs)
    )
    open_loops = replace(cfg, iterations=2, updates=None, epochs=None)
    build(*a_set(), Budget(1), seeded(1), open_loops)
    assert trained == []  # with one image per class the network is never trained
    build(*a_set(), Budget(2), seeded(1), open_loops)
    assert trained == [50] * 9 * 2  # between each two of ten updates


@each_method
def test_the_network_is_trained_between_updates_as_plain_descent_says(
    build: Build, cfg: GradientMatchingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []

    def fit(network: nn.Module, images: Tensor, labels: Tensor, inner: Any, rng: object) -> None:
        assert not images.requires_grad
        seen.append((labels.tolist(), inner.lr, inner.momentum, inner.weight_decay, inner.batch_size, inner.augment))
        assert (inner.rounds, inner.drops, inner.cutmix) == (2, (), 0)

    monkeypatch.setattr(gradient_matching, "fit", fit)
    build(*a_set(), Budget(2), seeded(1), cfg)
    assert seen == [([0, 0, 1, 1, 2, 2], 0.1, 0.0, 0.0, 4, cfg.augment)] * 4


def test_classes_have_augmentations_of_their_own() -> None:
    # The published code seeds by a clock that stands still within a class or two on a fast device.
    parameters = augment.draw_shared(augment.DSA, 50, seeded(0))
    assert len({tuple(row) for row in parameters.values.flatten(1).tolist()}) == 50
    assert len(parameters.active.unique(dim=0)) == 6
    one = torch.randn(1, *SHAPE, generator=seeded(1))
    twins = real_batches(augment.DSA, one, [torch.tensor([0, 0])] * 50, parameters)
    assert all(torch.equal(twin[0], twin[1]) for twin in twins)  # the images of a class share theirs
    assert len(torch.stack([twin[0] for twin in twins]).flatten(1).unique(dim=0)) > 30  # a flip has but two outcomes


# --- what comes of it ------------------------------------------------------------------------------------------------


def unmet_loss(images: Tensor, labels: Tensor, synthetic: Tensor, strategy: str, together: bool = False) -> float:
    """The matching loss in networks and under augmentations that the condensing did not meet."""
    classes, total = len(labels.unique()), 0.0
    owner = torch.arange(classes).repeat_interleave(len(synthetic) // classes)
    match = matching(images, classes, "convnet2-w8")
    for seed in range(5):
        models.draw_weights(match.network, seeded(100 + seed))
        parameters = augment.draw_shared(strategy, classes, seeded(200 + seed))
        real = real_batches(strategy, images, list(rows_by_class(labels).values()), parameters)
        seen = augment.apply(strategy, synthetic, parameters.of(owner)).requires_grad_()
        backward = match.backward_together if together else match.backward
        total += backward(seen, match.real_gradients(real)).item()
    return total


@pytest.mark.parametrize(
    ("build", "cfg", "share"), [(dc.METHOD, DCConfig(), 0.7), (dsa.METHOD, DSAConfig(), 0.85)], ids=["dc", "dsa"]
)
def test_the_loss_falls(build: Build, cfg: GradientMatchingConfig, share: float) -> None:
    images, labels = a_set(FOUR)
    cfg = replace(cfg, iterations=10, updates=4, epochs=3, lr=1.0, real_batch=30, model="convnet2-w8")
    before = unmet_loss(images, labels, start(images, labels, 2, cfg), cfg.augment)
    after = unmet_loss(images, labels, build(images, labels, Budget(2), seeded(1), cfg).images, cfg.augment)
    assert after < share * before


def test_half_precision_of_the_real_side_changes_little() -> None:
    images, labels = a_set()
    begun = start(images, labels, 2, DC)
    moves = [
        dc.METHOD(images, labels, Budget(2), seeded(1), replace(DC, real_dtype=dtype)).images - begun
        for dtype in ("float32", "bfloat16")
    ]
    assert not torch.equal(*moves)
    assert F.cosine_similarity(moves[0].flatten(), moves[1].flatten(), 0) > 0.98


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 6])  # of two networks with three updates each
@pytest.mark.parametrize("batchnorm", ["reference", "exact"])
def test_an_interrupted_build_keeps_its_networks_statistics(rounds: int, batchnorm: str) -> None:
    cfg = replace(DSA, model="convnet1-w4-bn", batchnorm=batchnorm)  # without batch norm: see test_builders.py

    def resumable(rng: Generator, progress: Progress) -> Memory:
        return dsa.METHOD(*a_set(), Budget(2), rng, cfg, progress)

    check_resumes(resumable, rounds)


@each_method
def test_images_that_are_not_finite_are_an_error(build: Build, cfg: GradientMatchingConfig) -> None:
    message = r"^gradient matching: the images are not finite after update 0; use a smaller lr$"
    with pytest.raises(FloatingPointError, match=message):
        build(*not_finite(), Budget(2), seeded(1), replace(cfg, updates=1))
    with pytest.raises(FloatingPointError, match=r"^training: the loss is nan in epoch 0; a smaller lr may help$"):
        build(*not_finite(), Budget(2), seeded(1), cfg)


# --- configured ------------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_papers() -> None:
    for cfg in (DCConfig(), DSAConfig()):
        assert (cfg.iterations, cfg.lr, cfg.momentum, cfg.real_batch) == (1000, 0.1, 0.5, 256)
        assert (cfg.network_lr, cfg.network_batch, cfg.model, cfg.distance) == (0.01, 256, "convnet3", "rows")
        assert (cfg.batchnorm, cfg.per_class) == ("reference", False)
    assert (DCConfig().init, DCConfig().augment) == ("noise", "none")
    assert (DSAConfig().init, DSAConfig().augment) == ("real", "color_crop_cutout_flip_scale_rotate")


def test_passes_count_the_images_of_all_updates() -> None:
    cfg = DCConfig().for_setting("cifar10", 10)
    assert cfg.total == 10_000
    # methods.md 4.2: 25.6M real images and 45M to train networks on (1000 x 9 x 50 x 100), both forward and backward;
    # three times 1000 x 10 x 100 for the second derivative.
    assert cfg.real_passes(classes=10, images=5000) == 25_600_000
    assert cfg.passes(classes=10, images=5000, ipc=10) == (0, 25_600_000 + 45_000_000 + 3_000_000)
    assert cfg.real_passes(classes=10, images=100) == 10_000_000  # all 100 of each class


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, r"^iterations: at least 1 is needed, got 0$"),
        ({"updates": 0}, r"^updates: at least 1 is needed, got 0$"),
        ({"epochs": 0}, r"^epochs: at least 1 is needed, got 0$"),
        ({"real_batch": 0}, r"^real_batch: at least 1 is needed, got 0$"),
        ({"network_batch": 0}, r"^network_batch: at least 1 is needed, got 0$"),
        ({"distance": "kl"}, r"^distance: 'kl' is unknown; choose from rows, cos, mse, l1$"),
        ({"batchnorm": "none"}, r"^batchnorm: 'none' is unknown; choose from reference, exact$"),
        ({"augment": "blur"}, r"^augment: 'blur' is unknown"),
    ],
)
def test_a_configuration_checks_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DC, **change)


def test_an_unknown_start_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^init: 'zeros' is unknown; choose from real, noise$"):
        dc.METHOD(*a_set(), Budget(1), seeded(1), replace(DC, init="zeros"))
