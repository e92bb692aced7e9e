import pytest
import torch
from torch import nn

from harness.core import models
from harness.core.models import build, draw_weights, make, parse, scratch
from tests.core.draws import normal, seeded
from tests.core.models.nets import COLOUR, CPU, TINY, each_other, on_meta


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


def test_weights_are_redrawn_in_place() -> None:
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


def test_one_seed_gives_one_network_in_every_type() -> None:
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


@pytest.mark.parametrize("name", ["lenet", "resnet18-bn-ap"])
def test_scratch_takes_every_name(name: str) -> None:
    network = scratch(name, COLOUR, 2, CPU, torch.float64, trainable=False)
    draw_weights(network, seeded(0))
    assert network(normal(2, *COLOUR).double()).dtype == torch.float64
    assert not any(weight.requires_grad for weight in network.parameters())
