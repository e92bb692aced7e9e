"""Memories in the program: budgets, parts, rounding."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.core.data import DataSet
from harness.core.memory import Budget, Memory, from_stored, join, select_classes, to_cpu
from harness.core.memory_file import round_to_8_bits
from harness.core.parametrisation import LowRank, MultiFormation, Parametrisation, Pixels
from tests.core.memories import (
    FORMS,
    MEAN,
    STD,
    a_set,
    assert_same,
    each_form,
    real_of,
    resolve_form,
    synthetic,
    with_soft,
)


@pytest.fixture
def dataset() -> DataSet:
    return a_set()


def test_a_budget_has_at_least_one_image() -> None:
    assert Budget(1).ipc == 1
    with pytest.raises(ValueError, match=r"^ipc: at least 1 image per class is needed, got 0$"):
        Budget(0)


@pytest.mark.parametrize(("images", "labels"), [((4, 3, 4), (4,)), ((4, 3, 4, 4), (3,)), ((4, 3, 4, 4), (4, 1))])
def test_images_and_labels_must_fit(images: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^memory: expected images \(N, C, H, W\) and labels \(N,\), got "):
        Memory(torch.zeros(images), torch.zeros(labels, dtype=torch.int64))


def test_bytes_of_real_and_synthetic_images() -> None:
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


def test_labels_of_what_images_decode_into() -> None:
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
    assert_same(select_classes(joined, [2, 0]), first)
    assert_same(select_classes(joined, [1]), second)


@each_form
def test_of_classes_takes_what_is_stored_along(form: Parametrisation) -> None:
    memory = resolve_form(form, (2, 0, 1))
    part = select_classes(memory, [1, 2])
    views = form.views
    assert part.labels.tolist() == [1] * 2 * views + [2] * 2 * views
    assert torch.equal(part.images, torch.cat([memory.images[4 * views :], memory.images[: 2 * views]]))
    if not isinstance(form, Pixels):
        torch.testing.assert_close(form.decode(dict(part.stored)), part.images)
    assert_same(select_classes(part, [1, 2]), part)


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
    assert_same(to_cpu(memory), memory)


# --- 8 bits ---------------------------------------------------------------------------------------------------------


def test_rounded_images_are_the_nearest_of_8_bits(dataset: DataSet) -> None:
    std, mean = torch.tensor(STD).view(3, 1, 1), torch.tensor(MEAN).view(3, 1, 1)
    pixels = torch.tensor([-0.1, 0.0, 10.4 / 255, 10.6 / 255, 1.0, 1.2]).repeat(3).view(1, 3, 1, 6)
    memory = Memory((pixels - mean) / std, torch.tensor([0]))
    result = round_to_8_bits(memory, dataset)
    assert result is not None
    back = 255 * (result.images * std + mean)
    torch.testing.assert_close(back, torch.tensor([0.0, 0, 10, 11, 255, 255]).expand(1, 3, 1, 6), rtol=0, atol=1e-3)
    again = round_to_8_bits(result, dataset)
    assert again is not None
    assert torch.equal(again.images, result.images)
    assert (memory.nbytes, result.nbytes) == (4 * 18, 18)


def test_several_in_one_are_rounded_as_stored(dataset: DataSet) -> None:
    memory = with_soft(resolve_form(MultiFormation(2)))
    result = round_to_8_bits(memory, dataset)
    assert result is not None
    stored = result.stored["images"]
    assert torch.equal(stored, dataset.normalise((dataset.denormalise(memory.stored["images"]) * 255).round().byte()))
    assert torch.equal(result.images, MultiFormation(2).decode({"images": stored}))
    assert (result.league, result.form) == (memory.league, memory.form)
    assert torch.equal(result.targets, memory.targets)
    assert memory.soft is not None
    assert result.nbytes == result.stored["images"].numel() + 4 * memory.soft.numel()


def test_what_is_not_rounded(dataset: DataSet) -> None:
    real = real_of(dataset)
    assert round_to_8_bits(real, dataset) is real
    assert round_to_8_bits(resolve_form(LowRank(1)), dataset) is None


# --- parts ----------------------------------------------------------------------------------------------------------


def test_of_classes_keeps_the_order_asked_for() -> None:
    memory = replace(synthetic(0, (2, 0, 1)), real=True, league="storage")
    part = select_classes(memory, [1, 2])
    assert part.labels.tolist() == [1, 1, 2, 2]
    assert torch.equal(part.images, memory.images[[4, 5, 0, 1]])
    assert part.real
    assert part.league == "storage"
    assert select_classes(memory, [2, 0, 1]).labels.tolist() == memory.labels.tolist()
