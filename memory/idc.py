"""Memory that holds several images in one, learned by gradient matching (IDC: Kim et al., ICML 2022, arXiv:2205.14959).

Unlike in DC, the networks are trained on real images, and only the gradients of the convolutions are matched.

This differs from the authors' script, Efficient-Dataset-Condensation `condense.py`, as follows. How much each
difference changes the results is unverified, except for the steps of the images.

- Start: the script takes the first images of each class and shrinks them to the nearest pixels. Here they are drawn at
  random and shrunk bilinearly with antialiasing. Noise is standard normal in normalised units here; the script draws
  it with mean 0.5 and standard deviation 0.25, clamped to [0, 1].
- Range: the script clamps pixels to [0, 1] before the first update of each network, so that the images it saves after
  the last update are not clamped. Here they are clamped after the last update of each network, to the least and
  greatest value of each channel among the real images.
- Steps: the script moves all images after each class, those of other classes by their momentum alone. Here all classes
  move together, as far as they would have by the same class's next turn; a test compares both.
- Training: the script trains a network on whole batches until it has seen at least 2,000 real images, which makes
  2,048 in batches of 64, and goes on through shuffled passes over the data. Here 2,000 images are drawn anew each time.
- BatchNorm, in networks that have it: the script normalises real and synthetic images by the statistics of their own
  batches. Here both sides are normalised by statistics of the same real images; see `matching_statistics`.
- CIFAR-100: the script normalises it by the mean and standard deviation of CIFAR-10. Here it has its own.
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Self

import torch
from torch import Generator, Tensor

from harness.core import augment, models
from harness.core.augment import AugmentName
from harness.core.fields import Count, Momentum, Positive, configuration, one_of
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import MultiFormation, Pixels, Shape, Start
from harness.core.progress import SILENT, Progress
from harness.core.recipes import TrainConfig
from harness.core.train import fit, make_optimizer
from harness.memory.method import Form, Method, MethodConfig, Passes, Presets, Settings
from harness.memory.shared.distances import DISTANCES
from harness.memory.shared.gradients import GradientMatching, matching_statistics
from harness.memory.shared.sampling import draw, renumber
from harness.memory.shared.synthetic import Draws, Synthetic, add_network, learn, real_batches, shape_of

# data set -> settings of Efficient-Dataset-Condensation `misc/reproduce.py` that differ from CIFAR-10's, at every ipc
PUBLISHED: Presets = {
    "mnist": {"distance": "l1", "lr": 1e-4, "trained": 500},
    "fashionmnist": {"distance": "l1", "lr": 1e-4 * (28 / 32) ** 2, "trained": 500},  # `argument.py`
    "svhn": {"trained": 500},
}
# data sets for which IDC (not IDC-I) uses neither cutout in matching nor CutMix in the training of networks
WITHOUT_CUTS = ("mnist",)


@configuration
class IDCConfig(MethodConfig):
    """The defaults of the authors' script, Efficient-Dataset-Condensation `condense.py`, for CIFAR."""

    iterations: Count = 2000
    "Number of networks, drawn one after the other."
    updates: Count = 100
    "Updates of the images for each network."
    lr: Positive = 0.005
    "Learning rate at 10 images per class, for SGD on pixels in [0, 1]; it is proportional to the images per class."
    momentum: Momentum = 0.5
    "Momentum of the images' SGD."
    factor: Count = 2
    "Each stored image holds factor x factor smaller images."
    real_batch: Count = 64
    "Real images of each class in an update."
    synthetic_batch: Count = 128
    "Largest number of decoded images of each class in an update."
    trained: Count = 2000
    "Number of real images that the network is trained on after each update."
    train: TrainConfig = TrainConfig(
        epochs=1, batch_size=64, augment=augment.IDC_NETWORK, cutmix=0.5, schedule="constant"
    )
    "Training of the network on real images, after each update."
    model: str = "convnet3"
    "The network whose gradients are matched."
    init: Start = "real"
    "Initial images: real (several side by side) or noise."
    augment: AugmentName = augment.IDC
    "Augmentation; real and synthetic images of a class share one random draw in each update."
    distance: Annotated[str, one_of(DISTANCES, "distance")] = "mse"
    "Distance between the gradients of the convolutions: rows, cos, mse or l1."
    compute: str = "eager"
    "Form of computing: eager or compiled; second derivatives are compiled only if that saves time."
    real_dtype: str = "float32"
    "Data type of products for the gradients on real images."

    # Part of the key: earlier versions used a new optimiser for each training of a network.
    beyond: ClassVar[Settings] = {"optimizer": "one a network"}
    presets: ClassVar[Presets] = {
        "quick": {
            "iterations": 5,
            "updates": 20,
            "real_batch": 32,
            "synthetic_batch": 20,
            "trained": 500,
            "lr": 0.1,
            "distance": "mse",  # this lr is chosen for mse, on every data set
            "train.dtype": "auto",
        },
        "smoke": {"iterations": 2, "updates": 2, "real_batch": 8, "trained": 32},
    }

    @property
    def total(self) -> int:
        """Total number of updates of the images."""
        return self.iterations * self.updates

    @property
    def form(self) -> Form:
        return Form(self.compute, "float32", self.real_dtype)

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """Return the configuration published for the data set; it is the same for every ipc."""
        published = replace(self, **PUBLISHED.get(dataset, {}))
        if dataset not in WITHOUT_CUTS or self.factor == 1:
            return published
        return replace(published, augment=augment.IDC_NETWORK, train=replace(published.train, cutmix=0.0))

    def round_step(self, classes: int, ipc: int) -> tuple[float, float]:
        """Return the learning rate and momentum of one step that equals a round of steps over all classes.

        In a round, the script steps once for each class. The gradient of a class moves its images in the step of the
        class, and by momentum in those of the other classes.
        """
        total_step = (1 - self.momentum**classes) / (1 - self.momentum)  # 1 + momentum + momentum^2 + ...
        return self.lr * ipc / 10 * total_step, self.momentum**classes

    def decoded(self, ipc: int, shape: Shape) -> int:
        return MultiFormation(self.factor).stored_in(ipc, shape) * self.factor**2

    def passes(self, classes: int, images: int, ipc: int) -> Passes:
        trained = self.total * min(self.trained, classes * images)
        return Passes(0, self.real_passes(classes, images) + 3 * self.count_matched(classes, ipc) + trained)

    def real_passes(self, classes: int, images: int) -> int:
        return self.total * classes * min(self.real_batch, images)

    def count_matched(self, classes: int, images: int) -> int:
        """Count the synthetic images that are matched in all updates, with `images` decoded images in each class."""
        return self.total * classes * min(self.synthetic_batch, images)


@configuration
class IDCIConfig(IDCConfig):
    """The defaults of IDC with full-size images."""

    factor: Count = 1


def build(
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    rng: Generator,
    cfg: IDCConfig = IDCConfig(),
    progress: Progress = SILENT,
) -> Memory:
    """Synthetic images, several stored in one, whose gradients match those of real images in trained networks.

    The documentation of this module lists the differences from the authors' script.

    Args:
        images: real images, (N, C, H, W) float32, normalised.
        labels: (N,) int64, global ids.
        budget: images stored per class; each decodes into factor x factor images.
        rng: CPU generator, the only source of randomness; advanced by the call.
        cfg: hyper-parameters.
        progress: reports updates and saves checkpoints.
    Returns:
        budget.ipc stored images of each class, in ascending order of classes, on the device of `images`.
    Raises:
        ValueError: a class has fewer than budget.ipc real images, or the factor does not divide height and width.
        FloatingPointError: the synthetic images or the loss of a network are no longer finite.
    """
    classes = len(labels.unique())
    form = MultiFormation(cfg.factor) if cfg.factor > 1 else Pixels()
    lr, momentum = cfg.round_step(classes, budget.ipc)
    synthetic = Synthetic(images, labels, budget, rng, form=form, start=cfg.init, lr=lr, momentum=momentum)
    draws = Draws.of(rng, images.device)
    network = models.scratch(cfg.model, shape_of(images), classes, images.device, images.dtype)
    match = GradientMatching(
        network,
        DISTANCES[cfg.distance],
        form=cfg.compute,
        real_dtype=cfg.real_dtype,
        device=images.device,
        flop=models.forward_flop(network, shape_of(images)) * cfg.count_matched(classes, synthetic.ipc),
        weights=lambda name, weight: weight.ndim == 4,
    )
    local_labels, optimizer = renumber(labels), make_optimizer(network, cfg.train)
    # The learning rate is for pixels in [0, 1], where `low` becomes 0 and `high` becomes 1. Gradients with respect to
    # such pixels are larger by the factor high - low, and a step of 1 is high - low in normalised units.
    low, high = images.amin((0, 2, 3)).view(-1, 1, 1), images.amax((0, 2, 3)).view(-1, 1, 1)
    all_rows = torch.arange(len(images))

    def update(number: int) -> None:
        if number % cfg.updates == 0:
            models.draw_weights(network, draws.weights)
            optimizer.state.clear()
        rows = [draw(of_class, cfg.real_batch, rng) for of_class in synthetic.rows]
        parameters = augment.draw_shared(cfg.augment, classes, rng)
        real = real_batches(cfg.augment, images, rows, parameters)
        by_class = torch.arange(len(synthetic.labels)).split(synthetic.ipc)
        synthetic_rows = torch.cat([draw(of_class, cfg.synthetic_batch, rng) for of_class in by_class])
        synthetic_batch = synthetic.images[synthetic_rows.to(images.device, non_blocking=True)]
        augmented = augment.apply(cfg.augment, synthetic_batch, parameters.of(synthetic.owner[synthetic_rows]))
        leaf = augmented.detach().requires_grad_()
        with matching_statistics(network, real, "reference"):
            match.backward(leaf, match.real_gradients(real))
        augmented.backward(leaf.grad)
        assert synthetic.images.grad is not None
        synthetic.images.grad *= (high - low).square()
        synthetic.step()
        if number % cfg.updates == cfg.updates - 1:
            synthetic.clamp(low, high)
        else:
            train_rows = draw(all_rows, cfg.trained, rng).to(images.device, non_blocking=True)
            fit(network, images[train_rows], local_labels[train_rows], cfg.train, rng, optimizer=optimizer)

    return learn(synthetic, draws, cfg.total, update, add_network(progress, network, optimizer), "idc")


IDC = Method(build, IDCConfig(), frozenset({"progress"}))
IDC_I = Method(
    build,
    IDCIConfig(),
    frozenset({"progress"}),
    "IDC that stores each image in full size, comparable with DC, DSA and DM.",
)
