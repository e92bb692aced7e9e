"""The loss of one update by gradient matching: gradients of both sides, in graphs that fit the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from harness.core import compute, models
from harness.core.compute import tuning
from harness.memory.shared.distances import Distance, Gradients

Found = TypeVar("Found")


class GradientMatching:
    """The loss of one update, and its gradient, for K classes of a network.

    The real gradients need no second derivative: they are computed in `compute`'s form, class by class, in chunks.
    The synthetic side is one graph for a group of classes at a time, whose gradients
    `torch.func` takes in one batched call; a second derivative does not compile well (1.3 times at most, measured).
    On either side, what does not fit the device is tried again with half as many images at once.
    """

    def __init__(
        self,
        network: models.Network,
        distance: Distance,
        *,
        form: str,
        real_dtype: str,
        device: torch.device,
        weights: Callable[[str, Tensor], bool] = lambda name, weight: True,
    ) -> None:
        self.network, self.distance, self.device, self.real_dtype = network, distance, device, real_dtype
        self.weights = {name: weight for name, weight in network.named_parameters() if weights(name, weight)}
        on_cpu = device.type == "cpu"
        self._chunk = compute.gradient_chunk(network) if on_cpu else tuning.CUDA_GRADIENT_CHUNK
        self._at_once = tuning.CPU_GRAPH if on_cpu else tuning.CUDA_GRADIENT_CHUNK  # images in one graph, at most
        self._logits = compute.fast(network, "forward", form, real_dtype, device)
        # Batched by vmap, a layer norm's second derivative is wrong: it leaves out that mean and variance depend on the
        # image (torch 2.15; pytorch/functorch issue 534).
        self._one_by_one = any(isinstance(module, nn.LayerNorm) for module in network.modules())

    def real_gradients(self, batches: list[Tensor]) -> Gradients:
        """Gradients of each class's mean cross-entropy on real images (N, C, H, W), class k labelled k."""
        most = max(map(len, batches))
        return self._fitting(most, lambda at_once: self._real_gradients(batches, min(self._chunk, at_once)))

    def backward(self, images: Tensor, real: Gradients) -> Tensor:
        """Add the class by class loss's gradient to `images` (K * n, C, H, W), classes ascending; the loss."""
        fixed = images.detach()
        return _added(images, self._fitting(len(images), lambda at_once: self._class_by_class(fixed, real, at_once)))

    def backward_together(self, images: Tensor, real: Gradients) -> Tensor:
        """As `backward`, for one distance between the gradients summed over classes (DCC)."""
        classes = len(next(iter(real.values())))
        labels = torch.arange(classes, device=self.device).repeat_interleave(len(images) // classes)
        mean = {name: part.mean(0, keepdim=True) for name, part in real.items()}
        fixed = images.detach()
        return _added(images, self._fitting(len(images), lambda at_once: self._of_one(fixed, labels, mean, at_once)))

    def _fitting(self, most: int, work: Callable[[int], Found]) -> Found:
        """`work(images at once)` of `most` images: as many as fit the device, halved for good where they do not."""
        while True:
            try:
                return work(self._at_once)
            except torch.OutOfMemoryError:
                if self._at_once == 1 or most == 1:
                    raise
            self._at_once = -(-min(self._at_once, most) // 2)  # out here, where what did not fit is let go of

    def _real_gradients(self, batches: list[Tensor], chunk: int) -> Gradients:
        gradients = []
        for k, images in enumerate(batches):
            sums = [torch.zeros_like(weight) for weight in self.weights.values()]
            for some in images.split(chunk):
                label = torch.full((len(some),), k, device=self.device)
                with compute.precision(self.real_dtype, self.device):
                    loss = F.cross_entropy(self._logits(some), label, reduction="sum") / len(images)
                    parts = torch.autograd.grad(loss, list(self.weights.values()))
                for total, part in zip(sums, parts, strict=True):
                    total += part
            gradients.append(sums)
        return dict(zip(self.weights, map(torch.stack, zip(*gradients, strict=True)), strict=True))

    def _class_by_class(self, images: Tensor, real: Gradients, at_once: int) -> tuple[Tensor, Tensor]:
        """The sum of the classes' distances and its gradient, a group of classes in one graph."""
        count = len(next(iter(real.values())))
        ipc = len(images) // count
        found = []
        for classes in torch.arange(count).split(max(1, min(self._chunk, at_once) // ipc)):  # on the CPU: no waiting
            first, last = int(classes[0]), int(classes[-1]) + 1
            own, targets = images[first * ipc : last * ipc], {name: part[first:last] for name, part in real.items()}
            labels = classes.to(self.device, non_blocking=True).unsqueeze(1).expand(-1, ipc)
            too_many = ipc > at_once  # of one class already
            found.append(
                self._of_one(own, labels[0], targets, at_once) if too_many else self._of_group(own, labels, targets)
            )
        losses, gradients = zip(*found, strict=True)
        return torch.stack(losses).sum(), torch.cat(gradients)

    def _of_group(self, images: Tensor, labels: Tensor, real: Gradients) -> tuple[Tensor, Tensor]:
        """The distances of several classes, labels (K, n), and their gradient."""
        images = images.detach().requires_grad_()
        each = images.unflatten(0, labels.shape)
        if self._one_by_one:
            gradients = [self._gradient(*of_class) for of_class in zip(each, labels, strict=True)]
            stacked = {name: torch.stack([of_class[name] for of_class in gradients]) for name in self.weights}
        else:
            stacked = vmap(self._gradient)(each, labels)
        loss = self.distance(real, stacked)
        return loss.detach(), torch.autograd.grad(loss, images)[0]

    def _of_one(self, images: Tensor, labels: Tensor, real: Gradients, at_once: int) -> tuple[Tensor, Tensor]:
        """The distance of one mean gradient, `real` (1, ...), and its gradient.

        Of more than `at_once` images it is that of <v, g> chunk by chunk, g the chunk's share of the mean gradient and
        v the distance's derivative by the whole of it: the same by the chain rule, in a chunk's memory.
        """
        parts = [
            (some.detach().requires_grad_(), theirs, len(some) / len(images))
            for some, theirs in zip(images.split(at_once), labels.split(at_once), strict=True)
        ]
        if len(parts) == 1:
            whole, theirs, _ = parts[0]
            gradient = self._gradient(whole, theirs)
            loss = self.distance(real, {name: part.unsqueeze(0) for name, part in gradient.items()})
            return loss.detach(), torch.autograd.grad(loss, whole)[0]
        mean = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        with torch.no_grad():
            for some, theirs, share in parts:
                for name, part in self._gradient(some, theirs).items():
                    mean[name] += share * part
        loss = self.distance(real, {name: part.requires_grad_().unsqueeze(0) for name, part in mean.items()})
        slopes = torch.autograd.grad(loss, list(mean.values()), materialize_grads=True)
        gradients = []
        for some, theirs, share in parts:
            products = [(v * part).sum() for v, part in zip(slopes, self._gradient(some, theirs).values(), strict=True)]
            gradients.append(torch.autograd.grad(share * torch.stack(products).sum(), some)[0])
        return loss.detach(), torch.cat(gradients)

    def _gradient(self, images: Tensor, labels: Tensor) -> Gradients:
        """The mean cross-entropy's gradient, as a function of `images`."""
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        gradient: Gradients = grad(self._loss)(weights, images, labels)
        return gradient

    def _loss(self, weights: Gradients, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(self.network, weights, (images,)), labels)


def _added(images: Tensor, found: tuple[Tensor, Tensor]) -> Tensor:
    """Add a loss's gradient to that of `images`; the loss."""
    loss, gradient = found
    images.grad = gradient if images.grad is None else images.grad + gradient
    return loss


@contextmanager
def matching_statistics(network: nn.Module, real: list[Tensor], mode: str) -> Iterator[None]:
    """Inside, BatchNorm holds the statistics of 16 real images of each class, for both sides alike.

    As published they are those of one forward pass by the momentum of 0.1, so a tenth of the way from where they
    were; `exact` takes that pass's own. Unlike the authors' script, which draws 16 other images and does not augment
    them, they are the first of the batch that is matched.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        yield
        return
    momentum = [norm.momentum for norm in norms]
    try:
        if mode == "exact":
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over passes, here of one
        with torch.no_grad():
            network(torch.cat([images[:16] for images in real]))
        for norm in norms:
            norm.eval()
        yield
    finally:
        for norm, usual in zip(norms, momentum, strict=True):
            norm.momentum = usual
            norm.train()
