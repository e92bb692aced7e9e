"""The loss of one update by gradient matching: gradients of both sides, in graphs that fit the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, vmap

from harness.core import compute, models
from harness.core.compute import tuning
from harness.memory.shared.distances import Distance, Gradients

Found = TypeVar("Found")


class GradientMatching:
    """The loss of one update, and its gradient, for K classes of a network.

    The real gradients need no second derivative: they are computed in the form `compute`, class by class, in chunks.
    The synthetic side is one graph for a group of classes at a time, with both derivatives in it; it is compiled where
    there is work enough to win back the time of compiling. On either side, what does not fit the device is tried
    again with half as many images at once.

    Args:
        network: that the gradients are of.
        distance: between the gradients by its weights.
        form: of computing: eager or compiled.
        real_dtype: of products on the real side.
        device: of the network and all images.
        flop: floating-point operations of all forward passes of synthetic images to come, which decide whether
            compiling their graphs pays.
        weights: tells by name and value whether the gradient by a weight is matched.
    """

    def __init__(
        self,
        network: models.Network,
        distance: Distance,
        *,
        form: str,
        real_dtype: str,
        device: torch.device,
        flop: int = 0,
        weights: Callable[[str, Tensor], bool] = lambda name, weight: True,
    ) -> None:
        self.network, self.distance, self.device, self.real_dtype = network, distance, device, real_dtype
        self.weights = {name: weight for name, weight in network.named_parameters() if weights(name, weight)}
        on_cpu = device.type == "cpu"
        self._chunk = compute.gradient_chunk(network) if on_cpu else tuning.CUDA_GRADIENT_CHUNK
        self._at_once = tuning.CPU_GRAPH if on_cpu else tuning.CUDA_GRADIENT_CHUNK  # images in one graph, at most
        self.second = compute.second_order_form(form, device, flop)  # form of the synthetic side
        self._logits = compute.prepare(network, "forward", form, real_dtype, device)
        # Batched by vmap, a layer norm's second derivative is wrong: it leaves out that mean and variance depend on the
        # image (torch 2.15; pytorch/functorch issue 534).
        self._has_layer_norm = any(isinstance(module, nn.LayerNorm) for module in network.modules())

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
        """Return the sum of the classes' distances and its gradient, a group of classes in one graph."""
        count = len(next(iter(real.values())))
        ipc = len(images) // count
        found = []
        for classes in torch.arange(count).split(self._group(count, ipc, at_once)):  # on the CPU: no waiting
            first, last = int(classes[0]), int(classes[-1]) + 1
            own, targets = images[first * ipc : last * ipc], {name: part[first:last] for name, part in real.items()}
            labels = classes.to(self.device, non_blocking=True).unsqueeze(1).expand(-1, ipc)
            if ipc > at_once:  # too many of one class already
                found.append(self._of_one(own, labels[0], targets, at_once))
            else:
                found.append(self._in_one_graph(own.unflatten(0, labels.shape), labels.contiguous(), targets))
        losses, gradients = zip(*found, strict=True)
        return torch.stack(losses).sum(), torch.cat(gradients)

    def _group(self, classes: int, ipc: int, at_once: int) -> int:
        """Return how many classes go into one graph.

        Compiled, a class with images enough for a graph of its own takes one; else groups are of equal size, or nearly,
        so that two shapes at most are compiled.
        """
        most = max(1, min(self._chunk, at_once) // ipc)
        if self.second == "eager":
            return most
        if ipc >= tuning.OWN_GRAPH and self.device.type == "cpu":
            return 1
        return -(-classes // -(-classes // most))

    def _of_one(self, images: Tensor, labels: Tensor, real: Gradients, at_once: int) -> tuple[Tensor, Tensor]:
        """Return the distance of one mean gradient, `real` (1, ...), and its gradient.

        Of more than `at_once` images it is that of <v, g> chunk by chunk, g the chunk's share of the mean gradient and
        v the distance's derivative by the whole of it: the same by the chain rule, in a chunk's memory.
        """
        if len(images) <= at_once:
            return self._in_one_graph(images.unsqueeze(0), labels.unsqueeze(0), real)
        chunks = [
            (some, of_some, len(some) / len(images))
            for some, of_some in zip(images.split(at_once), labels.split(at_once), strict=True)
        ]
        state = self._state()
        gradient = self._trace("gradient", self._gradient)
        mean = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        for some, of_some, share in chunks:
            for name, part in gradient(some, of_some, state).items():
                mean[name] += share * part
        slopes, loss = grad_and_value(lambda whole: self.distance(real, {n: g[None] for n, g in whole.items()}))(mean)
        product = self._trace("product", grad(self._product))
        return loss, torch.cat([share * product(some, of_some, slopes, state) for some, of_some, share in chunks])

    def _in_one_graph(self, images: Tensor, labels: Tensor, real: Gradients) -> tuple[Tensor, Tensor]:
        """Return the distances of groups (K, n, ...) with labels (K, n), summed, and the gradient (K * n, ...)."""
        gradient, loss = self._trace("distance", grad_and_value(self._distances))(images, labels, real, self._state())
        return loss, gradient.flatten(0, 1)

    def _trace(self, name: str, function: Callable[..., Found]) -> Callable[..., Found]:
        return compute.trace(self.network, (name, self.distance, *self.weights), function, self.second)

    def _state(self) -> Gradients:
        """Return all parameters and buffers of the network: a graph takes them as they are at the time."""
        return {name: part.detach() for name, part in self.network.state_dict(keep_vars=True).items()}

    # The functions that are traced: of tensors alone, of whatever shape.

    def _distances(self, images: Tensor, labels: Tensor, real: Gradients, state: Gradients) -> Tensor:
        if len(images) > 1 and not self._has_layer_norm:
            gradients = vmap(self._gradient, in_dims=(0, 0, None))(images, labels, state)
        else:
            each = [self._gradient(*of_class, state) for of_class in zip(images, labels, strict=True)]
            gradients = {name: torch.stack([of_class[name] for of_class in each]) for name in self.weights}
        return self.distance(real, gradients)

    def _product(self, images: Tensor, labels: Tensor, slopes: Gradients, state: Gradients) -> Tensor:
        gradient = self._gradient(images, labels, state)
        return torch.stack([(slopes[name] * part).sum() for name, part in gradient.items()]).sum()

    def _gradient(self, images: Tensor, labels: Tensor, state: Gradients) -> Gradients:
        """The gradient of the mean cross-entropy by the weights that are matched."""
        weights = {name: state[name] for name in self.weights}
        gradient: Gradients = grad(self._loss)(weights, images, labels, state)
        return gradient

    def _loss(self, weights: Gradients, images: Tensor, labels: Tensor, state: Gradients) -> Tensor:
        return F.cross_entropy(functional_call(self.network, {**state, **weights}, (images,)), labels)


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
