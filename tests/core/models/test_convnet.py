import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harness.core.models import ConvNetSpec, build, parse
from tests.core.draws import normal, seeded
from tests.core.models.nets import COLOUR, parameters


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


def test_only_the_first_convolution_of_grey_images_pads_by_3() -> None:
    paddings = [
        m.padding for m in build("convnet2-w4", (1, 28, 28), 2, seeded(0)).modules() if isinstance(m, nn.Conv2d)
    ]
    assert paddings == [(3, 3), (1, 1)]


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


def test_batch_norm_differs_in_train_and_eval() -> None:
    network, images = build("convnet2-w8-bn", (3, 8, 8), 3, seeded(0)), normal(4, 3, 8, 8) + 1
    training = network.train()(images)
    assert (network.eval()(images) - training).abs().max() > 0.1


def test_layer_norm_has_a_weight_per_element_of_a_map() -> None:
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
