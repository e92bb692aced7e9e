"""The configuration and the loops of gradient matching, shared by DC, DSA, DCC and DSAC.

The synthetic images of a class are optimised so that the gradients of a network's weights on them match the gradients
on real images. Between the updates, the network is trained on the synthetic images (Zhao et al., ICLR 2021,
arXiv:2006.05929).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Self

from torch import Generator, Tensor

from harness.core import augment, models
from harness.core.augment import AugmentName
from harness.core.fields import Count, Momentum, Positive, configuration, one_of
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import Parametrisation, Pixels, Start
from harness.core.progress import SILENT, Progress
from harness.core.recipes import TrainConfig
from harness.core.train import fit
from harness.memory.method import ExtraLoss, Form, MethodConfig, Passes, Presets, Settings
from harness.memory.shared.distances import DISTANCES
from harness.memory.shared.gradients import GradientMatching, matching_statistics
from harness.memory.shared.sampling import draw
from harness.memory.shared.synthetic import Draws, Synthetic, add_network, learn, real_batches, shape_of

Loops = Mapping[int, tuple[int, int]]  # ipc -> (updates of the images per network, epochs of the network between them)
Rates = Mapping[str, float]  # full name of a network -> learning rate of the images


@configuration
class GradientMatchingConfig(MethodConfig):
    """The hyper-parameters of the authors' script, DatasetCondensation `main.py`; each method sets its own defaults."""

    iterations: Count = 1000
    "Number of networks, drawn one after the other."
    updates: Count | None = None
    "Updates of the images for each network; by default the published number for the images per class."
    epochs: Count | None = None
    "Epochs of a network on the synthetic images between two updates; by default the published number."
    lr: Positive = 0.1
    "Learning rate of the images, for SGD in normalised units."
    momentum: Momentum = 0.5
    "Momentum of the images' SGD."
    real_batch: Count = 256
    "Real images of each class in an update; all of them if a class has fewer."
    network_lr: Positive = 0.01
    "Learning rate of the network, for plain SGD."
    network_batch: Count = 256
    "Synthetic images in a batch of the network's training."
    model: str = "convnet3"
    "The network whose gradients are matched."
    init: Start = "real"
    "Initial images: real or noise."
    augment: AugmentName = augment.DSA
    "Augmentation, or none; real and synthetic images of a class share one random draw in each update."
    distance: Annotated[str, one_of(DISTANCES, "distance")] = "rows"
    "Distance between gradients: rows, cos, mse or l1."
    batchnorm: Annotated[str, one_of(("reference", "exact"), "batchnorm")] = "reference"
    "BatchNorm in matching: running statistics updated by one batch (reference), or those of the batch (exact)."
    compute: str = "eager"
    "Form of computing: eager or compiled; second derivatives are compiled only if that saves time."
    real_dtype: str = "float32"
    "Data type of products for the gradients on real images."

    # Published updates and epochs: DatasetCondensation `utils.py`, get_loops. At an ipc of 1, no network is trained.
    loops: ClassVar[Loops] = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
    rates: ClassVar[Rates] = {}
    presets: ClassVar[Presets] = {
        "quick": {"lr": 2.0, "real_batch": 64},
        "smoke": {"iterations": 2, "updates": 2, "epochs": 1, "real_batch": 8},
    }
    quick_updates: ClassVar[int] = 200  # total number of updates of the images in the preset `quick`

    def preset(self, name: str, track: str) -> Settings:
        """Return the settings of a preset.

        The preset `quick` makes 200 updates: ten for each of 20 networks, or, if one update for each network is
        published, one for each of 200 networks, which are then not trained.
        """
        settings = super().preset(name, track)
        if name != "quick":
            return settings
        updates, epochs = min(self.updates or 10, 10), min(self.epochs or 5, 5)
        return {**settings, "iterations": self.quick_updates // updates, "updates": updates, "epochs": epochs}

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """Return the configuration with the published learning rate and loops; see `with_loops`."""
        return self.with_rate().with_loops(ipc)

    def with_loops(self, ipc: int) -> Self:
        """Return the configuration with the published loops in place of values that are None.

        An ipc that is not in the table takes the loops of the next larger ipc, or of the largest one.
        """
        updates, epochs = self.loops[next((listed for listed in sorted(self.loops) if listed >= ipc), max(self.loops))]
        return replace(self, updates=self.updates or updates, epochs=self.epochs or epochs)

    def with_rate(self) -> Self:
        """Return the configuration with the learning rate that is published for its network, if there is one."""
        return replace(self, lr=self.rates.get(str(models.parse(self.model)), self.lr))

    def sums_over_classes(self, iteration: int, update: int) -> bool:
        """Return whether this update of this iteration compares gradients summed over classes."""
        return False

    @property
    def total(self) -> int:
        """Total number of updates of the images."""
        return self.iterations * (self.updates or 1)

    @property
    def form(self) -> Form:
        return Form(self.compute, "float32", self.real_dtype)

    def passes(self, classes: int, images: int, ipc: int) -> Passes:
        trained = (self.total - self.iterations) * (self.epochs or 1) * classes * ipc
        return Passes(0, self.real_passes(classes, images) + 3 * self.count_matched(classes, ipc) + trained)

    def real_passes(self, classes: int, images: int) -> int:
        return self.total * classes * min(self.real_batch, images)

    def count_matched(self, classes: int, images: int) -> int:
        """Count the synthetic images that are matched in all updates, with `images` decoded images in each class."""
        return self.total * classes * images

    @property
    def network_recipe(self) -> TrainConfig:
        """How the network is trained on the synthetic images between two updates."""
        assert self.epochs is not None  # `with_loops` sets it
        return TrainConfig(
            epochs=self.epochs,
            lr=self.network_lr,
            momentum=0.0,
            weight_decay=0.0,
            batch_size=self.network_batch,
            augment=self.augment,
            schedule="constant",
            compute=self.compute,
        )


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
    """Synthetic images whose weight gradients match the real ones, during the training of many networks.

    Each of `iterations` networks is drawn anew and serves `updates` updates of the images. Between two updates, it is
    trained on the synthetic images.

    Args:
        images: real images, (N, C, H, W) float32, normalised.
        labels: (N,) int64, global ids.
        budget: images kept per class.
        rng: CPU generator, the only source of randomness; advanced by the call.
        cfg: hyper-parameters.
        progress: reports updates and saves checkpoints.
        form: how the images are stored.
        extra_loss: a loss to add to the distance.
    Returns:
        The images of each class that `form` stores in the budget, in ascending order of classes, on the device of
        `images`.
    Raises:
        ValueError: a class has fewer than budget.ipc real images.
        FloatingPointError: the synthetic images or the loss of a network are no longer finite.
    """
    cfg = cfg.with_loops(budget.ipc)
    updates, network_recipe = cfg.updates, cfg.network_recipe
    assert updates is not None  # `with_loops` sets it
    synthetic = Synthetic(images, labels, budget, rng, form=form, start=cfg.init, lr=cfg.lr, momentum=cfg.momentum)
    draws = Draws.of(rng, images.device)
    network = models.scratch(cfg.model, shape_of(images), synthetic.classes, images.device, images.dtype)
    match = GradientMatching(
        network,
        DISTANCES[cfg.distance],
        form=cfg.compute,
        real_dtype=cfg.real_dtype,
        device=images.device,
        flop=models.forward_flop(network, shape_of(images)) * cfg.count_matched(synthetic.classes, synthetic.ipc),
    )

    def update(number: int) -> None:
        position = number % updates
        if position == 0:
            models.draw_weights(network, draws.weights)
        rows = [draw(of_class, cfg.real_batch, rng) for of_class in synthetic.rows]
        parameters = augment.draw_shared(cfg.augment, synthetic.classes, rng)
        real = real_batches(cfg.augment, images, rows, parameters)
        augmented = augment.apply(cfg.augment, synthetic.images, parameters.of(synthetic.owner))
        leaf = augmented.detach().requires_grad_()
        with matching_statistics(network, real, cfg.batchnorm):
            targets = match.real_gradients(real)
            sums = cfg.sums_over_classes(number // updates, position)
            add_gradient = match.backward_together if sums else match.backward
            add_gradient(leaf, targets)
            if extra_loss is not None:
                extra_loss(network, lambda count: [batch[:count] for batch in real], leaf)
        augmented.backward(leaf.grad)
        synthetic.step()
        if position < updates - 1:
            fit(network, synthetic.images.detach(), synthetic.local, network_recipe, rng)

    return learn(synthetic, draws, cfg.total, update, add_network(progress, network), "gradient matching")
