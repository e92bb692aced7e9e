"""A mutual-information term for any method, its host: a RECONSTRUCTION of MIM4DD (Shang et al., NeurIPS 2023).

It follows the abstract alone. The paper is public (arXiv:2312.16627), but we could not obtain its formulas, and we
found no code. The abstract describes a lower bound of the mutual information between real and synthetic sets by a
noise-contrastive loss on the feature maps of every layer; pairs of equal labels are positive, pairs of different labels
are negative.

Everything else is our choice: feature maps are averaged over positions and normalised; there is no trained projector,
because a network that is drawn anew gives it nothing to train on; the critic is that of contrastive distillation; the
defaults are ours. Instance norm, as in the papers' ConvNet, fixes the mean and the variance of every channel. The
averages over positions then hardly depend on the image, and the term has little effect.
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
    """The loss weight * sum over layers k = 1 .. L of decay^-(L - k) * `contrast` of layer k."""

    weight: NonNegative = 0.5
    "Weight of the term; that of the host's loss is 1."
    decay: Positive = 2.0
    "Factor by which the weight decreases from each layer to the layer before it."
    temperature: Positive = 0.1
    "Temperature of the critic."
    real_batch: Count = 32
    "Real images of each class that the synthetic images are compared with."

    def add_gradient(self, network: Network, real: RealImages, images: Tensor) -> Tensor:
        """Add the gradient of the term to `images.grad`, and return the term; this is an `ExtraLoss`.

        Args:
            network: the network of the feature maps.
            real: a function of n to the first n real images of each class.
            images: synthetic images, (K * ipc, C, H, W), in ascending order of classes.
        """
        batches = real(self.real_batch)
        owners = torch.cat([torch.full((len(batch),), k) for k, batch in enumerate(batches)])
        real_classes = owners.to(images.device, non_blocking=True)
        classes = torch.arange(len(batches), device=images.device).repeat_interleave(len(images) // len(batches))
        with torch.no_grad():
            targets = [_pool(maps) for maps in network.maps(torch.cat(batches))]
        losses = [
            contrast(target, real_classes, _pool(maps), classes, self.temperature)
            for target, maps in zip(targets, network.maps(images), strict=True)
        ]
        last = len(losses) - 1
        weighted = [self.weight * self.decay ** (k - last) * loss for k, loss in enumerate(losses)]
        loss = torch.stack(weighted).sum()
        (gradient,) = torch.autograd.grad(loss, images)
        images.grad = gradient if images.grad is None else images.grad + gradient
        return loss.detach()


def contrast(real: Tensor, real_classes: Tensor, synthetic: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """Return the noise-contrastive loss of real and synthetic features.

    The critic of a pair (a, b) is h = e / (e + c), where e = exp(<a, b> / temperature), c = negatives / M, and
    `negatives` is the mean number of negative pairs of a synthetic image. The loss is the negative of the mean of log h
    over positive pairs, minus `negatives` times the mean of log(1 - h) over negative pairs. With a single class there
    are no negative pairs: the second part is 0, and c is 1.

    Args:
        real: unit vectors, (M, D).
        real_classes: (M,) int64.
        synthetic: unit vectors, (N, D).
        classes: (N,) int64, the classes of the synthetic vectors.
        temperature: of the critic.
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


def _pool(maps: Tensor) -> Tensor:
    return F.normalize(maps.mean((2, 3)), dim=1)


# --- around a host --------------------------------------------------------------------------------------------------


@configuration
class MIMConfig(AroundConfig):
    """The configuration of a host and of the term."""

    term: Term = Term()
    "The mutual-information term."

    per_class: ClassVar[bool] = False  # negative pairs are pairs of two classes

    def passes(self, classes: int, images: int, ipc: int) -> Passes | None:
        passes, updates = super().passes(classes, images, ipc), self.total
        if passes is None or updates is None:
            return None
        forward, both = passes
        real_images = classes * min(self.term.real_batch, images)
        return Passes(forward + updates * real_images, both + updates * classes * ipc)


def around(name: str, host: Method[MethodConfig]) -> Method[MIMConfig]:
    """Return the method that is the host with the term added to its loss.

    Args:
        name: of the host.
        host: a method that takes `extra_loss`.
    Raises:
        ValueError: the host does not take `extra_loss`.
    """
    if "extra_loss" not in host.takes:
        raise ValueError(f"mim: {name} accepts no additional loss")

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
