import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.core.models import OtherSpec, build, make, parse
from harness.core.models.others import NAMES
from tests.core.draws import normal, seeded
from tests.core.models.nets import COLOUR, GREY, TINY, each_other, on_meta, parameters


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


@pytest.mark.parametrize(
    ("name", "first", "others"),
    [("lenet", (0, 2), {0}), ("alexnet", (2, 4), {1, 2}), ("vgg11", (1, 3), {1}), ("resnet18", (1, 1), {0, 1})],
)
def test_paddings_of_the_first_convolution(name: str, first: tuple[int, int], others: set[int]) -> None:
    for shape, padding in zip((COLOUR, GREY), first, strict=True):
        stem, *rest = (m for m in on_meta(name, shape).modules() if isinstance(m, nn.Conv2d))
        assert stem.padding == (padding, padding)
        assert {m.padding[0] for m in rest} == others  # the 1 x 1 convolutions of shortcuts have none


def standardised(maps: Tensor) -> Tensor:
    return (maps - maps.mean((2, 3), keepdim=True)) / (maps.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()


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


def test_alexnets_batch_norm_precedes_its_relu() -> None:
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d)
    assert all(map(isinstance, on_meta("alexnet-bn").features[:4], kinds))
    assert nn.BatchNorm2d not in map(type, on_meta("alexnet").modules())


@pytest.mark.parametrize("name", ["mlp", "lenet", "alexnet", "vgg11", "resnet18", "resnet18-ap"])
def test_without_batch_norm_train_and_eval_are_the_same(name: str) -> None:
    network, images = build(name, COLOUR, 3, seeded(0)), normal(2, *COLOUR)
    training = network.train()(images)
    torch.testing.assert_close(network.eval()(images), training, rtol=0, atol=0)
    assert list(network.buffers()) == []  # no running statistics
