"""A mutual-information term for any host: MIM4DD (Shang et al., NeurIPS 2023), a RECONSTRUCTION from its abstract.

The abstract says: a lower bound of the mutual information between real and synthetic sets, by a noise-contrastive loss
on feature maps; pairs of one label are positive, of two negative; every layer counts. The paper is public
(arXiv:2312.16627), but we could not obtain its formulas, and we found no code. Everything else here is our choice: maps
averaged over places and normalised, no trained projector (there is nothing to train it against when networks are drawn
anew), the critic of contrastive distillation, and the defaults. Where instance norm fixes every channel's mean and
variance, as in the papers' ConvNet, what is left of an average over places hardly depends on the image: the term then
has little to say.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from harness.core.fields import Count, NonNegative, Positive, configuration
from harness.core.memory import Budget, Memory
from harness.core.models import Network
from harness.core.progress import SILENT, Progress
from harness.memory.method import AroundConfig, Method, MethodConfig, Passes, RealImages


@configuration
class Term:
    """The loss sum over layers k = 1 .. L of decay^-(L - k) times `contrast` of that layer, weighed by `weight`."""

    weight: NonNegative = 0.5
    "Weight of the term beside the host's loss."
    decay: Positive = 2.0
    "How much less each earlier layer counts."
    temperature: Positive = 0.1
    "Temperature of the critic."
    real_batch: Count = 32
    "Real images of each class that the term compares with."

    def add_gradient(self, network: Network, real: RealImages, images: Tensor) -> Tensor:
        """Add the term's gradient to `images.grad`; the term.

        Args:
            real: gives the first n real images of each class; images: (K * n, C, H, W) synthetic ones, classes
                ascending.
        """
        batches = real(self.real_batch)
        owners = torch.cat([torch.full((len(batch),), k) for k, batch in enumerate(batches)])
        real_classes = owners.to(images.device, non_blocking=True)
        classes = torch.arange(len(batches), device=images.device).repeat_interleave(len(images) // len(batches))
        with torch.no_grad():
            targets = [_pooled(maps) for maps in network.maps(torch.cat(batches))]
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


@configuration
class MIMConfig(AroundConfig):
    """A host's configuration and the term's."""

    term: Term = Term()
    "The mutual-information term."

    per_class: ClassVar[bool] = False  # negative pairs are of other classes

    def passes(self, classes: int, images: int, ipc: int) -> Passes | None:
        passes, updates = super().passes(classes, images, ipc), self.total
        if passes is None or updates is None:
            return None
        forward, both = passes
        of_term = classes * min(self.term.real_batch, images)
        return Passes(forward + updates * of_term, both + updates * classes * ipc)


def around(name: str, host: Method[MethodConfig]) -> Method[MIMConfig]:
    """The host with the term added to its loss.

    Raises:
        ValueError: the host takes no loss beside its own.
    """
    if "extra_loss" not in host.takes:
        raise ValueError(f"mim: {name} takes no term beside its loss")

    def build(
        images: Tensor,
        labels: Tensor,
        budget: Budget,
        rng: Generator,
        cfg: MIMConfig,
        progress: Progress = SILENT,
    ) -> Memory:
        return host(images, labels, budget, rng, cfg.host, progress, extra_loss=cfg.term.add_gradient)

    about = f"RECONSTRUCTION from the abstract of MIM4DD: {name} with a mutual-information term."
    return Method(build, MIMConfig(host.config), frozenset({"progress"}), about)
