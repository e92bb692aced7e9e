from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from harness.core import atomic as files
from harness.core.data import KNOWN, DataSet
from harness.core.memory import Budget, Memory, from_stored, join, of_classes, on_cpu
from harness.core.memory_file import decode, encode, load, rounded, save
from harness.core.parametrisation import LowRank, MultiFormation, Parametrisation, Pixels

MEAN, STD = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)


def a_set(size: int = 4, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> DataSet:
    rng = Generator().manual_seed(0)
    images = torch.randint(256, (12, len(mean), size, size), generator=rng).to(torch.uint8)
    labels = torch.arange(12) % 3
    return DataSet("toy", images, labels, images[:3], labels[:3], ("a", "b", "c"), mean, std, "d" * 64, "official")


@pytest.fixture
def dataset() -> DataSet:
    return a_set()


def real_of(dataset: DataSet) -> Memory:
    order = dataset.train_labels.argsort(stable=True)[:8]
    return Memory(dataset.normalise(dataset.train_images[order]), dataset.train_labels[order], real=True)


def synthetic(seed: int = 0, classes: tuple[int, ...] = (0, 2)) -> Memory:
    images = 3 * torch.randn(2 * len(classes), 3, 4, 4, generator=Generator().manual_seed(seed))
    return Memory(images, torch.tensor(classes).repeat_interleave(2))


FORMS: list[Parametrisation] = [Pixels(), LowRank(1), MultiFormation(2)]
each_form = pytest.mark.parametrize("form", FORMS, ids=str)


def resolve_form(form: Parametrisation, classes: tuple[int, ...] = (0, 2), seed: int = 0) -> Memory:
    """Two stored images of each class."""
    labels = torch.tensor(classes).repeat_interleave(2)
    real = torch.zeros(len(labels) * form.views, 3, 4, 4)
    return from_stored(form, form.init(real, "noise", Generator().manual_seed(seed)), labels)


def with_soft(memory: Memory, classes: int = 3) -> Memory:
    soft = torch.rand(len(memory.labels), classes, generator=Generator().manual_seed(9))
    return replace(memory, league="soft", soft=soft / soft.sum(1, keepdim=True))


def assert_same(first: Memory, second: Memory) -> None:
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert (first.real, first.league, first.form) == (second.real, second.league, second.form)
    assert set(first.stored) == set(second.stored)
    assert all(torch.equal(part, second.stored[name]) for name, part in first.stored.items())
    assert (first.soft is None) == (second.soft is None)
    assert torch.equal(first.targets, second.targets)


def test_a_budget_has_at_least_one_image() -> None:
    assert Budget(1).ipc == 1
    with pytest.raises(ValueError, match=r"^ipc: at least 1 image per class is needed, got 0$"):
        Budget(0)


@pytest.mark.parametrize(("images", "labels"), [((4, 3, 4), (4,)), ((4, 3, 4, 4), (3,)), ((4, 3, 4, 4), (4, 1))])
def test_images_and_labels_must_fit(images: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^memory: expected images \(N, C, H, W\) and labels \(N,\), got "):
        Memory(torch.zeros(images), torch.zeros(labels, dtype=torch.int64))


def test_bytes_are_one_a_value_for_real_and_four_for_synthetic_images() -> None:
    images, labels = torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)
    assert Memory(images, labels, real=True).nbytes == 96
    assert Memory(images, labels).nbytes == 384


def test_budgets_count_what_is_stored() -> None:
    # 4 stored images of 3 x 4 x 4 = 48 numbers; as factors of rank 1, of 3 x (4 + 4) = 24 each.
    counts = [(memory.scalars, memory.nbytes, len(memory.labels)) for memory in map(resolve_form, FORMS)]
    assert counts == [(192, 768, 4), (96, 384, 4), (192, 768, 16)]
    assert [resolve_form(form).league for form in FORMS] == ["pixel", "storage", "storage"]


def test_soft_labels_count_four_bytes_a_number(dataset: DataSet) -> None:
    assert (
        with_soft(resolve_form(MultiFormation(2))).nbytes == 768 + 4 * 16 * 3
    )  # one distribution for each decoded image
    real = with_soft(real_of(dataset))
    assert (real.scalars, real.nbytes) == (8 * 48 + 8 * 3, 8 * 48 + 4 * 8 * 3)


def test_targets_are_soft_labels_where_there_are_any() -> None:
    memory = synthetic()
    assert memory.targets is memory.labels
    soft = with_soft(memory)
    assert soft.targets is soft.soft


def test_labels_of_stored_images_are_those_of_all_they_decode_into() -> None:
    memory = resolve_form(MultiFormation(2), (2, 0))
    assert memory.labels.tolist() == [2] * 8 + [0] * 8


def test_a_memory_holds_no_gradients() -> None:
    stored = {"images": torch.zeros(2, 3, 4, 4, requires_grad=True)}
    for form in (Pixels(), MultiFormation(2)):
        memory = from_stored(form, stored, torch.tensor([0, 1]))
        assert not memory.images.requires_grad
        assert not any(part.requires_grad for part in memory.stored.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"league": "pixels"}, "^memory: league 'pixels' is unknown; choose from pixel, storage, soft, full$"),
        ({"soft": torch.zeros(4, 3)}, "^memory: soft labels belong to the league soft, not pixel$"),
        ({"form": LowRank(1)}, "^memory: low-rank images belong to the league storage, not pixel$"),
        ({"soft": torch.zeros(3, 3), "league": "soft"}, r"^memory: expected soft labels \(4, K\), got \(3, 3\)$"),
        ({"soft": torch.zeros(4), "league": "soft"}, r"^memory: expected soft labels \(4, K\), got \(4,\)$"),
        ({"stored": {"left": torch.zeros(3, 1)}}, "^memory: what is stored does not decode into 4 images$"),
        (
            {"stored": {"images": torch.zeros(4, 1)}, "form": MultiFormation(2), "league": "storage"},
            "does not decode into 4 images$",
        ),
    ],
)
def test_a_memory_of_parts_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(synthetic(), **changes)


def test_join_keeps_the_order() -> None:
    first, second = synthetic(0, (2, 0)), synthetic(1, (1,))
    joined = join([first, second])
    assert joined.labels.tolist() == [2, 2, 0, 0, 1, 1]
    assert torch.equal(joined.images, torch.cat([first.images, second.images]))
    assert not joined.real


def test_a_join_is_real_only_if_all_parts_are(dataset: DataSet) -> None:
    real = real_of(dataset)
    assert join([real, real]).real
    assert not join([real, synthetic()]).real
    assert join([replace(real, league="soft")]).league == "soft"


@each_form
@pytest.mark.parametrize("has_soft", [False, True])
def test_what_is_joined_comes_apart_again(form: Parametrisation, has_soft: bool) -> None:
    first, second = resolve_form(form, (2, 0), 1), resolve_form(form, (1,), 2)
    if has_soft:
        first, second = with_soft(first), with_soft(second)
    joined = join([first, second])
    assert joined.labels[:: 2 * form.views].tolist() == [2, 0, 1]
    assert_same(of_classes(joined, [2, 0]), first)
    assert_same(of_classes(joined, [1]), second)


@each_form
def test_of_classes_takes_what_is_stored_along(form: Parametrisation) -> None:
    memory = resolve_form(form, (2, 0, 1))
    part = of_classes(memory, [1, 2])
    views = form.views
    assert part.labels.tolist() == [1] * 2 * views + [2] * 2 * views
    assert torch.equal(part.images, torch.cat([memory.images[4 * views :], memory.images[: 2 * views]]))
    if not isinstance(form, Pixels):
        torch.testing.assert_close(form.decode(dict(part.stored)), part.images)
    assert_same(of_classes(part, [1, 2]), part)


@pytest.mark.parametrize(
    "other",
    [
        resolve_form(LowRank(1)),
        resolve_form(MultiFormation(2)),
        replace(synthetic(), league="soft"),
        with_soft(synthetic()),
    ],
)
def test_memories_of_different_kinds_are_not_joined(other: Memory) -> None:
    for parts in ([synthetic(), other], [other, synthetic()]):
        with pytest.raises(ValueError, match=r"^memory: parts of different leagues, .* cannot be joined$"):
            join(parts)
    with pytest.raises(ValueError, match="cannot be joined"):
        join([with_soft(synthetic()), replace(synthetic(), league="soft")])  # one league, one without soft labels


def test_forms_of_different_sizes_are_not_joined() -> None:
    with pytest.raises(ValueError, match="cannot be joined"):
        join([resolve_form(LowRank(1)), resolve_form(LowRank(2), (1,))])


@each_form
def test_on_the_cpu_all_is_the_same(form: Parametrisation) -> None:
    memory = with_soft(resolve_form(form))
    assert_same(on_cpu(memory), memory)


# --- 8 bits ---------------------------------------------------------------------------------------------------------


def test_rounded_images_are_the_nearest_of_8_bits(dataset: DataSet) -> None:
    std, mean = torch.tensor(STD).view(3, 1, 1), torch.tensor(MEAN).view(3, 1, 1)
    pixels = torch.tensor([-0.1, 0.0, 10.4 / 255, 10.6 / 255, 1.0, 1.2]).repeat(3).view(1, 3, 1, 6)
    memory = Memory((pixels - mean) / std, torch.tensor([0]))
    result = rounded(memory, dataset)
    assert result is not None
    back = 255 * (result.images * std + mean)
    torch.testing.assert_close(back, torch.tensor([0.0, 0, 10, 11, 255, 255]).expand(1, 3, 1, 6), rtol=0, atol=1e-3)
    again = rounded(result, dataset)
    assert again is not None
    assert torch.equal(again.images, result.images)
    assert (memory.nbytes, result.nbytes) == (4 * 18, 18)


def test_several_in_one_are_rounded_as_stored(dataset: DataSet) -> None:
    memory = with_soft(resolve_form(MultiFormation(2)))
    result = rounded(memory, dataset)
    assert result is not None
    stored = result.stored["images"]
    assert torch.equal(stored, dataset.normalise((dataset.denormalise(memory.stored["images"]) * 255).round().byte()))
    assert torch.equal(result.images, MultiFormation(2).decode({"images": stored}))
    assert (result.league, result.form) == (memory.league, memory.form)
    assert torch.equal(result.targets, memory.targets)
    assert memory.soft is not None
    assert result.nbytes == result.stored["images"].numel() + 4 * memory.soft.numel()


def test_real_images_have_8_bits_already_and_factors_have_no_pixels(dataset: DataSet) -> None:
    real = real_of(dataset)
    assert rounded(real, dataset) is real
    assert rounded(resolve_form(LowRank(1)), dataset) is None


# --- parts ----------------------------------------------------------------------------------------------------------


def test_of_classes_keeps_the_order_asked_for() -> None:
    memory = replace(synthetic(0, (2, 0, 1)), real=True, league="storage")
    part = of_classes(memory, [1, 2])
    assert part.labels.tolist() == [1, 1, 2, 2]
    assert torch.equal(part.images, memory.images[[4, 5, 0, 1]])
    assert part.real
    assert part.league == "storage"
    assert of_classes(memory, [2, 0, 1]).labels.tolist() == memory.labels.tolist()


def test_synthetic_images_survive_exactly(dataset: DataSet, tmp_path: Path) -> None:
    memory = synthetic()
    save(memory, tmp_path / "m", dataset, {"method": "dm", "seconds": 1.5})
    loaded, card = load(tmp_path / "m", dataset)
    assert torch.equal(loaded.images, memory.images)
    assert torch.equal(loaded.labels, memory.labels)
    assert (loaded.real, loaded.league) == (False, "pixel")
    # 4 images of 3 x 4 x 4 values of 4 bytes
    assert card["budget"] == {"images": 4, "scalars": 192, "bytes": 768}
    assert card["classes"] == [0, 2]
    assert (card["encoding"], card["method"], card["seconds"]) == ("float32", "dm", 1.5)
    assert card["space"] == {"mean": list(MEAN), "std": list(STD)}
    assert (card["dataset"], card["dataset_digest"]) == ("toy", "d" * 64)


def test_real_images_survive_exactly_in_a_byte_a_value(dataset: DataSet, tmp_path: Path) -> None:
    memory = real_of(dataset)
    save(memory, tmp_path / "m", dataset, {})
    loaded, card = load(tmp_path / "m", dataset)
    assert torch.equal(loaded.images, memory.images)
    assert loaded.real
    assert card["encoding"] == "uint8"
    assert card["budget"]["bytes"] == 8 * 48
    assert files.load(tmp_path / "m")[0]["images"].dtype == torch.uint8


@each_form
@pytest.mark.parametrize("has_soft", [False, True])
def test_every_form_survives_exactly(form: Parametrisation, has_soft: bool, dataset: DataSet, tmp_path: Path) -> None:
    memory = with_soft(resolve_form(form)) if has_soft else resolve_form(form)
    save(memory, tmp_path / "m", dataset, {})
    loaded, card = load(tmp_path / "m", dataset)
    assert_same(loaded, memory)
    assert card["league"] == memory.league
    assert card["parametrisation"]["name"] == form.name
    assert card["budget"] == {"images": len(memory.labels), "scalars": memory.scalars, "bytes": memory.nbytes}
    tensors, _ = files.load(tmp_path / "m")
    assert len(tensors["labels"]) == 4  # those of what is stored
    assert sum(part.numel() for name, part in tensors.items() if name != "labels") == memory.scalars
    assert_same(load(tmp_path / "m", dataset)[0], loaded)


def test_real_images_with_soft_labels_survive_exactly(dataset: DataSet, tmp_path: Path) -> None:
    memory = with_soft(real_of(dataset))
    save(memory, tmp_path / "m", dataset, {})
    assert_same(load(tmp_path / "m", dataset)[0], memory)


@each_form
def test_another_copy_of_the_data_will_do_where_that_is_allowed(form: Parametrisation, dataset: DataSet) -> None:
    other = replace(dataset, digest="e" * 64)
    memory = resolve_form(form)
    assert_same(decode(*encode(memory, other, {}), dataset, same_copy=False), memory)
    with pytest.raises(ValueError, match=r"^made from toy eeeeeeeeeeee, not from this toy$"):
        decode(*encode(memory, other, {}), dataset)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(a_set(), name="cifar"), "^made from cifar, not from toy$"),
        (a_set(std=(0.25, 0.25, 0.25)), r"^normalised by .*0\.25, 0\.25, 0\.25.*, not by toy's .*0\.2673"),
        (a_set(size=8), r"^images of shape \(3, 4, 4\), float32 fit; got images \(4, 3, 8, 8\)"),
    ],
)
def test_but_not_other_data(other: DataSet, message: str, dataset: DataSet) -> None:
    form = MultiFormation(2)
    stored = form.init(torch.zeros(16, *other.image_shape), "noise", Generator().manual_seed(0))
    tensors, card = encode(from_stored(form, stored, torch.tensor([0, 0, 1, 1])), other, {})
    with pytest.raises(ValueError, match=message):
        decode(tensors, card, dataset, same_copy=False)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_byte_of_every_data_set_survives(name: str) -> None:
    known = KNOWN[name]
    dataset = replace(a_set(), mean=known.mean, std=known.std)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, len(known.mean), 1, 1)
    memory = Memory(dataset.normalise(pixels), torch.tensor([0]), real=True)
    assert torch.equal(encode(memory, dataset, {})[0]["images"], pixels)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_not_kept(value: float, dataset: DataSet, tmp_path: Path) -> None:
    memory = synthetic()
    memory.images[1, 0, 0, 0] = value
    with pytest.raises(FloatingPointError, match=r"^memory: an image is not finite$"):
        save(memory, tmp_path / "m", dataset, {})
    assert list(tmp_path.iterdir()) == []


def test_learned_images_that_are_said_to_be_real_are_not_kept(dataset: DataSet, tmp_path: Path) -> None:
    memory = replace(synthetic(), real=True)
    with pytest.raises(ValueError, match=r"^memory: its images are said to be real, but 8 bits a value do not hold"):
        save(memory, tmp_path / "m", dataset, {})
    assert list(tmp_path.iterdir()) == []


def test_a_soft_label_that_is_not_finite_is_not_kept(dataset: DataSet, tmp_path: Path) -> None:
    memory = with_soft(synthetic())
    assert memory.soft is not None
    memory.soft[1, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"^memory: a soft label is not finite$"):
        save(memory, tmp_path / "m", dataset, {})


def stored(changes: dict[str, Tensor], **card: Any) -> tuple[dict[str, Tensor], files.Card]:
    tensors, its_card = encode(synthetic(), a_set(), {})
    return {**tensors, **changes}, {**its_card, **card}


@pytest.mark.parametrize(
    ("changes", "card", "message"),
    [
        ({}, {"format": 2}, "a memory of format 1, encoded uint8 or float32, fits; got format 2, encoding float32"),
        ({}, {"encoding": "jpeg"}, "a memory of format 1, .* fits; got format 1, encoding jpeg"),
        ({}, {"dataset": "cifar", "dataset_digest": "e" * 64}, "made from cifar eeeeeeeeeeee, not from this toy"),
        ({"images": torch.zeros(4, 3, 8, 8)}, {}, r"images of shape \(3, 4, 4\), float32 fit; got .*\(4, 3, 8, 8\)"),
        ({"images": torch.zeros(4, 3, 4, 4, dtype=torch.float64)}, {}, "float32 fit; got .*torch.float64"),
        ({"images": torch.zeros(4, 3, 4, 4, dtype=torch.uint8)}, {}, "float32 fit; got .*torch.uint8"),
        ({}, {"encoding": "uint8"}, "uint8 fit; got .*torch.float32"),
        ({"labels": torch.tensor([0, 1, 2, 3])}, {}, r"labels int64 in 0 \.\. 2 fit; got torch.int64, up to 3"),
        ({"labels": torch.tensor([0, 1, 2, -1])}, {}, r"labels int64 in 0 \.\. 2 fit"),
        ({"labels": torch.zeros(4)}, {}, "got torch.float32"),
        ({"labels": torch.zeros(0, dtype=torch.int64)}, {}, r"labels \(N,\), N at least 1, fit; got \(0,\)"),
        ({}, {"league": "sport"}, "league 'sport' is unknown"),
        ({}, {"parametrisation": {"name": "wavelets"}}, "parametrisation 'wavelets' is unknown"),
        ({}, {"parametrisation": {"name": "low-rank", "rank": 2}}, "does not decode as low-rank .*'left'"),
        ({}, {"parametrisation": {"name": "multi-formation", "factor": 3}}, "does not decode as multi-formation"),
        ({"left": torch.zeros(4, 3, 4, 1, dtype=torch.float64)}, {}, "torch.float32, torch.float64"),
        ({"soft": torch.ones(4, 3)}, {}, "soft labels belong to the league soft, not pixel"),
        ({"images": torch.full((4, 3, 4, 4), float("nan"))}, {}, "an image is not finite"),
        ({"images": torch.full((4, 3, 4, 4), float("-inf"))}, {}, "an image is not finite"),
        ({"soft": torch.full((4, 3), float("inf"))}, {"league": "soft"}, "a soft label is not finite"),
        ({"soft": torch.ones(4, 2)}, {"league": "soft"}, r"soft labels \(N, 3\) float32 fit; got \(4, 2\)"),
        ({"soft": torch.ones(4, 3).long()}, {"league": "soft"}, r"float32 fit; got \(4, 3\), torch.int64"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, {}, "memory: expected images .* got .*4, 3, 4, 4.* and .*3,"),
    ],
)
def test_a_memory_that_does_not_fit_gets_one_line_with_its_file(
    changes: dict[str, Tensor], card: dict[str, Any], message: str, dataset: DataSet, tmp_path: Path
) -> None:
    files.save(tmp_path / "m", *stored(changes, **card))
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "m", dataset)
    assert str(caught.value).startswith(f"{tmp_path / 'm'}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        decode(*stored(changes, **card), dataset)


def test_a_damaged_file_is_told_as_such(dataset: DataSet, tmp_path: Path) -> None:
    save(synthetic(), tmp_path / "m", dataset, {})
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:-1])
    with pytest.raises(files.DamagedFileError):
        load(tmp_path / "m", dataset)


@pytest.mark.parametrize("name", ["dataset", "dataset_digest", "league", "space"])
def test_a_card_that_does_not_say_all_is_told_as_such(name: str, dataset: DataSet) -> None:
    tensors, card = stored({})
    del card[name]
    with pytest.raises(ValueError, match=r"^a memory's card and tensors are incomplete$"):
        decode(tensors, card, dataset)
