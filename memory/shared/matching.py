"""Gradient matching, shared by DC, DSA, DCC and DSAC: the distance, both sides' gradients, the outer and inner loops.

A network's weight gradients on the synthetic images of a class are brought towards those on its real images, while
the network is trained on the synthetic images in between (Zhao et al., ICLR 2021, arXiv:2006.05929).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, vmap

from harness.core import augment, compute, models
from harness.core.augment import AugmentName
from harness.core.compute import tuning
from harness.core.fields import Count, Momentum, Positive, configuration, one_of
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import Parametrisation, Pixels, Start
from harness.core.progress import SILENT, Progress
from harness.core.recipes import TrainConfig
from harness.core.train import fit
from harness.memory.method import ExtraLoss, Form, MethodConfig, Passes
from harness.memory.shared.sampling import draw
from harness.memory.shared.synthetic import Draws, Synthetic, learn, real_batches, shape_of, with_network

Gradients = dict[str, Tensor]  # weight's name -> (K, *its shape): one gradient for each of K classes
Distance = Callable[[Gradients, Gradients], Tensor]  # real, synthetic -> their distance, summed over classes
DISTANCE_NAMES = ("rows", "cos", "mse", "l1")
Loops = Mapping[int, tuple[int, int]]  # ipc -> (updates of the images per network, epochs of the network between them)
Rates = Mapping[str, float]  # network's full name -> learning rate of the images
Found = TypeVar("Found")


@configuration
class GradientMatchingConfig(MethodConfig):
    """Hyper-parameters of the authors' script, DatasetCondensation `main.py`; each method's file gives its own."""

    iterations: Count = 1000
    "Networks, drawn anew one after the other."
    updates: Count | None = None
    "Updates of the images for each network; none for the published number at the budget."
    epochs: Count | None = None
    "Epochs of the network's training on the synthetic images between two updates; none for the published number."
    lr: Positive = 0.1
    "Learning rate of the images, for SGD in normalised units."
    momentum: Momentum = 0.5
    "Momentum of the images' SGD."
    real_batch: Count = 256
    "Real images of each class in an update, or all where a class has fewer."
    network_lr: Positive = 0.01
    "Learning rate of the network, for plain SGD."
    network_batch: Count = 256
    "Synthetic images in a batch of the network's training."
    model: str = "convnet3"
    "The network whose gradients are matched."
    init: Start = "real"
    "What the images start from: real images or noise."
    augment: AugmentName = augment.DSA
    "Augmentation, one draw for each class and update, shared by real and synthetic images; none for none."
    distance: Annotated[str, one_of(DISTANCE_NAMES, "distance")] = "rows"
    "Distance between gradients: rows, cos, mse or l1."
    batchnorm: Annotated[str, one_of(("reference", "exact"), "batchnorm")] = "reference"
    "Statistics of BatchNorm while matching: of one batch by a tenth (reference), or of that batch alone (exact)."
    compute: str = "eager"
    "Form of computing of the real side and of the network's training: eager or compiled."
    real_dtype: str = "float32"
    "Type of products for the real images' gradients."

    # ipc -> updates and epochs as published: DatasetCondensation `utils.py`, get_loops. An ipc of 1 trains no network.
    loops: ClassVar[Loops] = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
    rates: ClassVar[Rates] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"lr": 2.0, "iterations": 20, "updates": 10, "epochs": 5, "real_batch": 64},
        "smoke": {"iterations": 2, "updates": 2, "epochs": 1, "real_batch": 8},
    }

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """The configuration with the published rate and loops; an ipc between two published ones takes the higher's."""
        return self.with_rate().with_loops(ipc)

    def with_loops(self, ipc: int) -> Self:
        """The configuration with the published loops where they are left open.

        An ipc that is not in the table takes those of the next one that is, or of the last.
        """
        updates, epochs = self.loops[next((listed for listed in sorted(self.loops) if listed >= ipc), max(self.loops))]
        return replace(self, updates=self.updates or updates, epochs=self.epochs or epochs)

    def with_rate(self) -> Self:
        """The configuration with the learning rate that was published for its network, where one was."""
        return replace(self, lr=self.rates.get(str(models.parse(self.model)), self.lr))

    def sums_over_classes(self, iteration: int, update: int) -> bool:
        """Whether gradients are summed over classes before they are compared, in this update of this iteration."""
        return False

    @property
    def total(self) -> int:
        """Updates of the images in all."""
        return self.iterations * (self.updates or 1)

    @property
    def form(self) -> Form:
        return Form(self.compute, "float32", self.real_dtype)

    def passes(self, classes: int, images: int, ipc: int) -> Passes:
        trained = (self.total - self.iterations) * (self.epochs or 1) * ipc
        return Passes(0, self.real_passes(classes, images) + classes * (3 * self.total * ipc + trained))

    def real_passes(self, classes: int, images: int) -> int:
        return self.total * classes * min(self.real_batch, images)


# --- distances ------------------------------------------------------------------------------------------------------


def rows_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """1 - cosine, summed over the output rows of every weight of two dimensions or more: DC's formula.

    What has one dimension counts nothing: biases, the affine weights of batch, group and instance norms. A layer norm's
    are of three, and count by channel, as in the authors' code.
    """
    parts = []
    for name, theirs in real.items():
        if theirs.ndim > 2:
            a, b = theirs.flatten(2), synthetic[name].flatten(2)  # (K, out, in)
            parts.append((1 - (a * b).sum(2) / (a.norm(dim=2) * b.norm(dim=2) + 1e-6)).sum())
    return torch.stack(parts).sum()


def cosine_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """1 - cosine of all weights' gradients put in one vector, biases included."""
    a, b = _in_one(real), _in_one(synthetic)
    cosines: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)
    return (1 - cosines).sum()


def squared_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """Squared distance of all weights' gradients, biases included."""
    return (_in_one(real) - _in_one(synthetic)).square().sum()


def absolute_distance(real: Gradients, synthetic: Gradients) -> Tensor:
    """Sum of the absolute differences of all weights' gradients, biases included."""
    return (_in_one(real) - _in_one(synthetic)).abs().sum()


def _in_one(gradients: Gradients) -> Tensor:
    return torch.cat([part.flatten(1) for part in gradients.values()], 1)  # (K, all weights)


DISTANCES: dict[str, Distance] = {
    "rows": rows_distance,
    "cos": cosine_distance,
    "mse": squared_distance,
    "l1": absolute_distance,
}


# --- both sides -----------------------------------------------------------------------------------------------------


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


# --- the loops ------------------------------------------------------------------------------------------------------


def match_gradients(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: GradientMatchingConfig,
    progress: Progress = SILENT,
    form: Parametrisation = Pixels(),
    extra_loss: ExtraLoss | None = None,
) -> Memory:
    """Synthetic images whose weight gradients match the real ones, along the training of many networks.

    For each network: match and move the images, train the network on them, match again, `updates` times.

    Args:
        images: real images, (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        rng: CPU generator, the only source of randomness; advanced by the call.
        form: how the images are stored; extra_loss: a loss to add to the distance.
    Returns:
        As many images of each class as `form` stores in the budget, classes ascending, on images' device.
    Raises:
        ValueError: a class has fewer than budget.ipc real images.
        FloatingPointError: the images, or a network's loss, are no longer finite.
    """
    cfg = cfg.with_loops(budget.ipc)
    updates, epochs = cfg.updates, cfg.epochs
    assert updates is not None  # `with_loops` fills both in
    assert epochs is not None
    synthetic = Synthetic(images, labels, budget, rng, form=form, start=cfg.init, lr=cfg.lr, momentum=cfg.momentum)
    draws = Draws.of(rng, images.device)
    network = models.scratch(cfg.model, shape_of(images), synthetic.classes, images.device, images.dtype)
    match = GradientMatching(
        network, DISTANCES[cfg.distance], form=cfg.compute, real_dtype=cfg.real_dtype, device=images.device
    )
    inner = TrainConfig(
        epochs=epochs,
        lr=cfg.network_lr,
        momentum=0.0,
        weight_decay=0.0,
        batch_size=cfg.network_batch,
        augment=cfg.augment,
        schedule="constant",
        compute=cfg.compute,
    )

    def update(number: int) -> None:
        position = number % updates
        if position == 0:
            models.draw_weights(network, draws.weights)
        rows = [draw(of_class, cfg.real_batch, rng) for of_class in synthetic.rows]
        parameters = augment.draw_shared(cfg.augment, synthetic.classes, rng)
        real = real_batches(cfg.augment, images, rows, parameters)
        seen = augment.apply(cfg.augment, synthetic.images, parameters.of(synthetic.owner))
        leaf = seen.detach().requires_grad_()
        with matching_statistics(network, real, cfg.batchnorm):
            targets = match.real_gradients(real)
            distance = match.backward_together if cfg.sums_over_classes(number // updates, position) else match.backward
            distance(leaf, targets)
            if extra_loss is not None:
                extra_loss(network, lambda count: [batch[:count] for batch in real], leaf)
        seen.backward(leaf.grad)
        synthetic.step()
        if position < updates - 1:
            fit(network, synthetic.images.detach(), synthetic.local, inner, rng)

    return learn(synthetic, draws, cfg.total, update, with_network(progress, network), "gradient matching")
