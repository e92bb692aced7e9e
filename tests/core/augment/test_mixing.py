import math

import pytest
import torch
import torch.nn.functional as F

from harness.core.augment import CutMix, cutmix, draw_cutmix
from tests.core.draws import normal, seeded


def test_cutmix_by_hand() -> None:
    # A quarter of 4 x 4: a box of 2 x 2. About row 2, column 2 it covers 1 and 2, and 4/16 of the target changes;
    # about row 0, column 3 only row 0 and columns 2, 3 are left of it, and the share is worked out again: 2/16.
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    for centre, rows, columns, share in (
        ((0.5, 0.5), slice(1, 3), slice(1, 3), 4 / 16),
        ((0.1, 0.99), slice(0, 1), slice(2, 4), 2 / 16),
    ):
        box = torch.zeros(4, 4)
        box[rows, columns] = 1
        mixed, mixed_targets = cutmix(images, targets, CutMix(torch.tensor([1, 0]), 0.75, centre))
        torch.testing.assert_close(mixed, torch.stack([box, 1 - box]).unsqueeze(1), rtol=0, atol=0)
        expected = torch.tensor([[1 - share, share / 2, share / 2], [share, (1 - share) / 2, (1 - share) / 2]])
        torch.testing.assert_close(mixed_targets, expected, rtol=0, atol=0)
    assert images.sum() == 16  # as they were
    assert targets.sum() == 2


def test_cutmix_of_one_image_changes_nothing() -> None:
    image, target = torch.arange(16.0).view(1, 1, 4, 4), torch.tensor([[0.25, 0.75]])
    mixed, mixed_target = cutmix(image, target, CutMix(torch.tensor([0]), 0.25, (0.5, 0.5)))
    torch.testing.assert_close(mixed, image, rtol=0, atol=0)
    torch.testing.assert_close(mixed_target, target, rtol=0, atol=0)


def test_cutmix_keeps_the_share_of_pixels_in_the_targets() -> None:
    rng, targets = seeded(0), torch.eye(8)
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 6, 10)
    shares = []
    for _ in range(100):
        draw = draw_cutmix(8, 1.0, 1.0, rng)
        mixed, mixed_targets = cutmix(images, targets, draw)
        torch.testing.assert_close(mixed_targets.sum(1), torch.ones(8))
        # Image i shows i and its partner's number: the mean over pixels of one-hot rows is the target.
        shown = F.one_hot(mixed.long(), 8).float().mean((1, 2, 3))
        torch.testing.assert_close(mixed_targets, shown)
        assert draw.partner.sort().values.tolist() == list(range(8))
        shares.append(mixed_targets.diagonal().min().item())
    assert min(shares) < 0.5 < max(shares)


def test_cutmix_without_probability_returns_its_inputs() -> None:
    rng, images, targets = seeded(0), normal(4, 3, 8, 8), torch.eye(4)
    before = rng.get_state()
    mixed, mixed_targets = cutmix(images, targets, draw_cutmix(4, 0.0, 1.0, rng))
    assert mixed is images
    assert mixed_targets is targets
    assert torch.equal(rng.get_state(), before)


def test_cutmix_draws() -> None:
    rng, unused = seeded(0), torch.get_rng_state()
    half = [draw_cutmix(4, 0.5, 1.0, rng).kept for _ in range(2000)]
    mixing = [kept for kept in half if kept < 1]
    assert abs(len(mixing) - 1000) < 110  # binomial(2000, 1/2): standard deviation 22
    assert abs(sum(mixing) / len(mixing) - 0.5) < 0.045  # uniform: 0.29 / sqrt(1000) = 0.009
    draws = [draw_cutmix(4, 1.0, 0.2, rng) for _ in range(2000)]
    kept = torch.tensor([draw.kept for draw in draws])
    assert abs(kept.mean() - 0.5) < 0.05
    assert abs(kept.var() - 1 / (4 * (2 * 0.2 + 1))) < 0.02  # Beta(a, a): 1 / (4 (2 a + 1)) = 0.179
    centres = torch.tensor([draw.centre for draw in draws])
    assert (centres.mean(0) - 0.5).abs().max() < 0.04
    assert centres.min() >= 0
    assert centres.max() < 1
    assert len({tuple(draw.partner.tolist()) for draw in draws}) == 24
    assert torch.equal(torch.get_rng_state(), unused)
    first, second = draw_cutmix(4, 0.5, 1.0, seeded(3)), draw_cutmix(4, 0.5, 1.0, seeded(3))
    assert (first.kept, first.centre) == (second.kept, second.centre)
    assert torch.equal(first.partner, second.partner)


@pytest.mark.parametrize(("probability", "alpha"), [(-0.1, 1.0), (1.1, 1.0), (0.5, 0.0), (0.5, math.nan)])
def test_cutmix_says_what_fits(probability: float, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"^cutmix: probability lies in 0 \.\. 1 and alpha above 0, got "):
        draw_cutmix(4, probability, alpha, seeded(0))


def test_cutmix_wants_probabilities() -> None:
    with pytest.raises(ValueError, match=r"^cutmix: targets are class probabilities \(N, K\), got shape \(2,\)$"):
        cutmix(normal(2, 1, 4, 4), torch.tensor([0, 1]), draw_cutmix(2, 1.0, 1.0, seeded(0)))
