"""Low-rank images for any method, its host (LoDC: Yang et al., NeurIPS 2023).

Each channel of an image is stored as the product of two thin factors, so that several images fit the numbers of one.
The loss of the host is unchanged; its gradient passes through the product.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Self

from torch import Generator, Tensor

from harness.core.fields import configuration, one_of, replace_known
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import LowRank, Shape
from harness.core.progress import SILENT, Progress
from harness.memory.method import AroundConfig, Method, MethodConfig, Settings

STARTS = {"noise": "noise", "svd": "real"}  # value of `init` -> name of the start in the parametrisation

# (host, data set, ipc) -> settings of the authors' configurations that differ from the host's and from rank 2. Their
# MNIST configurations of rank 8 at ipc 50 and of rank 2 for DC at ipc 1 exceed the budget; here it is never exceeded.
PUBLISHED: Mapping[tuple[str, str, int], Settings] = {
    ("dm", "cifar10", 50): {"rank": 4, "lr": 1000.0},
    ("dsa", "cifar100", 10): {"rank": 8},
    ("dm", "mnist", 10): {"rank": 8, "augment": "none"},
    ("dm", "mnist", 50): {"rank": 8, "augment": "none"},
    ("dsa", "mnist", 50): {"rank": 8, "augment": "none"},
    ("dm", "tinyimagenet", 1): {"rank": 4},
    ("dm", "tinyimagenet", 10): {"rank": 4},
}

# Hosts with half as many networks in the preset `quick`, because there are eight times as many images.
HALVED = ("dc", "dsa")


@configuration
class LowRankConfig(AroundConfig):
    """The configuration of a host, and the rank of its images."""

    host_name: str
    "Name of the host."
    rank: int = 2
    "Rank of the product, the smaller dimension of both factors."
    init: Annotated[str, one_of(STARTS, "init")] = "noise"
    "Initial factors: noise (standard normal, as published) or svd (the best approximation of real images)."

    stores_pixels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        LowRank(self.rank)

    def preset(self, name: str, track: str) -> Settings:
        settings = super().preset(name, track)
        if name != "quick" or self.host_name not in HALVED:
            return settings
        return {**settings, "host.iterations": settings["host.iterations"] // 2}

    def for_setting(self, dataset: str, ipc: int) -> Self:
        """Return the configuration with the published rank and host settings; the loops are those of the budget."""
        published = dict(PUBLISHED.get((self.host_name, dataset, ipc), {}))
        rank = published.pop("rank", self.rank)
        return replace(self, rank=rank, host=replace_known(self.host.for_setting(dataset, ipc), published))

    def decoded(self, ipc: int, shape: Shape) -> int:
        """Return the number of images of each class that fit the numbers of the budget."""
        return LowRank(self.rank).stored_in(ipc, shape)


def around(name: str, host: Method[MethodConfig]) -> Method[LowRankConfig]:
    """Return the method that is the host with low-rank images.

    Args:
        name: of the host.
        host: a method that takes `form`.
    Raises:
        ValueError: the host does not take `form`: it has a form of its own, or it learns no images.
    """
    if "form" not in host.takes:
        raise ValueError(f"lo: {name} cannot store its images in another form")

    def build(
        images: Tensor,
        labels: Tensor,
        budget: Budget,
        rng: Generator,
        cfg: LowRankConfig,
        progress: Progress = SILENT,
    ) -> Memory:
        host_cfg = replace_known(cfg.host, {"init": STARTS[cfg.init]})
        return host(images, labels, budget, rng, host_cfg, progress, form=LowRank(cfg.rank))

    about = f"{name} on low-rank images: several are stored in the bytes of one."
    return Method(build, LowRankConfig(host.config, name), frozenset({"progress"}), about)
