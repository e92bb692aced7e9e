"""The loss of gradient matching, computed in parts that fit the device."""

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

Result = TypeVar("Result")


class GradientMatching:
    """The distance between the gradients on real and on synthetic images, and its gradient.

    The gradients on real images need no second derivative; they are computed class by class, in chunks. The synthetic
    images of a group of classes pass through one graph, which holds both derivatives. It is compiled if there is enough
    work to regain the time of compilation. If images do not fit the device, half as many are tried.

    Args:
        network: the network.
        distance: the distance between two sets of gradients.
        form: the form of computing, eager or compiled.
        real_dtype: data type of products for the real images.
        device: of the network and of all images.
        flop: floating-point operations of the forward passes of synthetic images in all updates; they decide whether
            their graphs are compiled.
        weights: a function of the name and the value of a weight to whether its gradient is matched.
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
        self.second = compute.second_order_form(form, device, flop)  # the form of computing for synthetic images
        self._logits = compute.prepare(network, "forward", form, real_dtype, device)
        # Under vmap, the second derivative of a layer norm is wrong: it omits that mean and variance depend on the
        # image (torch 2.15; pytorch/functorch issue 534).
        self._has_layer_norm = any(isinstance(module, nn.LayerNorm) for module in network.modules())

    def real_gradients(self, batches: list[Tensor]) -> Gradients:
        """Return the gradients of the mean cross-entropy of each class.

        Args:
            batches: for each class k, its real images, (N, C, H, W), which are labelled k.
        """
        most = max(map(len, batches))
        return self._fit_memory(most, lambda at_once: self._real_gradients(batches, min(self._chunk, at_once)))

    def backward(self, images: Tensor, real: Gradients) -> Tensor:
        """Add the gradient of the distance, summed over classes, to `images.grad`, and return the distance.

        Args:
            images: synthetic images, (K * n, C, H, W), in ascending order of classes.
            real: the gradients on the real images.
        """
        fixed = images.detach()
        result = self._fit_memory(len(images), lambda at_once: self._match_by_class(fixed, real, at_once))
        return _add_gradient(images, result)

    def backward_together(self, images: Tensor, real: Gradients) -> Tensor:
        """Do the same as `backward` for the distance between the mean gradients over all classes (DCC)."""
        classes = len(next(iter(real.values())))
        labels = torch.arange(classes, device=self.device).repeat_interleave(len(images) // classes)
        mean = {name: part.mean(0, keepdim=True) for name, part in real.items()}
        fixed = images.detach()
        result = self._fit_memory(len(images), lambda at_once: self._match_one(fixed, labels, mean, at_once))
        return _add_gradient(images, result)

    def _fit_memory(self, most: int, work: Callable[[int], Result]) -> Result:
        """Call `work` with a number of images that fits the device; the number stays halved for later calls.

        Args:
            most: number of images, the largest that is useful.
            work: a function of the number of images that are computed at once.
        """
        while True:
            try:
                return work(self._at_once)
            except torch.OutOfMemoryError:
                if self._at_once == 1 or most == 1:
                    raise
            self._at_once = -(-min(self._at_once, most) // 2)  # outside of `except`, which keeps tensors alive

    def _real_gradients(self, batches: list[Tensor], chunk: int) -> Gradients:
        gradients = []
        for k, images in enumerate(batches):
            sums = [torch.zeros_like(weight) for weight in self.weights.values()]
            for batch in images.split(chunk):
                labels = torch.full((len(batch),), k, device=self.device)
                with compute.precision(self.real_dtype, self.device):
                    loss = F.cross_entropy(self._logits(batch), labels, reduction="sum") / len(images)
                    batch_gradients = torch.autograd.grad(loss, list(self.weights.values()))
                for total, gradient in zip(sums, batch_gradients, strict=True):
                    total += gradient
            gradients.append(sums)
        return dict(zip(self.weights, map(torch.stack, zip(*gradients, strict=True)), strict=True))

    def _match_by_class(self, images: Tensor, real: Gradients, at_once: int) -> tuple[Tensor, Tensor]:
        """Return the distance summed over classes and its gradient; each group of classes is one graph."""
        count = len(next(iter(real.values())))
        ipc = len(images) // count
        results = []
        class_numbers = torch.arange(count)  # on the CPU, so that int() does not wait for the device
        for classes in class_numbers.split(self._classes_per_graph(count, ipc, at_once)):
            first, last = int(classes[0]), int(classes[-1]) + 1
            group, targets = images[first * ipc : last * ipc], {name: part[first:last] for name, part in real.items()}
            labels = classes.to(self.device, non_blocking=True).unsqueeze(1).expand(-1, ipc)
            if ipc > at_once:  # the images of one class do not fit one graph
                results.append(self._match_one(group, labels[0], targets, at_once))
            else:
                results.append(self._match_in_one_graph(group.unflatten(0, labels.shape), labels.contiguous(), targets))
        losses, gradients = zip(*results, strict=True)
        return torch.stack(losses).sum(), torch.cat(gradients)

    def _classes_per_graph(self, classes: int, ipc: int, at_once: int) -> int:
        """Return the number of classes in one graph.

        If graphs are compiled, a class with many images has its own graph; other groups are of equal size, except for
        the last, so that at most two shapes are compiled.
        """
        most = max(1, min(self._chunk, at_once) // ipc)
        if self.second == "eager":
            return most
        if ipc >= tuning.OWN_GRAPH and self.device.type == "cpu":
            return 1
        return -(-classes // -(-classes // most))

    def _match_one(self, images: Tensor, labels: Tensor, real: Gradients, at_once: int) -> tuple[Tensor, Tensor]:
        """Return the distance to one gradient, `real` (1, ...), and its gradient.

        More than `at_once` images are computed in chunks. Let v be the derivative of the distance with respect to the
        mean gradient, and g the part of the mean gradient that comes from a chunk. By the chain rule, the gradient for
        the chunk is that of the scalar product <v, g>.
        """
        if len(images) <= at_once:
            return self._match_in_one_graph(images.unsqueeze(0), labels.unsqueeze(0), real)
        chunks = [
            (chunk, chunk_labels, len(chunk) / len(images))
            for chunk, chunk_labels in zip(images.split(at_once), labels.split(at_once), strict=True)
        ]
        state = self._state()
        gradient = self._trace("gradient", self._gradient)
        mean = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        for chunk, chunk_labels, share in chunks:
            for name, part in gradient(chunk, chunk_labels, state).items():
                mean[name] += share * part
        slopes, loss = grad_and_value(lambda whole: self.distance(real, {n: g[None] for n, g in whole.items()}))(mean)
        product = self._trace("product", grad(self._product))
        parts = [share * product(chunk, chunk_labels, slopes, state) for chunk, chunk_labels, share in chunks]
        return loss, torch.cat(parts)

    def _match_in_one_graph(self, images: Tensor, labels: Tensor, real: Gradients) -> tuple[Tensor, Tensor]:
        """Return the distance of images (K, n, ...) with labels (K, n), summed over classes, and its gradient."""
        gradient, loss = self._trace("distance", grad_and_value(self._distances))(images, labels, real, self._state())
        return loss, gradient.flatten(0, 1)

    def _trace(self, name: str, function: Callable[..., Result]) -> Callable[..., Result]:
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
        """Return the gradient of the mean cross-entropy with respect to the weights that are matched."""
        weights = {name: state[name] for name in self.weights}
        gradient: Gradients = grad(self._loss)(weights, images, labels, state)
        return gradient

    def _loss(self, weights: Gradients, images: Tensor, labels: Tensor, state: Gradients) -> Tensor:
        return F.cross_entropy(functional_call(self.network, {**state, **weights}, (images,)), labels)


def _add_gradient(images: Tensor, result: tuple[Tensor, Tensor]) -> Tensor:
    """Add the gradient of a loss to `images.grad`, and return the loss."""
    loss, gradient = result
    images.grad = gradient if images.grad is None else images.grad + gradient
    return loss


@contextmanager
def matching_statistics(network: nn.Module, real: list[Tensor], mode: str) -> Iterator[None]:
    """Normalise real and synthetic images by the same BatchNorm statistics, those of 16 real images of each class.

    As published, one forward pass of these images updates the running statistics with the momentum of 0.1. The mode
    `exact` takes the statistics of that pass alone. The 16 images are the first of the batch that is matched; the
    authors' script draws 16 other images and does not augment them.

    Args:
        network: a network in train mode; without BatchNorm, nothing changes.
        real: for each class, its batch of real images.
        mode: reference or exact.
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
                norm.momentum = None  # the mean over all passes, here one
        with torch.no_grad():
            network(torch.cat([images[:16] for images in real]))
        for norm in norms:
            norm.eval()
        yield
    finally:
        for norm, value in zip(norms, momentum, strict=True):
            norm.momentum = value
            norm.train()
