import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch._dynamo.utils import counters

from harness.core import compute, models
from harness.core.compute import (
    chunk_size,
    chunked,
    chunks,
    compiler,
    evaluation_form,
    fast,
    forms,
    hardware,
    precision,
    resolve,
    resolve_dtype,
    tuning,
)
from harness.core.recipes import TrainConfig
from harness.core.train import fit, training_form

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CUDNN: Any = torch.backends.cudnn
SHAPE, CHUNK = (3, 8, 8), 8


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def compilers(monkeypatch: pytest.MonkeyPatch, *there: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(compiler, "try_compiler", lambda *_: "")
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")


def python_headers(monkeypatch: pytest.MonkeyPatch, folder: Path, *, there: bool) -> None:
    if there:
        (folder / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(folder))


# --- auto ------------------------------------------------------------------------------------------------------------


NONE = "there is no C++ compiler (g++); several times slower than compiled"


@pytest.mark.parametrize(
    ("asked", "device", "smoke", "there", "form", "reason"),
    [
        ("auto", CPU, False, ("g++",), "compiled", "g++ is there"),
        ("auto", CPU, False, ("c++", "g++"), "compiled", "g++ is there"),
        ("auto", CPU, False, ("gcc", "clang++", "c++"), "eager", NONE),  # torch.compile looks for g++ alone
        ("auto", CPU, False, (), "eager", NONE),
        ("auto", CUDA, False, ("gcc",), "compiled", "gcc is there"),
        ("auto", CUDA, False, ("clang", "gcc"), "compiled", "gcc is there"),
        ("auto", CUDA, False, ("clang",), "compiled", "clang is there"),
        ("auto", CUDA, False, ("cc", "g++"), "eager", "there is no C compiler (gcc)"),
        ("auto", CPU, True, ("g++",), "eager", "preset smoke"),
        ("auto", CUDA, True, (), "eager", "preset smoke"),
        ("eager", CPU, False, ("g++",), "eager", "as asked"),
        ("eager", CPU, False, (), "eager", "as asked"),
        ("compiled", CPU, False, ("g++",), "compiled", "as asked"),
        ("compiled", CPU, True, ("g++",), "compiled", "as asked"),
        ("compiled", CUDA, False, ("gcc",), "compiled", "as asked"),
    ],
)
def test_resolve(
    asked: str,
    device: torch.device,
    smoke: bool,
    there: tuple[str, ...],
    form: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    compilers(monkeypatch, *there)
    python_headers(monkeypatch, tmp_path, there=True)
    assert resolve(asked, device, smoke) == (form, reason)


def test_a_compiler_that_the_environment_names_takes_the_place_of_the_usual_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compilers(monkeypatch, "g++", "gcc", "ccache")
    python_headers(monkeypatch, tmp_path, there=True)
    monkeypatch.setenv("CXX", "ccache g++")
    monkeypatch.setenv("CC", "icx")
    assert resolve("auto", CPU, False) == ("compiled", "ccache is there")
    assert resolve("auto", CUDA, False) == ("eager", "there is no C compiler (icx)")


def test_cuda_compiles_by_triton_and_pythons_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compilers(monkeypatch, "gcc")
    python_headers(monkeypatch, tmp_path, there=False)
    reason = "Python's headers are not there (python3-dev)"
    assert resolve("auto", CUDA, False) == ("eager", reason)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    reason = "there is no Triton (the package triton)"
    assert resolve("auto", CUDA, False) == ("eager", reason)
    with pytest.raises(ValueError, match=r"^compute: 'compiled' .* there is no Triton .*; mend that or use eager$"):
        resolve("compiled", CUDA, False)


def test_what_cannot_be_resolved_gets_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(monkeypatch)
    with pytest.raises(ValueError, match=r"^compute: 'compiled' .* there is no C\+\+ compiler \(g\+\+\); [^\n]*$"):
        resolve("compiled", CPU, False)
    with pytest.raises(ValueError, match=r"^compute: 'fast' is unknown; choose from auto, eager, compiled$"):
        resolve("fast", CPU, False)
    with pytest.raises(
        ValueError, match=r"^dtype: 'float16' is unknown \(did you mean 'bfloat16'\?\); choose from auto, float32, "
    ):
        resolve_dtype("float16", "eager", CPU)


@pytest.mark.parametrize(
    ("asked", "form", "hardware", "dtype"),
    [
        ("auto", "compiled", True, "bfloat16"),
        ("auto", "compiled", False, "float32"),
        ("auto", "eager", True, "float32"),
        ("float32", "compiled", True, "float32"),
        ("bfloat16", "eager", False, "bfloat16"),
    ],
)
def test_resolve_dtype(asked: str, form: str, hardware: bool, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: hardware)
    assert resolve_dtype(asked, form, CPU) == dtype


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_bfloat16_on_cuda_from_ampere_on(
    capability: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert resolve_dtype("auto", "compiled", CUDA) == dtype


def test_a_chunk_is_a_caches_on_a_cpu_and_an_eighth_of_the_memory_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chunk_size(CPU, 1_000_000) == 64
    has = SimpleNamespace(total_memory=8_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: has)
    assert chunk_size(CUDA, 1_000) == 1000  # 8e6 / 8 / 1e3
    assert chunk_size(CUDA, 1) == 65_536  # at most
    assert chunk_size(CUDA, 1_000_000) == 64  # at least
    network = models.build("convnet2-w8", SHAPE, 4, seeded(0))
    assert models.bytes_per_image(network, SHAPE) == 4 * 4 * 8 * (64 + 16)  # filters x places, at 8 x 8 and 4 x 4
    has.total_memory = 8 * 10_240 * 100
    calls: list[int] = []

    def counted(batch: Tensor) -> Tensor:
        calls.append(len(batch))
        return batch.flatten(1)

    monkeypatch.setattr(chunks, "fast", lambda *_: counted)
    there: Any = SimpleNamespace(device=CUDA, shape=(1, *SHAPE))
    evaluation_form(network, "forward", "eager", there)(normal(250, *SHAPE))
    assert calls == [100, 100, 50]
    monkeypatch.setattr(tuning, "EVALUATED", 80)  # at most, of images that are tested
    calls.clear()
    evaluation_form(network, "forward", "eager", there)(normal(100, *SHAPE))
    assert calls == [80, 20]


# --- chunks ----------------------------------------------------------------------------------------------------------


# Chunks of 8: up to one stays as it is, 9 is 8 and 1, filled up to 2, 21 is 8, 8 and 5, filled up to 6; after eight
# whole ones the last is whole too.
@pytest.mark.parametrize(
    ("images", "sizes"),
    [(1, [1]), (7, [7]), (8, [8]), (9, [8, 2]), (15, [8, 8]), (16, [8, 8]), (21, [8, 8, 6]), (64, [8] * 8),
     (65, [8] * 9)],
)  # fmt: skip
def test_chunks_equal_the_whole_and_so_do_their_gradients(images: int, sizes: list[int]) -> None:
    network = models.build("convnet2-w8", SHAPE, 4, seeded(0)).double()
    whole = normal(images, *SHAPE).double().requires_grad_()
    parts = whole.detach().clone().requires_grad_()
    shapes = []

    def watched(batch: Tensor) -> Tensor:
        shapes.append(batch.shape)
        logits: Tensor = network(batch)
        return logits

    expected, got = network(whole), chunked(watched, CHUNK)(parts)
    torch.testing.assert_close(got, expected)
    assert shapes == [(size, *SHAPE) for size in sizes]
    weights = [whole, *network.parameters()], [parts, *network.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(got.square().sum(), weights[1]),
        torch.autograd.grad(expected.square().sum(), weights[0]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("model", "form", "sizes"),
    [
        ("convnet1-w4", "compiled", [40]),  # fewer than a chunk of 64: as they are
        ("convnet1-w128", "compiled", [32, 8]),  # in chunks of 32: 4096 filters x images
        ("convnet1-w160", "compiled", [25, 18]),  # in chunks of 4096 // 160, the last of 15 filled up to 3 of 25 // 4
        ("convnet1-w4", "eager", [40]),
        ("convnet1-w4-bn", "compiled", [40]),  # its statistics are the batch's: never cut up
        ("convnet1-w4-bn", "eager", [40]),
    ],
)
def test_training_cuts_a_batch_up_only_where_that_is_exact(
    model: str, form: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def recorder(network: nn.Module, *_: object) -> Callable[[Tensor], Tensor]:
        def call(batch: Tensor) -> Tensor:
            seen.append(len(batch))
            logits: Tensor = network(batch)
            return logits

        return call

    monkeypatch.setattr(compute, "fast", recorder)
    network = models.build(model, SHAPE, 4, seeded(0))
    images = normal(40, *SHAPE)
    got = training_form(network, TrainConfig(compute=form), CPU)(images)
    assert seen == sizes
    torch.testing.assert_close(got, network(images))


# --- compiled and bfloat16 -------------------------------------------------------------------------------------------


def gradients(logits: Tensor, network: nn.Module) -> list[Tensor]:
    used = [weight for weight in network.parameters() if weight.requires_grad]
    return list(torch.autograd.grad(logits.square().mean(), used))


def test_compiled_equals_eager_and_sees_redrawn_weights() -> None:
    network = models.build("convnet2-w8", SHAPE, 4, seeded(0))
    images = normal(2 * CHUNK + 3, *SHAPE)
    form = chunked(fast(network, "forward", "compiled", "float32", CPU), CHUNK)
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
            got = fast(network, "embed", form, "bfloat16", CPU)(images)
        assert got.dtype == torch.float32
        relative = ((got - exact).norm() / exact.norm()).item()
        assert 1e-4 < relative < 0.02  # 8 bits of mantissa: 2^-9 a rounding; and it is not float32 after all
    assert all(weight.dtype == torch.float32 for weight in network.parameters())


def test_eager_float32_is_the_network_itself() -> None:
    network = models.build("convnet2-w8", SHAPE, 4, seeded(0))
    images = normal(5, *SHAPE)
    assert torch.equal(fast(network, "forward", "eager", "float32", CPU)(images), network(images))
    assert torch.equal(fast(network, "embed", "eager", "float32", CPU)(images), network.embed(images))


class Line(nn.Module):
    def __init__(self, slope: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(float(slope)))
        self.pads = slope

    def forward(self, batch: Tensor) -> Tensor:
        line: Tensor = torch.nn.functional.pad(self.slope * batch, (0, self.pads))
        return line


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
            got = fast(Line(slope), "forward", form, "float32", CPU)(torch.ones(1, 2))
            assert got.tolist() == [[slope] * 2 + [0] * slope]
        line = fast(Line(3), "forward", form, "float32", CPU)
        for rows in range(1, 11):
            assert line(torch.ones(rows, 2)).shape == (rows, 5)


@pytest.mark.usefixtures("traced_only")
def test_what_is_compiled_for_a_network_is_found_again() -> None:
    line = Line(11)
    with torch.no_grad():
        fast(line, "forward", "compiled", "float32", CPU)(torch.ones(1, 2))
        graphs = counters["stats"]["unique_graphs"]
        fast(line, "forward", "compiled", "float32", CPU)(torch.ones(1, 2))
        assert counters["stats"]["unique_graphs"] == graphs
        fast(line, "forward", "compiled", "float32", CPU)(torch.ones(2, 2))
    assert counters["stats"]["unique_graphs"] == graphs + 1


# --- precision -------------------------------------------------------------------------------------------------------


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


def test_cuda_is_started_before_it_is_asked_and_is_the_units_own(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        said.append(device)
        yield
        said.append("back")

    monkeypatch.setattr(torch.cuda, "init", lambda: said.append("started"))
    monkeypatch.setattr(torch.cuda, "device", current)
    with compute.on(torch.device("cuda:1")):
        said.append("work")
    with compute.on(CPU):
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
        fast(network, "forward", "eager", "float32", CPU)(normal(8, *SHAPE))
    assert network.forward_seen == [FLOAT32]


def test_tf32_is_refused_where_the_hardware_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert resolve_dtype("tf32", "eager", CUDA) == "tf32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    for device in (CPU, CUDA):
        with pytest.raises(ValueError, match=rf"^dtype: tf32 is of NVIDIA GPUs from Ampere on, and {device} is none"):
            resolve_dtype("tf32", "eager", device)


def test_compiling_in_float32_is_not_answered_by_a_recommendation_of_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_as_torch_2_11_does(function: Callable[..., Tensor], **_: object) -> Callable[..., Tensor]:
        def compiled(*arguments: object) -> Tensor:
            warnings.warn("TensorFloat32 tensor cores for float32 matrix multiplication available", stacklevel=1)
            return function(*arguments)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_as_torch_2_11_does)
    with torch.no_grad():
        assert fast(Line(2), "forward", "compiled", "float32", CPU)(torch.ones(1, 2)).shape == (1, 4)


OURS = f"cache/inductor/{hardware.instructions()} 1"
THEIR_OWN = {"TORCHINDUCTOR_CACHE_DIR": "theirs", "TORCHINDUCTOR_COMPILE_THREADS": "3"}
WHERE_INDUCTOR_COMPILES = """
import torch
from harness.core import compute

compute.resolve("auto", torch.device("cpu"), smoke=False)
from torch._inductor import config
from torch._inductor.runtime.cache_dir_utils import cache_dir
print(cache_dir(), config.compile_threads)
"""


@pytest.mark.parametrize(("given", "found"), [({}, OURS), (THEIR_OWN, "theirs 3")])
def test_inductor_compiles_alone_and_where_it_lasts(given: dict[str, str], found: str, tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR_")}
    places = {name: str(tmp_path / place) if "DIR" in name else place for name, place in given.items()}
    environment = {**inherited, "HARNESS_CACHE": str(tmp_path / "cache"), **places}
    command = [sys.executable, "-c", WHERE_INDUCTOR_COMPILES]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == f"{tmp_path}/{found}"


def test_a_library_that_a_kill_cut_short_is_removed(tmp_path: Path) -> None:
    library = tmp_path / "a.main.so"
    library.touch()
    error = RuntimeError(f"ImportError: {library}: file too short")
    assert compute.remove_cut_short(error)
    assert not library.exists()
    assert not compute.remove_cut_short(error)  # not there: removing mends nothing
    assert not compute.remove_cut_short(RuntimeError("another"))


def test_what_compiles_is_called_again_after_each_library_cut_short(tmp_path: Path) -> None:
    libraries = [tmp_path / "forward.so", tmp_path / "backward.so"]
    for library in libraries:
        library.touch()

    def load() -> None:
        for library in libraries:
            if library.exists():
                raise ImportError(f"{library}: file too short")

    compute.despite_cut_short(load)
    assert not any(library.exists() for library in libraries)
    with pytest.raises(ZeroDivisionError):
        compute.despite_cut_short(lambda: 1 / 0)
