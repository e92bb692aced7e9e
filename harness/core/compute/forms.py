"""The form of computing: eager or compiled, float32, tf32 or bfloat16. Results depend on it, so it is decided once.

On two CPU cores, a narrow ConvNet that is compiled and gets its images in chunks that fit the cache runs forward 3 to
12 times as fast as an eager one. `resolve` replaces `auto` by a form, with a reason, when a run is assembled; `prepare`
returns a network's forward pass in that form. float32 means IEEE float32 on every device: `precision` overrides cuDNN's
default, TF32, unless the run asks for it.

On CUDA, the same seeds do not give bitwise equal results: some backward passes add in the order in which threads run.
"""

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FunctionType
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from harness.core.compute.compiler import find_compiler, library_dir
from harness.core.registry import known

FORMS = ("auto", "eager", "compiled")


DTYPES = ("auto", "float32", "tf32", "bfloat16")


Batch = Callable[[Tensor], Tensor]


def resolve(compute: str, device: torch.device, smoke: bool) -> tuple[str, str]:
    """Resolve `compute` to "eager" or "compiled"; return the form and the reason for it.

    Raises:
        ValueError: `compute` is not one of FORMS, or is "compiled" where no compiler can be used.
    """
    known(compute, FORMS, "compute")
    if compute == "eager":
        return compute, "as asked"
    if compute == "auto" and smoke:
        return "eager", "preset smoke"
    compiler, problem = find_compiler(device)
    if not problem:
        set_up_inductor()
        return "compiled", "as asked" if compute == "compiled" else f"{compiler} is there"
    if compute == "compiled":
        raise ValueError(f"compute: 'compiled' cannot be used, because {problem}; mend that or use eager")
    return "eager", f"{problem}{'; several times slower than compiled' if device.type == 'cpu' else ''}"


def set_up_inductor() -> None:
    """Store compiled code for later processes, and compile in this process rather than in a pool of workers.

    Environment variables that the user has set are left alone. Torch reads them once, when it first imports its
    compiler; a forward pass on the meta device is enough to import it.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(library_dir()))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


def resolve_dtype(dtype: str, compute: str, device: torch.device) -> str:
    """Resolve "auto" to "bfloat16" if the form is compiled and the hardware multiplies bfloat16 fast, else "float32".

    Raises:
        ValueError: `dtype` is not one of DTYPES, or is "tf32" on a device without TF32.
    """
    known(dtype, DTYPES, "dtype")
    if dtype == "tf32" and not (device.type == "cuda" and _is_ampere_or_later(device)):
        raise ValueError(f"dtype: tf32 needs an NVIDIA GPU from Ampere on, and {device} is none; use float32")
    if dtype != "auto":
        return dtype
    return "bfloat16" if compute == "compiled" and _has_fast_bfloat16(device) else "float32"


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return _is_ampere_or_later(device)
    return bool(torch.cpu._is_avx512_bf16_supported())


def _is_ampere_or_later(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device)[0] >= 8


@contextmanager
def use_device(device: torch.device) -> Iterator[None]:
    """Make `device` the current CUDA device inside the context, and initialise CUDA; do nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.init()  # memory statistics cannot be reset before
    with torch.cuda.device(device):
        yield


@contextmanager
def precision(dtype: str, device: torch.device) -> Iterator[None]:
    """Multiply float32 on CUDA as TF32 if `dtype` is "tf32", and as IEEE float32 otherwise, inside the context.

    A backward pass uses the setting in force when it runs, so it must run inside the context as well. The setting holds
    for all threads and devices of the process, and is restored on exit. On a CPU nothing changes.
    """
    if device.type != "cuda":
        yield
        return
    _silence_deprecation()
    before = _get_precisions()
    wanted = ("high", "tf32") if dtype == "tf32" else ("highest", "ieee")
    if before == wanted:
        yield
        return
    _set_precisions(*wanted)
    try:
        yield
    finally:
        _set_precisions(*before)


@cache
def _silence_deprecation() -> None:
    """Trigger and silence the deprecation warning that torch 2.9 and 2.10 give once per process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.get_float32_matmul_precision()


def _get_precisions() -> tuple[str, str]:
    """Return the precision of cuBLAS (highest, high or medium) and that of cuDNN's convolutions (ieee or tf32)."""
    if not hasattr(torch.backends.cudnn, "conv"):  # torch before 2.9
        return torch.get_float32_matmul_precision(), "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.conv.fp32_precision


def _set_precisions(products: str, convolutions: str) -> None:
    # Torch has two settings for products. Setting one makes reading the other an error, except after this call, and
    # versions of torch.compile differ in which they read. `allow_tf32` sets RNNs as well: where they differ from
    # convolutions, reading it is an error.
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions == "tf32"
    if hasattr(torch.backends.cudnn, "conv"):
        torch.backends.cudnn.conv.fp32_precision = convolutions


_Form = Callable[[nn.Module, Tensor], Tensor]


_COMPILED: WeakKeyDictionary[nn.Module, dict[tuple[str, str, str, torch.Size], _Form]] = WeakKeyDictionary()


def prepare(network: nn.Module, method: str, compute: str, dtype: str, device: torch.device) -> Batch:
    """Return `network.<method>` as a function of a batch that runs in the form `compute`.

    Inputs and outputs are float32; products are computed in `dtype`. A caller that also runs backward does so inside
    `precision`. The compiled form is compiled once for each shape of batch, so shapes should be few; `apply_in_chunks`
    limits them. Compiled code is cached for as long as the network lives, and stays valid when weights change in place.

    Args:
        network: the network, on `device`.
        method: the name of a method that takes a batch, such as "forward" or "embed".
        compute: "eager" or "compiled".
        dtype: "float32", "tf32" or "bfloat16".
        device: the device of the network and of the batches.
    """

    def in_float32(network: nn.Module, batch: Tensor) -> Tensor:
        outputs: Tensor = getattr(network, method)(batch)
        return outputs

    def in_bfloat16(network: nn.Module, batch: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return in_float32(network, batch).float()

    form = in_bfloat16 if dtype == "bfloat16" else in_float32

    def eager(batch: Tensor) -> Tensor:
        with precision(dtype, device):
            return form(network, batch)

    if compute == "eager":
        return eager
    # Compiled functions take the network as an argument: a closure over it would keep it in the cache for ever.
    functions = _COMPILED.setdefault(network, {})

    def compiled(batch: Tensor) -> Tensor:
        key = (method, dtype, device.type, batch.shape)
        if key not in functions:
            set_up_inductor()
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it reports that a CPU has no CUDA
            # Dynamo compiles one code object at most eight times, over all networks and shapes: give each its own.
            function = FunctionType(form.__code__.replace(), form.__globals__, closure=form.__closure__)
            functions[key] = torch.compile(function, dynamic=False, fullgraph=True)
            with precision(dtype, device), warnings.catch_warnings():
                # Torch 2.11 recommends TF32 when it compiles without; `dtype` decides.
                warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
                return functions[key](network, batch)
        with precision(dtype, device):
            return functions[key](network, batch)

    return compiled


def retry_without_damaged_libraries(call: Callable[[], object]) -> None:
    """Run `call`, which may compile; run it again for each damaged library that made it fail, once that is removed."""
    while True:
        try:
            call()
            return
        except Exception as error:
            if not remove_damaged_library(error):
                raise


def remove_damaged_library(error: Exception) -> bool:
    """Remove the library that `error` reports as incomplete; return whether there was one.

    A compiler that is killed can leave an incomplete library in Inductor's cache, where every later process would fail
    to load it.
    """
    found = re.search(r"(/\S+\.so): (?:file too short|invalid ELF header)", str(error))
    if found is None or not Path(found[1]).exists():
        return False
    Path(found[1]).unlink(missing_ok=True)
    return True
