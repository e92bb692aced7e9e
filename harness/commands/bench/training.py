"""Training on a memory: an epoch of `fit` against a plain loop, and the Avalanche strategy against one."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import config
from harness.commands.bench.timing import CIFAR, Result, compare, make_noise, use_torch_pooling
from harness.config import CLRun
from harness.core import models
from harness.core.data import DataSet
from harness.core.memory import Memory
from harness.core.recipes import TrainConfig
from harness.core.rng import generator
from harness.core.train import fit, iterate_batches


def bench_fit(preset: str, seconds: float, device: torch.device) -> Result:
    """Time an epoch of `fit` on 100 images; the plain form is eager and computes in float32."""
    images, labels = make_noise(10, 10, device)
    model, cfg = _model_and_recipe(preset, device)
    networks = [models.build(model, CIFAR, 10, generator("bench")).to(device) for _ in range(2)]
    use_torch_pooling(networks[0])

    def make_epoch(network: models.Network, cfg: TrainConfig) -> Callable[[], None]:
        rng = generator("bench")
        one_epoch = replace(cfg, epochs=1)  # two rounds: a longer schedule only repeats them
        return lambda: fit(network, images, labels, one_epoch, rng)

    plain = make_epoch(networks[0], replace(cfg, compute="eager", dtype="float32"))
    times = compare(plain, make_epoch(networks[1], cfg), seconds)
    flop = models.forward_flop(networks[0], CIFAR) * 3 * 2 * len(labels)
    return times.as_result(f"{cfg.compute}, {cfg.dtype}", device, flop)


def bench_stream(preset: str, seconds: float, device: torch.device) -> Result:
    """Time a training of the Avalanche strategy against the plain tensor loop, both eager.

    The ratio is the other way round than in the other benches: the time of the strategy over that of the loop.
    """
    from harness.scenarios.strategy import CondensedBuffer, MemoryOnly, evaluator
    from harness.scenarios.stream import class_incremental

    model, cfg = _model_and_recipe(preset, device)
    cfg = replace(cfg, compute="eager", epochs=4)
    images, labels = make_noise(10, 20, device)
    stream = class_incremental(_make_blank_set(images, labels), range(10), 1)

    def train_by_strategy() -> None:
        buffer = CondensedBuffer(lambda _: Memory(images, labels), device)
        network = models.scratch(model, CIFAR, 10, device)
        learner = MemoryOnly(model=network, memory=buffer, recipe=cfg, seed=(0,), device=device, evaluator=evaluator())
        learner.train(stream.train_stream[0], eval_streams=[])

    def train_plainly() -> None:
        network, rng = models.build(model, CIFAR, 10, generator("bench")).to(device), generator("bench")
        optimizer = torch.optim.SGD(network.parameters(), cfg.lr, cfg.momentum, weight_decay=cfg.weight_decay)
        for _ in range(cfg.rounds):
            for batch, targets, _ in iterate_batches(images, labels, cfg, rng):
                loss = F.cross_entropy(network(batch), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    times = compare(train_plainly, train_by_strategy, seconds)
    low, high = times.ratio_quartiles
    inverse = {"ratio": 1 / times.ratio, "ratio_quartiles": [1 / high, 1 / low], "ratio_is": "strategy over plain"}
    return {**times.as_result("eager", device), **inverse}


def _model_and_recipe(preset: str, device: torch.device) -> tuple[str, TrainConfig]:
    run, _ = config.resolve_form(config.assemble(CLRun, preset, {}), device)
    return run.model, run.training


def _make_blank_set(images: Tensor, labels: Tensor) -> DataSet:
    """Return a small data set of blank images for a stream; the strategy trains on the images of its memory."""
    blank, blank_labels = (images[:20].cpu() * 0).to(torch.uint8), labels[:200:10].cpu()
    names, grey = tuple(map(str, range(10))), (0.5,) * 3
    return DataSet("noise", blank, blank_labels, blank, blank_labels, names, grey, grey, "", "as listed: noise")
