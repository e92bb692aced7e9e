from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from harness.core import models
from harness.core.models import (
    ConvNetSpec,
    OtherSpec,
    build,
    count_outputs,
    draw_weights,
    forward_flop,
    has_batch_statistics,
    make,
    parse,
    scratch,
)
from harness.core.models.others import NAMES

CPU = torch.device("cpu")
COLOUR = (3, 32, 32)
GREY = (1, 28, 28)
TINY = (1, 8, 8)

each_other = pytest.mark.parametrize("name", NAMES)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def on_meta(name: str, shape: tuple[int, int, int] = COLOUR, num_classes: int = 10) -> models.Network:
    with torch.device("meta"):
        return make(name, shape, num_classes)


def parameters(name: str, num_classes: int, shape: tuple[int, int, int] = COLOUR) -> int:
    return sum(weight.numel() for weight in on_meta(name, shape, num_classes).parameters())


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("convnet", ConvNetSpec(3, 128, "instancenorm", "relu", "avgpooling")),  # the papers' default
        ("convnet3", ConvNetSpec()),
        ("convnet4", ConvNetSpec(depth=4)),
        ("convnet-d2", ConvNetSpec(depth=2)),
        ("convnet-w256", ConvNetSpec(width=256)),
        ("convnet-d3-w32-batchnorm", ConvNetSpec(width=32, norm="batchnorm")),
        ("convnet2-avg-swish-bn-w8", ConvNetSpec(2, 8, "batchnorm", "swish", "avgpooling")),  # in any order
        ("ConvNet1-LN", ConvNetSpec(1, norm="layernorm")),
        ("convnet-in", ConvNetSpec(norm="instancenorm")),
        ("convnet-gn", ConvNetSpec(norm="groupnorm")),
        ("convnet-nn", ConvNetSpec(norm="nonorm")),
        ("convnet-instancenorm", ConvNetSpec(norm="instancenorm")),
        ("convnet-layernorm", ConvNetSpec(norm="layernorm")),
        ("convnet-groupnorm", ConvNetSpec(norm="groupnorm")),
        ("convnet-nonorm", ConvNetSpec(norm="nonorm")),
        ("convnet-relu", ConvNetSpec(activation="relu")),
        ("convnet-sigmoid", ConvNetSpec(activation="sigmoid")),
        ("convnet-leakyrelu", ConvNetSpec(activation="leakyrelu")),
        ("convnet-max", ConvNetSpec(pooling="maxpooling")),
        ("convnet-avgpooling", ConvNetSpec(pooling="avgpooling")),
        ("convnet-maxpooling", ConvNetSpec(pooling="maxpooling")),
        ("convnet-nopooling", ConvNetSpec(pooling="nopooling")),
    ],
)
def test_a_name_stands_for_a_network(name: str, spec: ConvNetSpec) -> None:
    assert parse(name) == spec


@pytest.mark.parametrize("norm", ["instancenorm", "batchnorm", "layernorm", "groupnorm", "nonorm"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "leakyrelu", "swish"])
@pytest.mark.parametrize("pooling", ["avgpooling", "maxpooling", "nopooling"])
def test_every_member_has_one_full_name_and_gives_finite_logits(norm: str, activation: str, pooling: str) -> None:
    spec = ConvNetSpec(2, 8, norm, activation, pooling)
    assert str(spec) == f"convnet-d2-w8-{norm}-{activation}-{pooling}"
    assert parse(str(spec)) == spec
    logits = build(str(spec), (3, 8, 8), 5, seeded(0))(normal(2, 3, 8, 8))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet50",
            "model: 'resnet50' is unknown; models are named like convnet3 or convnet-d3-w32-batchnorm, or are ",
        ),
        (
            "resnet",
            "one of mlp, lenet, alexnet, alexnet-bn, vgg11, vgg11-bn, resnet18, resnet18-bn, resnet18-ap, resne",
        ),
        ("vgg11bn", "model: 'vgg11bn' is unknown"),
        ("mlp-bn", "model: 'bn' in 'mlp-bn' is unknown; mlp has no parts"),
        ("lenet-", "model: '' in 'lenet-' is unknown; lenet has no parts"),
        ("alexnet-in", "model: 'in' in 'alexnet-in' is unknown; parts are nonorm, batchnorm"),
        ("vgg11-ap", "model: 'ap' in 'vgg11-ap' is unknown; parts are instancenorm, batchnorm"),
        ("resnet18-gn", "model: 'gn' in 'resnet18-gn' is unknown; parts are instancenorm, batchnorm, ap"),
        ("resnet18-bn-in", "model: 'resnet18-bn-in' gives its norm twice"),
        ("resnet18-ap-ap", "model: 'resnet18-ap-ap' gives its halving twice"),
        ("convnetx", "model: 'convnetx' is unknown"),
        ("", "model: '' is unknown"),
        ("convnet3-", "model: '' in 'convnet3-' is unknown; parts are dDEPTH, wWIDTH, instancenorm"),
        ("convnet-w", "model: 'w' in 'convnet-w' is unknown"),
        ("convnet-w-8", "model: 'w' in 'convnet-w-8' is unknown"),
        ("convnet-x3", "model: 'x3' in 'convnet-x3' is unknown"),
        ("convnet-gelu", "model: 'gelu' in 'convnet-gelu' is unknown"),
        ("convnet3-d4", "model: 'convnet3-d4' gives its depth twice"),
        ("convnet-w8-w8", "gives its width twice"),
        ("convnet-bn-in", "gives its norm twice"),
        ("convnet-relu-relu", "gives its activation twice"),
        ("convnet-max-avgpooling", "gives its pooling twice"),
        ("convnet0", "model: depth and width are at least 1, got depth 0, width 128"),
        ("convnet-w0", "got depth 3, width 0"),
        ("convnet-w6-gn", "groupnorm has 4 groups, so the width is a multiple of 4, got 6"),
    ],
)
def test_a_wrong_name_gets_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(ValueError, match="model") as caught:
        parse(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "spec", "full"),
    [
        ("mlp", OtherSpec("mlp", "nonorm"), "mlp"),
        ("LeNet", OtherSpec("lenet", "nonorm"), "lenet"),
        ("alexnet", OtherSpec("alexnet", "nonorm"), "alexnet-nonorm"),
        ("AlexNet-BN", OtherSpec("alexnet", "batchnorm"), "alexnet-batchnorm"),
        ("vgg11", OtherSpec("vgg11", "instancenorm"), "vgg11-instancenorm"),
        ("vgg11-in", OtherSpec("vgg11", "instancenorm"), "vgg11-instancenorm"),
        ("vgg11-bn", OtherSpec("vgg11", "batchnorm"), "vgg11-batchnorm"),
        ("resnet18", OtherSpec("resnet18", "instancenorm"), "resnet18-instancenorm"),
        ("resnet18-bn", OtherSpec("resnet18", "batchnorm"), "resnet18-batchnorm"),
        ("resnet18-ap", OtherSpec("resnet18", "instancenorm", "ap"), "resnet18-instancenorm-ap"),
        ("resnet18-bn-ap", OtherSpec("resnet18", "batchnorm", "ap"), "resnet18-batchnorm-ap"),
        ("resnet18-ap-bn", OtherSpec("resnet18", "batchnorm", "ap"), "resnet18-batchnorm-ap"),  # in any order
    ],
)
def test_a_name_stands_for_a_network_of_fixed_structure(name: str, spec: OtherSpec, full: str) -> None:
    assert parse(name) == spec
    assert str(spec) == full
    assert parse(full) == spec


@each_other
def test_every_listed_name_is_one_network(name: str) -> None:
    assert parse(str(parse(name))) == parse(name)
    assert len({str(parse(name)) for name in NAMES}) == len(NAMES)
    assert make(parse(name), COLOUR, 7).classifier.out_features == 7  # a specification serves as well


@pytest.mark.parametrize(
    ("family", "norm", "halving"),
    [("vgg11", "groupnorm", "stride"), ("vgg11", "batchnorm", "ap"), ("vgg16", "batchnorm", "stride")],
)
def test_a_specification_of_no_network_is_refused(family: str, norm: str, halving: str) -> None:
    with pytest.raises(ValueError, match=f"model: there is no {family} with {norm} and halving {halving}"):
        OtherSpec(family, norm, halving)


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    # methods.md 2.1. D3, C = 10, by hand: convolutions 3584 + 2 * 147584, norms 3 * 256, linear 20490: 320010.
    [
        ("convnet1", 10, 331530),
        ("convnet2", 10, 233610),
        ("convnet3", 10, 320010),
        ("convnet4", 10, 452490),
        ("convnet3", 100, 504420),
        ("convnet1-w4-ln-nopooling", 10, 112 + 2 * 4 * 1024 + 40970),  # LayerNorm: a weight for each of 4 x 32 x 32
        ("convnet1-w4-nn-nopooling", 10, 112 + 40970),
        ("convnet1-w4-bn-nopooling", 10, 112 + 8 + 40970),
    ],
)
def test_parameter_counts(name: str, num_classes: int, count: int) -> None:
    assert parameters(name, num_classes) == count


@pytest.mark.parametrize(
    ("name", "colour", "grey"),
    [
        # 3072 x 128 + 128, 128 x 128 + 128, 128 x 10 + 10; 784 inputs: 2288 x 128 fewer
        ("mlp", 393344 + 16512 + 1290, 100480 + 16512 + 1290),
        # convolutions 6 x 75 + 6 and 16 x 150 + 16, then 400 x 120 + 120, 120 x 84 + 84, 84 x 10 + 10; grey: 6 x 25 + 6
        ("lenet", 456 + 2416 + 48120 + 10164 + 850, 156 + 2416 + 48120 + 10164 + 850),
        # 128 x 75 + 128, 192 x 3200 + 192, 256 x 1728 + 256, 192 x 2304 + 192, 192 x 1728 + 192, 3072 x 10 + 10;
        # grey: 128 x 25 + 128
        ("alexnet", 9728 + 614592 + 442624 + 442560 + 331968 + 30730, 1865802),
        ("alexnet-bn", 1872202 + 1920, 1865802 + 1920),  # 2 x (128 + 192 + 256 + 192 + 192)
        # 64 x 27 + 64, 128 x 576 + 128, 256 x 1152 + 256, 256 x 2304 + 256, 512 x 2304 + 512, thrice 512 x 4608 + 512;
        # norms 2 x (64 + 128 + 2 x 256 + 4 x 512); 512 x 10 + 10; grey: 64 x 18 fewer
        ("vgg11", 1792 + 73856 + 295168 + 590080 + 1180160 + 3 * 2359808 + 5504 + 5130, 9231114 - 1152),
        ("vgg11-bn", 9231114, 9231114 - 1152),
        # Stem 64 x 27. Stages: 4 x 64 x 576; 128 x (576 + 3 x 1152) + shortcut 128 x 64 = 524288; 4 and 16 times it.
        # Norms 2 x 5 x (64 + 128 + 256 + 512): stem or shortcut, and two in each of two blocks. 512 x 10 + 10.
        ("resnet18", 1728 + 147456 + 524288 * (1 + 4 + 16) + 9600 + 5130, 11173962 - 1152),
        ("resnet18-bn", 11173962, 11173962 - 1152),
        # the classifier takes 512 x 4 x 4, and 512 x 3 x 3 of 28 -> 14 -> 7 -> 3
        ("resnet18-ap", 11173962 + (8192 - 512) * 10, 11173962 - 1152 + (4608 - 512) * 10),
        ("resnet18-bn-ap", 11250762, 11213770),
    ],
)
def test_parameter_counts_of_fixed_structures(name: str, colour: int, grey: int) -> None:
    assert parameters(name, 10) == colour
    assert parameters(name, 10, GREY) == grey


@pytest.mark.parametrize(
    ("name", "shape", "features"),
    [
        ("convnet1", COLOUR, 32768),
        ("convnet2", COLOUR, 8192),
        ("convnet3", COLOUR, 2048),
        ("convnet4", COLOUR, 512),
        ("convnet4", (3, 64, 64), 2048),
        ("convnet3", (1, 28, 28), 2048),  # grey 28 x 28 becomes 32 x 32
        ("convnet2-w4-nopooling", (1, 28, 28), 4 * 32 * 32),
        ("convnet3-w4", (1, 8, 8), 4),  # 8 -> 12 by the padding -> 6 -> 3 -> 1
        ("convnet1-w4", (3, 5, 5), 16),  # 5 -> 2: pooling drops the odd row
    ],
)
def test_feature_sizes(name: str, shape: tuple[int, int, int], features: int) -> None:
    network = build(name, shape, 10, seeded(0))
    embedding = network.embed(normal(2, *shape))
    assert embedding.shape == (2, features)
    torch.testing.assert_close(network(normal(2, *shape)), network.classifier(embedding), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "sizes"),
    # of 1 x 28 x 28, 3 x 32 x 32 (methods.md 2.2), 3 x 64 x 64 and 1 x 8 x 8 images; 0 is refused
    [
        ("mlp", (128, 128, 128, 128)),
        ("lenet", (84, 84, 84, 0)),  # 8 -> 8 by the padding -> 4 -> 0 by the second convolution
        ("alexnet", (3072, 3072, 192 * 8 * 8, 192)),  # 8 -> 12 by the padding -> 6 -> 3 -> 1
        ("alexnet-bn", (3072, 3072, 192 * 8 * 8, 192)),
        ("vgg11", (512, 512, 512, 0)),  # 8 -> 12 -> 6 -> 3 -> 1 -> 0
        ("vgg11-bn", (512, 512, 512, 0)),
        ("resnet18", (512, 512, 512, 0)),  # an instance norm makes 1 x 1 maps zero
        ("resnet18-bn", (512, 512, 512, 512)),
        ("resnet18-ap", (512 * 3 * 3, 8192, 512 * 8 * 8, 0)),
        ("resnet18-bn-ap", (512 * 3 * 3, 8192, 512 * 8 * 8, 512)),
    ],
)
def test_feature_sizes_of_fixed_structures(name: str, sizes: tuple[int, ...]) -> None:
    for shape, size in zip((GREY, COLOUR, (3, 64, 64), TINY), sizes, strict=True):
        if size == 0:
            with pytest.raises(ValueError, match=rf"model: {parse(name)} pools 8 x 8 images away; use") as caught:
                on_meta(name, shape)
            assert "\n" not in str(caught.value)
            continue
        network, images = on_meta(name, shape), torch.empty(2, *shape, device="meta")
        assert network.embed(images).shape == (2, size)
        assert network(images).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lenet", (3, 16, 16)),  # 16 -> 12 -> 6 -> 2 -> 1
        ("alexnet", (3, 8, 8)),
        ("vgg11", (3, 32, 32)),
        ("resnet18", (3, 9, 9)),  # 9 -> 5 -> 3 -> 2
        ("resnet18-bn", (3, 8, 8)),
        ("resnet18-ap", (3, 16, 16)),
        ("resnet18-bn-ap", (3, 8, 8)),
    ],
)
def test_the_smallest_colour_images(name: str, shape: tuple[int, int, int]) -> None:
    side = shape[1] - 1
    network = build(name, shape, 4, seeded(0))
    assert network(normal(3, *shape)).isfinite().all()
    one, other = network.eval().embed(normal(2, *shape))
    assert (one - other).abs().max() > 1e-3  # something of the images is left
    with pytest.raises(ValueError, match=f"pools {side} x {side} images away"):
        on_meta(name.removesuffix("-bn") if name == "resnet18-bn" else name, (3, side, side))


def test_only_the_first_convolution_of_grey_images_pads_by_3() -> None:
    paddings = [
        m.padding for m in build("convnet2-w4", (1, 28, 28), 2, seeded(0)).modules() if isinstance(m, nn.Conv2d)
    ]
    assert paddings == [(3, 3), (1, 1)]


@pytest.mark.parametrize(
    ("name", "first", "others"),
    [("lenet", (0, 2), {0}), ("alexnet", (2, 4), {1, 2}), ("vgg11", (1, 3), {1}), ("resnet18", (1, 1), {0, 1})],
)
def test_paddings_of_the_first_convolution(name: str, first: tuple[int, int], others: set[int]) -> None:
    for shape, padding in zip((COLOUR, GREY), first, strict=True):
        stem, *rest = (m for m in on_meta(name, shape).modules() if isinstance(m, nn.Conv2d))
        assert stem.padding == (padding, padding)
        assert {m.padding[0] for m in rest} == others  # the 1 x 1 convolutions of shortcuts have none


def test_embed_is_the_papers_formula() -> None:
    network = build("convnet2-w4", (3, 8, 8), 2, seeded(0))
    images = x = normal(2, 3, 8, 8)
    for first in (0, 4):  # blocks of convolution, norm, activation, pooling
        convolution = network.features[first]
        assert isinstance(convolution, nn.Conv2d)
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
        x = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        x = x.clamp(min=0)
        x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    torch.testing.assert_close(network.embed(images), x.flatten(1), rtol=1e-5, atol=1e-5)


def standardised(maps: Tensor) -> Tensor:
    return (maps - maps.mean((2, 3), keepdim=True)) / (maps.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("side", [4, 7])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_average_of_each_square_and_two_derivatives_are_pytorchs(side: int, layout: torch.memory_format) -> None:
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


def test_vgg11_is_the_papers_formula() -> None:
    network = build("vgg11", (3, 64, 64), 2, seeded(0))
    images = x = normal(2, 3, 64, 64)
    weights = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    for number, convolution in enumerate(weights):
        x = standardised(F.conv2d(x, convolution.weight, convolution.bias, padding=1)).clamp(min=0)
        if number in (0, 1, 3, 5, 7):
            x = F.max_pool2d(x, 2)
    assert x.shape == (2, 512, 2, 2)
    torch.testing.assert_close(network.embed(images), x.mean((2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "resnet18-ap"])
def test_resnet18_is_the_papers_formula(name: str) -> None:
    network = build(name, (3, 16, 16), 2, seeded(0)).double()
    images = x = normal(2, 3, 16, 16).double()
    weights = iter([m.weight for m in network.modules() if isinstance(m, nn.Conv2d)])  # the shortcut after its residual
    strided = 1 if name == "resnet18-ap" else 2
    x = standardised(F.conv2d(x, next(weights), padding=1)).clamp(min=0)
    for block in range(8):
        halves = block in (2, 4, 6)
        stride = strided if halves else 1
        pool = (lambda maps: F.avg_pool2d(maps, 2)) if halves and strided == 1 else (lambda maps: maps)
        residual = pool(standardised(F.conv2d(x, next(weights), stride=stride, padding=1)).clamp(min=0))
        residual = standardised(F.conv2d(residual, next(weights), padding=1))
        shortcut = standardised(pool(F.conv2d(x, next(weights), stride=stride))) if halves else x
        x = (residual + shortcut).clamp(min=0)
    assert next(weights, None) is None
    expected = x.flatten(1) if strided == 1 else x.mean((2, 3))
    torch.testing.assert_close(network.embed(images), expected, rtol=1e-8, atol=1e-8)


def test_batch_norm_of_alexnet_stands_between_convolution_and_relu() -> None:
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d)
    assert all(map(isinstance, on_meta("alexnet-bn").features[:4], kinds))
    assert nn.BatchNorm2d not in map(type, on_meta("alexnet").modules())


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


@pytest.mark.parametrize(
    ("part", "at_minus_one"),
    [("relu", 0.0), ("sigmoid", 0.26894143), ("leakyrelu", -0.01), ("swish", -0.26894143)],  # 1 / (1 + e), times -1
)
def test_activations_at_minus_one(part: str, at_minus_one: float) -> None:
    activation = build(f"convnet1-w4-{part}", (3, 4, 4), 2, seeded(0)).features[2]
    assert activation(torch.tensor(-1.0)).item() == pytest.approx(at_minus_one)


@pytest.mark.parametrize(("part", "pooled"), [("avg", 2.5), ("max", 4.0)])
def test_poolings_of_1_2_3_4(part: str, pooled: float) -> None:
    pooling = build(f"convnet1-w4-{part}", (3, 4, 4), 2, seeded(0)).features[3]
    assert pooling(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).item() == pooled


def test_instance_norm_is_the_same_in_train_and_eval() -> None:
    network, images = build("convnet2-w8", (3, 8, 8), 3, seeded(0)), normal(4, 3, 8, 8)
    training = network.train()(images)
    torch.testing.assert_close(network.eval()(images), training, rtol=0, atol=0)
    assert list(network.buffers()) == []  # no running statistics


@pytest.mark.parametrize("name", ["mlp", "lenet", "alexnet", "vgg11", "resnet18", "resnet18-ap"])
def test_without_batch_norm_train_and_eval_are_the_same(name: str) -> None:
    network, images = build(name, COLOUR, 3, seeded(0)), normal(2, *COLOUR)
    training = network.train()(images)
    torch.testing.assert_close(network.eval()(images), training, rtol=0, atol=0)
    assert list(network.buffers()) == []  # no running statistics


def test_batch_norm_differs_in_train_and_eval() -> None:
    network, images = build("convnet2-w8-bn", (3, 8, 8), 3, seeded(0)), normal(4, 3, 8, 8) + 1
    training = network.train()(images)
    assert (network.eval()(images) - training).abs().max() > 0.1


def test_layer_norm_normalises_the_whole_map_with_a_weight_per_element() -> None:
    norm = build("convnet1-w4-ln", COLOUR, 2, seeded(0)).features[1]
    assert isinstance(norm, nn.LayerNorm)
    assert norm.weight.shape == norm.bias.shape == (4, 32, 32)
    maps = norm(normal(2, 4, 32, 32) * 3 + 5)
    torch.testing.assert_close(maps.mean((1, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(maps.var((1, 2, 3), correction=0), torch.ones(2), rtol=1e-4, atol=0)


def test_group_norm_normalises_quarters_of_the_channels() -> None:
    maps = build("convnet1-w8-gn", (3, 4, 4), 2, seeded(0)).features[1](normal(2, 8, 4, 4) * 3 + 5)
    torch.testing.assert_close(maps.view(2, 4, -1).mean(2), torch.zeros(2, 4), rtol=0, atol=1e-5)
    assert maps.mean((2, 3)).abs().max() > 0.05  # single channels are not centred


@pytest.mark.parametrize(
    ("name", "shape", "pools_away"),
    [
        ("convnet3-w4", (3, 8, 8), False),  # 8 -> 4 -> 2 -> 1
        ("convnet4-w4", (3, 8, 8), True),
        ("convnet4-w4-nopooling", (3, 8, 8), False),
        ("convnet5-w4", (1, 28, 28), False),
        ("convnet6-w4", (1, 28, 28), True),
    ],
)
def test_images_pooled_away_are_refused(name: str, shape: tuple[int, int, int], pools_away: bool) -> None:
    if pools_away:
        with pytest.raises(ValueError, match=rf"pools {shape[1]} x {shape[1]} images away; use a smaller depth"):
            build(name, shape, 2, seeded(0))
    else:
        assert build(name, shape, 2, seeded(0))(normal(1, *shape)).isfinite().all()


def test_oblong_images_are_refused() -> None:
    with pytest.raises(ValueError, match="takes square images, got 8 x 4"):
        build("convnet1-w4", (3, 8, 4), 2, seeded(0))


def test_weights_lie_within_one_over_the_root_of_the_fan_in() -> None:
    network = build("convnet2-w64", (3, 8, 8), 10, seeded(0))
    # fan in: 3 channels x 9, 64 channels x 9, 64 channels x 2 x 2 features
    for index, fan_in in ((0, 27), (4, 576)):
        for weight in network.features[index].parameters():
            assert 0.9 * fan_in**-0.5 < weight.abs().max() <= fan_in**-0.5
    for weight in network.classifier.parameters():
        assert 0.7 * 256**-0.5 < weight.abs().max() <= 256**-0.5  # the bias: 10 values, below 0.7 in 3 % of draws


@each_other
def test_every_weight_is_drawn_by_the_generator_alone(name: str) -> None:
    network, twin = make(name, COLOUR, 3), make(name, COLOUR, 3)
    unused = torch.get_rng_state()
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(torch.nan)
    draw_weights(network, seeded(1))
    draw_weights(twin, seeded(1))
    for weight, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(weight, other)
        if weight.ndim > 1:
            bound = weight[0].numel() ** -0.5
            assert 0.9 * bound < weight.abs().max() <= bound
    images = normal(2, *COLOUR)
    assert torch.equal(network(images), twin(images))
    assert torch.equal(torch.get_rng_state(), unused)


@pytest.mark.parametrize("layer", [nn.Conv2d(64, 64, 3), nn.Linear(64, 8192)])
def test_weights_are_distributed_as_pytorch_draws_them(layer: nn.Module) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer.reset_parameters()  # type: ignore[operator]
    theirs = [weight.detach().clone().flatten() for weight in layer.parameters()]
    draw_weights(layer, seeded(1))
    levels = torch.linspace(0, 1, 21)
    for ours, their in zip(layer.parameters(), theirs, strict=True):
        if len(their) < 5000:
            continue  # the convolution's 64 biases say little
        gap = (ours.detach().flatten().quantile(levels) - their.quantile(levels)).abs().max() / their.abs().max()
        assert gap < 0.05  # two samples of 8192 from -1 .. 1 differ by 0.009 (one standard error) at the median


def test_norms_start_afresh() -> None:
    network = build("convnet1-w4-bn", (3, 4, 4), 2, seeded(0))
    norm = network.features[1]
    assert isinstance(norm, nn.BatchNorm2d)
    network(normal(8, 3, 4, 4) + 3)
    with torch.no_grad():
        norm.weight.fill_(7)
        norm.bias.fill_(7)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.running_mean.abs().max() > 0
    draw_weights(network, seeded(1))
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()
    assert (norm.running_mean == 0).all()
    assert (norm.running_var == 1).all()


def test_weights_are_redrawn_in_place_and_by_the_generator_alone() -> None:
    network = build("convnet2-w8", (3, 8, 8), 3, seeded(0))
    before = [(weight.data_ptr(), weight.detach().clone()) for weight in network.parameters()]
    unused = torch.get_rng_state()
    draw_weights(network, seeded(1))
    for (place, old), weight in zip(before, network.parameters(), strict=True):
        assert weight.data_ptr() == place
        assert weight.ndim == 1 or not torch.equal(weight, old)
    draw_weights(network, seeded(0))
    assert all(torch.equal(weight, old) for (_, old), weight in zip(before, network.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), unused)


def test_the_same_generator_gives_the_same_network_in_every_type() -> None:
    single = build("convnet2-w8", (3, 8, 8), 3, seeded(5))
    double = scratch("convnet2-w8", (3, 8, 8), 3, CPU, torch.float64)
    draw_weights(double, seeded(5))
    for ours, theirs in zip(single.parameters(), double.parameters(), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=0)


def test_building_leaves_the_global_generator_alone() -> None:
    unused = torch.get_rng_state()
    build("convnet1-w4", (3, 4, 4), 2, seeded(0))
    build("lenet", COLOUR, 2, seeded(0))
    build("resnet18-bn-ap", TINY, 2, seeded(0))
    models.scratch.cache_clear()
    scratch("convnet1-w4", (3, 4, 4), 2, CPU)
    assert torch.equal(torch.get_rng_state(), unused)


@pytest.mark.parametrize("name", ["convnet3", "resnet18-bn"])
def test_making_on_the_meta_device_draws_nothing(name: str) -> None:
    unused = torch.get_rng_state()
    assert {value.device.type for value in on_meta(name).state_dict().values()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), unused)


def test_scratch_is_one_object_per_arguments() -> None:
    network = scratch("convnet1-w4", (3, 4, 4), 2, CPU)
    assert scratch("convnet1-w4", (3, 4, 4), 2, CPU) is network
    assert scratch("convnet1-w4", (3, 4, 4), 3, CPU) is not network
    assert network.training
    assert all(weight.requires_grad for weight in network.parameters())
    frozen = scratch("convnet1-w4", (3, 4, 4), 2, CPU, trainable=False)
    assert not any(weight.requires_grad for weight in frozen.parameters())


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


@pytest.mark.parametrize("name", ["lenet", "resnet18-bn-ap"])
def test_scratch_takes_every_name(name: str) -> None:
    network = scratch(name, COLOUR, 2, CPU, torch.float64, trainable=False)
    draw_weights(network, seeded(0))
    assert network(normal(2, *COLOUR).double()).dtype == torch.float64
    assert not any(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("was_training", [True, False])
def test_an_evaluated_network_is_put_back_in_its_mode_whatever_happens(was_training: bool) -> None:
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
