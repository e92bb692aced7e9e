"""An iteration of distribution matching (DM) against the published loop over classes."""

from collections.abc import Callable

import torch
from torch import Tensor

from harness import config
from harness.commands.bench.timing import (
    CIFAR,
    CLASS_IMAGES,
    SIZES,
    Result,
    compare,
    make_noise,
    use_torch_pooling,
)
from harness.config import CLRun
from harness.core import augment, models
from harness.core.memory import Budget
from harness.core.parametrisation import Shape
from harness.core.rng import generator
from harness.memory import dm, random_real
from harness.memory.shared.sampling import draw, rows_by_class

Backward = Callable[[Tensor, list[Tensor], augment.Parameters], object]  # pixels, rows of each class, augmentation


def bench_dm(preset: str, seconds: float, device: torch.device, shape: Shape = CIFAR) -> Result:
    """Time an iteration of DM, augmentation included; the plain form is eager and computes in float32."""
    classes, ipc = SIZES[preset]
    run, _ = config.resolve_form(config.assemble(CLRun, preset, {"memory": "dm"}), device)
    cfg = run.method
    assert isinstance(cfg, dm.DMConfig)
    images, labels = make_noise(classes, max(cfg.real_batch, CLASS_IMAGES), device, shape)
    rows = list(rows_by_class(labels).values())
    start = random_real.build(images, labels, Budget(ipc), generator("bench"))

    def make_iteration(backward: Backward, network: models.Network) -> Callable[[], None]:
        rng, pixels = generator("bench"), start.images.clone().requires_grad_()
        optimizer = torch.optim.SGD([pixels], lr=cfg.lr, momentum=cfg.momentum)

        def iterate() -> None:
            models.draw_weights(network, rng)
            batch = [draw(of_class, cfg.real_batch, rng) for of_class in rows]
            parameters = augment.draw_shared(cfg.augment, classes, rng)
            optimizer.zero_grad()
            backward(pixels, batch, parameters)
            optimizer.step()

        return iterate

    shipped = dm.MeanMatching(images, classes, ipc, cfg)
    network = use_torch_pooling(models.build(cfg.model, shape, 1, generator("bench"))).to(device).requires_grad_(False)

    def plain_backward(pixels: Tensor, batch: list[Tensor], parameters: augment.Parameters) -> None:
        loss = torch.zeros((), device=device)
        for c, real_rows in enumerate(batch):
            of_real, of_synthetic = (parameters.of(torch.full((n,), c)) for n in (len(real_rows), ipc))
            real = network.embed(augment.apply(cfg.augment, images[real_rows.to(device)], of_real)).detach()
            synthetic = network.embed(augment.apply(cfg.augment, pixels[c * ipc : (c + 1) * ipc], of_synthetic))
            loss = loss + dm.mean_gap(real.mean(0), synthetic.mean(0))
        loss.backward()

    times = compare(make_iteration(plain_backward, network), make_iteration(shipped.backward, shipped.network), seconds)
    form = f"{cfg.compute}, real {cfg.real_dtype}, synthetic {cfg.synthetic_dtype}"
    flop = models.forward_flop(network, shape) * classes * (min(cfg.real_batch, CLASS_IMAGES) + 3 * ipc)
    return times.as_result(form, device, flop)
