from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from harness.core import models
from harness.core.compute import apply_in_chunks, prepare
from tests.core.compute.nets import CHUNK, CPU, SHAPE, Line
from tests.core.draws import normal, seeded


def gradients(logits: Tensor, network: nn.Module) -> list[Tensor]:
    used = [weight for weight in network.parameters() if weight.requires_grad]
    return list(torch.autograd.grad(logits.square().mean(), used))


def test_compiled_equals_eager_and_sees_redrawn_weights() -> None:
    network = models.build("convnet2-w8", SHAPE, 4, seeded(0))
    images = normal(2 * CHUNK + 3, *SHAPE)
    form = apply_in_chunks(prepare(network, "forward", "compiled", "float32", CPU), CHUNK)
    compiled_graphs = 0
    for seed in (1, 2, 3):
        models.draw_weights(network, seeded(seed))
        got, expected = form(images), network(images)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(gradients(got, network), gradients(expected, network), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        if seed == 1:
            compiled_graphs = counters["stats"]["unique_graphs"]
            assert compiled_graphs > 0
    assert counters["stats"]["unique_graphs"] == compiled_graphs  # nothing was compiled for the new weights


def test_bfloat16_is_close_and_comes_back_as_float32() -> None:
    network = models.build("convnet2-w8", SHAPE, 4, seeded(0))
    images = normal(CHUNK, *SHAPE)
    exact = network.embed(images)
    for form in ("eager", "compiled"):
        with torch.no_grad():
            got = prepare(network, "embed", form, "bfloat16", CPU)(images)
        assert got.dtype == torch.float32
        relative = ((got - exact).norm() / exact.norm()).item()
        assert 1e-4 < relative < 0.02  # 8 bits of mantissa: 2^-9 a rounding; and it is not float32 after all
    assert all(weight.dtype == torch.float32 for weight in network.parameters())


def test_eager_float32_is_the_network_itself() -> None:
    network = models.build("convnet2-w8", SHAPE, 4, seeded(0))
    images = normal(5, *SHAPE)
    assert torch.equal(prepare(network, "forward", "eager", "float32", CPU)(images), network(images))
    assert torch.equal(prepare(network, "embed", "eager", "float32", CPU)(images), network.embed(images))


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that compiling does but the C++ compiler's work."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


@pytest.mark.usefixtures("traced_only")
def test_any_number_of_networks_and_shapes_can_be_compiled() -> None:
    # Dynamo refuses the ninth variant of one function (torch._dynamo.config.recompile_limit).
    form = "compiled"
    with torch.no_grad():
        for slope in range(10):
            got = prepare(Line(slope), "forward", form, "float32", CPU)(torch.ones(1, 2))
            assert got.tolist() == [[slope] * 2 + [0] * slope]
        line = prepare(Line(3), "forward", form, "float32", CPU)
        for rows in range(1, 11):
            assert line(torch.ones(rows, 2)).shape == (rows, 5)


@pytest.mark.usefixtures("traced_only")
def test_what_is_compiled_for_a_network_is_found_again() -> None:
    line = Line(11)
    with torch.no_grad():
        prepare(line, "forward", "compiled", "float32", CPU)(torch.ones(1, 2))
        graphs = counters["stats"]["unique_graphs"]
        prepare(line, "forward", "compiled", "float32", CPU)(torch.ones(1, 2))
        assert counters["stats"]["unique_graphs"] == graphs
        prepare(line, "forward", "compiled", "float32", CPU)(torch.ones(2, 2))
    assert counters["stats"]["unique_graphs"] == graphs + 1
