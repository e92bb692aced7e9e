from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from harness.core import augment
from harness.core.augment import DSA, DSA_WITHOUT_FLIP, OPERATIONS, Parameters, apply, draw_batch, draw_shared
from tests.core.draws import normal, seeded


def all_active(strategy: str, n: int, seed: int = 0) -> Parameters:
    count = len(augment.operations(strategy))
    return Parameters(torch.ones(n, count, dtype=torch.bool), torch.rand(n, count, 3, generator=seeded(seed)))


# --- parameters ------------------------------------------------------------------------------------------------------


def test_one_draw_gives_two_batches_the_same_transform() -> None:
    parameters = draw_shared(DSA, 5, seeded(0))
    image = normal(1, 3, 8, 8)
    owner = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4])
    real = apply(DSA, image.expand(8, -1, -1, -1), parameters.of(owner))
    synthetic = apply(DSA, image.expand(5, -1, -1, -1), parameters)
    torch.testing.assert_close(real, synthetic[owner], rtol=0, atol=0)
    assert len({tuple(one.flatten().tolist()) for one in synthetic}) > 1


@pytest.mark.parametrize("strategy", [DSA, DSA_WITHOUT_FLIP, "flip", "crop_flip"])
def test_all_classes_in_one_call_equal_each_alone(strategy: str) -> None:
    images, owner = normal(30, 3, 8, 8), torch.arange(30) % 10  # ten groups: every operation is about
    parameters = draw_shared(strategy, 10, seeded(1))
    together = apply(strategy, images, parameters.of(owner))
    for group in range(10):
        alone = parameters.of(torch.full((3,), group))
        torch.testing.assert_close(together[owner == group], apply(strategy, images[owner == group], alone))


def test_each_group_draws_its_own_operation_uniformly() -> None:
    active = draw_shared(DSA, 6000, seeded(0)).active
    assert (active.sum(1) == 1).all()
    # binomial(6000, 1/6): mean 1000, standard deviation 29
    assert all(abs(count - 1000) < 120 for count in active.sum(0).tolist())


def test_a_batch_draws_one_operation_and_numbers_per_image() -> None:
    seen = set()
    for seed in range(60):  # one of 6 is missed with probability 6 (5/6)^60 = 1e-4
        parameters = draw_batch(DSA, 16, seeded(seed))
        assert (parameters.active == parameters.active[0]).all()
        assert parameters.active[0].sum() == 1
        assert len(parameters.values.unique()) > 250  # of 16 x 6 x 3 = 288
        seen.add(int(parameters.active[0].nonzero()))
    assert seen == set(range(6))


def test_numbers_fill_the_unit_interval() -> None:
    values = draw_shared(DSA, 2000, seeded(0)).values
    assert values.shape == (2000, 6, 3)
    assert values.min() >= 0
    assert values.max() < 1
    per_number = values.flatten(1)  # (2000, 18): smallest and largest of 2000 are within 0.01 of the ends
    assert per_number.min(0).values.max() < 0.01
    assert per_number.max(0).values.min() > 0.99


@pytest.mark.parametrize("draw", [draw_shared, draw_batch])
def test_draws_come_from_the_generator_alone(draw: Callable[[str, int, Generator], Parameters]) -> None:
    unused = torch.get_rng_state()
    first, second, other = (draw(DSA, 4, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), unused)
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.active, second.active)
    assert not torch.equal(first.values, other.values)


@pytest.mark.parametrize("strategy", ["none", ""])
def test_no_augmentation_draws_and_changes_nothing(strategy: str) -> None:
    rng = seeded(0)
    before, images = rng.get_state(), normal(4, 3, 8, 8)
    for parameters in (draw_shared(strategy, 4, rng), draw_batch(strategy, 4, rng)):
        assert torch.equal(apply(strategy, images, parameters), images)
        assert torch.equal(apply(strategy, images, parameters.of(torch.tensor([0, 0, 1, 3]))), images)
    assert torch.equal(rng.get_state(), before)


def test_operations_in_the_strategys_order() -> None:
    assert augment.operations(DSA) == ("color", "crop", "cutout", "flip", "scale", "rotate")
    assert augment.operations(DSA_WITHOUT_FLIP) == ("color", "crop", "cutout", "scale", "rotate")
    assert augment.operations("rotate_flip") == ("rotate", "flip")


@pytest.mark.parametrize(
    ("draw", "chosen", "first", "following"),
    [  # torch 2.15, before there were families; published results rest on these draws
        (draw_shared, [3, 4, 1, 2], [0.2327616, 0.7571945, 0.7405240, 0.7447319], 0.5920863),
        (draw_batch, [3, 3, 3, 3], [0.1988032, 0.1077865, 0.2214465, 0.5136616], 0.2259144),
    ],
)
@pytest.mark.parametrize("strategy", [DSA, f"dsa:{DSA}"])
def test_draws_of_dsa_stay(
    strategy: str, draw: Callable[..., Parameters], chosen: list[int], first: list[float], following: float
) -> None:
    rng = seeded(7)
    parameters = draw(strategy, 4, rng)
    assert parameters.active.sum(1).tolist() == [1] * 4
    assert parameters.active.int().argmax(1).tolist() == chosen
    assert parameters.values[:, 0, 0].tolist() == pytest.approx(first, abs=1e-7)
    assert torch.rand(1, generator=rng).item() == pytest.approx(following, abs=1e-7)


def test_operations_of_families() -> None:
    assert augment.operations(augment.DC_DIGITS) == ("crop", "scale", "rotate")
    assert augment.operations(augment.DC_NOISE) == ("crop", "noise")
    assert augment.operations(augment.IDC) == ("color", "crop", "cutout")
    assert augment.operations(augment.IDC_NETWORK) == ("color", "crop")
    assert augment.operations(augment.IDC_EVALUATION) == ("color", "crop", "flip", "scale", "rotate")
    assert augment.operations(augment.IDC_EVALUATION_WITHOUT_FLIP) == ("color", "crop", "scale", "rotate")
    assert augment.operations("dc:none") == ()


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("dm:crop", "^augment: family 'dm' is unknown; families are dsa, dc, idc$"),
        (":crop", "^augment: family '' is unknown; families are dsa, dc, idc$"),
        ("dc:crop_flip", "^augment: 'dc:flip' is unknown; operations are crop, scale, rotate, noise, or none$"),
        ("idc:noise", "^augment: 'idc:noise' is unknown; operations are color, crop, .*rotate, or none$"),
    ],
)
def test_an_unknown_family_gets_one_clear_line(strategy: str, message: str) -> None:
    for call in (draw_batch, draw_shared):
        with pytest.raises(ValueError, match=message):
            call(strategy, 1, seeded(0))
    with pytest.raises(ValueError, match=message):
        augment.operations(strategy)


@pytest.mark.parametrize("draw", [draw_shared, draw_batch])
def test_dc_draws_an_operation_for_each_image(draw: Callable[..., Parameters]) -> None:
    parameters = draw(augment.DC_DIGITS, 6000, seeded(0))
    assert (parameters.active.sum(1) == 1).all()
    # binomial(6000, 1/3): mean 2000, standard deviation 37
    assert all(abs(count - 2000) < 150 for count in parameters.active.sum(0).tolist())
    assert parameters.values.shape == (6000, 3, 3)


def test_idc_runs_one_operation_beside_the_usual_three() -> None:
    names = ("rotate", "flip", "color", "crop", "cutout", "scale")
    strategy = "idc:" + "_".join(names)
    active = draw_shared(strategy, 6000, seeded(0)).active
    count = dict(zip(names, active.sum(0).tolist(), strict=True))
    assert (active.sum(1) == 4).all()
    assert count["color"] == count["flip"] == count["cutout"] == 6000
    assert all(abs(count[name] - 2000) < 150 for name in ("rotate", "crop", "scale"))  # standard deviation 37
    for seed in range(5):
        parameters = draw_batch(strategy, 16, seeded(seed))
        assert (parameters.active == parameters.active[0]).all()
        assert parameters.active[0].sum() == 4
        assert len(parameters.values.unique()) > 250  # of 16 x 6 x 3 = 288


def test_idc_needs_no_rest() -> None:
    assert draw_batch("idc:color_flip", 3, seeded(0)).active.all()
    assert draw_batch(augment.IDC, 3, seeded(0)).active.all()  # crop is the only one to choose


def test_idc_is_made_of_dsas_operations() -> None:
    images, parameters = normal(4, 3, 8, 8), draw_batch(augment.IDC_EVALUATION, 4, seeded(0))
    expected = apply("color_crop_flip_scale_rotate", images, parameters, align_corners=True)
    changed = apply(augment.IDC_EVALUATION, images, parameters, align_corners=True)
    torch.testing.assert_close(changed, expected, rtol=0, atol=0)


def test_an_unknown_operation_gets_one_clear_line() -> None:
    with pytest.raises(
        ValueError, match=r"^augment: 'blur' is unknown; operations are color, crop, .*rotate, or none$"
    ):
        draw_shared("flip_blur", 1, seeded(0))


# --- apply -----------------------------------------------------------------------------------------------------------


def test_active_operations_run_one_after_another() -> None:
    images, parameters = normal(4, 3, 8, 8), all_active("color_rotate", 4)
    step = OPERATIONS["color"](images, parameters.values[:, 0], False)
    expected = OPERATIONS["rotate"](step, parameters.values[:, 1], False)
    torch.testing.assert_close(apply("color_rotate", images, parameters), expected, rtol=0, atol=0)


def test_each_image_gets_its_own_numbers() -> None:
    image = normal(1, 3, 16, 16).expand(4, -1, -1, -1)
    for name in OPERATIONS:
        parameters = all_active(name, 4)
        parameters.values[:, 0, 0] = torch.tensor([0.05, 0.3, 0.6, 0.95])
        changed = apply(name, image, parameters)
        alone = [apply(name, image[:1], parameters.of(torch.tensor([i]))) for i in range(4)]
        torch.testing.assert_close(changed, torch.cat(alone), rtol=0, atol=0)
        assert len({tuple(one.flatten().tolist()) for one in changed}) == (2 if name == "flip" else 4)


def test_only_active_operations_run_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []

    def counted(name: str, operation: Callable[[Tensor, Tensor, bool], Tensor]) -> Callable[..., Tensor]:
        def call(images: Tensor, u: Tensor, align_corners: bool) -> Tensor:
            calls.append((name, len(images)))
            return operation(images, u, align_corners)

        return call

    for name, operation in list(OPERATIONS.items()):
        monkeypatch.setitem(OPERATIONS, name, counted(name, operation))
    images, owner = normal(40, 3, 8, 8), torch.arange(40) % 20
    parameters = draw_shared(DSA, 20, seeded(0)).of(owner)
    apply(DSA, images, parameters)
    expected = {name: int(parameters.active[:, i].sum()) for i, name in enumerate(augment.operations(DSA))}
    assert dict(calls) == {name: count for name, count in expected.items() if count}
    assert len(calls) == len(dict(calls)) > 1  # one call for all the images of an operation: no loop over images
    calls.clear()
    chosen = draw_batch(DSA, 40, seeded(0))
    apply(DSA, images, chosen)
    assert calls == [(augment.operations(DSA)[int(chosen.active[0].nonzero())], 40)]


def test_the_input_is_left_as_it_is() -> None:
    images = normal(6, 3, 8, 8)
    before = images.clone()
    for parameters in (all_active(DSA, 6), draw_shared(DSA, 6, seeded(0)), draw_batch(DSA, 6, seeded(0))):
        changed = apply(DSA, images, parameters)
        assert torch.equal(images, before)
        assert not torch.equal(changed, before)
        assert changed.dtype == images.dtype


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_gradients(name: str, align_corners: bool) -> None:
    images = normal(2, 2, 5, 5, dtype=torch.float64).requires_grad_()
    parameters = all_active(name, 2)
    parameters.values[:, 0, 0] = torch.tensor([0.13, 0.81])  # flips the first image only
    assert torch.autograd.gradcheck(lambda x: apply(name, x, parameters, align_corners), (images,))


def test_gradients_through_a_mixed_batch() -> None:
    images = normal(6, 1, 4, 4, dtype=torch.float64).requires_grad_()
    parameters = Parameters(torch.eye(6, dtype=torch.bool), torch.rand(6, 6, 3, generator=seeded(0)))
    assert torch.autograd.gradcheck(lambda x: apply(DSA, x, parameters), (images,))
