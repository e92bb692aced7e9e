"""A reconstruction: the tests hold it to its own formula, not to published numbers."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness import memory
from harness.core import augment, models
from harness.core.memory import Budget
from harness.memory import dm, dsa
from harness.memory.around.mutual_information import MIMConfig, Term, contrast
from harness.memory.dm import DMConfig, MeanMatching
from harness.memory.dsa import DSAConfig
from harness.memory.shared.sampling import rows_by_class
from harness.memory.shared.synthetic import real_batches
from tests.memory.toys import FOUR, SHAPE, a_set, seeded

MIM_DM, MIM_DSA = (memory.find(name) for name in ("mim-dm", "mim-dsa"))
DM = DMConfig(iterations=3, lr=0.5, real_batch=8, model="convnet2-w4")
DSA = DSAConfig(iterations=2, updates=2, epochs=1, lr=0.5, real_batch=8, network_batch=4, model="convnet2-w4")


# --- the formula -----------------------------------------------------------------------------------------------------


def test_contrast_by_hand() -> None:
    # Temperature 1 / log 3, so exp(<a, b> / t) is 3 for equal and 1 for orthogonal vectors. Each synthetic image has 1
    # negative among M = 2 real images: c = 1/2. Positive pairs: h = 3 / 3.5. Negative pairs: 1 - h = 0.5 / 1.5.
    # -log(6/7) - 1 * log(1/3) = log(7/2).
    ends, classes = torch.eye(2, dtype=torch.float64), torch.tensor([0, 1])
    assert contrast(ends, classes, ends, classes, 1 / math.log(3)).item() == pytest.approx(math.log(3.5), abs=1e-12)
    # The other way round: positive pairs have h = 1 / 1.5, negative ones 1 - h = 0.5 / 3.5. log(1.5) + log(7).
    swapped = contrast(ends, classes, ends.flip(0), classes, 1 / math.log(3))
    assert swapped.item() == pytest.approx(math.log(1.5) + math.log(7), abs=1e-12)


def test_contrast_of_uneven_numbers_by_hand() -> None:
    # All vectors are equal: e = 3. Real: 1 of class 0, 2 of class 1. Synthetic: 1 of each. Negatives per synthetic
    # image: (2 + 1) / 2; c = 1.5 / 3. h = 3 / 3.5 for all pairs.
    real, synthetic = torch.tensor([[1.0, 0.0]] * 3).double(), torch.tensor([[1.0, 0.0]] * 2).double()
    loss = contrast(real, torch.tensor([0, 1, 1]), synthetic, torch.tensor([0, 1]), 1 / math.log(3))
    assert loss.item() == pytest.approx(-math.log(6 / 7) - 1.5 * math.log(1 / 7), abs=1e-12)


def test_contrast_is_the_formula_for_any_pairs() -> None:
    # methods.md 4.6, pair by pair; its negatives of a positive pair are those of the pair's synthetic image.
    real = F.normalize(torch.randn(7, 5, generator=seeded(0)).double(), dim=1)
    synthetic = F.normalize(torch.randn(4, 5, generator=seeded(1)).double(), dim=1)
    real_classes, classes, t = torch.tensor([0, 0, 1, 1, 1, 2, 2]), torch.tensor([0, 0, 1, 1]), 0.3
    pairs = [(i, j, classes[i] == real_classes[j]) for i in range(4) for j in range(7)]
    n = sum(not same for *_, same in pairs) / 4
    h = {(i, j): math.exp(synthetic[i] @ real[j] / t) for i, j, _ in pairs}
    h = {pair: e / (e + n / 7) for pair, e in h.items()}
    positive = [math.log(h[i, j]) for i, j, same in pairs if same]
    negative = [math.log(1 - h[i, j]) for i, j, same in pairs if not same]
    expected = -sum(positive) / len(positive) - n * sum(negative) / len(negative)
    assert contrast(real, real_classes, synthetic, classes, t).item() == pytest.approx(expected, abs=1e-10)


def test_a_single_class_has_no_negatives() -> None:
    ends, one = torch.eye(2, dtype=torch.float64), torch.tensor([0, 0])
    loss = contrast(ends[:1], one[:1], ends[:1], one[:1], 1 / math.log(3))
    assert loss.item() == pytest.approx(-math.log(3 / 4), abs=1e-12)
    worse = contrast(ends[:1], one[:1], ends[1:], one[:1], 1 / math.log(3))
    assert worse > loss  # less alike


def test_very_cold_contrast_is_finite() -> None:
    vectors, classes = torch.eye(2), torch.tensor([0, 1])
    assert contrast(vectors, classes, vectors.flip(0), classes, 1e-4).isfinite()


def term_loss(term: Term, network: models.Network, real: list[Tensor], images: Tensor) -> Tensor:
    """The sum over layers, from the network's layers one by one."""
    classes = torch.arange(len(real)).repeat_interleave(len(images) // len(real))
    some = [of_class[: term.real_batch] for of_class in real]
    real_classes = torch.cat([torch.full((len(part),), k) for k, part in enumerate(some)])
    theirs, mine, total = torch.cat(some), images, torch.zeros(())
    activations = [i for i, layer in enumerate(network.features) if isinstance(layer, torch.nn.ReLU)]
    for number, layer in enumerate(network.features):
        theirs, mine = layer(theirs), layer(mine)
        if number in activations:
            a, b = (F.normalize(side.mean((2, 3)), dim=1) for side in (theirs.detach(), mine))
            weight = term.weight * term.decay ** -(len(activations) - 1 - activations.index(number))
            total = total + weight * contrast(a, real_classes, b, classes, term.temperature)
    return total


@pytest.mark.parametrize("term", [Term(), Term(weight=1.0, decay=1.0, temperature=0.5, real_batch=3)])
def test_backward_weighs_layers_and_adds_the_gradient(term: Term) -> None:
    images, labels = a_set(dtype=torch.float64)
    real = [images[rows] for rows in rows_by_class(labels).values()]
    network = models.build("convnet3-w4", SHAPE, 3, seeded(0)).double()
    pixels = images[:6].clone().requires_grad_()
    loss = term.add_gradient(network, lambda count: [batch[:count] for batch in real], pixels)
    expected = term_loss(term, network, real, pixels)
    torch.testing.assert_close(loss, expected.detach())
    assert pixels.grad is not None
    once = pixels.grad.clone()
    torch.testing.assert_close(once, torch.autograd.grad(expected, pixels)[0])
    term.add_gradient(network, lambda count: [batch[:count] for batch in real], pixels)
    torch.testing.assert_close(pixels.grad, 2 * once)


def test_the_gradient_reaches_the_synthetic_pixels_alone() -> None:
    images, labels = a_set()
    images.requires_grad_()
    network = models.build("convnet2-w4", SHAPE, 3, seeded(0))
    pixels = images[:6].detach().clone().requires_grad_()
    real = [images[rows] for rows in rows_by_class(labels).values()]
    Term().add_gradient(network, lambda count: [batch[:count] for batch in real], pixels)
    assert pixels.grad is not None
    assert (pixels.grad.flatten(1).norm(dim=1) > 0).all()
    assert images.grad is None
    assert all(weight.grad is None for weight in network.parameters())


# --- around a host ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("builder", "host", "build"), [(MIM_DM, DM, dm.build), (MIM_DSA, DSA, dsa.METHOD)])
def test_without_weight_it_is_the_host(builder: Any, host: Any, build: Any) -> None:
    none = MIMConfig(host, Term(weight=0.0))
    own = build(*a_set(), Budget(2), seeded(1), host).images
    torch.testing.assert_close(builder(*a_set(), Budget(2), seeded(1), none).images, own)
    weighed = builder(*a_set(), Budget(2), seeded(1), MIMConfig(host, Term(weight=5.0))).images
    assert (weighed - own).abs().max() > 1e-3


@pytest.mark.parametrize("strategy", ["none", augment.DSA])
def test_one_update_by_hand(strategy: str) -> None:
    """DM's gap plus the term, of the same network, batches and augmentation."""
    images, labels = a_set(dtype=torch.float64)
    host = replace(DM, iterations=1, momentum=0.0, augment=strategy)
    built = MIM_DM(images, labels, Budget(2), seeded(1), MIMConfig(host, Term(weight=2.0, real_batch=4)))
    rng, rows = seeded(1), list(rows_by_class(labels).values())
    start = torch.cat([images[of[torch.randperm(len(of), generator=rng)[:2]]] for of in rows]).requires_grad_()
    network = models.build(DM.model, SHAPE, 1, rng).double()
    drawn = [of[torch.randperm(len(of), generator=rng)[:8]] for of in rows]
    parameters = augment.draw_shared(strategy, 3, rng)
    real = real_batches(strategy, images, drawn, parameters)
    seen = augment.apply(strategy, start, parameters.of(torch.tensor([0, 0, 1, 1, 2, 2])))
    loss = term_loss(Term(weight=2.0, real_batch=4), network, real, seen)
    for k in range(3):
        gap = network.embed(real[k]).mean(0).detach() - network.embed(seen[2 * k : 2 * k + 2]).mean(0)
        loss = loss + gap.square().sum()
    (gradient,) = torch.autograd.grad(loss, start)
    torch.testing.assert_close(built.images, (start - 0.5 * gradient).detach())


def test_descent_on_the_term_brings_images_of_a_class_together() -> None:
    images, labels = a_set(FOUR)
    real = [images[rows] for rows in rows_by_class(labels).values()]
    network, term = models.build("convnet2-w8", SHAPE, 4, seeded(0)), Term(weight=0.1)
    pixels, losses = torch.randn(8, *SHAPE, generator=seeded(1)), []
    for _ in range(60):
        pixels = pixels.detach().requires_grad_()
        losses.append(term.add_gradient(network, lambda count: [batch[:count] for batch in real], pixels).item())
        assert pixels.grad is not None
        pixels = pixels - pixels.grad
    assert min(losses) == pytest.approx(losses[-1], rel=1e-3)
    assert losses[-1] < losses[0] - 1


def test_the_hosts_loss_falls_beside_the_term() -> None:
    images, labels = a_set(FOUR)
    host = DMConfig(iterations=40, lr=0.5, real_batch=30, model="convnet2-w8")
    rows = list(rows_by_class(labels).values())

    def loss(synthetic: Tensor) -> float:
        """Of networks and augmentations that the condensing did not meet."""
        total = 0.0
        for seed in range(5):
            match = MeanMatching(images, 4, 2, host)
            models.draw_weights(match.network, seeded(100 + seed))
            parameters = augment.draw_shared(host.augment, 4, seeded(200 + seed))
            total += match.backward(synthetic.clone().requires_grad_(), rows, parameters).item()
        return total

    start = dm.build(images, labels, Budget(2), seeded(1), replace(host, iterations=1, lr=1e-9))
    built = MIM_DM(images, labels, Budget(2), seeded(1), MIMConfig(host))
    assert loss(built.images) < 0.7 * loss(start.images)


def test_it_fits_around_what_matches_in_networks() -> None:
    assert isinstance(memory.find("mim-dsac").config, MIMConfig)
    for host in ("herding", "mmd-pixel", "idc", "lo-dm"):
        with pytest.raises(ValueError, match=rf"^mim: {host} accepts no additional loss"):
            memory.find(f"mim-{host}")


# --- configured ------------------------------------------------------------------------------------------------------


def test_it_says_that_it_is_a_reconstruction() -> None:
    assert MIM_DM.summary.startswith("RECONSTRUCTION")


def test_the_configuration_is_the_hosts_and_the_terms() -> None:
    cfg = MIMConfig(DMConfig(iterations=10))
    assert (cfg.term.weight, cfg.term.decay, cfg.term.temperature, cfg.term.real_batch) == (0.5, 2.0, 0.1, 32)
    assert (cfg.model, cfg.per_class) == ("convnet3", False)  # negatives are of other classes
    assert MIMConfig(DMConfig()).for_setting("cifar10", 100).host == DMConfig(lr=10.0)
    # The host's, and once more the synthetic images and 32 real ones of each class.
    assert cfg.passes(classes=10, images=500, ipc=20) == (10 * 10 * (256 + 32), 10 * 10 * 20 * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature: a finite number above 0 is needed, got 0.0"),
        ({"decay": math.nan}, "decay: a finite number is needed, got nan"),
        ({"weight": -0.5}, "weight: at least 0 is needed, got -0.5"),
        ({"weight": math.inf}, "weight: a finite number is needed, got inf"),
        ({"real_batch": 0}, "real_batch: at least 1 is needed, got 0"),
    ],
)
def test_a_term_checks_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}$"):
        replace(Term(), **change)
