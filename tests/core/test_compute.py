import shutil
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Generator, Tensor, nn
from torch._dynamo.utils import counters

from harness.core import compute, models
from harness.core.compute import chunk_size, chunked, fast, resolve, resolve_dtype
from harness.core.train import TrainConfig, training_form

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE, CHUNK = (3, 8, 8), 8


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def compilers(monkeypatch: pytest.MonkeyPatch, *there: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)


# --- auto ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "device", "smoke", "there", "form", "reason"),
    [
        ("auto", CPU, False, ("g++",), "compiled", "g++ is there"),
        ("auto", CPU, False, ("clang++",), "compiled", "clang++ is there"),
        ("auto", CPU, False, ("c++", "clang++"), "compiled", "clang++ is there"),
        ("auto", CPU, False, (), "eager", "no C++ compiler (g++) found: several times slower than compiled"),
        ("auto", CUDA, False, (), "compiled", "CUDA is there"),
        ("auto", CPU, True, ("g++",), "eager", "preset smoke"),
        ("auto", CUDA, True, (), "eager", "preset smoke"),
        ("eager", CPU, False, ("g++",), "eager", "as asked"),
        ("eager", CPU, False, (), "eager", "as asked"),
        ("compiled", CPU, False, ("g++",), "compiled", "as asked"),
        ("compiled", CPU, True, ("g++",), "compiled", "as asked"),
        ("compiled", CUDA, False, (), "compiled", "as asked"),
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
) -> None:
    compilers(monkeypatch, *there)
    assert resolve(asked, device, smoke) == (form, reason)


def test_what_cannot_be_resolved_gets_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(monkeypatch)
    with pytest.raises(ValueError, match=r"^compute: 'compiled' needs a C\+\+ compiler \(g\+\+\) on the path; [^\n]*$"):
        resolve("compiled", CPU, False)
    with pytest.raises(ValueError, match=r"^compute: 'fast' is unknown; choose from auto, eager, compiled$"):
        resolve("fast", CPU, False)
    with pytest.raises(ValueError, match=r"^dtype: 'float16' is unknown; choose from auto, float32, bfloat16$"):
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


def test_a_chunk_is_a_caches_on_a_cpu_and_half_of_the_free_memory_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chunk_size(CPU, 1_000_000) == 64
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2_000_000, 4_000_000))
    assert chunk_size(CUDA, 1_000) == 1000  # 2e6 / 2 / 1e3
    assert chunk_size(CUDA, 1) == 65_536  # at most
    assert chunk_size(CUDA, 1_000_000) == 64  # at least


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
