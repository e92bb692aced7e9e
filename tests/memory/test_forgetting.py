from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from harness.core import models
from harness.core.memory import Budget
from harness.core.recipes import TrainConfig
from harness.core.train import fit
from harness.memory import forgetting
from harness.memory.forgetting import ForgettingConfig, ForgettingRecord, count_forgetting
from tests.memory.toys import Killed, KilledError

CFG = ForgettingConfig("convnet1-w4", TrainConfig(epochs=9, batch_size=8, lr=0.1))


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def a_set() -> tuple[Tensor, Tensor]:
    """Noise: nothing to learn but by heart, so that much is forgotten."""
    return torch.randn(36, 3, 8, 8, generator=seeded(0)), torch.tensor([7, 2, 5]).repeat(12)


def shown(labels: list[int], epochs: list[list[int]]) -> ForgettingRecord:
    """The record of images that were taken for `epochs`, a list of classes each, shown in batches of two, shuffled."""
    record = ForgettingRecord(torch.tensor(labels))
    for number, answers in enumerate(epochs):
        order = torch.randperm(len(labels), generator=seeded(number))
        for rows in order.split(2):
            record.observe(rows, F.one_hot(torch.tensor(answers)[rows], 3).float())
    return record


# --- the rule --------------------------------------------------------------------------------------------------------


def test_forgetting_by_hand() -> None:
    # Rows are epochs. Image 0 (class 0): right, wrong, right, wrong: forgotten twice. Image 1 (class 1): always right.
    # Image 2 (class 2): wrong, wrong, wrong, right: learned in the end, never forgotten. Image 3 (class 0): right once,
    # then wrong all along: forgotten once, not thrice. Image 4 (class 1): never learned: all 4 epochs.
    epochs = [[0, 1, 0, 0, 0], [1, 1, 0, 2, 0], [0, 1, 1, 2, 2], [2, 1, 2, 1, 2]]
    record = shown([0, 1, 2, 0, 1], epochs)
    assert record.count(4).tolist() == [2, 0, 0, 1, 4]
    assert record.learned.tolist() == [True, True, True, True, False]
    assert record.forgotten.tolist() == [2, 0, 0, 1, 0]  # DeepCore's, in which image 4 is as easy as image 1


def test_the_first_time_shown_nothing_is_forgotten() -> None:
    assert shown([0, 1], [[1, 0]]).count(1).tolist() == [1, 1]  # but never learned
    assert shown([0, 1], [[0, 1]]).count(1).tolist() == [0, 0]


def test_counts_are_those_of_the_authors_loop() -> None:
    # order_examples_by_forgetting.py: the differences of each image's accuracies that are -1; epochs if none is 1.
    images, labels = a_set()
    local = torch.tensor([2, 0, 1] * 12)
    accuracies: list[list[int]] = [[] for _ in range(36)]

    def observe(rows: Tensor, logits: Tensor) -> None:
        for row, answer in zip(rows.tolist(), logits.argmax(1).tolist(), strict=True):
            accuracies[row].append(int(answer == local[row]))

    rng = seeded(1)
    network = models.build(CFG.model, (3, 8, 8), 3, rng)
    fit(network, images, local, CFG.train, rng, observe=observe)
    expected = []
    for once in accuracies:
        assert len(once) == 10  # 9 + 1 epochs
        events = sum(now - before == -1 for before, now in pairwise(once))
        expected.append(events if 1 in once else 10)
    counts = count_forgetting(images, labels, CFG, seeded(1))
    assert counts.tolist() == expected
    assert counts.dtype == torch.int64
    assert len(counts.unique()) > 2  # there is something to compare


# --- the builder -----------------------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch, counts: list[int]) -> tuple[Tensor, Tensor]:
    """Images whose every pixel is their row, of two classes by turns, forgotten `counts` times."""
    monkeypatch.setattr(forgetting, "count_forgetting", lambda *_: torch.tensor(counts))
    images = torch.arange(float(len(counts))).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return images, torch.tensor([4, 3]).repeat(len(counts))[: len(counts)]


def rows_of(images: Tensor) -> list[int]:
    return images[:, 0, 0, 0].int().tolist()


def test_the_most_forgotten_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = counted(monkeypatch, [5, 1, 0, 7, 2, 3, 9, 2])  # class 4: 5 0 2 9; class 3: 1 7 3 2
    memory = forgetting.build(images, labels, Budget(2), seeded(0))
    assert rows_of(memory.images) == [3, 5, 6, 0]
    assert memory.labels.tolist() == [3, 3, 4, 4]
    assert memory.real


def test_the_least_forgotten_are_kept_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = counted(monkeypatch, [5, 1, 0, 7, 2, 3, 9, 2])
    memory = forgetting.build(images, labels, Budget(2), seeded(0), ForgettingConfig(keep="easy"))
    assert rows_of(memory.images) == [1, 7, 2, 4]


def test_ties_are_broken_at_random_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = counted(monkeypatch, [3] * 10 + [4, 4])
    kept = [rows_of(forgetting.build(images, labels, Budget(3), seeded(seed)).images) for seed in (*range(20), 0)]
    assert kept[0] == kept[-1]
    assert all(rows[0] == 11 and rows[3] == 10 for rows in kept)  # more often than the others: always first
    assert {row for rows in kept for row in rows} == set(range(12))


def test_a_mislabelled_image_is_never_learned_and_kept() -> None:
    labels = torch.arange(60) % 2
    patterns = torch.randn(2, 3, 8, 8, generator=seeded(5))
    images = patterns[labels] + 0.1 * torch.randn(60, 3, 8, 8, generator=seeded(6))
    labels[10] = 1  # it shows class 0
    cfg = ForgettingConfig("convnet1-w8", TrainConfig(epochs=6, batch_size=16, lr=0.02, augment="none"))
    counts = count_forgetting(images, labels, cfg, seeded(1))
    assert counts[10] == 7 == counts.max()
    hard = forgetting.build(images, labels, Budget(1), seeded(1), cfg)
    assert torch.equal(hard.images[1], images[10])
    easy = forgetting.build(images, labels, Budget(29), seeded(1), replace(cfg, keep="easy"))  # of 31
    assert not any(torch.equal(image, images[10]) for image in easy.images)


@pytest.mark.parametrize("rounds", [1, 5, 10])
def test_an_interrupted_count_goes_on_bit_for_bit(rounds: int) -> None:
    rngs = seeded(1), seeded(1)
    whole = count_forgetting(*a_set(), CFG, rngs[0])
    killed = Killed(rounds)
    with pytest.raises(KilledError):
        count_forgetting(*a_set(), CFG, seeded(1), killed)
    assert killed.kept is not None
    assert killed.kept["forgetting.learned"].any()
    resumed = Killed(0, killed.kept)
    assert torch.equal(count_forgetting(*a_set(), CFG, rngs[1], resumed), whole)
    assert resumed.done == [(done, 10) for done in range(rounds + 1, 11)]
    assert torch.equal(rngs[0].get_state(), rngs[1].get_state())


def test_an_interrupted_build_ends_the_same() -> None:
    whole = forgetting.build(*a_set(), Budget(3), seeded(1), CFG)
    killed = Killed(5)
    with pytest.raises(KilledError):
        forgetting.build(*a_set(), Budget(3), seeded(1), CFG, killed)
    resumed = forgetting.build(*a_set(), Budget(3), seeded(1), CFG, Killed(0, killed.kept))
    assert torch.equal(resumed.images, whole.images)


def test_the_defaults_are_the_authors() -> None:
    cfg = ForgettingConfig()
    assert (cfg.model, cfg.train, cfg.keep, cfg.per_class) == ("convnet3", TrainConfig(epochs=200), "hard", False)
    assert cfg.passes(classes=10, images=500, ipc=20) == (0, 1_005_000)  # 201 epochs of 5000


def test_a_configuration_checks_itself() -> None:
    with pytest.raises(ValueError, match=r"^keep: 'most' is unknown; choose from easy, hard$"):
        ForgettingConfig(keep="most")


def test_too_few_images_are_told_before_anything_is_trained() -> None:
    images, labels = a_set()
    with pytest.raises(ValueError, match=r"^class 2: the budget asks for 13 images"):
        forgetting.build(images, labels, Budget(13), seeded(1), CFG, Killed(1))
