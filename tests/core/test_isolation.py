"""What code of other packages changes in shared libraries ends with its unit."""

import random

import numpy as np
import torch

from harness.core.isolation import preserve_global_state


def state() -> list[object]:
    return [
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        str(np.random.get_state(legacy=False)),
    ]


def test_global_state_is_as_before_even_after_an_error() -> None:
    before = state()
    try:
        with preserve_global_state(torch.device("cpu")):
            torch.set_default_dtype(torch.float64)
            torch.set_default_device("meta")
            torch.set_grad_enabled(False)
            torch.set_num_threads(torch.get_num_threads() + 1)
            torch.use_deterministic_algorithms(True)
            torch.autograd.set_detect_anomaly(True)
            torch.manual_seed(99)
            random.seed(99)
            np.random.seed(99)
            assert all(now != then for now, then in zip(state(), before, strict=True))
            raise KeyError
    except KeyError:
        assert state() == before
