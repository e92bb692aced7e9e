"""IDC and IDC-I of a few updates."""

from typing import Any

from harness.core import augment
from harness.core.recipes import TrainConfig
from harness.memory.idc import IDCConfig, IDCIConfig

SMALL: dict[str, Any] = dict(
    iterations=2,
    updates=3,
    real_batch=8,
    trained=12,
    train=TrainConfig(epochs=1, batch_size=4, augment=augment.IDC_NETWORK, cutmix=0.5, schedule="constant"),
    model="convnet2-w4",
)
IDC, IDCI = IDCConfig(**SMALL), IDCIConfig(**SMALL)
