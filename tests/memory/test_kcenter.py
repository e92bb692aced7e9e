from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from harness.core.memory import Budget
from harness.core.progress import Progress, State
from harness.core.recipes import TrainConfig
from harness.memory import herding, kcenter
from harness.memory.kcenter import k_centers
from harness.memory.shared.embedding import EmbeddingConfig, embed, train_network

CFG = EmbeddingConfig("convnet1-w4", TrainConfig(epochs=2, batch_size=16))


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def a_set() -> tuple[Tensor, Tensor]:
    return torch.randn(36, 3, 8, 8, generator=seeded(0)), torch.tensor([7, 2, 5]).repeat(12)


# --- the rule --------------------------------------------------------------------------------------------------------


def test_k_centers_in_one_dimension_by_hand() -> None:
    # Mean 4: the nearest is 3. Distances 3, 2, 0, 1, 7: then 10. To the nearer of both 3, 2, 0, 1, 0: then 0.
    # Then 1, 1, 0, 1, 0 -> with 0 chosen, 1 is 1 away from it and 2 from 3; 2 is 1 away from 3: they tie, first 1.
    features = torch.tensor([[0.0], [1.0], [3.0], [2.0], [14.0]])
    assert features.mean() == 4
    assert k_centers(features, 5).tolist() == [2, 4, 0, 1, 3]


def test_k_centers_in_two_dimensions_by_hand() -> None:
    # Corners of a square around the center: the mean is row 4. All corners are equally far: row 0; then its opposite,
    # row 3, is no farther from a center than the others (all sqrt 2 from row 4), so they come as they stand.
    features = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]])
    assert k_centers(features, 5).tolist() == [4, 0, 1, 2, 3]
    # Without it the mean is equally far from all: row 0, its opposite (2 sqrt 2), then the other two (2).
    assert k_centers(features[:4], 4).tolist() == [0, 3, 1, 2]


def test_equal_images_are_picked_one_after_another() -> None:
    assert k_centers(torch.ones(4, 3), 4).tolist() == [0, 1, 2, 3]


def test_more_centers_begin_with_the_fewer() -> None:
    features = torch.randn(20, 5, generator=seeded(0))[torch.arange(40) % 20]  # every row twice
    whole = k_centers(features, 40).tolist()
    assert sorted(whole) == list(range(40))
    assert all(k_centers(features, count).tolist() == whole[:count] for count in range(1, 40))
    assert len({row % 20 for row in whole[:20]}) == 20  # no duplicate before all others


def test_every_center_is_the_farthest_from_those_before() -> None:
    features = torch.randn(30, 5, generator=seeded(0), dtype=torch.float64)
    order = k_centers(features, 10)
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    for k in range(1, 10):
        nearest = distances[:, order[:k]].min(1).values
        assert nearest[order[k]] == nearest.max()


def test_centers_cover_the_class_better_than_random_picks() -> None:
    features = torch.randn(100, 3, generator=seeded(0))

    def radius(rows: Tensor) -> float:
        return float(torch.cdist(features, features[rows]).min(1).values.max())

    assert radius(k_centers(features, 10)) < min(
        radius(torch.randperm(100, generator=seeded(seed))[:10]) for seed in range(50)
    )


# --- the builder -----------------------------------------------------------------------------------------------------


def test_a_memory_has_the_centers_of_the_trained_features() -> None:
    images, labels = a_set()
    memory = kcenter.build(images, labels, Budget(3), seeded(1), CFG)
    network, expected = train_network(CFG.model, images, labels, CFG.train, seeded(1)), []
    for c in (2, 5, 7):
        of_class = images[labels == c]
        expected.append(of_class[k_centers(embed(network, of_class, "eager"), 3)])
    assert torch.equal(memory.images, torch.cat(expected))
    assert memory.labels.tolist() == [2] * 3 + [5] * 3 + [7] * 3
    assert memory.real


def test_the_features_are_herdings() -> None:
    # Of one image each, herding takes the nearest to the mean, and k-center starts with it.
    own = kcenter.build(*a_set(), Budget(1), seeded(1), CFG)
    theirs = herding.build(*a_set(), Budget(1), seeded(1), EmbeddingConfig(CFG.model, CFG.train))
    assert torch.equal(own.images, theirs.images)


def test_an_interrupted_build_ends_the_same() -> None:
    class Keeping(Progress):
        kept: State | None = None

        def resume(self) -> State | None:
            return self.kept

        def tick(self, done: int, total: int, state: Callable[[], State]) -> None:
            if done == 1:
                self.kept = {name: tensor.detach().clone() for name, tensor in state().items()}
                raise InterruptedError

    whole = kcenter.build(*a_set(), Budget(3), seeded(1), CFG)
    progress = Keeping()
    with pytest.raises(InterruptedError):
        kcenter.build(*a_set(), Budget(3), seeded(1), CFG, progress)
    assert torch.equal(kcenter.build(*a_set(), Budget(3), seeded(1), CFG, progress).images, whole.images)


def test_the_defaults_are_herdings() -> None:
    cfg = EmbeddingConfig()
    assert (cfg.model, cfg.train, cfg.per_class) == ("convnet3", EmbeddingConfig().train, False)
    assert cfg.passes(classes=10, images=500, ipc=20) == EmbeddingConfig().passes(classes=10, images=500, ipc=20)
