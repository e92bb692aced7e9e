import csv
import hashlib
import itertools
from collections import Counter
from importlib import resources
from importlib.metadata import EntryPoint

import pytest
import torch

from harness.core import models, registry
from harness.nas import space
from harness.nas.space import Arch, Space, find, select

SPACE = find("convnet720")
IMAGE = (3, 32, 32)


def listed() -> list[dict[str, str]]:
    with (resources.files("harness.results") / "published" / "nas_space_720.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_architectures_are_the_listed_ones() -> None:
    for arch, line in zip(SPACE, listed(), strict=True):
        assert arch.id == int(line["id"])
        assert dict(arch.axes) == {
            "width": int(line["width"]),
            "depth": int(line["depth"]),
            "norm": "nonorm" if line["norm"] == "none" else line["norm"],
            "activation": line["act"],
            "pooling": "nopooling" if line["pooling"] == "none" else line["pooling"],
        }
    assert len(SPACE) == 4 * 4 * 5 * 3 * 3
    assert len({arch.model for arch in SPACE}) == 720


def test_parameters_and_macs_are_the_listed_ones() -> None:
    for arch, line in zip(SPACE, listed(), strict=True):
        assert space.count_parameters(arch.model, IMAGE, 10) == int(line["params_10cls"])
        assert space.count_macs(arch.model, IMAGE, 10) == int(line["macs_per_image_32x32"])


def test_every_architecture_trains() -> None:
    # At width 4: the networks of the other widths differ from these in their size alone, and 256 filters are slow.
    narrow = {models.parse(arch.model).__class__(**{**dict(arch.axes), "width": 4}) for arch in SPACE}  # type: ignore[arg-type]
    assert len(narrow) == 720 / 4
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for spec in sorted(narrow, key=str):
        network = models.build(str(spec), (3, 16, 16), 10, torch.Generator().manual_seed(0))
        logits = network(images)
        assert logits.shape == (2, 10)
        logits.square().sum().backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


@pytest.mark.parametrize("width", [32, 256])
def test_the_widest_and_narrowest_train(width: int) -> None:
    (arch,) = select(SPACE, f"width={width},depth=4,norm=gn,activation=leakyrelu,pooling=max")
    network = models.build(arch.model, IMAGE, 10, torch.Generator().manual_seed(0))
    network(torch.ones(1, *IMAGE)).sum().backward()
    assert network.classifier.weight.grad is not None


# --- subsets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [72, 144])
def test_a_subset_is_balanced_on_every_axis(size: int) -> None:
    chosen = select(SPACE, size=size)
    assert len(chosen) == size
    for axis in SPACE.axes:
        counts = Counter(arch[axis] for arch in chosen).values()
        assert len(counts) == len(SPACE.axes[axis])
        assert max(counts) - min(counts) <= 1, axis


def test_a_smaller_subset_lies_within_a_larger_one() -> None:
    subsets = [{arch.id for arch in select(SPACE, size=size)} for size in (10, 72, 144)]
    assert all(small < large for small, large in itertools.pairwise(subsets))


def test_a_subset_of_a_filter_is_balanced() -> None:
    chosen = select(SPACE, "width=32,pooling!=none", 36)
    assert Counter(arch["depth"] for arch in chosen) == {1: 9, 2: 9, 3: 9, 4: 9}
    assert Counter(arch["pooling"] for arch in chosen) == {"maxpooling": 18, "avgpooling": 18}
    assert [arch.id for arch in chosen] == sorted(arch.id for arch in chosen)


def test_a_subset_is_the_same_on_every_machine() -> None:
    # All architectures tie for the first place, so the smallest SHA-256 digest of an id decides.
    first = min(range(720), key=lambda id: hashlib.sha256(str(id).encode()).hexdigest())
    assert [arch.id for arch in select(SPACE, size=1)] == [first]


# --- filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ("", 720),
        ("width=32", 180),
        ("width<=64,pooling=avg", 2 * 4 * 5 * 3),
        ("width<64", 180),
        ("depth>1, depth!=3", 360),
        ("norm=bn|in", 288),
        ("norm!=none,activation=relu|leakyrelu", 4 * 4 * 4 * 2 * 3),
        ("pooling=nopooling", 240),
        ("id=3|17|719", 3),
        ("id>=700", 20),
    ],
)
def test_a_filter_selects_what_meets_every_condition(wanted: str, count: int) -> None:
    assert len(select(SPACE, wanted)) == count


@pytest.mark.parametrize(
    ("wanted", "size", "message"),
    [
        ("width=33", 0, "archs: no architecture of convnet720 fits 'width=33'"),
        ("widht=32", 0, "archs: 'widht=32' is not a filter; write AXIS=VALUE"),
        ("width", 0, "archs: 'width' is not a filter"),
        ("norm=foo", 0, "archs: norm has no 'foo'; it has nonorm, batchnorm"),
        ("norm<=bn", 0, "archs: 'norm<=bn': <= compares with one number"),
        ("width<=32|64", 0, "<= compares with one number"),
        ("width=big", 0, "archs: width is a number, got 'big'"),
        ("", 721, "subset: 721 architectures are asked for, convnet720 has 720"),
        ("width=32", 181, "subset: 181 architectures are asked for, 'width=32' selects 180"),
        ("", -1, "subset: -1 architectures"),
    ],
)
def test_bad_filters_and_sizes_are_refused(wanted: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=r"^archs|^subset") as error:
        select(SPACE, wanted, size)
    assert message in str(error.value)


# --- spaces of other packages ----------------------------------------------------------------------------------------

TINY = Space("tiny", "two networks", (Arch(0, "mlp", (("kind", "mlp"),)), Arch(1, "lenet", (("kind", "lenet"),))))


def test_another_package_offers_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    class TinyEntryPoint(EntryPoint):
        def load(self) -> Space:
            return TINY

    def entries(group: str, name: str = "tiny") -> list[EntryPoint]:
        return [TinyEntryPoint("tiny", "package:TINY", group)] if name == "tiny" else []

    monkeypatch.setattr(registry, "entry_points", entries)
    assert space.names() == ["convnet720", "tiny"]
    assert [arch.model for arch in select(find("tiny"), "kind!=mlp")] == ["lenet"]
    with pytest.raises(ValueError, match="did you mean 'tiny'"):
        find("tniy")


@pytest.mark.parametrize(
    ("value", "message"),
    [("no_such_module:TINY", "cannot be loaded"), ("math:pi", "'tiny' is a float, not a harness.nas.space.Space")],
)
def test_a_bad_entry_point_is_named(value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(group: str, name: str = "tiny") -> list[EntryPoint]:
        assert group == "harness.spaces"
        return [EntryPoint("tiny", value, group)]

    monkeypatch.setattr(registry, "entry_points", entries)
    with pytest.raises(ValueError, match=r"^space") as error:
        find("tiny")
    assert message in str(error.value)
