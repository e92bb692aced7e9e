"""An update of the images by gradient matching (DC, DSA, DCC, IDC) against the published loop over classes."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from harness import config, memory
from harness.commands.bench.timing import CIFAR, CLASS_IMAGES, SIZES, Result, compare, make_noise, use_torch_pooling
from harness.config import CondenseRun
from harness.core import augment, compute, models
from harness.core.memory import Budget, Builder
from harness.core.parametrisation import MultiFormation
from harness.core.progress import Progress, State
from harness.core.rng import generator
from harness.memory.dcc import DCCConfig
from harness.memory.idc import IDCConfig
from harness.memory.method import MethodConfig
from harness.memory.shared.matching import GradientMatchingConfig
from harness.memory.shared.sampling import draw, rows_by_class


def bench_matching(name: str, preset: str, seconds: float, device: torch.device) -> Result:
    """Time an update of the images by the method `name`; the plain form is eager and computes in float32.

    Both forms draw a network and real batches, augment, match and step. Neither trains the network: the bench `fit`
    times that.
    """
    classes, ipc = SIZES[preset]
    run, _ = config.resolve_form(config.assemble(CondenseRun, preset, {"memory": name, "ipc": ipc}), device)
    assert isinstance(run.method, GradientMatchingConfig | IDCConfig)
    cfg = run.method if isinstance(run.method, IDCConfig) else run.method.with_loops(ipc)
    # One update for each network trains none; as many updates in all decide for the same form.
    cfg = replace(cfg, iterations=cfg.total, updates=1)
    if isinstance(cfg, DCCConfig):
        cfg = replace(cfg, from_iteration=0)  # the contrastive loss from the first iteration on
    class_images = max(cfg.real_batch, CLASS_IMAGES)
    images, labels = make_noise(classes, class_images, device)
    build = memory.find(name)
    network = use_torch_pooling(models.build(cfg.model, CIFAR, classes, generator("bench"))).to(device)
    times = compare(
        lambda: PlainUpdate(images, labels, ipc, cfg, network).run(generator("bench")),
        lambda: update_once(build, images, labels, ipc, cfg),
        seconds,
    )
    forward = models.forward_flop(network, CIFAR)
    decoded = cfg.decoded(ipc, CIFAR)
    second = compute.second_order_form(cfg.compute, device, forward * cfg.count_matched(classes, decoded))
    form = f"real {cfg.compute}, {cfg.real_dtype}; synthetic {second}, float32"
    once = replace(cfg, iterations=1)
    images_per_update = once.real_passes(classes, class_images) + 3 * once.count_matched(classes, decoded)
    return times.as_result(form, device, flop=3 * forward * images_per_update)


class OneUpdateError(Exception):
    """Raised after the first update."""


class OneUpdate(Progress):
    """A progress that stops a builder after its first update."""

    def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
        raise OneUpdateError


def update_once(build: Builder, images: Tensor, labels: Tensor, ipc: int, cfg: MethodConfig) -> None:
    """Run the first update of the images by a builder."""
    with suppress(OneUpdateError):
        build(images, labels, Budget(ipc), generator("bench"), cfg, OneUpdate())


@dataclass(frozen=True)
class PlainUpdate:
    """One update in the form of the reference scripts, class after class."""

    images: Tensor
    labels: Tensor
    ipc: int
    cfg: GradientMatchingConfig | IDCConfig
    network: models.Network

    def run(self, rng: Generator) -> Tensor:
        """Draw images, real batches and weights, update the images once, and return them."""
        rows = list(rows_by_class(self.labels).values())
        start = torch.cat([draw(of_class, self.ipc, rng) for of_class in rows]).to(self.images.device)
        pixels = self.images[start].clone().requires_grad_()
        optimizer = torch.optim.SGD([pixels], lr=self.cfg.lr, momentum=self.cfg.momentum)
        models.draw_weights(self.network, rng)
        batch = [draw(of_class, self.cfg.real_batch, rng) for of_class in rows]
        parameters = augment.draw_shared(self.cfg.augment, len(rows), rng)
        if isinstance(self.cfg, DCCConfig):
            self._step(optimizer, self._contrastive_loss(pixels, batch, parameters))
        elif isinstance(self.cfg, IDCConfig):  # a step of the images after every class
            for c, real_rows in enumerate(batch):
                self._step(optimizer, self._class_loss(c, pixels, real_rows, parameters))
        else:
            losses = [self._class_loss(c, pixels, real_rows, parameters) for c, real_rows in enumerate(batch)]
            self._step(optimizer, torch.stack(losses).sum())
        return pixels.detach()

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def _class_loss(self, c: int, pixels: Tensor, real_rows: Tensor, parameters: augment.Parameters) -> Tensor:
        """Return the distance between the gradients on the real and on the synthetic images of class c."""
        real = self._real_gradients(c, real_rows, parameters)
        synthetic = self._synthetic_images(c, pixels, parameters)
        gradients = self._gradients(synthetic, self._labels(c, len(synthetic)), True)
        return plain_distance(real, gradients, self.cfg.distance)

    def _contrastive_loss(self, pixels: Tensor, batch: list[Tensor], parameters: augment.Parameters) -> Tensor:
        """Return the distance between the mean gradients over all classes."""
        sums: list[Tensor] = []
        synthetic = []
        for c, real_rows in enumerate(batch):
            real = self._real_gradients(c, real_rows, parameters)
            sums = [a + b for a, b in zip(sums, real, strict=True)] if sums else real
            synthetic.append(self._synthetic_images(c, pixels, parameters))
        labels = torch.arange(len(batch), device=pixels.device).repeat_interleave(self.ipc)
        means = [part / len(batch) for part in sums]
        return plain_distance(means, self._gradients(torch.cat(synthetic), labels, True), self.cfg.distance)

    def _real_gradients(self, c: int, rows: Tensor, parameters: augment.Parameters) -> list[Tensor]:
        images = self.images[rows.to(self.images.device)]
        augmented = augment.apply(self.cfg.augment, images, parameters.of(torch.full((len(rows),), c)))
        return self._gradients(augmented, self._labels(c, len(rows)), False)

    def _synthetic_images(self, c: int, pixels: Tensor, parameters: augment.Parameters) -> Tensor:
        """Return the decoded and augmented synthetic images of class c."""
        images = pixels[c * self.ipc : (c + 1) * self.ipc]
        if isinstance(self.cfg, IDCConfig):
            images = MultiFormation(self.cfg.factor).decode({"images": images})[: self.cfg.synthetic_batch]
        return augment.apply(self.cfg.augment, images, parameters.of(torch.full((len(images),), c)))

    def _gradients(self, images: Tensor, labels: Tensor, create_graph: bool) -> list[Tensor]:
        """Return the gradients of the loss with respect to the weights; for IDC, those of convolutions alone."""
        weights = list(self.network.parameters())
        if isinstance(self.cfg, IDCConfig):
            weights = [weight for weight in weights if weight.ndim == 4]
        loss = F.cross_entropy(self.network(images), labels)
        return list(torch.autograd.grad(loss, weights, create_graph=create_graph))

    def _labels(self, c: int, count: int) -> Tensor:
        return torch.full((count,), c, device=self.images.device)


def plain_distance(real: list[Tensor], synthetic: list[Tensor], distance: str) -> Tensor:
    """Return the squared distance between two lists of gradients for "mse", else the sum over rows of 1 - cosine."""
    total = torch.zeros((), device=real[0].device)
    for a, b in zip(real, synthetic, strict=True):
        if distance == "mse":
            total = total + (a - b).square().sum()
        elif a.ndim > 1:
            a, b = a.flatten(1), b.flatten(1)
            total = total + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
    return total
