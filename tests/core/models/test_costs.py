import pytest
import torch

from harness.core.models import build, count_outputs, forward_flop
from tests.core.draws import seeded
from tests.core.models.nets import COLOUR, CPU, GREY, on_meta


@pytest.mark.parametrize(
    ("name", "multiply_adds"),
    [
        # filters x fan in x positions: 128 x 27 x 1024, 128 x 1152 x 256, 128 x 1152 x 64, 2048 x 10
        ("convnet3", 3538944 + 37748736 + 9437184 + 20480),  # methods.md 2.1: 50.7M
        ("mlp", 393216 + 16384 + 1280),
        ("lenet", 6 * 75 * 784 + 16 * 150 * 100 + 400 * 120 + 120 * 84 + 840),
        # stem and first stage at 32 x 32; after the second, each has 4 times the weights and 1 / 4 of the positions
        ("resnet18", 1728 * 1024 + 147456 * 1024 + 3 * 524288 * 256 + 5120),
    ],
)
def test_flop_of_one_image(name: str, multiply_adds: int) -> None:
    assert forward_flop(on_meta(name), COLOUR) == 2 * multiply_adds


def test_counting_leaves_the_network_as_it_is() -> None:
    network = build("resnet18-bn", (3, 8, 8), 3, seeded(0)).double()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert forward_flop(network, (3, 8, 8)) > 0
    assert count_outputs(network, (3, 8, 8)) > 0
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    for name, value in network.state_dict().items():
        assert value.device == CPU
        assert torch.equal(value, before[name])


def test_outputs_of_layers() -> None:
    assert count_outputs(on_meta("convnet3"), COLOUR) == 128 * (32 * 32 + 16 * 16 + 8 * 8)
    assert count_outputs(on_meta("convnet1-w4", GREY), GREY) == 4 * 32 * 32
    assert count_outputs(on_meta("lenet"), COLOUR) == 6 * 28 * 28 + 16 * 10 * 10 + 120 + 84
    # stem and four of 64 x 32 x 32; each further stage, of four and a shortcut, gives half as many as the one before
    assert count_outputs(on_meta("resnet18"), COLOUR) == 5 * 65536 * (8 + 4 + 2 + 1) // 8
