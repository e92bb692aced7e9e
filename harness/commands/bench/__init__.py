"""How fast the shipped forms are against the plain ones: interleaved in one process, with equal threads."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import DataLoader, TensorDataset

from harness import config, memory
from harness.config import CLRun, CondenseRun, NASRun
from harness.core import augment, compute, models
from harness.core.compute import hardware
from harness.core.memory import Budget, Memory
from harness.core.parametrisation import MultiFormation, Shape
from harness.core.progress import Progress
from harness.core.registry import known
from harness.core.rng import generator
from harness.core.train import TrainConfig, batches, fit
from harness.execution import engines
from harness.execution.resources import gpu_environments, pick_device, usable_cpus, worker_environments
from harness.execution.units import Store, Unit
from harness.memory import dm, random_real
from harness.memory.dcc import DCCConfig
from harness.memory.idc import IDCConfig
from harness.memory.shared.matching import GradientMatchingConfig
from harness.memory.shared.sampling import draw, rows_by_class
from harness.nas import proxy
from harness.tracks import search
from harness.tracks.memories import recipe_from
from harness.tracks.rows import training_form

Result = dict[str, Any]
Benchmark = Callable[[CLRun, str, float, torch.device], Result]
SHAPE = (3, 32, 32)  # of CIFAR's images
MNIST = (1, 28, 28)
SIZES = {"paper": (10, 10), "quick": (100, 10)}  # classes, and images kept of each


def run(name: str, preset: str, seconds: float, threads: int | None, device: str) -> Result:
    """Time benchmark `name` at the sizes of `preset` for about `seconds` each form.

    Returns:
        ratio (plain over shipped; for `stream`, strategy over plain), its quartiles over interleaved pairs, both
        times in seconds, the form taken and the threads both had; on CUDA also the GPU's name, iterations and TFLOP a
        second.
    Raises:
        ValueError: an unknown benchmark or preset, no such device, no threads or no time.
    """
    known(name, BENCHMARKS, "bench")
    known(preset, SIZES, "preset")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: 1 or more, got {threads}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds: a number, 0 or more, got {seconds:g}")
    where = pick_device(device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or usable_cpus())
    try:
        with compute.on(where), compute.precision("float32", where):
            result = BENCHMARKS[name](_settings(preset, where), preset, seconds, where)
        made_on = {"threads": torch.get_num_threads(), "device": str(where), "processor": hardware.processor()}
        if where.type == "cuda":
            made_on["gpu"] = torch.cuda.get_device_name(where)
        return {"bench": name, **result, "preset": preset, **made_on}
    finally:
        torch.set_num_threads(before)


def _settings(preset: str, device: torch.device) -> CLRun:
    run, _ = config.resolve_form(config.assemble(CLRun, preset, {"memory": "dm"}), device)
    return run


def _images(classes: int, each: int, device: torch.device, shape: Shape = SHAPE) -> tuple[Tensor, Tensor]:
    """Noise: time does not depend on what an image shows."""
    images = torch.randn(classes * each, *shape, generator=Generator().manual_seed(0))
    return images.to(device), torch.arange(classes).repeat_interleave(each).to(device)


def _as_usual(network: models.Network) -> models.Network:
    """The network with PyTorch's pooling in the place of ours, as plain forms have it."""
    for at, layer in enumerate(network.features):
        if isinstance(layer, models.AveragePool):
            network.features[at] = torch.nn.AvgPool2d(2)
    return network


def _interleave(plain: Callable[[], object], shipped: Callable[[], object], seconds: float) -> tuple[list[float], ...]:
    """Times of the two, alternating, until each has had `seconds`; both run once before."""
    plain(), shipped()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times: tuple[list[float], ...] = ([], [])
    while min(map(sum, times)) < seconds or len(times[0]) < 5:
        for one, spent in zip((plain, shipped), times, strict=True):
            began = time.perf_counter()
            one()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - began)
    return times


def _compare(plain: Callable[[], object], shipped: Callable[[], object], seconds: float) -> Result:
    slow, fast = _interleave(plain, shipped, seconds)
    ratios = statistics.quantiles([a / b for a, b in zip(slow, fast, strict=True)], n=4)
    return {
        "ratio": statistics.median(slow) / statistics.median(fast),
        "ratio_quartiles": [ratios[0], ratios[2]],
        "plain_seconds": statistics.median(slow),
        "shipped_seconds": statistics.median(fast),
        "pairs": len(slow),
    }


def bench_dm(run: CLRun, preset: str, seconds: float, device: torch.device, shape: Shape = SHAPE) -> Result:
    """An iteration of DM, augmentation included, against the published loop over classes, eager and in float32."""
    classes, ipc = SIZES[preset]
    cfg = run.method
    assert isinstance(cfg, dm.DMConfig)
    images, labels = _images(classes, max(cfg.real_batch, 300), device, shape)
    rows = list(rows_by_class(labels).values())
    start = random_real.build(images, labels, Budget(ipc), generator("bench"))

    def iteration(backward: Callable[..., object], network: models.Network) -> Callable[[], None]:
        rng, pixels = generator("bench"), start.images.clone().requires_grad_()
        optimizer = torch.optim.SGD([pixels], lr=cfg.lr, momentum=cfg.momentum)

        def once() -> None:
            models.draw_weights(network, rng)
            batch = [draw(of_class, cfg.real_batch, rng) for of_class in rows]
            parameters = augment.draw_shared(cfg.augment, classes, rng)
            optimizer.zero_grad()
            backward(pixels, batch, parameters)
            optimizer.step()

        return once

    match = dm.MeanMatching(images, classes, ipc, cfg)
    network = _as_usual(models.build(cfg.model, shape, 1, generator("bench"))).to(device).requires_grad_(False)

    def plain(pixels: Tensor, batch: list[Tensor], parameters: augment.Parameters) -> None:
        loss = torch.zeros((), device=device)
        for c, some in enumerate(batch):
            theirs, own = (parameters.of(torch.full((n,), c)) for n in (len(some), ipc))
            real = network.embed(augment.apply(cfg.augment, images[some.to(device)], theirs)).detach()
            synthetic = network.embed(augment.apply(cfg.augment, pixels[c * ipc : (c + 1) * ipc], own))
            loss = loss + dm.mean_gap(real.mean(0), synthetic.mean(0))
        loss.backward()

    result = _compare(iteration(plain, network), iteration(match.backward, match.network), seconds)
    form = f"{cfg.compute}, real {cfg.real_dtype}, synthetic {cfg.synthetic_dtype}"
    flop = models.forward_flop(network, shape) * classes * (min(cfg.real_batch, 300) + 3 * ipc)
    return {**result, "form": form, **_rates(result, flop, device)}


def bench_matching(name: str) -> Benchmark:
    """An update of the images by gradient matching, against the published loop over classes, eager and in float32.

    Both draw a network and real batches, augment, match and step; neither trains the network, which `fit` times.
    """

    def bench(_: CLRun, preset: str, seconds: float, device: torch.device) -> Result:
        classes, ipc = SIZES[preset]
        settings = {"memory": name, "ipc": ipc}
        run, _form = config.resolve_form(config.assemble(CondenseRun, preset, settings), device)
        assert isinstance(run.method, GradientMatchingConfig | IDCConfig)
        cfg = replace(run.method, iterations=1, updates=1)
        if isinstance(cfg, DCCConfig):
            cfg = replace(cfg, from_iteration=0)  # the contrastive form
        images, labels = _images(classes, max(cfg.real_batch, 300), device)
        build = memory.find(name)
        plain = replace(cfg, compute="eager", real_dtype="float32")
        network = _as_usual(models.build(cfg.model, SHAPE, classes, generator("bench"))).to(device)
        result = _compare(
            lambda: _plain_matching(images, labels, ipc, plain, network, generator("bench")),
            lambda: build(images, labels, Budget(ipc), generator("bench"), cfg),
            seconds,
        )
        form = f"real {cfg.compute}, {cfg.real_dtype}; synthetic eager, float32"
        flop = models.forward_flop(network, SHAPE) * 3 * sum(cfg.passes(classes, max(cfg.real_batch, 300), ipc))
        return {**result, "form": form, **_rates(result, flop, device)}

    return bench


def _plain_matching(
    images: Tensor,
    labels: Tensor,
    ipc: int,
    cfg: GradientMatchingConfig | IDCConfig,
    network: models.Network,
    rng: Generator,
) -> Tensor:
    """One update as the reference scripts do it, class after class; IDC's steps after each of them."""
    device, rows = images.device, list(rows_by_class(labels).values())
    start = torch.cat([draw(of_class, ipc, rng) for of_class in rows]).to(device)
    pixels = images[start].clone().requires_grad_()
    optimizer = torch.optim.SGD([pixels], lr=cfg.lr, momentum=cfg.momentum)
    models.draw_weights(network, rng)
    batch = [draw(of_class, cfg.real_batch, rng) for of_class in rows]
    parameters = augment.draw_shared(cfg.augment, len(rows), rng)
    of_idc = cfg if isinstance(cfg, IDCConfig) else None
    form = MultiFormation(of_idc.factor if of_idc else 1)
    weights = list(network.parameters())
    if of_idc:
        weights = [weight for weight in weights if weight.ndim == 4]

    def gradients(inputs: Tensor, targets: Tensor, graph: bool) -> list[Tensor]:
        loss = F.cross_entropy(network(inputs), targets)
        return list(torch.autograd.grad(loss, weights, create_graph=graph))

    def labelled(c: int, count: int) -> Tensor:
        return torch.full((count,), c, device=device)

    def own(c: int) -> Tensor:
        decoded = form.decode({"images": pixels[c * ipc : (c + 1) * ipc]})[: of_idc.synthetic_batch if of_idc else None]
        return augment.apply(cfg.augment, decoded, parameters.of(torch.full((len(decoded),), c)))

    loss, sums, seen = torch.zeros((), device=device), None, []
    for c, some in enumerate(batch):
        theirs = augment.apply(cfg.augment, images[some.to(device)], parameters.of(torch.full((len(some),), c)))
        real = gradients(theirs, labelled(c, len(some)), graph=False)
        if isinstance(cfg, DCCConfig):
            sums = real if sums is None else [a + b for a, b in zip(sums, real, strict=True)]
            seen.append(own(c))
            continue
        synthetic = gradients(own(c), labelled(c, len(own(c))), graph=True)
        loss = loss + _plain_distance(real, synthetic, cfg.distance)
        if of_idc:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss = torch.zeros((), device=device)
    if sums is not None:
        everything = torch.arange(len(rows), device=device).repeat_interleave(ipc)
        synthetic = gradients(torch.cat(seen), everything, graph=True)
        loss = _plain_distance([part / len(rows) for part in sums], synthetic, cfg.distance)
    if not of_idc:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return pixels.detach()


def _plain_distance(real: list[Tensor], synthetic: list[Tensor], distance: str) -> Tensor:
    """Over the weights, one after the other: squared for IDC, else 1 - cosine row by row."""
    total = torch.zeros((), device=real[0].device)
    for a, b in zip(real, synthetic, strict=True):
        if distance == "mse":
            total = total + (a - b).square().sum()
        elif a.ndim > 1:
            a, b = a.flatten(1), b.flatten(1)
            total = total + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
    return total


def bench_fit(run: CLRun, preset: str, seconds: float, device: torch.device) -> Result:
    """An epoch of `fit` on 100 images, against the plain eager loop."""
    images, labels = _images(10, 10, device)
    cfg = run.training
    plain_cfg = replace(cfg, compute="eager", dtype="float32")
    networks = [models.build(run.model, SHAPE, 10, generator("bench")).to(device) for _ in range(2)]
    _as_usual(networks[0])

    def epoch(network: models.Network, cfg: TrainConfig) -> Callable[[], None]:
        rng = generator("bench")
        one = replace(cfg, epochs=1)  # two rounds: a longer schedule only repeats them
        return lambda: fit(network, images, labels, one, rng)

    result = _compare(epoch(networks[0], plain_cfg), epoch(networks[1], cfg), seconds)
    flop = models.forward_flop(networks[0], SHAPE) * 3 * 2 * len(labels)
    return {**result, "form": f"{cfg.compute}, {cfg.dtype}", **_rates(result, flop, device)}


def bench_stream(run: CLRun, preset: str, seconds: float, device: torch.device) -> Result:
    """A training iteration of the Avalanche strategy, against the plain tensor loop, both eager."""
    from harness.scenarios.strategy import CondensedBuffer, MemoryOnly, evaluator

    cfg = replace(run.training, compute="eager", epochs=4)
    images, labels = _images(10, 20, device)
    stream = _tiny_stream(images, labels)

    def strategy() -> None:
        buffer = CondensedBuffer(lambda _: Memory(images, labels), device)
        model = models.scratch(run.model, SHAPE, 10, device)
        learner = MemoryOnly(model=model, memory=buffer, recipe=cfg, seed=(0,), device=device, evaluator=evaluator())
        learner.train(stream.train_stream[0], eval_streams=[])

    def plain() -> None:
        network, rng = models.build(run.model, SHAPE, 10, generator("bench")).to(device), generator("bench")
        optimizer = torch.optim.SGD(network.parameters(), cfg.lr, cfg.momentum, weight_decay=cfg.weight_decay)
        for _ in range(cfg.rounds):
            for some, theirs, _ in batches(images, labels, cfg, rng):
                loss = F.cross_entropy(network(some), theirs)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    result = _compare(plain, strategy, seconds)
    low, high = result["ratio_quartiles"]
    inverse = {"ratio": 1 / result["ratio"], "ratio_quartiles": [1 / high, 1 / low]}
    return {**result, **inverse, "ratio_is": "strategy over plain", "form": "eager"}


def _tiny_stream(images: Tensor, labels: Tensor) -> Any:
    from harness.core.data import DataSet
    from harness.scenarios.stream import class_incremental

    few, theirs = (images[:20].cpu() * 0).to(torch.uint8), labels[:200:10].cpu()
    dataset = DataSet(
        "noise", few, theirs, few, theirs, tuple(map(str, range(10))), (0.5,) * 3, (0.5,) * 3, "", "as listed: noise"
    )
    return class_incremental(dataset, range(10), 1)


# --- a search ---------------------------------------------------------------------------------------------------------

SEARCHED = {"archs": "width=32,pooling!=none", "subset": "12"}  # of those that `quick` searches
HELD_OUT = (5000, 10_000)  # validation and test images
WORKERS_TRIED = (1, 2, 4, 8)  # on each GPU
NAS_SIZES = {"paper": (500, 200), "quick": (500, 60)}  # images of the proxy set, and epochs on it


def bench_nas(_: CLRun, preset: str, seconds: float, device: torch.device) -> Result:
    """Candidates trained and scored as `run nas` does it, workers and all, against a DataLoader loop, one by one.

    Both get the same architectures, images, batches, augmentation and epochs, once: `seconds` does not matter. The
    plain one computes in float32, the shipped one as the preset has it. On GPUs the shipped one is timed with each of
    WORKERS_TRIED on each GPU, and its time is the best; `jobs` is what `--jobs` then is.
    """
    count, epochs = NAS_SIZES[preset]
    run, _form = config.resolve_form(config.assemble(NASRun, preset, SEARCHED), device)
    recipe = replace(run.training, epochs=epochs)
    units = []
    for arch in run.searched:
        own = config.plain(search.in_its_form(recipe, arch.model, count, str(device)))
        spec = {"model": arch.model, "recipe": own, "images": count}
        units.append(Unit("bench", spec, arch.model, {"device": str(device)}, cost=_flop_of(arch.model)))
    took = []
    _searched_images(count, device)  # made before the clock starts
    for unit in units:
        began = time.perf_counter()
        _plain_candidate(unit.spec["model"], recipe, count, device)
        took.append(time.perf_counter() - began)
    by_jobs = _search_times(units, device)
    jobs = min(by_jobs, key=lambda jobs: by_jobs[jobs])
    shipped = by_jobs[jobs]
    form = "; ".join(sorted({training_form(recipe_from(unit.spec["recipe"])) for unit in units}))
    flop = sum(_flop_of(unit.spec["model"]) for unit in units)
    result: Result = {"plain_seconds": sum(took), "shipped_seconds": shipped, "networks": len(units), "epochs": epochs}
    result |= {"jobs": jobs} | ({"seconds_by_jobs": by_jobs} if device.type == "cuda" else {})
    rates = {f"{name}_per_minute": 60 * len(units) / result[f"{name}_seconds"] for name in ("plain", "shipped")}
    achieved = _rates(result, flop * (3 * count * epochs + sum(HELD_OUT)), device)
    return {"ratio": sum(took) / shipped, **result, **rates, "form": form, **achieved}


def _search_times(units: list[Unit], device: torch.device) -> dict[int, float]:
    """Worker processes -> seconds for all units, the workers' start included; of GPUs as many as WORKERS_TRIED fit.

    Raises:
        RuntimeError: a unit failed with the fewest workers, or the bench was told to stop.
    """
    gpus = len(gpu_environments(str(device)))
    times: dict[int, float] = {}
    for jobs in [tried * gpus for tried in WORKERS_TRIED] if gpus else [usable_cpus()]:
        environments = worker_environments(str(device), jobs)
        began = time.perf_counter()
        with TemporaryDirectory() as directory:
            outcome = engines.run(units, Store(Path(directory)), _bench_candidate, jobs=jobs, environments=environments)
        if outcome.stopped:
            raise RuntimeError(f"bench: {outcome.stopped}")
        if outcome.failed and not times:
            raise RuntimeError(f"bench: {next(iter(outcome.failed.items()))}")
        if outcome.failed:  # so many do not fit a GPU's memory, nor do more
            break
        times[jobs] = time.perf_counter() - began
    return times


def _flop_of(model: str) -> int:
    """Of one image's way forward; it decides the order of work, as seconds do in a run."""
    return models.forward_flop(models.make(model, SHAPE, 10), SHAPE)


@lru_cache(maxsize=1)
def _searched_images(count: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Noise to train, to validate and to test on."""
    return [_images(10, part // 10, device) for part in (count, *HELD_OUT)]


def _bench_candidate(unit: Unit, store: Store, progress: Progress) -> None:
    recipe = recipe_from(unit.spec["recipe"])
    weights, rng, device = generator("weights"), generator("batches"), torch.device(unit.context["device"])
    with compute.on(device), compute.precision("float32", device):
        train, validation, test = _searched_images(unit.spec["images"], device)
        score = proxy.score(
            unit.spec["model"], train, validation, test, 10, recipe, weights, rng, curve_every=0, progress=progress
        )
    store.save(unit.key, {} if score is None else {"curve": score.curve}, {})


def _plain_candidate(model: str, recipe: TrainConfig, count: int, device: torch.device) -> None:
    train, *held_out = _searched_images(count, device)
    network, rng = _as_usual(models.build(model, SHAPE, 10, generator("weights"))).to(device), generator("batches")
    loader = DataLoader(TensorDataset(*train), batch_size=recipe.batch_size, shuffle=True, generator=rng)
    optimizer = torch.optim.SGD(network.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    for _ in range(recipe.rounds):
        for some, labels in loader:
            augmented = augment.apply(recipe.augment, some, augment.draw_batch(recipe.augment, len(some), rng))
            loss = F.cross_entropy(network(augmented), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        for part in held_out:
            for some, labels in DataLoader(TensorDataset(*part), batch_size=recipe.batch_size):
                (network(some).argmax(1) == labels).sum().item()


def _rates(result: Result, flop: int, device: torch.device) -> Result:
    seconds = result["shipped_seconds"]
    if device.type != "cuda":
        return {}
    return {"iterations_per_second": 1 / seconds, "tflop_per_second": flop / seconds / 1e12}


BENCHMARKS: dict[str, Benchmark] = {
    **{name: bench_matching(name) for name in ("dc", "dcc", "dsa", "idc")},
    "dm": bench_dm,
    "dm-mnist": partial(bench_dm, shape=MNIST),
    "fit": bench_fit,
    "nas": bench_nas,
    "stream": bench_stream,
}
