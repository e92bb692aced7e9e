"""Keeps what code of other packages changes in the libraries that everyone shares from the work that follows it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserve_global_state() -> Iterator[None]:
    """Restore, on exit, the global state of torch, NumPy and Python that a number can depend on.

    This is torch's default type and device, whether gradients are recorded, its number of threads, whether it keeps to
    deterministic algorithms, its anomaly detection, and the generators of all three.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    records, threads = torch.is_grad_enabled(), torch.get_num_threads()
    is_deterministic, only_warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    detects, checks = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(device_type="cuda"):
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        torch.set_grad_enabled(records)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_deterministic, warn_only=only_warns)
        torch.autograd.set_detect_anomaly(detects, checks)
        random.setstate(of_python)
        np.random.set_state(of_numpy)
