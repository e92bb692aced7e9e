"""What differs on a CUDA device: skipped where there is none, and never the only test of its code."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness.core import compute, models
from harness.core.memory import Budget, Builder
from harness.core.recipes import TrainConfig
from harness.core.rng import generator
from harness.core.train import fit
from harness.memory import BUILDERS, dm, dsa
from harness.memory.dm import DMConfig
from harness.memory.dsa import DSAConfig
from tests.memory.toys import Killed, KilledError, a_set

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("form", ["eager", "compiled"])
def test_fit_gives_the_cpus_weights(form: str) -> None:
    images = torch.randn(40, 3, 8, 8, generator=generator("images"), dtype=torch.float64)
    labels = torch.arange(40) % 4
    recipe = TrainConfig(epochs=3, batch_size=16)
    trained = []
    for device, computed in (("cpu", "eager"), ("cuda", form)):
        network = models.build("convnet-d2-w8", (3, 8, 8), 4, generator("weights")).to(device, torch.float64)
        fit(network, images.to(device), labels.to(device), replace(recipe, compute=computed), generator("batches"))
        trained.append([weight.detach().cpu() for weight in network.parameters()])
    for ours, theirs in zip(*trained, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


ALL = sorted({*BUILDERS} - {"cscore"})  # which wants a file of scores


@pytest.mark.parametrize("memory", ALL)
def test_rows_of_a_device_name_it_and_its_memory(memory: str, tmp_path: Path) -> None:
    pytest.importorskip("avalanche")
    run = harness.CLRun.of("smoke", dataset="digits", memory=memory, steps=2)
    rows = harness.run(run, harness.Options(out=tmp_path, device="cuda", engine="serial"))
    trained = rows[rows["metric"] == "last_accuracy"]
    assert set(trained["device"]) == {torch.cuda.get_device_name()}
    assert (trained["peak_bytes"] > 0).all()


@pytest.mark.parametrize("memory", ALL)
def test_sets_are_condensed_and_judged_on_the_device(memory: str, tmp_path: Path) -> None:
    run = harness.CondenseRun.of("smoke", dataset="digits", memory=memory, eval_models="convnet-d2-w8,convnet-d2-w8-bn")
    rows = harness.run(run, harness.Options(out=tmp_path, device="cuda", engine="serial"))
    assert set(rows["device"]) == {torch.cuda.get_device_name()}
    tested = rows[rows["metric"] == "test_accuracy"]
    assert len(tested) == 2
    assert (tested["peak_bytes"] > 0).all()


@pytest.mark.parametrize(
    ("build", "cfg"),
    [
        (dm.build, DMConfig(iterations=4, lr=10.0, real_batch=8, model="convnet2-w4")),
        (dsa.METHOD, DSAConfig(iterations=2, updates=2, epochs=1, lr=1.0, real_batch=8, model="convnet2-w4")),
    ],
    ids=["dm", "dsa"],
)
def test_a_killed_builder_goes_on_with_both_its_generators(build: Builder, cfg: Any) -> None:
    """Weights are drawn on the device, all else on the CPU; sums in another order leave the images not quite equal."""
    images, labels = (part.cuda() for part in a_set())
    undisturbed, resumed = generator("kill"), generator("kill")
    expected = build(images, labels, Budget(2), undisturbed, cfg, progress=Killed(0))
    killed = Killed(3)
    with pytest.raises(KilledError):
        build(images, labels, Budget(2), generator("kill"), cfg, progress=killed)
    assert killed.kept is not None
    assert {"rng", "weights_rng"} <= killed.kept.keys()
    memory = build(images, labels, Budget(2), resumed, cfg, progress=Killed(0, killed.kept))
    torch.testing.assert_close(memory.images, expected.images, rtol=1e-3, atol=1e-3)
    assert torch.equal(undisturbed.get_state(), resumed.get_state())


def test_soft_labels_and_cutmix_train_on_the_device() -> None:
    images = torch.randn(40, 3, 8, 8, generator=generator("images"), dtype=torch.float64)
    soft = torch.rand(40, 4, generator=generator("labels"), dtype=torch.float64).softmax(1)
    recipe = TrainConfig(epochs=3, batch_size=16, cutmix=0.5, schedule="idc")
    trained = []
    for device in ("cpu", "cuda"):
        network = models.build("convnet-d2-w8", (3, 8, 8), 4, generator("weights")).to(device, torch.float64)
        fit(network, images.to(device), soft.to(device), recipe, generator("batches"))
        trained.append([weight.detach().cpu() for weight in network.parameters()])
    for ours, theirs in zip(*trained, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def relative_error(got: torch.Tensor, exact: torch.Tensor) -> float:
    return float((got - exact).norm() / exact.norm())


@pytest.mark.parametrize("form", ["eager", "compiled"])
def test_float32_is_ieee(form: str) -> None:
    device = torch.device("cuda")
    network = models.build("convnet-d2-w32", (3, 32, 32), 10, generator("weights")).to(device)
    images = torch.randn(16, 3, 32, 32, generator=generator("images")).to(device)
    with torch.no_grad():
        exact = network.double()(images.double())
        got = compute.prepare(network.float(), "forward", form, "float32", device)(images)
    assert relative_error(got, exact) < 3e-5  # ten times better than the 11 bits of TF32 allow


def test_tf32_is_what_it_says() -> None:
    device = torch.device("cuda")
    if torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("a GPU before Ampere")
    first, second = torch.randn(2, 2048, 2048, generator=generator("matrices")).to(device)
    errors = {}
    for dtype in ("float32", "tf32", "bfloat16"):
        with compute.precision(dtype, device):
            errors[dtype] = relative_error(first @ second, first.double() @ second.double())
    assert errors["tf32"] > 5e-5 > 3e-6 > errors["float32"] == errors["bfloat16"]


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_workers_share_the_device(device: str, tmp_path: Path) -> None:
    run = harness.CondenseRun.of("smoke", dataset="digits", memory="dm", nets=3)
    rows = harness.run(run, harness.Options(out=tmp_path, device=device, jobs=3))
    assert set(rows["device"]) == {f"{torch.cuda.get_device_name()}, shared by 3 workers"}
    assert len(rows[rows["metric"] == "test_accuracy"]) == 3


def test_a_search_on_the_device(tmp_path: Path) -> None:
    run = harness.NASRun.of("smoke", dataset="digits", memory="random")
    rows = harness.run(run, harness.Options(out=tmp_path, device="cuda:0", jobs=1))
    assert set(rows["device"]) == {torch.cuda.get_device_name()}
    assert rows[rows["metric"] == "test_accuracy"]["value"].notna().all()
