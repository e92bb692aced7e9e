from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn

from harness.core import compute, models
from harness.core.compute import tuning
from harness.core.memory import Budget
from harness.core.progress import Progress, State
from harness.core.recipes import TrainConfig
from harness.core.train import fit
from harness.memory import herding
from harness.memory.herding import herd
from harness.memory.shared import embedding
from harness.memory.shared.embedding import EmbeddingConfig

CFG = EmbeddingConfig("convnet1-w4", TrainConfig(epochs=2, batch_size=16))


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def a_set() -> tuple[Tensor, Tensor]:
    labels = torch.tensor([7, 2, 5]).repeat(12)
    return torch.randn(36, 3, 8, 8, generator=seeded(0)), labels


def test_herd_in_one_dimension_by_hand() -> None:
    # Mean 3. First the nearest to 3: 2. Then to 6 - 2 = 4: 1. Then to 9 - 3 = 6: 9 (not 0). The farthest would be 9.
    assert herd(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 4).tolist() == [2, 1, 3, 0]


def test_herd_in_two_dimensions_by_hand_breaks_ties_by_index() -> None:
    # Mean (1.5, 1.5), squared distances 4.5, 2.5, 2.5, 12.5: rows 1 and 2 tie. Then to (3, 3) - (2, 0) = (1, 3):
    # 10, -, 2, 10. Then to (4.5, 4.5) - (2, 2): 12.5, -, -, 4.5.
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [4.0, 4.0]])
    assert herd(features, 4).tolist() == [1, 2, 3, 0]
    assert herd(features[[0, 2, 1, 3]], 2).tolist() == [1, 2]


def test_equal_images_are_picked_one_after_another() -> None:
    assert herd(torch.ones(4, 3), 4).tolist() == [0, 1, 2, 3]


def test_a_longer_herd_begins_with_a_shorter_one() -> None:
    features = torch.randn(20, 5, generator=seeded(0))
    whole = herd(features, 20).tolist()
    assert sorted(whole) == list(range(20))
    assert all(herd(features, count).tolist() == whole[:count] for count in range(1, 20))


def test_shifting_and_scaling_all_features_changes_no_pick() -> None:
    features = torch.randn(20, 5, generator=seeded(0), dtype=torch.float64)
    assert herd(4 * features + 3, 8).tolist() == herd(features, 8).tolist()


def test_the_mean_of_a_herd_is_nearer_than_that_of_random_picks() -> None:
    features = torch.randn(100, 5, generator=seeded(0))

    def gap(rows: Tensor) -> float:
        return float((features[rows].mean(0) - features.mean(0)).norm())

    best = min(gap(torch.randperm(100, generator=seeded(seed))[:10]) for seed in range(50))
    assert gap(herd(features, 10)) < best


def test_the_network_sees_a_head_for_these_classes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = a_set()
    seen = []

    def watched(network: models.Network, some: Tensor, local: Tensor, *_: object) -> None:
        seen.append((network.classifier.out_features, some, local))

    monkeypatch.setattr(embedding, "fit", watched)
    herding.build(images, labels, Budget(2), seeded(1), CFG)
    ((outputs, some, local),) = seen
    assert outputs == 3
    assert some is images
    assert local.tolist() == [2, 0, 1] * 12  # classes 7, 2, 5 in ascending order: 2, 5, 7


@pytest.mark.parametrize("model", ["convnet1-w4", "convnet1-w4-bn"])
def test_a_memory_is_herded_on_the_trained_features(model: str) -> None:
    images, labels = a_set()
    memory = herding.build(images, labels, Budget(3), seeded(1), replace(CFG, model=model))
    rng = seeded(1)
    network = models.build(model, (3, 8, 8), 3, rng)
    fit(network, images, torch.tensor([2, 0, 1] * 12), CFG.train, rng)
    embed, expected = compute.apply_in_chunks(network.eval().embed, tuning.CPU_CHUNK), []
    with torch.no_grad():
        for c in (2, 5, 7):
            of_class = images[labels == c]
            expected.append(of_class[herd(embed(of_class), 3)])
    assert torch.equal(memory.images, torch.cat(expected))
    assert memory.labels.tolist() == [2] * 3 + [5] * 3 + [7] * 3
    assert memory.real


def test_the_shared_network_is_left_in_train_mode() -> None:
    herding.build(*a_set(), Budget(2), seeded(1), CFG)
    network: nn.Module = models.scratch(CFG.model, (3, 8, 8), 3, torch.device("cpu"), torch.float32)
    assert network.training


@pytest.mark.parametrize("model", ["convnet1-w4", "convnet1-w4-bn"])
def test_features_are_of_eval_mode_and_leave_no_trace(model: str) -> None:
    images, labels = a_set()
    network = embedding.train_network(model, images, labels, CFG.train, seeded(1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    features = embedding.embed(network, images, "eager")
    assert network.training
    assert not features.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(features, network.eval().embed(images).detach())
    network.train()


def test_an_interrupted_build_ends_the_same() -> None:
    class Keeping(Progress):
        kept: State | None = None
        resumed = False

        def resume(self) -> State | None:
            self.resumed = self.kept is not None
            return self.kept

        def tick(self, done: int, total: int, state: object) -> None:
            assert total == 3  # 2 + 1 epochs
            if done == 1 and self.kept is None:
                assert callable(state)
                self.kept = {name: tensor.detach().clone() for name, tensor in state().items()}
                raise InterruptedError

    whole = herding.build(*a_set(), Budget(3), seeded(1), CFG)
    progress = Keeping()
    with pytest.raises(InterruptedError):
        herding.build(*a_set(), Budget(3), seeded(1), CFG, progress)
    assert torch.equal(herding.build(*a_set(), Budget(3), seeded(1), CFG, progress).images, whole.images)
    assert progress.resumed


def test_the_defaults_are_the_evaluations_recipe_for_200_epochs() -> None:
    assert EmbeddingConfig().train == TrainConfig(epochs=200)
    assert EmbeddingConfig().model == "convnet3"
    assert not EmbeddingConfig().per_class
    # 10 classes of 500: one pass for the features, 201 epochs of training
    assert EmbeddingConfig().passes(classes=10, images=500, ipc=20) == (5000, 1_005_000)
