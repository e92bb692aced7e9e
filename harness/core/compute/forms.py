"""The form of computing: eager or compiled, float32, tf32 or bfloat16. Results depend on it, so it is decided once.

Two cores do real work when a network is compiled and fed chunks that fit the cache: 3 to 12 times the eager forward
pass of a narrow ConvNet. `resolve` turns `auto` into a form and a reason once, where a run is assembled;
`fast` then makes a function of a batch run in that form. What stays in float32 is IEEE float32 on every device:
`precision` keeps cuDNN from its own default, TF32, wherever nobody asked for that.

On CUDA the same draws do not give the same bits twice: some backward passes add in the order in which threads arrive.
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
    """`compute` as "eager" or "compiled", and why.

    Raises:
        ValueError: not one of FORMS, or compiled was asked for where that needs what is not there.
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
    """Let what is compiled outlive the process, without a pool of compilers beside each; a user's settings stand.

    Torch reads these variables once, when it first imports its compiler: a forward pass on the meta device already
    does so.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(library_dir()))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


def resolve_dtype(dtype: str, compute: str, device: torch.device) -> str:
    """`auto` as "bfloat16" where the form is compiled and the hardware multiplies it fast, else as "float32".

    Raises:
        ValueError: not one of DTYPES, or tf32 where the hardware has none: rows would name what was not done.
    """
    known(dtype, DTYPES, "dtype")
    if dtype == "tf32" and not (device.type == "cuda" and _is_ampere_or_later(device)):
        raise ValueError(f"dtype: tf32 is of NVIDIA GPUs from Ampere on, and {device} is none; use float32")
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
def on(device: torch.device) -> Iterator[None]:
    """Inside, `device` is CUDA's current device and ready for use: a process's first asks after it find it there."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.init()  # or its memory statistics cannot be reset
    with torch.cuda.device(device):
        yield


@contextmanager
def precision(dtype: str, device: torch.device) -> Iterator[None]:
    """Inside, float32 is multiplied on CUDA as TF32 under "tf32", and as IEEE float32 under any other dtype.

    For whole passes: a backward pass is multiplied as is asked where it runs. What was set before comes back; the
    settings are the process's, for all its threads and devices. On a CPU nothing changes.
    """
    if device.type != "cuda":
        yield
        return
    _let_torch_deprecate()
    before = _precisions()
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
def _let_torch_deprecate() -> None:
    """Have torch 2.9 and 2.10 say, unheard, that a newer way is there; they say it once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.get_float32_matmul_precision()


def _precisions() -> tuple[str, str]:
    """How cuBLAS multiplies (highest, high or medium), and how cuDNN convolves (ieee or tf32)."""
    if not hasattr(torch.backends.cudnn, "conv"):  # torch before 2.9
        return torch.get_float32_matmul_precision(), "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.conv.fp32_precision


def _set_precisions(products: str, convolutions: str) -> None:
    # Products can be set in two ways, each of which makes reading by the other an error, but for this one: and some
    # versions of torch.compile read by the one, others by the other.
    torch.set_float32_matmul_precision(products)
    if hasattr(torch.backends.cudnn, "conv"):
        torch.backends.cudnn.conv.fp32_precision = convolutions
    else:
        torch.backends.cudnn.allow_tf32 = convolutions == "tf32"


_Form = Callable[[nn.Module, Tensor], Tensor]


_COMPILED: WeakKeyDictionary[nn.Module, dict[tuple[str, str, str, torch.Size], _Form]] = WeakKeyDictionary()


def fast(network: nn.Module, method: str, compute: str, dtype: str, device: torch.device) -> Batch:
    """`network.<method>` of a batch in the asked form: float32 in and out, multiplied in `dtype`.

    That is the pass forward; `precision` is for whoever goes backward as well. The compiled form is compiled anew for
    each shape of batch: give it few (`chunked` makes them one). What is compiled is kept with the network, as long as
    that lives; its weights may be redrawn in place at will.
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
    # What is compiled takes the network as an argument: were it enclosed, neither would ever be forgotten.
    known = _COMPILED.setdefault(network, {})

    def compiled(batch: Tensor) -> Tensor:
        key = (method, dtype, device.type, batch.shape)
        if key not in known:
            set_up_inductor()
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it reports that a CPU has no CUDA
            # Dynamo fails at the ninth variant of one code object, whatever networks and shapes they are for: so a
            # code object for each.
            own = FunctionType(form.__code__.replace(), form.__globals__, closure=form.__closure__)
            known[key] = torch.compile(own, dynamic=False, fullgraph=True)
            with precision(dtype, device), warnings.catch_warnings():
                # Torch 2.11 recommends TF32 where it compiles without: that is not for it to choose.
                warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
                return known[key](network, batch)
        with precision(dtype, device):
            return known[key](network, batch)

    return compiled


def despite_cut_short(call: Callable[[], object]) -> None:
    """Make a call that compiles, again after each library that `remove_cut_short` removes."""
    while True:
        try:
            call()
            return
        except Exception as error:
            if not remove_cut_short(error):
                raise


def remove_cut_short(error: Exception) -> bool:
    """Whether `error` came of a library that a killed compiler left unfinished, which is removed: it is made anew then.

    Inductor keeps what it has compiled for later processes, and would fail on such a file in each of them.
    """
    found = re.search(r"(/\S+\.so): (?:file too short|invalid ELF header)", str(error))
    if found is None or not Path(found[1]).exists():
        return False
    Path(found[1]).unlink(missing_ok=True)
    return True
