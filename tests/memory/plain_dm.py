"""Distribution matching as a plain loop over classes, from the paper's formulas: the oracle of memory/dm.py.

It shares with the shipped form the networks, the six operations and the order of the draws, and nothing of how the
loss, its gradient and the update are computed.
"""

import torch
from torch import Generator, Tensor

from harness.core import augment, models
from harness.memory.dm import DMConfig


def build(images: Tensor, labels: Tensor, ipc: int, rng: Generator, cfg: DMConfig, together: bool = False) -> Tensor:
    """Synthetic images, (K * ipc, C, H, W), classes ascending.

    Args:
        together: one forward pass for the real images of all classes, one for the synthetic ones (the BatchNorm form).
    """
    classes = sorted(set(labels.tolist()))
    rows = {c: [row for row, label in enumerate(labels.tolist()) if label == c] for c in classes}

    def some_of(c: int, most: int) -> list[int]:
        return [rows[c][place] for place in torch.randperm(len(rows[c]), generator=rng).tolist()[:most]]

    start = {c: some_of(c, ipc) for c in classes}
    synthetic = {c: images[start[c]].clone().requires_grad_() for c in classes}
    velocity = {c: torch.zeros_like(synthetic[c]) for c in classes}
    shape = (images.shape[1], images.shape[2], images.shape[3])
    for _ in range(cfg.iterations):
        network = models.build(cfg.model, shape, 1, rng).to(images.dtype).train()
        batch = {c: some_of(c, cfg.real_batch) for c in classes}
        parameters = augment.draw_shared(cfg.augment, len(classes), rng)
        real: dict[int, Tensor] = {}
        mine: dict[int, Tensor] = {}
        for k, c in enumerate(classes):  # the same operation and numbers for both sides, each class its own
            for side, content in ((real, images[batch[c]]), (mine, synthetic[c])):
                of_class = parameters.of(torch.full((len(content),), k))
                side[c] = augment.apply(cfg.augment, content, of_class)
        if together:
            real, mine = (_embed_together(network, side) for side in (real, mine))
        else:
            real, mine = ({c: network.embed(part) for c, part in side.items()} for side in (real, mine))
        loss = torch.zeros((), dtype=images.dtype)
        for c in classes:
            for target, value in zip(real[c].mean(0).detach().split(1), mine[c].mean(0).split(1), strict=True):
                loss = loss + ((target - value) ** 2).sum()
        gradients = torch.autograd.grad(loss, [synthetic[c] for c in classes])
        with torch.no_grad():
            for c, gradient in zip(classes, gradients, strict=True):
                velocity[c] = cfg.momentum * velocity[c] + gradient
                synthetic[c] -= cfg.lr * velocity[c]
    return torch.cat([synthetic[c].detach() for c in classes])


def _embed_together(network: models.Network, side: dict[int, Tensor]) -> dict[int, Tensor]:
    features = network.embed(torch.cat(list(side.values())))
    return dict(zip(side, features.split([len(part) for part in side.values()]), strict=True))
