"""Undoes what code of other packages changes in the global state of shared libraries."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserve_global_state(device: torch.device) -> Iterator[None]:
    """Restore, on exit, the global state of torch, NumPy and Python that a number can depend on.

    The state is torch's default dtype and device, grad mode, number of threads, deterministic algorithms and anomaly
    detection, and the global generators of torch, NumPy and Python. Of the generators on CUDA, only that of `device` is
    restored.
    """
    default_dtype, default_device = torch.get_default_dtype(), torch.get_default_device()
    grad_enabled, threads = torch.is_grad_enabled(), torch.get_num_threads()
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    detect_anomaly, check_nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_default_dtype(default_dtype)
        if torch.get_default_device() != default_device:
            torch.set_default_device(default_device)
        torch.set_grad_enabled(grad_enabled)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.autograd.set_detect_anomaly(detect_anomaly, check_nan)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
