"""Memory condensed by distribution matching (Zhao & Bilen, WACV 2023, arXiv:2110.04181)."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from harness.core import augment, compute, models
from harness.core.memory import Budget, Memory
from harness.core.progress import SILENT, Progress, State
from harness.core.rng import spawn
from memory import random_real
from memory.sampling import draw, rows_by_class


@dataclass(frozen=True)
class DMConfig:
    """Defaults are those of the authors' script, DatasetCondensation `main_DM.py`."""

    iterations: int = 20_000  # updates of the synthetic images
    lr: float = 1.0  # SGD on pixels, in normalised units
    momentum: float = 0.5
    real_batch: int = 256  # real images per class and iteration, or all where a class has fewer
    model: str = "convnet3"  # drawn anew every iteration, never trained
    augment: str = augment.DSA  # one draw per class and iteration, shared by real and synthetic images
    compute: str = "eager"  # eager or compiled
    real_dtype: str = "float32"  # multiplied in, where no gradient passes
    synthetic_dtype: str = "float32"  # multiplied in, where the gradient passes; auto decides by hardware

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.real_batch < 1:
            raise ValueError(
                f"dm: iterations and real_batch are at least 1, got {self.iterations} and {self.real_batch}"
            )
        augment.operations(self.augment)

    @property
    def per_class(self) -> bool:
        """Each class depends on its own images alone; under BatchNorm, on all that share its batch."""
        return models.parse(self.model).norm != "batchnorm"

    def passes(self, classes: int, images: int, ipc: int) -> tuple[int, int]:
        """Images pushed through a network, forward alone and forward and backward, for classes of `images` each."""
        return self.iterations * classes * min(self.real_batch, images), self.iterations * classes * ipc


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: DMConfig = DMConfig(),
    progress: Progress = SILENT,
) -> Memory:
    """Synthetic images whose mean embeddings match the real ones, class by class.

    As published: random real images to start from, a fresh random network and a fresh augmentation per class every
    iteration, the squared distance of the means summed over features and classes. Computed in chunks that fit the
    device: first all real means, then each chunk of classes forward and backward. Under BatchNorm, whose statistics
    are those of all classes together, a chunk holds everything.

    Args:
        images: real images, (N, C, H, W) float32, normalised; labels: (N,) int64, global ids.
        budget: images kept per class.
        rng: CPU generator, the only source of randomness; advanced by the call.
    Returns:
        budget.ipc images of each class in `labels`, classes ascending, on images' device.
    Raises:
        ValueError: a class has fewer than budget.ipc real images.
        FloatingPointError: the images are no longer finite.
    """
    start = random_real.build(images, labels, budget, rng)
    rows = list(rows_by_class(labels).values())
    pixels = start.images.clone().requires_grad_()
    optimizer = torch.optim.SGD([pixels], lr=cfg.lr, momentum=cfg.momentum)
    match = Matching(images, len(rows), budget.ipc, cfg)
    weights_rng = spawn(rng, images.device)

    def state() -> State:
        momentum = optimizer.state[pixels]["momentum_buffer"]
        kept = {"pixels": pixels, "momentum": momentum, "rng": rng.get_state(), "done": torch.tensor(iteration + 1)}
        return kept | ({} if weights_rng is rng else {"weights_rng": weights_rng.get_state()})

    first = 0
    if (kept := progress.resume()) is not None:
        with torch.no_grad():
            pixels.copy_(kept["pixels"])
        optimizer.state[pixels]["momentum_buffer"] = kept["momentum"].to(pixels)
        rng.set_state(kept["rng"])
        if weights_rng is not rng:
            weights_rng.set_state(kept["weights_rng"])
        first = int(kept["done"])
    for iteration in range(first, cfg.iterations):
        models.draw_weights(match.network, weights_rng)
        batch = [draw(of_class, cfg.real_batch, rng) for of_class in rows]
        parameters = augment.draw_shared(cfg.augment, len(rows), rng)
        optimizer.zero_grad()
        match.backward(pixels, batch, parameters)
        optimizer.step()
        last = iteration == cfg.iterations - 1
        if (iteration % 50 == 0 or last) and not bool(pixels.isfinite().all()):
            raise FloatingPointError(f"dm: the images are not finite after iteration {iteration}; use a smaller lr")
        progress.tick(iteration + 1, cfg.iterations, state)
    return Memory(pixels.detach(), start.labels)


class Matching:
    """The loss of one iteration, and its gradient, for K classes of ipc synthetic images, (K * ipc, C, H, W)."""

    def __init__(self, images: Tensor, classes: int, ipc: int, cfg: DMConfig) -> None:
        shape = (images.shape[1], images.shape[2], images.shape[3])
        self.images, self.classes, self.ipc, self.strategy = images, classes, ipc, cfg.augment
        self.network = models.scratch(cfg.model, shape, 1, images.device, images.dtype, trainable=False)
        together = models.has_batch_statistics(self.network)
        chunk = compute.chunk_size(images.device, _bytes_per_image(self.network, shape))
        self.real_chunk = classes * cfg.real_batch if together else chunk
        both_ways = chunk if images.is_cuda else compute.gradient_chunk(self.network)
        self.classes_at_once = classes if together else max(1, both_ways // ipc)
        real, synthetic = (
            compute.fast(self.network, "embed", cfg.compute, dtype, images.device)
            for dtype in (cfg.real_dtype, cfg.synthetic_dtype)
        )
        self.embed_real = real if together else compute.chunked(real, chunk)
        self.embed_synthetic = synthetic if together else compute.chunked(synthetic, self.classes_at_once * ipc)

    def backward(self, pixels: Tensor, real_rows: list[Tensor], parameters: augment.Parameters) -> Tensor:
        """Add the loss's gradient to `pixels.grad`; the loss, on the device.

        Args:
            real_rows: per class, the real images drawn; parameters: the augmentation of each class.
        """
        means = self._real_means(real_rows, parameters)
        losses = []
        for classes in torch.arange(self.classes).split(self.classes_at_once):
            first, last = int(classes[0]) * self.ipc, (int(classes[-1]) + 1) * self.ipc
            shared = parameters.of(classes.repeat_interleave(self.ipc))
            features = self.embed_synthetic(augment.apply(self.strategy, pixels[first:last], shared))
            loss = mean_gap(means[classes[0] : classes[-1] + 1], features.unflatten(0, (-1, self.ipc)).mean(1))
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    @torch.no_grad()
    def _real_means(self, rows: list[Tensor], parameters: augment.Parameters) -> Tensor:
        """Mean embedding of each class's real batch, (K, D)."""
        sizes = torch.tensor([len(of_class) for of_class in rows])
        owner = torch.arange(self.classes).repeat_interleave(sizes)
        sums: Tensor | None = None
        for some, theirs in zip(torch.cat(rows).split(self.real_chunk), owner.split(self.real_chunk), strict=True):
            batch = self.images[some.to(self.images.device, non_blocking=True)]
            features = self.embed_real(augment.apply(self.strategy, batch, parameters.of(theirs)))
            if sums is None:
                sums = features.new_zeros(self.classes, features.shape[1])
            sums.index_add_(0, theirs.to(sums.device, non_blocking=True), features)
        assert sums is not None  # every class has at least one real image
        return sums / sizes.to(sums).unsqueeze(1)


def mean_gap(real: Tensor, synthetic: Tensor) -> Tensor:
    """Squared distances between mean embeddings (K, D) and (K, D), summed over classes: the paper's formula."""
    return (real - synthetic).square().sum()


def _bytes_per_image(network: models.ConvNet, shape: tuple[int, int, int]) -> int:
    """Feature maps of one image that a forward and backward pass keeps: about four of each convolution's size."""
    size, total = shape[1] * shape[2], 0
    for module in network.features:
        if isinstance(module, torch.nn.Conv2d):
            total += 4 * 4 * module.out_channels * size
        size = size if not isinstance(module, torch.nn.AvgPool2d | torch.nn.MaxPool2d) else size // 4
    return total
