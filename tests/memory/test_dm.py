from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from harness.core import augment, compute, models
from harness.core.compute import tuning
from harness.core.memory import Budget
from harness.memory import dm, random_real
from harness.memory.dm import DMConfig, MeanMatching, mean_gap
from harness.memory.shared.sampling import rows_by_class
from tests.memory import plain_dm
from tests.memory.toys import Killed, KilledError, not_finite, noted_precisions

SHAPE = (3, 8, 8)
CFG = DMConfig(iterations=4, lr=0.5, real_batch=8, model="convnet2-w4")
# Dynamo asks a tensor for its .grad; where warnings are not errors it hides what torch says about that.
compiles = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
SIZES = {7: 20, 2: 5, 5: 9}  # images of each class; class 2 has fewer than real_batch


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def a_set(sizes: dict[int, int] = SIZES, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Classes in a mixed order, each about a pattern of its own."""
    rng = seeded(0)
    labels = torch.tensor([c for c, size in sizes.items() for _ in range(size)])
    labels = labels[torch.randperm(len(labels), generator=rng)]
    patterns = torch.randn(10, *SHAPE, generator=rng)
    return (patterns[labels] + 0.5 * torch.randn(len(labels), *SHAPE, generator=rng)).to(dtype), labels


def cut(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `chunk` images through a network at a time, forward alone as well as both ways."""
    monkeypatch.setattr(tuning, "CPU_CHUNK", chunk)
    monkeypatch.setattr(compute, "gradient_chunk", lambda _: chunk)


# --- the formula -----------------------------------------------------------------------------------------------------


def test_mean_gap_by_hand() -> None:
    real, synthetic = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert mean_gap(real, synthetic).item() == 29  # 0 + 4, and 9 + 16: summed over features and classes


@pytest.mark.parametrize(
    ("ipc", "chunk", "change"),
    [
        (3, 64, {}),  # everything in one chunk, filled up
        (3, 6, {}),  # two classes, then one: the last chunk filled up
        (3, 1, {}),  # fewer images than one class has
        (5, 4, {}),  # ipc larger than the chunk, and all images of class 2
        (3, 64, {"augment": "none"}),
        (1, 64, {"augment": "crop_rotate", "momentum": 0.0}),
        (2, 7, {"model": "convnet1-w4-gn-leakyrelu-max", "real_batch": 3}),
        (2, 7, {"model": "convnet2-w4-ln-sigmoid", "lr": 50.0}),
    ],
)
def test_the_plain_loop_is_followed(
    ipc: int, chunk: int, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(chunk, monkeypatch)
    images, labels = a_set(dtype=torch.float64)
    cfg, rngs = replace(CFG, **change), (seeded(1), seeded(1))  # type: ignore[arg-type]
    memory = dm.build(images, labels, Budget(ipc), rngs[0], cfg)
    expected = plain_dm.build(images, labels, ipc, rngs[1], cfg)
    torch.testing.assert_close(memory.images, expected, rtol=1e-8, atol=1e-8)
    start = random_real.build(images, labels, Budget(ipc), seeded(1))
    assert (memory.images - start.images).abs().max() > 1e-3  # it did move
    assert memory.labels.tolist() == [2] * ipc + [5] * ipc + [7] * ipc
    assert torch.equal(rngs[0].get_state(), rngs[1].get_state())


def test_batch_norm_sees_all_classes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    cut(4, monkeypatch)  # two classes: not for BatchNorm
    images, labels = a_set(dtype=torch.float64)
    cfg = replace(CFG, model="convnet2-w4-bn")
    memory = dm.build(images, labels, Budget(2), seeded(1), cfg)
    together = plain_dm.build(images, labels, 2, seeded(1), cfg, together=True)
    torch.testing.assert_close(memory.images, together, rtol=1e-8, atol=1e-8)
    alone = plain_dm.build(images, labels, 2, seeded(1), cfg)
    assert (together - alone).abs().max() > 1e-3


def test_only_batch_norm_ties_classes_together() -> None:
    assert DMConfig().per_class
    assert all(DMConfig(model=f"convnet3-{norm}").per_class for norm in ("in", "ln", "gn", "nn"))
    assert not DMConfig(model="convnet3-bn").per_class


@compiles
def test_the_compiled_form_follows_the_eager_one() -> None:
    images, labels = a_set()
    eager = dm.build(images, labels, Budget(2), seeded(1), CFG)
    compiled = dm.build(images, labels, Budget(2), seeded(1), replace(CFG, compute="compiled"))
    torch.testing.assert_close(compiled.images, eager.images, rtol=1e-4, atol=1e-4)
    start = random_real.build(images, labels, Budget(2), seeded(1))
    half = dm.build(images, labels, Budget(2), seeded(1), replace(CFG, compute="compiled", real_dtype="bfloat16"))
    change, exact = half.images - start.images, eager.images - start.images
    assert F.cosine_similarity(change.flatten(), exact.flatten(), 0) > 0.99
    assert not torch.equal(half.images, compiled.images)


@compiles
def test_the_compiled_gradient_is_the_eager_one() -> None:
    images, labels = a_set()
    gradients = []
    for cfg in (CFG, replace(CFG, compute="compiled")):
        match, rows = MeanMatching(images, 3, 2, cfg), list(rows_by_class(labels).values())
        models.draw_weights(match.network, seeded(3))
        pixels = images[:6].clone().requires_grad_()
        match.backward(pixels, rows, augment.draw_shared(cfg.augment, 3, seeded(4)))
        assert pixels.grad is not None
        gradients.append(pixels.grad)
    assert ((gradients[1] - gradients[0]).norm() / gradients[0].norm()).item() < 1e-5


# --- properties ------------------------------------------------------------------------------------------------------


def matching(images: Tensor, ipc: int, cfg: DMConfig = CFG, classes: int = 3) -> MeanMatching:
    match = MeanMatching(images, classes, ipc, cfg)
    models.draw_weights(match.network, seeded(3))
    return match


@pytest.mark.parametrize("chunk", [3, 64])
def test_backward_returns_the_loss_and_adds_its_gradient(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(chunk, monkeypatch)
    images, labels = a_set(dtype=torch.float64)
    rows = list(rows_by_class(labels).values())
    parameters = augment.draw_shared("none", 3, seeded(0))
    match = matching(images, 2, replace(CFG, augment="none"))
    pixels = images[:6].clone().requires_grad_()
    loss = match.backward(pixels, rows, parameters)
    real = torch.stack([match.network.embed(images[of_class]).mean(0) for of_class in rows])
    synthetic = match.network.embed(pixels).view(3, 2, -1).mean(1)
    expected = mean_gap(real.detach(), synthetic)
    torch.testing.assert_close(loss, expected.detach())
    assert pixels.grad is not None
    once = pixels.grad.clone()
    torch.testing.assert_close(once, torch.autograd.grad(expected, pixels)[0])
    match.backward(pixels, rows, parameters)
    torch.testing.assert_close(pixels.grad, 2 * once)


def test_the_gradient_reaches_the_synthetic_pixels_alone() -> None:
    images, labels = a_set()
    match = matching(images.requires_grad_(), 2)
    pixels = images[:6].detach().clone().requires_grad_()
    match.backward(pixels, list(rows_by_class(labels).values()), augment.draw_shared(augment.DSA, 3, seeded(0)))
    assert pixels.grad is not None
    assert (pixels.grad.flatten(1).norm(dim=1) > 0).all()  # all of them
    assert images.grad is None
    assert all(weight.grad is None for weight in match.network.parameters())


def test_the_order_of_a_classs_images_does_not_matter() -> None:
    images, labels = a_set(dtype=torch.float64)
    rows = list(rows_by_class(labels).values())
    parameters, losses = augment.draw_shared(augment.DSA, 3, seeded(0)), []
    for shuffled in (rows, [of_class.flip(0) for of_class in rows]):
        losses.append(matching(images, 2).backward(images[:6].clone().requires_grad_(), shuffled, parameters))
    torch.testing.assert_close(losses[0], losses[1])
    other = matching(images, 2).backward(images[:6].clone().requires_grad_(), [*rows[1:], rows[0]], parameters)
    assert not torch.isclose(losses[0], other)


def test_a_memory_of_all_images_has_no_gap() -> None:
    images, labels = a_set({0: 6, 1: 6}, torch.float64)
    rows = list(rows_by_class(labels).values())
    pixels = images[torch.cat(rows)].clone().requires_grad_()
    loss = matching(images, 6, classes=2).backward(pixels, rows, augment.draw_shared(augment.DSA, 2, seeded(0)))
    assert loss.item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("model", ["convnet2-w8", "convnet2-w8-bn"])
def test_the_loss_falls(model: str) -> None:
    images, labels = a_set({0: 30, 1: 30, 2: 30, 3: 30})
    rows = list(rows_by_class(labels).values())
    cfg = DMConfig(iterations=40, real_batch=30, model=model)

    def loss(synthetic: Tensor) -> float:
        """Of networks and augmentations that the condensing did not meet."""
        total = 0.0
        for seed in range(5):
            match = MeanMatching(images, 4, 2, cfg)
            models.draw_weights(match.network, seeded(100 + seed))
            parameters = augment.draw_shared(cfg.augment, 4, seeded(200 + seed))
            total += match.backward(synthetic.clone().requires_grad_(), rows, parameters).item()
        return total

    start = loss(random_real.build(images, labels, Budget(2), seeded(1)).images)
    assert loss(dm.build(images, labels, Budget(2), seeded(1), cfg).images) < 0.5 * start


def test_uniform_predictions_make_gradients_mean_features() -> None:
    # methods.md 4.3: for a batch of one class, times 1/C in the rows of the others and 1/C - 1 in its own.
    network = models.build("convnet2-w4", SHAPE, 5, seeded(0)).double()
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.zero_()
    images = torch.randn(6, *SHAPE, generator=seeded(1), dtype=torch.float64)
    loss = F.cross_entropy(network(images), torch.full((6,), 3))
    (gradient,) = torch.autograd.grad(loss, [network.classifier.weight])
    feature = network.embed(images).mean(0).detach()
    for row in range(5):
        torch.testing.assert_close(gradient[row], (1 / 5 - (row == 3)) * feature)


def test_each_side_is_multiplied_in_its_own_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    stack, forward, backward = noted_precisions(monkeypatch), [], []
    images, labels = a_set()
    cfg = replace(CFG, real_dtype="bfloat16", synthetic_dtype="tf32")
    match = MeanMatching(images, 3, 2, cfg)
    hook = match.network.features[0].register_forward_hook(
        lambda *_: forward.append(stack[-1])
    )  # the network is shared
    pixels = torch.randn(6, *SHAPE, generator=seeded(1)).requires_grad_()
    pixels.register_hook(lambda _: backward.append(stack[-1]))
    match.backward(pixels, list(rows_by_class(labels).values()), augment.draw_shared(cfg.augment, 3, seeded(2)))
    hook.remove()
    assert set(forward) == {"bfloat16", "tf32"}
    assert set(backward) == {"tf32"}


# --- interrupted, not finite, configured -----------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_an_interrupted_build_goes_on_bit_for_bit(rounds: int) -> None:
    images, labels = a_set()
    rngs = seeded(1), seeded(1)
    whole = dm.build(images, labels, Budget(2), rngs[0], CFG)
    killed = Killed(rounds)
    with pytest.raises(KilledError):
        dm.build(images, labels, Budget(2), seeded(1), CFG, killed)
    resumed = Killed(0, killed.kept)
    memory = dm.build(images, labels, Budget(2), rngs[1], CFG, resumed)
    assert torch.equal(memory.images, whole.images)
    assert torch.equal(memory.labels, whole.labels)
    assert resumed.done == [(done, 4) for done in range(rounds + 1, 5)]
    assert torch.equal(rngs[0].get_state(), rngs[1].get_state())


def test_images_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(FloatingPointError, match=r"^dm: the images are not finite after update 0; use a smaller lr$"):
        dm.build(*not_finite(), Budget(2), seeded(1), CFG)


def test_images_that_end_not_finite_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(self: MeanMatching, pixels: Tensor, rows: object, parameters: object) -> Tensor:
        pixels.grad = torch.full_like(pixels, float("nan") if next(calls) == 2 else 0.0)
        return torch.zeros(())

    calls = iter(range(4))
    monkeypatch.setattr(MeanMatching, "backward", spoil)
    with pytest.raises(FloatingPointError, match="not finite after update 3"):
        dm.build(*a_set(), Budget(2), seeded(1), CFG)


def test_the_defaults_are_the_papers() -> None:
    cfg = DMConfig()
    assert (cfg.iterations, cfg.lr, cfg.momentum, cfg.real_batch) == (20_000, 1.0, 0.5, 256)
    assert (cfg.model, cfg.augment) == ("convnet3", "color_crop_cutout_flip_scale_rotate")


def test_passes_count_the_images_of_all_iterations() -> None:
    cfg = DMConfig(iterations=1000)
    assert cfg.passes(classes=10, images=500, ipc=20) == (2_560_000, 200_000)  # 1000 x 10 x 256, 1000 x 10 x 20
    assert cfg.passes(classes=10, images=100, ipc=20) == (1_000_000, 200_000)  # all 100 of each class


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, r"^iterations: at least 1 is needed, got 0$"),
        ({"real_batch": 0}, r"^real_batch: at least 1 is needed, got 0$"),
        ({"augment": "blur"}, r"^augment: 'blur' is unknown"),
    ],
)
def test_a_configuration_checks_itself(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CFG, **change)  # type: ignore[arg-type]
