"""Memory condensed by distribution matching (Zhao & Bilen, WACV 2023, arXiv:2110.04181)."""

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, ClassVar, Self

import torch
from torch import Generator, Tensor

from harness.core import augment, compute, models
from harness.core.augment import AugmentName
from harness.core.fields import ADDED_LATER, Count, Momentum, Positive, configuration, satisfies
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import Parametrisation, Pixels, Start
from harness.core.progress import SILENT, Progress
from harness.memory.method import LEARNS, ExtraLoss, Form, Method, MethodConfig, Passes, Presets, Settings
from harness.memory.shared import pool
from harness.memory.shared.sampling import draw
from harness.memory.shared.synthetic import Draws, Synthetic, learn, real_batches, shape_of

# (data set, ipc) -> published learning rate where it is not 1 (readme of DatasetCondensation).
PUBLISHED_LR: Mapping[tuple[str, int], float] = {("cifar10", ipc): 10.0 for ipc in (100, 200, 500, 1000, 1250)}

# data set -> published number of iterations where it is not 20,000 (DM, appendix A.1).
PUBLISHED_ITERATIONS: Mapping[str, int] = {"tinyimagenet": 10_000, "imagenet64": 10_000}


@configuration
class DMConfig(MethodConfig):
    """The defaults of the authors' script, DatasetCondensation `main_DM.py`."""

    iterations: Count = 20_000
    "Updates of the synthetic images."
    lr: Positive = 1.0
    "Learning rate of the images, for SGD in normalised units."
    momentum: Momentum = 0.5
    "Momentum of the images' SGD."
    real_batch: Count = 256
    "Real images of each class in an iteration; all of them if a class has fewer."
    init: Start = "real"
    "Initial images: real or noise."
    model: str = "convnet3"
    "The network whose embeddings are matched; its weights are drawn anew in every iteration."
    networks: Annotated[str, satisfies(pool.band)] = "random"
    "Weights of the network: random, or trained:LO-HI for a pool of networks of that accuracy (%)."
    augment: AugmentName = augment.DSA
    "Augmentation; real and synthetic images of a class share one random draw in each iteration."
    compute: str = "eager"
    "Form of computing: eager or compiled."
    real_dtype: str = "float32"
    "Data type of products without gradients, for the real images."
    synthetic_dtype: str = "float32"
    "Data type of products with gradients, for the synthetic images; auto selects it by the hardware."
    pool_size: Count = field(default=1000, metadata=ADDED_LATER)
    "Number of networks in the pool of trained networks."

    presets: ClassVar[Presets] = {
        "quick": {"iterations": 800, "lr": 5.0, "real_batch": 64, "synthetic_dtype": "auto"},
        "smoke": {"iterations": 3, "real_batch": 16},
    }

    def preset(self, name: str, track: str) -> Settings:
        """Return the settings of a preset; the short presets use a smaller pool of trained networks."""
        settings = super().preset(name, track)
        size = {"quick": 10, "smoke": 2}.get(name)
        return settings if self.networks == "random" or size is None else {**settings, "pool_size": size}

    @property
    def per_class(self) -> bool:
        """Whether classes are independent: not with BatchNorm, and not in networks trained on all classes."""
        return models.parse(self.model).norm != "batchnorm" and self.networks == "random"

    @property
    def beyond(self) -> Settings:
        """The constants of a pool of trained networks, which are not fields."""
        return {} if self.networks == "random" else {"pool": pool.settings(self.pool_size)}

    @property
    def form(self) -> Form:
        return Form(self.compute, self.synthetic_dtype, self.real_dtype)

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """Return the configuration with the published learning rate and number of iterations."""
        iterations = PUBLISHED_ITERATIONS.get(dataset, self.iterations)
        return replace(self, lr=PUBLISHED_LR.get((dataset, ipc), self.lr), iterations=iterations)

    def passes(self, classes: int, images: int, ipc: int) -> Passes:
        """Count the images of all iterations, but not those that train a pool of networks, whose number varies."""
        return Passes(self.iterations * classes * min(self.real_batch, images), self.iterations * classes * ipc)


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: DMConfig = DMConfig(),
    progress: Progress = SILENT,
    form: Parametrisation = Pixels(),
    extra_loss: ExtraLoss | None = None,
) -> Memory:
    """Synthetic images whose mean embeddings match the real ones, class by class.

    As published, the synthetic images start from random real images. Each iteration draws a new random network and, for
    each class, a new augmentation. The loss is the squared distance between the mean embeddings of real and synthetic
    images, summed over features and classes.

    Args:
        images: real images, (N, C, H, W) float32, normalised.
        labels: (N,) int64, global ids.
        budget: images kept per class.
        rng: CPU generator, the only source of randomness; advanced by the call.
        cfg: hyper-parameters.
        progress: reports iterations and saves checkpoints.
        form: how the images are stored.
        extra_loss: a loss to add to the distance.
    Returns:
        The images of each class that `form` stores in the budget, in ascending order of classes, on the device of
        `images`.
    Raises:
        ValueError: a class has fewer than budget.ipc real images, or no network of the pool reaches its accuracy.
        FloatingPointError: the synthetic images are no longer finite.
    """
    synthetic = Synthetic(images, labels, budget, rng, form=form, start=cfg.init, lr=cfg.lr, momentum=cfg.momentum)
    draws = Draws.of(rng, images.device)
    match = MeanMatching(images, synthetic.classes, synthetic.ipc, cfg)
    networks = pool.Networks(cfg.networks, cfg.pool_size, cfg.model, cfg.augment, images, labels, draws)
    progress = networks.fill(progress, cfg.iterations)

    def update(_: int) -> None:
        networks.draw(match.network)
        batch = [draw(rows, cfg.real_batch, rng) for rows in synthetic.rows]
        parameters = augment.draw_shared(cfg.augment, synthetic.classes, rng)
        match.backward(synthetic.images, batch, parameters)
        if extra_loss is not None:
            augmented = augment.apply(cfg.augment, synthetic.images, parameters.of(synthetic.owner))
            leaf = augmented.detach().requires_grad_()

            def real(count: int) -> list[Tensor]:
                return real_batches(cfg.augment, images, [rows[:count] for rows in batch], parameters)

            extra_loss(match.network, real, leaf)
            augmented.backward(leaf.grad)
        synthetic.step()

    return learn(synthetic, draws, cfg.iterations, update, progress, "dm")


METHOD = Method(build, DMConfig(), LEARNS)


class MeanMatching:
    """The loss of one iteration and its gradient.

    The images pass through the network in chunks that fit the device: first all real images, without gradients, then
    the synthetic images of some classes at a time, forward and backward. With BatchNorm, all images are one chunk,
    because its statistics are those of all classes together.

    Args:
        images: real images, (N, C, H, W) float32, normalised.
        classes: number of classes K.
        ipc: synthetic images per class.
        cfg: hyper-parameters.
    """

    def __init__(self, images: Tensor, classes: int, ipc: int, cfg: DMConfig) -> None:
        shape = shape_of(images)
        self.images, self.classes, self.ipc, self.strategy = images, classes, ipc, cfg.augment
        self.synthetic_dtype = cfg.synthetic_dtype
        self.network = models.scratch(cfg.model, shape, 1, images.device, images.dtype, trainable=False)
        together = models.has_batch_statistics(self.network)
        chunk = compute.chunk_size(images.device, models.bytes_per_image(self.network, shape))
        self.real_chunk = classes * cfg.real_batch if together else chunk
        gradient_chunk = chunk if images.is_cuda else compute.gradient_chunk(self.network)
        self.classes_at_once = classes if together else max(1, gradient_chunk // ipc)
        real, synthetic = (
            compute.prepare(self.network, "embed", cfg.compute, dtype, images.device)
            for dtype in (cfg.real_dtype, cfg.synthetic_dtype)
        )
        self.embed_real = real if together else compute.apply_in_chunks(real, chunk)
        self.embed_synthetic = synthetic if together else compute.apply_in_chunks(synthetic, self.classes_at_once * ipc)

    def backward(self, pixels: Tensor, real_rows: list[Tensor], parameters: augment.Parameters) -> Tensor:
        """Add the gradient of the loss to `pixels.grad`, and return the loss, a scalar on the device.

        Args:
            pixels: synthetic images, (K * ipc, C, H, W), in ascending order of classes.
            real_rows: for each class, the rows of its real batch.
            parameters: the augmentation of each class.
        """
        means = self._real_means(real_rows, parameters)
        losses = []
        for classes in torch.arange(self.classes).split(self.classes_at_once):
            first, last = int(classes[0]) * self.ipc, (int(classes[-1]) + 1) * self.ipc
            shared = parameters.of(classes.repeat_interleave(self.ipc))
            with compute.precision(self.synthetic_dtype, pixels.device):
                features = self.embed_synthetic(augment.apply(self.strategy, pixels[first:last], shared))
                loss = mean_gap(means[classes[0] : classes[-1] + 1], features.unflatten(0, (-1, self.ipc)).mean(1))
                loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    @torch.no_grad()
    def _real_means(self, rows: list[Tensor], parameters: augment.Parameters) -> Tensor:
        """Return the mean embedding of the real batch of each class, (K, D)."""
        sizes = torch.tensor([len(of_class) for of_class in rows])
        owner = torch.arange(self.classes).repeat_interleave(sizes)
        sums: Tensor | None = None
        chunks = zip(torch.cat(rows).split(self.real_chunk), owner.split(self.real_chunk), strict=True)
        for chunk_rows, chunk_classes in chunks:
            batch = self.images[chunk_rows.to(self.images.device, non_blocking=True)]
            features = self.embed_real(augment.apply(self.strategy, batch, parameters.of(chunk_classes)))
            if sums is None:
                sums = features.new_zeros(self.classes, features.shape[1])
            sums.index_add_(0, chunk_classes.to(sums.device, non_blocking=True), features)
        assert sums is not None  # every class has at least one real image
        return sums / sizes.to(sums, non_blocking=True).unsqueeze(1)


def mean_gap(real: Tensor, synthetic: Tensor) -> Tensor:
    """Return the squared distance between mean embeddings, each (K, D), summed over classes."""
    return (real - synthetic).square().sum()
