"""What `harness show` prints of a name."""

from collections.abc import Iterable

import pytest
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from harness.commands.listings import list_kind
from harness.commands.show import list_settings, show


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dm", ["memory.iterations = 20000", "arXiv:2110.04181", "pixel: ", "quick: iterations=800, lr=5.0, ",
                "51,200,000 forward, 2,000,000 forward and backward", "recipe.epochs = 1000"]),
        ("herding", ["memory.train.epochs = 200", "quick (cl): train.epochs=20, "]),
        ("lo-dm", ["memory.rank = 2", "memory.host.iterations = 20000", "storage: "]),
        ("full", ["full: all real images"]),
        ("idc", ["memory.factor = 2", "storage: ", "recipe.schedule = idc"]),
        ("idc-i", ["memory.factor = 1", "pixel: "]),
        ("smoke", ["cl: ipc=2, ", "  full: epochs=1", "model=convnet-d2-w8"]),
        ("convnet-d2-bn", ["convnet-d2-w128-batchnorm-relu-avgpooling"]),
        # 3 layers of 128 filters, 3 x 3 each: (27 + 1 + 2) * 128 + 2 * (1152 + 1 + 2) * 128 + (2048 + 1) * 10 numbers
        ("convnet3", ["320,010 parameters"]),
        ("digits", ["a data set of 10 classes", "1,442 train and 355 test, 1 x 8 x 8", "harness data check digits"]),
        ("cl-accuracy", ["harness plot RUN... --figure cl-accuracy"]),
        ("table1", ["PUBLISHED VALUES, DM paper Table 1", "cifar10/dm/10         48.9"]),
        ("convnet720", ["depth = 1, 2, 3, 4", " 719   1,789,706  205,268,992  convnet-d4-w256-groupnorm-leakyrelu-"]),
    ],
)  # fmt: skip
def test_a_page_has_the_facts(name: str, words: Iterable[str]) -> None:
    page = " ".join(show(name).split())
    for word in words:
        assert " ".join(word.split()) in page


def test_settings_have_their_meaning_below_them() -> None:
    @dataclass(frozen=True, config=ConfigDict(use_attribute_docstrings=True))
    class Inner:
        lr: float = 0.5
        "Learning rate of the images."

    @dataclass(frozen=True, config=ConfigDict(use_attribute_docstrings=True))
    class Config(Inner):
        train: Inner = Inner(0.1)
        names: tuple[str, ...] = ("a", "b")

    assert list(list_settings(Config(), "memory.")) == [
        "  memory.lr = 0.5  (float)",
        "      Learning rate of the images.",
        "  memory.train.lr = 0.1  (float)",
        "      Learning rate of the images.",
        "  memory.names = a,b  (tuple)",
    ]


@pytest.mark.parametrize("kind", ["memories", "recipes", "datasets", "figures", "reproductions", "spaces"])
def test_pages_fit_80_columns(kind: str) -> None:
    for name, _ in list_kind(kind):
        assert max(map(len, show(name).splitlines())) <= 80, name


def test_a_preset_fits_a_page() -> None:
    lines = show("quick").splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 60
