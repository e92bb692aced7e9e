from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.core import compute, models
from harness.core.compute import apply_in_chunks, chunk_size, chunks, evaluation_form, tuning
from harness.core.recipes import TrainConfig
from harness.core.train import training_form
from tests.core.compute.nets import CHUNK, CPU, CUDA, SHAPE
from tests.core.draws import normal, seeded


def test_a_chunk_fits_a_cache_or_an_eighth_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
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

    monkeypatch.setattr(chunks, "prepare", lambda *_: counted)
    there: Any = SimpleNamespace(device=CUDA, shape=(1, *SHAPE))
    evaluation_form(network, "forward", "eager", there)(normal(250, *SHAPE))
    assert calls == [100, 100, 50]
    monkeypatch.setattr(tuning, "EVALUATED", 80)  # at most, of images that are tested
    calls.clear()
    evaluation_form(network, "forward", "eager", there)(normal(100, *SHAPE))
    assert calls == [80, 20]


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

    expected, got = network(whole), apply_in_chunks(watched, CHUNK)(parts)
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

    monkeypatch.setattr(compute, "prepare", recorder)
    network = models.build(model, SHAPE, 4, seeded(0))
    images = normal(40, *SHAPE)
    got = training_form(network, TrainConfig(compute=form), CPU)(images)
    assert seen == sizes
    torch.testing.assert_close(got, network(images))
