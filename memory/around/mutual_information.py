"""A mutual-information term for any host: MIM4DD (Shang et al., NeurIPS 2023), a RECONSTRUCTION from its abstract.

The abstract says: a lower bound of the mutual information between real and synthetic sets, by a noise-contrastive loss
on feature maps; pairs of one label are positive, of two negative; every layer counts. No code was found. Everything
else here is our choice: maps averaged over places and normalised, no trained projector (there is nothing to train it
against when networks are drawn anew), the critic of contrastive distillation, and the defaults. Where instance norm
fixes every channel's mean and variance, as in the papers' ConvNet, what is left of an average over places hardly
depends on the image: the term then has little to say.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from harness.core.checks import check_above, check_counts
from harness.core.memory import Budget, Builder, Memory
from harness.core.models import Network
from harness.core.progress import SILENT, Progress
from harness.memory.around.plugging import config_of_host, of_host


@dataclass(frozen=True)
class Term:
    """The loss sum over layers k = 1 .. L of decay^-(L - k) times `contrast` of that layer, weighed by `weight`."""

    weight: float = 0.5
    decay: float = 2.0  # how much less each earlier layer counts
    temperature: float = 0.1
    real_batch: int = 32  # real images of each class

    def __post_init__(self) -> None:
        check_above(self, "decay", "temperature")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight: a finite number, 0 or more, is needed, got {self.weight}")
        check_counts(self, "real_batch")

    def backward(self, network: Network, real: list[Tensor], images: Tensor) -> Tensor:
        """Add the term's gradient to `images.grad`; the term.

        Args:
            real: per class, its real images; images: (K * n, C, H, W) synthetic ones, classes ascending.
        """
        some = [of_class[: self.real_batch] for of_class in real]
        owners = torch.cat([torch.full((len(part),), k) for k, part in enumerate(some)])
        real_classes = owners.to(images.device, non_blocking=True)
        classes = torch.arange(len(real), device=images.device).repeat_interleave(len(images) // len(real))
        with torch.no_grad():
            targets = [_pooled(maps) for maps in network.maps(torch.cat(some))]
        losses = [
            contrast(target, real_classes, _pooled(maps), classes, self.temperature)
            for target, maps in zip(targets, network.maps(images), strict=True)
        ]
        last = len(losses) - 1
        weighed = [self.weight * self.decay ** (k - last) * loss for k, loss in enumerate(losses)]
        loss = torch.stack(weighed).sum()
        (gradient,) = torch.autograd.grad(loss, images)
        images.grad = gradient if images.grad is None else images.grad + gradient
        return loss.detach()


def contrast(real: Tensor, real_classes: Tensor, synthetic: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """The noise-contrastive loss of unit vectors, real (M, D) and synthetic (N, D), with their classes.

    The critic of a pair is h = e / (e + c) with e = exp(<a, b> / temperature) and c = negatives / M, the negatives
    counted per synthetic image, which all its positives share. The loss is - mean over positive pairs of log h -
    negatives * mean over negative pairs of log(1 - h). With a single class there are no negatives: the second part is
    0, and c is 1.
    """
    same = classes.unsqueeze(1) == real_classes.unsqueeze(0)  # (N, M)
    scores = synthetic @ real.T / temperature
    negatives = float((~same).sum()) / len(synthetic)
    if negatives == 0:
        return -F.logsigmoid(scores).mean()
    log_c = math.log(negatives / len(real))
    log_sum = torch.logaddexp(scores, torch.full_like(scores, log_c))
    positive, negative = (scores - log_sum)[same], (log_c - log_sum)[~same]
    return -positive.mean() - negatives * negative.mean()


def _pooled(maps: Tensor) -> Tensor:
    return F.normalize(maps.mean((2, 3)), dim=1)


# --- around a host --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MIMConfig:
    """A host's configuration and the term's."""

    host: Any
    term: Term = field(default_factory=Term)

    per_class: ClassVar[bool] = False  # negative pairs are of other classes

    @property
    def model(self) -> str:
        return str(self.host.model)

    @property
    def unused(self) -> dict[str, str]:
        """What the host does not use."""
        return of_host(self.host)

    def for_setting(self, dataset: str, ipc: int) -> Self:
        return replace(self, host=self.host.for_setting(dataset, ipc))

    def passes(self, classes: int, images: int, ipc: int) -> tuple[int, int]:
        forward, both = self.host.passes(classes, images, ipc)
        updates = self.host.total
        return forward + updates * classes * min(self.term.real_batch, images), both + updates * classes * ipc


def around(name: str, host: Builder) -> Builder:
    """The host's builder with the term added to its loss.

    Raises:
        ValueError: the host takes no term.
    """
    usual = config_of_host("mim", name, host, "term", "takes no term beside its loss")

    def build(
        images: Tensor,
        labels: Tensor,
        budget: Budget,
        rng: Generator,
        cfg: MIMConfig = MIMConfig(usual),
        progress: Progress = SILENT,
    ) -> Memory:
        memory: Memory = host(images, labels, budget, rng, cfg.host, progress, term=cfg.term)
        return memory

    build.__doc__ = f"RECONSTRUCTION: {name} with a mutual-information term, after MIM4DD's abstract."
    return build
