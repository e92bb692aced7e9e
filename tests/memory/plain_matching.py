"""Gradient matching as plain loops over classes, rows and weights, from the papers' formulas: DC, DSA, DCC and DSAC.

The oracle of memory/gradient_matching.py, dc.py, dsa.py and dcc.py. It shares with the shipped form the networks, the
operations of augmentation and the order of the draws, and nothing of how gradients, distances and updates are computed.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from harness.core import augment, models
from harness.memory.shared.matching import GradientMatchingConfig

Gradients = list[Tensor]  # one for each weight of a network


def build(
    images: Tensor,
    labels: Tensor,
    ipc: int,
    rng: Generator,
    cfg: GradientMatchingConfig,
    contrastive: Callable[[int, int], bool] = lambda iteration, update: False,
    rank: int | None = None,
) -> Tensor:
    """Synthetic images, (K * n, C, H, W), classes ascending: n is ipc, or what fits ipc images' numbers at this rank.

    Args:
        contrastive: (iteration, update) -> whether gradients are averaged over classes before they are compared.
    """
    assert cfg.updates is not None
    assert cfg.epochs is not None
    classes = sorted(set(labels.tolist()))
    rows = {c: [row for row, label in enumerate(labels.tolist()) if label == c] for c in classes}
    channels, height, width = images.shape[1:]
    each = ipc if rank is None else ipc * height * width // (rank * (height + width))

    def some_of(c: int, most: int) -> list[int]:
        return [rows[c][place] for place in torch.randperm(len(rows[c]), generator=rng).tolist()[:most]]

    start = {c: some_of(c, each) for c in classes}
    real_start = [images[(start[c] * each)[:each]] for c in classes]  # again from the first where there are too few
    stored = _factors(real_start, rank, cfg.init, rng)  # of each class: its pixels, or its two factors
    velocity = [[torch.zeros_like(part) for part in parts] for parts in stored]
    for iteration in range(cfg.iterations):
        network = models.build(cfg.model, (channels, height, width), len(classes), rng).to(images.dtype).train()
        for update in range(cfg.updates):
            batches = [images[some_of(c, cfg.real_batch)] for c in classes]
            parameters = augment.draw_shared(cfg.augment, len(classes), rng)
            real: list[Tensor] = []
            mine: list[Tensor] = []
            for k, batch in enumerate(batches):  # one operation and its numbers for both sides, each class its own
                for side, content in ((real, batch), (mine, _decoded(stored[k]))):
                    of_class = parameters.of(torch.full((len(content),), k))
                    side.append(augment.apply(cfg.augment, content, of_class))
            _fix_statistics(network, real, cfg.batchnorm)
            targets = [_gradients(network, side, [k]) for k, side in enumerate(real)]
            if contrastive(iteration, update):
                mean = [torch.stack(parts).mean(0) for parts in zip(*targets, strict=True)]
                own = _gradients(network, torch.cat(mine), list(range(len(classes))), graph=True)
                loss = _distance(cfg.distance, mean, own)
            else:
                loss = torch.zeros((), dtype=images.dtype)
                for k, target in enumerate(targets):
                    own = _gradients(network, mine[k], [k], graph=True)
                    loss = loss + _distance(cfg.distance, target, own)
            _descend(loss, stored, velocity, cfg.lr, cfg.momentum)
            network.train()
            if update < cfg.updates - 1:
                _train(network, torch.cat([_decoded(parts).detach() for parts in stored]), len(classes), cfg, rng)
    return torch.cat([_decoded(parts).detach() for parts in stored])


# --- images ---------------------------------------------------------------------------------------------------------


def _factors(real: list[Tensor], rank: int | None, start: str, rng: Generator) -> list[list[Tensor]]:
    together = torch.cat(real)
    count, channels, height, width = together.shape
    sizes = [len(part) for part in real]

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng).to(together.dtype)

    if rank is None:
        parts = [noise(count, channels, height, width) if start == "noise" else together]
    elif start == "noise":
        parts = [noise(count, channels, height, rank), noise(count, channels, rank, width)]
    else:
        left, right = torch.empty(count, channels, height, rank), torch.empty(count, channels, rank, width)
        parts = [left.to(together.dtype), right.to(together.dtype)]
        for n in range(count):
            for channel in range(channels):  # A = U sqrt(S), B = sqrt(S) V^T
                u, s, v = torch.linalg.svd(together[n, channel])
                for r in range(rank):
                    parts[0][n, channel, :, r] = u[:, r] * s[r] ** 0.5
                    parts[1][n, channel, r, :] = v[r, :] * s[r] ** 0.5
    split = [part.split(sizes) for part in parts]
    return [[part.clone().requires_grad_() for part in of_class] for of_class in zip(*split, strict=True)]


def _decoded(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.einsum("nchr,ncrw->nchw", *parts)


def _descend(loss: Tensor, stored: list[list[Tensor]], velocity: list[list[Tensor]], lr: float, m: float) -> None:
    gradients = iter(torch.autograd.grad(loss, [part for parts in stored for part in parts]))
    with torch.no_grad():
        for k, parts in enumerate(stored):
            for i, part in enumerate(parts):
                velocity[k][i] = m * velocity[k][i] + next(gradients)
                part -= lr * velocity[k][i]


# --- gradients and their distance -----------------------------------------------------------------------------------


def _gradients(network: models.Network, images: Tensor, classes: list[int], graph: bool = False) -> Gradients:
    """The gradient of the mean cross-entropy on images of `classes`, equally many of each, by every weight."""
    labels = torch.tensor([k for k in classes for _ in range(len(images) // len(classes))])
    probability = network(images).softmax(1)[torch.arange(len(images)), labels]
    return list(torch.autograd.grad(-probability.log().mean(), list(network.parameters()), create_graph=graph))


def _distance(name: str, real: Gradients, synthetic: Gradients) -> Tensor:
    if name == "rows":
        terms = [
            1 - (a * b).sum() / (a.norm() * b.norm() + 1e-6)
            for theirs, mine in zip(real, synthetic, strict=True)
            if theirs.ndim >= 2
            for a, b in zip(theirs, mine, strict=True)  # one output row
        ]
        return torch.stack(terms).sum()
    a, b = (torch.cat([part.flatten() for part in side]) for side in (real, synthetic))
    if name == "cos":
        cosine: Tensor = a @ b / (a.norm() * b.norm() + 1e-6)
        return 1 - cosine
    return ((a - b) ** 2).sum() if name == "mse" else (a - b).abs().sum()


def _fix_statistics(network: models.Network, real: list[Tensor], mode: str) -> None:
    """BatchNorm goes by the statistics of 16 real images of each class: wholly (exact), or a tenth of the way."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        some = torch.cat([part[:16] for part in real])
        for layer in network.features:
            if isinstance(layer, nn.BatchNorm2d):
                mean = some.mean((0, 2, 3))
                var = some.var((0, 2, 3), unbiased=True)
                assert layer.running_mean is not None
                assert layer.running_var is not None
                share = 1.0 if mode == "exact" else 0.1
                layer.running_mean.copy_((1 - share) * layer.running_mean + share * mean)
                layer.running_var.copy_((1 - share) * layer.running_var + share * var)
                some = F.batch_norm(some, None, None, layer.weight, layer.bias, training=True)
            else:
                some = layer(some)
    for norm in norms:
        norm.eval()


# --- the network between two updates --------------------------------------------------------------------------------


def _train(network: models.Network, images: Tensor, classes: int, cfg: GradientMatchingConfig, rng: Generator) -> None:
    """Epochs of plain gradient descent on the synthetic images, augmented image by image."""
    assert cfg.epochs is not None
    labels = torch.arange(classes).repeat_interleave(len(images) // classes)
    for _ in range(cfg.epochs):
        order = torch.randperm(len(images), generator=rng)
        for first in range(0, len(images), cfg.network_batch):
            some = order[first : first + cfg.network_batch]
            seen = augment.apply(cfg.augment, images[some], augment.draw_batch(cfg.augment, len(some), rng))
            weights = list(network.parameters())
            gradients = torch.autograd.grad(F.cross_entropy(network(seen), labels[some]), weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.sub_(cfg.network_lr * gradient)
