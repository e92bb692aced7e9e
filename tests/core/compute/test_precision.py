import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.core import compute
from harness.core.compute import forms, precision, prepare, resolve_dtype
from harness.core.recipes import TrainConfig
from harness.core.train import fit
from tests.core.compute.nets import CPU, CUDA, SHAPE, Line
from tests.core.draws import normal, seeded

CUDNN: Any = torch.backends.cudnn


def precisions() -> tuple[str, str]:
    return torch.get_float32_matmul_precision(), CUDNN.conv.fp32_precision


@pytest.fixture
def as_torch_has_it() -> Iterator[tuple[str, str]]:
    """What torch starts with: products in float32, convolutions in TF32."""
    before = precisions()
    torch.set_float32_matmul_precision("highest")
    CUDNN.conv.fp32_precision = "tf32"
    yield precisions()
    torch.set_float32_matmul_precision(before[0])
    CUDNN.conv.fp32_precision = before[1]


def test_cuda_starts_on_the_units_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        said.append(device)
        yield
        said.append("back")

    monkeypatch.setattr(torch.cuda, "init", lambda: said.append("started"))
    monkeypatch.setattr(torch.cuda, "device", current)
    with compute.use_device(torch.device("cuda:1")):
        said.append("work")
    with compute.use_device(CPU):
        pass
    assert said == ["started", torch.device("cuda:1"), "work", "back"]


FLOAT32, TF32 = ("highest", "ieee"), ("high", "tf32")


@pytest.mark.parametrize(("dtype", "inside"), [("float32", FLOAT32), ("bfloat16", FLOAT32), ("tf32", TF32)])
def test_float32_is_ieee_on_cuda_and_tf32_only_where_asked(
    dtype: str, inside: tuple[str, str], as_torch_has_it: tuple[str, str]
) -> None:
    assert as_torch_has_it == ("highest", "tf32")  # which is neither
    with precision(dtype, CUDA):
        assert precisions() == inside
        with precision("tf32", CUDA):
            assert precisions() == TF32
            with precision("float32", CUDA):
                assert precisions() == FLOAT32
                assert not CUDNN.allow_tf32  # other code may read it by its older name
            assert CUDNN.allow_tf32
            assert precisions() == TF32
        assert precisions() == inside
    assert precisions() == as_torch_has_it
    with pytest.raises(ArithmeticError), precision(dtype, CUDA):
        raise ArithmeticError
    assert precisions() == as_torch_has_it
    with precision(dtype, CPU):
        assert precisions() == as_torch_has_it


class Noting(nn.Module):
    """Notes the precisions it is called under."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.forward_seen, self.backward_seen = nn.Parameter(torch.ones(4)), [precisions()], [precisions()]
        self.forward_seen.clear()
        self.backward_seen.clear()

    def forward(self, batch: Tensor) -> Tensor:
        self.forward_seen.append(precisions())
        logits = batch.mean((2, 3)).sum(1, keepdim=True) * self.weight
        if logits.requires_grad:
            logits.register_hook(lambda _: self.backward_seen.append(precisions()))
        return logits


@pytest.fixture
def as_if_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Precisions are set as on CUDA, whatever the device."""
    real = compute.precision
    for module in (compute, forms):
        monkeypatch.setattr(module, "precision", lambda dtype, _: real(dtype, CUDA))


@pytest.mark.usefixtures("as_torch_has_it", "as_if_on_cuda")
@pytest.mark.parametrize(("dtype", "inside"), [("float32", FLOAT32), ("tf32", TF32)])
def test_both_passes_of_a_training_are_in_the_recipes_precision(dtype: str, inside: tuple[str, str]) -> None:
    network = Noting()
    recipe = TrainConfig(epochs=2, batch_size=4, augment="none", dtype=dtype)
    fit(network, normal(8, *SHAPE), torch.arange(8) % 4, recipe, seeded(0))
    assert set(network.forward_seen) == set(network.backward_seen) == {inside}
    network.forward_seen.clear()
    with torch.no_grad(), precision("tf32", CUDA):  # the curve of a training in TF32 is still measured in float32
        prepare(network, "forward", "eager", "float32", CPU)(normal(8, *SHAPE))
    assert network.forward_seen == [FLOAT32]


def test_tf32_is_refused_where_the_hardware_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert resolve_dtype("tf32", "eager", CUDA) == "tf32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    for device in (CPU, CUDA):
        with pytest.raises(ValueError, match=rf"^dtype: tf32 needs an NVIDIA GPU from Ampere on, and {device} is none"):
            resolve_dtype("tf32", "eager", device)


def test_compiling_in_float32_warns_of_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_as_torch_2_11_does(function: Callable[..., Tensor], **_: object) -> Callable[..., Tensor]:
        def compiled(*arguments: object) -> Tensor:
            warnings.warn("TensorFloat32 tensor cores for float32 matrix multiplication available", stacklevel=1)
            return function(*arguments)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_as_torch_2_11_does)
    with torch.no_grad():
        assert prepare(Line(2), "forward", "compiled", "float32", CPU)(torch.ones(1, 2)).shape == (1, 4)
