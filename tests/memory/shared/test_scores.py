"""EL2N, GraNd, and what they share."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.func import functional_call, grad, vmap

from harness.core import models
from harness.core.compute import tuning
from harness.core.memory import Budget, Memory
from harness.core.progress import Progress
from harness.core.recipes import TrainConfig
from harness.core.train import fit
from harness.memory import el2n, grand
from harness.memory.el2n import EL2NConfig, error_length
from harness.memory.grand import GraNdConfig, gradient_length
from harness.memory.shared import scores
from harness.memory.shared.scores import EarlyConfig, mean_score, select
from tests.memory.toys import Killed, KilledError

TRAIN = TrainConfig(epochs=2, batch_size=16)
CFG = EarlyConfig(runs=3, model="convnet1-w4", train=TRAIN)
Build = Callable[..., Memory]

each = pytest.mark.parametrize(
    ("build", "cfg", "score"),
    [
        (el2n.build, EL2NConfig(runs=3, model="convnet1-w4", train=TRAIN), error_length),
        (grand.build, GraNdConfig(runs=3, model="convnet1-w4", train=TRAIN), gradient_length),
    ],
    ids=["el2n", "grand"],
)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def a_set() -> tuple[Tensor, Tensor]:
    return torch.randn(36, 3, 8, 8, generator=seeded(0)), torch.tensor([7, 2, 5]).repeat(12)


# --- the formulas ----------------------------------------------------------------------------------------------------


def test_error_length_by_hand() -> None:
    # Odds 1 : 3, so the probabilities are 1/4 and 3/4. Label 1: error (1/4, -1/4); label 0: (-3/4, 3/4).
    logits = torch.tensor([[0.0, math.log(3)]] * 2)
    expected = torch.tensor([math.sqrt(2) / 4, 3 * math.sqrt(2) / 4])
    torch.testing.assert_close(error_length(torch.zeros(2, 5), logits, torch.tensor([1, 0])), expected)
    sure = error_length(torch.zeros(2, 5), torch.tensor([[99.0, 0.0]] * 2), torch.tensor([0, 1]))
    torch.testing.assert_close(sure, torch.tensor([0.0, math.sqrt(2)]))


def test_gradient_length_by_hand() -> None:
    # As above, times the root of 1 + 2^2 + 2^2.
    logits, features = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[2.0, 2.0]])
    torch.testing.assert_close(
        gradient_length(features, logits, torch.tensor([1])), torch.tensor([3 * math.sqrt(2) / 4])
    )


def test_gradient_length_is_that_of_the_last_layers_gradient() -> None:
    # Of the loss the network is trained on. DeepCore's takes the softmax twice and gives other lengths.
    images, labels = torch.randn(6, 3, 8, 8, generator=seeded(0)), torch.arange(6) % 3
    network = models.build("convnet1-w4", (3, 8, 8), 3, seeded(1))
    last = {name: weight.detach() for name, weight in network.classifier.named_parameters()}
    features = network.embed(images).detach()

    def lengths(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        def of_one(weights: dict[str, Tensor], feature: Tensor, label: Tensor) -> Tensor:
            return loss(functional_call(network.classifier, weights, (feature,)), label)

        gradients = vmap(grad(of_one), (None, 0, 0))(last, features, labels)
        norms: Tensor = torch.cat([part.flatten(1) for part in gradients.values()], 1).norm(dim=1)
        return norms

    own = gradient_length(features, network.classifier(features).detach(), labels)
    torch.testing.assert_close(own, lengths(F.cross_entropy))
    twice = lengths(lambda logits, label: F.cross_entropy(logits.softmax(0), label))
    assert (own / twice - 1).abs().min() > 0.01


# --- who is kept -----------------------------------------------------------------------------------------------------


def numbered(count: int) -> tuple[Tensor, Tensor]:
    """Images whose every pixel is their row, of classes 4 and 3 by turns."""
    images = torch.arange(float(count)).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return images, torch.tensor([4, 3]).repeat(count)[:count]


def rows_of(memory: Memory) -> list[int]:
    rows: list[int] = memory.images[:, 0, 0, 0].int().tolist()
    return rows


def test_the_highest_or_lowest_scores_of_each_class_by_hand() -> None:
    given = torch.tensor([0.5, 0.1, 0.0, 0.7, 0.2, 0.3])  # class 4: rows 0, 2, 4; class 3: rows 1, 3, 5
    high = select(*numbered(6), given, Budget(2), seeded(0), highest=True)
    assert rows_of(high) == [3, 5, 0, 4]
    assert high.labels.tolist() == [3, 3, 4, 4]
    assert high.real
    assert rows_of(select(*numbered(6), given, Budget(2), seeded(0), highest=False)) == [1, 5, 2, 4]


def test_infinite_scores_are_scores() -> None:
    given = torch.tensor([0.0, math.inf, -math.inf, 0.0])
    assert rows_of(select(*numbered(4), given, Budget(1), seeded(0), highest=True)) == [1, 0]


@pytest.mark.parametrize("highest", [True, False])
def test_ties_are_broken_at_random_by_the_seed(highest: bool) -> None:
    kept = [
        rows_of(select(*numbered(20), torch.ones(20), Budget(3), seeded(seed), highest=highest))
        for seed in (*range(30), 0)
    ]
    assert kept[0] == kept[-1]
    assert {row for rows in kept for row in rows} == set(range(20))
    assert all(len(set(rows)) == 6 for rows in kept)


def test_a_larger_budget_begins_with_a_smaller_one() -> None:
    given = torch.randint(4, (20,), generator=seeded(0))
    whole = rows_of(select(*numbered(20), given, Budget(10), seeded(1), highest=True))
    few = rows_of(select(*numbered(20), given, Budget(3), seeded(1), highest=True))
    assert few == whole[:3] + whole[10:13]


def test_nan_is_no_score() -> None:
    given = torch.tensor([0.0, math.nan, 1.0, math.nan])
    with pytest.raises(ValueError, match=r"^scores: 2 of 4 are NaN; they cannot be ranked$"):
        select(*numbered(4), given, Budget(1), seeded(0), highest=True)


@each
def test_the_easiest_are_kept_or_the_hardest_where_asked_for(
    build: Build, cfg: EarlyConfig, score: scores.Score
) -> None:
    images, labels = a_set()
    mean = mean_score(score, images, labels, cfg, seeded(1), Progress())
    for keep, sign in (("easy", 1), ("hard", -1)):
        memory = build(images, labels, Budget(3), seeded(1), replace(cfg, keep=keep))
        expected = []
        for c in (2, 5, 7):
            of_class = (labels == c).nonzero().squeeze(1)
            expected.append(images[of_class[(sign * mean[of_class]).argsort()[:3]]])
        assert torch.equal(memory.images, torch.cat(expected))
        assert memory.labels.tolist() == [2] * 3 + [5] * 3 + [7] * 3


# --- the mean over networks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["convnet1-w4", "convnet1-w4-bn"])
@pytest.mark.parametrize("part", [7, 8000])
def test_the_mean_is_that_of_networks_trained_in_turn(model: str, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "EVALUATED", part)
    images, labels = a_set()
    local, rng, expected = torch.tensor([2, 0, 1] * 12), seeded(1), []
    for _ in range(3):
        network = models.build(model, (3, 8, 8), 3, rng)
        fit(network, images, local, replace(TRAIN, schedule="constant"), rng)
        with torch.no_grad():
            logits = network.eval()(images)  # not augmented
        expected.append((logits.softmax(1) - F.one_hot(local)).norm(dim=1))
    rng = seeded(1)
    mean = mean_score(error_length, images, labels, replace(CFG, model=model), rng, Progress())
    torch.testing.assert_close(mean, torch.stack(expected).mean(0).double(), rtol=1e-5, atol=1e-6)
    assert (expected[0] - expected[1]).abs().max() > 0.01  # they are different networks


def test_the_learning_rate_does_not_fall() -> None:
    assert EarlyConfig(train=TrainConfig(epochs=20, schedule="dm")).early.drops == ()
    assert EarlyConfig(train=TrainConfig(epochs=20, schedule="dm")).early.rounds == 20


@each
def test_an_image_with_another_classs_pattern_is_the_hardest(
    build: Build, cfg: EarlyConfig, score: scores.Score
) -> None:
    labels = torch.arange(60) % 2
    patterns = torch.randn(2, 3, 8, 8, generator=seeded(5))
    images = patterns[labels] + 0.1 * torch.randn(60, 3, 8, 8, generator=seeded(6))
    labels[10] = 1  # it shows class 0
    cfg = replace(cfg, train=replace(TRAIN, epochs=6, lr=0.02), keep="hard")
    assert torch.equal(build(images, labels, Budget(1), seeded(1), cfg).images[1], images[10])
    easy = build(images, labels, Budget(29), seeded(1), replace(cfg, keep="easy"))  # of 31
    assert not any(torch.equal(image, images[10]) for image in easy.images)


# --- interrupted, configured -----------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 6])  # three runs of two epochs each
def test_an_interrupted_build_goes_on_bit_for_bit(
    build: Build, cfg: EarlyConfig, score: scores.Score, rounds: int
) -> None:
    rngs = seeded(1), seeded(1)
    whole = build(*a_set(), Budget(3), rngs[0], cfg)
    killed = Killed(rounds)
    with pytest.raises(KilledError):
        build(*a_set(), Budget(3), seeded(1), cfg, killed)
    resumed = Killed(0, killed.kept)
    memory = build(*a_set(), Budget(3), rngs[1], cfg, resumed)
    assert torch.equal(memory.images, whole.images)
    assert resumed.done == [(done, 6) for done in range(rounds + 1, 7)]
    assert torch.equal(rngs[0].get_state(), rngs[1].get_state())


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 6])
def test_the_kept_scores_are_those_of_the_runs_before(rounds: int) -> None:
    whole = mean_score(error_length, *a_set(), CFG, seeded(1), Progress())
    killed = Killed(rounds)
    with pytest.raises(KilledError):
        mean_score(error_length, *a_set(), CFG, seeded(1), killed)
    assert killed.kept is not None
    runs = (rounds - 1) // 2
    assert int(killed.kept["scores.run"]) == runs
    before = mean_score(error_length, *a_set(), replace(CFG, runs=max(1, runs)), seeded(1), Progress()) * runs
    torch.testing.assert_close(killed.kept["scores.total"], before)
    total = killed.kept["scores.total"].clone()
    assert torch.equal(mean_score(error_length, *a_set(), CFG, seeded(2), Killed(0, killed.kept)), whole)
    assert torch.equal(killed.kept["scores.total"], total)  # what is kept is not changed by going on


@each
def test_the_defaults(build: Build, cfg: EarlyConfig, score: scores.Score) -> None:
    cfg = type(cfg)()
    assert (cfg.runs, cfg.model, cfg.keep, cfg.per_class) == (10, "convnet3", "easy", False)
    assert cfg.train == TrainConfig(epochs=20, schedule="constant")
    # 10 networks, 10 classes of 500: one pass for the scores, 20 epochs of training
    assert cfg.passes(classes=10, images=500, ipc=20) == (50_000, 1_000_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": 0}, r"^runs: at least 1 is needed, got 0$"),
        ({"keep": "lowest"}, r"^keep: 'lowest' is unknown; choose from easy, hard$"),
    ],
)
def test_a_configuration_checks_itself(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CFG, **change)  # type: ignore[arg-type]


@each
def test_too_few_images_are_told_before_anything_is_trained(
    build: Build, cfg: EarlyConfig, score: scores.Score
) -> None:
    with pytest.raises(ValueError, match=r"^class 2: the budget asks for 13 images"):
        build(*a_set(), Budget(13), seeded(1), cfg, Killed(1))
