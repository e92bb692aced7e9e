from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from harness.core import models
from harness.core.models import build, has_batch_statistics, parse
from harness.core.models.others import NAMES
from tests.core.draws import normal, seeded
from tests.core.models.nets import COLOUR, GREY, on_meta


@pytest.mark.parametrize("side", [4, 7])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_average_pooling_and_two_derivatives_are_pytorchs(side: int, layout: torch.memory_format) -> None:
    maps = torch.randn(2, 3, side, side, generator=Generator().manual_seed(0), dtype=torch.double)
    of_pool = []
    for pool in (models.AveragePool(), nn.AvgPool2d(2)):
        own = maps.clone(memory_format=layout).requires_grad_()
        pooled = pool(own)
        (first,) = torch.autograd.grad(pooled.pow(3).sum(), own, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(2).sum(), own)
        of_pool.append((pooled, first, second))
    torch.testing.assert_close(of_pool[0], of_pool[1])
    batched = torch.func.vmap(models.AveragePool())(maps[None])
    torch.testing.assert_close(batched[0], of_pool[1][0])


@pytest.mark.parametrize("name", ["convnet-d2-w4", "resnet18-bn"])  # whose first convolution has no bias
def test_a_second_empty_channel_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = build(name, (1, 16, 16), 2, seeded(0)).double(), normal(3, 1, 16, 16).double()
    channels = []
    convolve = F.conv2d

    def counted(maps: Tensor, *rest: Any) -> Tensor:
        channels.append(maps.shape[1])
        result: Tensor = convolve(maps, *rest)
        return result

    with torch.no_grad():
        as_pytorch_has_it = network(images)
        monkeypatch.setattr(F, "conv2d", counted)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        grown = network(images)
    assert channels[0] == 2  # as only a compiler sees it
    torch.testing.assert_close(grown, as_pytorch_has_it)
    channels.clear()
    network(images)
    assert 2 not in channels  # nor where a gradient passes


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    # channels and side of each map
    [
        ("convnet3-w8", COLOUR, [(8, 32), (8, 16), (8, 8)]),
        ("convnet2-w8-nopooling-swish", GREY, [(8, 32), (8, 32)]),
        ("mlp", GREY, [(128, 1), (128, 1)]),
        ("lenet", COLOUR, [(6, 28), (16, 10), (120, 1), (84, 1)]),
        ("alexnet", GREY, [(128, 32), (192, 16), (256, 8), (192, 8), (192, 8)]),
        ("vgg11", COLOUR, [(64, 32), (128, 16), (256, 8), (256, 8), (512, 4), (512, 4), (512, 2), (512, 2)]),
        ("resnet18", GREY, [(64, 28), (128, 14), (256, 7), (512, 4)]),
        ("resnet18-ap", COLOUR, [(64, 32), (128, 16), (256, 8), (512, 4)]),
    ],
)
def test_maps_are_those_of_each_block_or_stage(
    name: str, shape: tuple[int, int, int], expected: list[tuple[int, int]]
) -> None:
    maps = on_meta(name, shape).maps(torch.empty(2, *shape, device="meta"))
    assert [tuple(some.shape) for some in maps] == [(2, channels, size, size) for channels, size in expected]


def test_the_last_map_is_what_embed_pools() -> None:
    for name, pooling in (("convnet2-w4", F.avg_pool2d), ("convnet2-w4-max", F.max_pool2d), ("alexnet", F.max_pool2d)):
        network, images = build(name, (3, 8, 8), 2, seeded(0)), normal(2, 3, 8, 8)
        last = network.maps(images)[-1]
        torch.testing.assert_close(network.embed(images), pooling(last, 2).flatten(1))
        if name == "convnet2-w4":
            assert last.min() == 0  # after the activation
            torch.testing.assert_close(network.maps(images)[0], network.features[:3](images), rtol=0, atol=0)
    network, images = build("resnet18-bn-ap", (3, 8, 8), 2, seeded(0)).eval(), normal(2, 3, 8, 8)
    torch.testing.assert_close(network.embed(images), network.maps(images)[-1].flatten(1), rtol=0, atol=0)


def test_only_batch_norm_ties_the_images_of_a_batch() -> None:
    images = normal(4, 3, 4, 4)
    for norm in ("in", "bn", "ln", "gn", "nn"):
        network = build(f"convnet1-w4-{norm}", (3, 4, 4), 2, seeded(0))
        alone = torch.cat([network(image) for image in images.split(1)])
        assert has_batch_statistics(network) == (norm == "bn")
        assert torch.allclose(network(images), alone, atol=1e-5) == (norm != "bn")


@pytest.mark.parametrize("name", ["convnet3", "convnet3-bn", *NAMES])
def test_a_specification_knows_of_batch_norm(name: str) -> None:
    assert has_batch_statistics(on_meta(name)) == ("bn" in name) == parse(name).has_batchnorm


@pytest.mark.parametrize("was_training", [True, False])
def test_evaluating_restores_the_mode_even_after_errors(was_training: bool) -> None:
    network = models.build("convnet1-w4-bn", (3, 8, 8), 2, Generator().manual_seed(0)).train(was_training)
    modes: list[bool] = []

    def look() -> None:
        with models.evaluating(network):
            modes.extend(module.training for module in network.modules())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        look()
    assert not any(modes)
    assert all(module.training == was_training for module in network.modules())
