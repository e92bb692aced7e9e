"""The configuration and the loops of gradient matching, shared by DC, DSA, DCC and DSAC.

A network's weight gradients on the synthetic images of a class are brought towards those on its real images, while
the network is trained on the synthetic images in between (Zhao et al., ICLR 2021, arXiv:2006.05929).
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
from harness.memory.shared.synthetic import Draws, Synthetic, learn, real_batches, shape_of, with_network

Loops = Mapping[int, tuple[int, int]]  # ipc -> (updates of the images per network, epochs of the network between them)


Rates = Mapping[str, float]  # network's full name -> learning rate of the images


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
    distance: Annotated[str, one_of(DISTANCES, "distance")] = "rows"
    "Distance between gradients: rows, cos, mse or l1."
    batchnorm: Annotated[str, one_of(("reference", "exact"), "batchnorm")] = "reference"
    "Statistics of BatchNorm while matching: of one batch by a tenth (reference), or of that batch alone (exact)."
    compute: str = "eager"
    "Form of computing: eager or compiled; second derivatives are compiled where there are enough of them."
    real_dtype: str = "float32"
    "Type of products for the real images' gradients."

    # ipc -> updates and epochs as published: DatasetCondensation `utils.py`, get_loops. An ipc of 1 trains no network.
    loops: ClassVar[Loops] = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
    rates: ClassVar[Rates] = {}
    presets: ClassVar[Presets] = {
        "quick": {"lr": 2.0, "real_batch": 64},
        "smoke": {"iterations": 2, "updates": 2, "epochs": 1, "real_batch": 8},
    }
    quick_updates: ClassVar[int] = 200  # of the images, in all, under the preset `quick`

    def preset(self, name: str, track: str) -> Settings:
        """What a preset sets of this method.

        `quick` shortens the published loops and makes 200 updates in all: over 20 networks of ten updates, or, where
        one update for each network is published, over 200 networks, none of which is trained.
        """
        settings = super().preset(name, track)
        if name != "quick":
            return settings
        updates, epochs = min(self.updates or 10, 10), min(self.epochs or 5, 5)
        return {**settings, "iterations": self.quick_updates // updates, "updates": updates, "epochs": epochs}

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
        trained = (self.total - self.iterations) * (self.epochs or 1) * classes * ipc
        return Passes(0, self.real_passes(classes, images) + 3 * self.count_matched(classes, ipc) + trained)

    def real_passes(self, classes: int, images: int) -> int:
        return self.total * classes * min(self.real_batch, images)

    def count_matched(self, classes: int, images: int) -> int:
        """Count the synthetic images that are matched in all updates, with `images` decoded images in each class."""
        return self.total * classes * images


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
        network,
        DISTANCES[cfg.distance],
        form=cfg.compute,
        real_dtype=cfg.real_dtype,
        device=images.device,
        flop=models.forward_flop(network, shape_of(images)) * cfg.count_matched(synthetic.classes, synthetic.ipc),
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
