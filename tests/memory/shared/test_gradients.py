from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.core import models
from harness.memory.shared.distances import DISTANCES, rows_distance
from harness.memory.shared.gradients import GradientMatching, matching_statistics
from tests.memory.shared.matched import batches_of, cut, matching
from tests.memory.toys import SHAPE, a_set, noted_precisions, seeded


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_real_gradients_do_not_depend_on_the_chunk(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_only_summed_gradients_let_classes_pull_each_other(together: bool) -> None:
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
def test_little_memory_means_fewer_images_in_a_graph(
    together: bool, distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve of three classes on devices that hold 12, 6, 3 (not a class), 2 and 1: halved once, and for good."""
    images, labels = a_set(dtype=torch.float64)
    match, found = matching(images, 3, distance=distance), []
    real = match.real_gradients(batches_of(images, labels))
    tried: list[int] = []
    fits = [12]
    plain = GradientMatching._trace

    def limited(self: GradientMatching, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(images: Tensor, labels: Tensor, *others: Any) -> Any:
            if name != "gradient":  # a second derivative
                tried.append(labels.numel())
                if labels.numel() > fits[0]:
                    raise torch.OutOfMemoryError
            return plain(self, name, function)(images, labels, *others)

        return call

    monkeypatch.setattr(GradientMatching, "_trace", limited)
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


def test_little_memory_means_fewer_real_images_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_uniform_predictions_give_mean_features(seed: int, model: str) -> None:
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
