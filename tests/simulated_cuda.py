"""A CUDA device simulated on the CPU.

Inside `with SimulatedCuda() as cuda:`, tensors that are made on `cuda`, or moved there, say that they are on cuda:0.
Their data lie on the CPU. As on a real device, an operator on tensors of two devices raises, and so does a generator of
the other device. `cuda.launches` and `cuda.waits` count, by operator and by the line of this project that called it,
what would start on the device and where the host would wait for it. Not simulated: what cuDNN chooses, memory, streams,
torch.compile, several devices.
"""

# What stands in for classes of torch has other types than these.
# mypy: disable-error-code="arg-type, assignment, no-untyped-call, override"

import sys
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.utils import _device, _pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from harness.core import rng
from harness.core.models import costs

DEVICE = torch.device("cuda:0")
ROOT = Path(__file__).parents[1]
# Operators that start nothing on the device: they make another view of the same data, or memory without values.
VIEWS = {
    *("_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "detach_", "diagonal", "expand", "lift_fresh"),
    *("permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unflatten"),
    *("unfold", "unsafe_split", "unsqueeze", "view"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
}
# Operators whose result has a size, or is a number, that the host needs.
WAITS = {
    *("_local_scalar_dense", "_unique2", "bincount", "equal", "masked_select", "nonzero"),
    *("unique_consecutive", "unique_dim"),
}
INDEXING = {"_index_put_impl_", "index", "index_put", "index_put_", "_unsafe_index"}


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device; to torch itself it is a tensor without data."""

    host: torch.Tensor  # its data

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            layout=host.layout,
            device="meta",
        )
        made.host = host
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.host})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: a tensor of the simulated device is used outside of the simulation")


class DeviceGenerator(torch.Generator):
    """A generator that says it is of the device. Torch loses the class on the way, so it is known by its seed."""

    seeds: ClassVar[set[int]] = set()
    device = property(lambda self: DEVICE)

    def manual_seed(self, seed: int) -> "DeviceGenerator":
        self.seeds.add(seed)
        super().manual_seed(seed)
        return self


class SimulatedCuda(TorchDispatchMode):
    """The device, while the context lasts.

    Attributes:
        launches: "operator file:line" -> how often it was started on the device.
        waits: "operator file:line" -> how often the host waited for the device there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self._patch = pytest.MonkeyPatch()
        self._is_meta = 0  # within how many functions of ours tensors without data are meant

    def __enter__(self) -> "SimulatedCuda":
        DeviceGenerator.seeds.clear()
        for name, stand_in in _cuda_functions().items():
            self._patch.setattr(torch.cuda, name, stand_in)
        self._patch.setattr(torch, "tensor", _make_tensor(torch.tensor))
        self._patch.setattr(rng, "Generator", _make_generator)
        self._patch.setattr(costs, "_forward_one", self._with_meta(costs._forward_one))
        self._patch.setattr(costs, "_copy_to_meta", self._with_meta(_copy_to_meta))
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._patch.undo()

    def forget(self) -> None:
        """Count from zero."""
        self.launches.clear()
        self.waits.clear()

    def _with_meta(self, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            self._is_meta += 1
            try:
                return function(*arguments)
            finally:
                self._is_meta -= 1

        return call

    def _makes_meta(self) -> bool:
        current = _device.CURRENT_DEVICE
        return self._is_meta > 0 or (current is not None and torch.device(current).type == "meta")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func._schema.name.split("::")[1]
        asked = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if asked is not None and asked.type == "meta" and not self._makes_meta():
            asked = DEVICE  # torch takes it from a tensor of ours
        flat, spec = _pytree.tree_flatten((args, kwargs))
        ours = [x for x in flat if isinstance(x, OnDevice)]
        others = [x for x in flat if _is_on_host(x)]
        is_result_ours = bool(ours) if asked is None else asked.type == "cuda"
        generator = kwargs.get("generator")
        if generator is not None and (generator.initial_seed() in DeviceGenerator.seeds) != is_result_ours:
            raise RuntimeError(f"Expected a generator of the device of the result: {name} at {_find_line()}")
        if name in ("is_pinned", "_pin_memory"):  # of tensors on the host
            return False if name == "is_pinned" else args[0].clone()
        if not ours and not is_result_ours:
            return func(*args, **kwargs)
        self._check_devices(name, args, ours, others)
        self._count(name, args, ours, others, is_result_ours, bool(kwargs.get("non_blocking")))
        on_host = [x.host if isinstance(x, OnDevice) else x for x in flat]
        host_args, host_kwargs = _pytree.tree_unflatten(on_host, spec)
        if asked is not None and is_result_ours:
            host_kwargs["device"] = torch.device("cpu")
        result = func(*host_args, **host_kwargs)
        if not is_result_ours:
            return result
        wrapped = _pytree.tree_map(_wrap, result)
        return wrapped if asked is not None else return_and_correct_aliasing(func, args, kwargs, wrapped)

    def _check_devices(self, name: str, args: Any, ours: Sequence[Any], others: Sequence[Any]) -> None:
        if not ours or name in ("copy_", "_to_copy") or all(tensor.ndim == 0 for tensor in others):
            return
        if name in INDEXING and isinstance(args[0], OnDevice) and len(others) == sum(map(_is_on_host, args[1])):
            return  # indices may be on the host, where the device waits for them
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} at {_find_line()}")

    def _count(
        self, name: str, args: Any, ours: Sequence[Any], others: Sequence[Any], is_result_ours: bool, is_patient: bool
    ) -> None:
        waits = name in WAITS
        if name in ("copy_", "_to_copy"):
            waits = (bool(others) or not is_result_ours) and not is_patient
        elif name in INDEXING:
            indices = [index for index in args[1] if isinstance(index, torch.Tensor)]
            waits = any(not isinstance(index, OnDevice) or index.dtype == torch.bool for index in indices)
        if waits:
            self.waits[f"{name} {_find_line()}"] += 1
        if name not in VIEWS:
            self.launches[f"{name} {_find_line()}"] += 1


def _wrap(value: Any) -> Any:
    return OnDevice(value) if _is_on_host(value) else value


def _is_on_host(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, OnDevice) and value.device.type == "cpu"


def _find_line() -> str:
    """The innermost line of this project, but for this file, that is being carried out."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(str(ROOT)) and name != __file__ and "/.venv/" not in name:
            return f"{Path(name).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _make_generator(device: Any = "cpu") -> torch.Generator:
    return DeviceGenerator() if torch.device(device).type == "cuda" else torch.Generator()


def _make_tensor(make: Any) -> Any:
    def tensor(data: Any, *, device: Any = None, **settings: Any) -> Any:
        is_ours = device is not None and torch.device(device).type == "cuda"
        return make(data, **settings).to(DEVICE) if is_ours else make(data, device=device, **settings)

    return tensor


def _copy_to_meta(network: nn.Module) -> nn.Module:
    memo: dict[int, Any] = {}
    for weight in network.parameters():
        memo[id(weight)] = nn.Parameter(torch.empty(weight.shape, dtype=weight.dtype, device="meta"))
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty(buffer.shape, dtype=buffer.dtype, device="meta")
    return deepcopy(network, memo).eval()


class _Context:
    def __init__(self, device: Any) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *raised: Any) -> None: ...


def _cuda_functions() -> dict[str, Any]:
    """What stands in for the functions of `torch.cuda` that the project, or torch itself, calls."""
    properties = SimpleNamespace(
        name="NVIDIA H200", total_memory=150_754_820_096, major=9, minor=0, multi_processor_count=132
    )
    return {
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: properties.name,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: properties,
        "get_rng_state": lambda device=None: torch.Generator().get_state(),
        "set_rng_state": lambda state, device=None: None,
        "device": _Context,
        "synchronize": lambda device=None: None,
        "reset_peak_memory_stats": lambda device=None: None,
        "max_memory_allocated": lambda device=None: 12345,
        "empty_cache": lambda: None,
    }
