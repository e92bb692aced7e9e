"""The form of computing: eager or compiled, float32 or bfloat16. Results depend on it, so it is decided once.

Two cores do real work when a network is compiled and fed chunks that fit the cache: 3 to 12 times the eager forward
pass of a narrow ConvNet. `resolve` turns `auto` into a form and a reason once, where a run is assembled;
`fast` then makes a function of a batch run in that form.
"""

import logging
import os
import shutil
from collections.abc import Callable
from types import FunctionType
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from harness.core.data import cache_dir

FORMS = ("auto", "eager", "compiled")
DTYPES = ("auto", "float32", "bfloat16")
CPU_CHUNK = 64  # images: with their first feature maps they fit a core's second-level cache
CUDA_EVALUATION_CHUNK = 1000  # images
Batch = Callable[[Tensor], Tensor]


def resolve(compute: str, device: torch.device, smoke: bool) -> tuple[str, str]:
    """`compute` as "eager" or "compiled", and why.

    Raises:
        ValueError: not one of FORMS, or compiled was asked for where nothing can compile.
    """
    if compute not in FORMS:
        raise ValueError(f"compute: {compute!r} is unknown; choose from {', '.join(FORMS)}")
    compiler = "CUDA" if device.type == "cuda" else next(filter(shutil.which, ("g++", "clang++", "c++")), None)
    if compute == "compiled" and compiler is None:
        raise ValueError("compute: 'compiled' needs a C++ compiler (g++) on the path; install one or use eager")
    if compute != "auto":
        return compute, "as asked"
    if smoke:
        return "eager", "preset smoke"
    if compiler is None:
        return "eager", "no C++ compiler (g++) found: several times slower than compiled"
    return "compiled", f"{compiler} is there"


def resolve_dtype(dtype: str, compute: str, device: torch.device) -> str:
    """`auto` as "bfloat16" where the form is compiled and the hardware multiplies it fast, else as "float32".

    Raises:
        ValueError: not one of DTYPES.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: {dtype!r} is unknown; choose from {', '.join(DTYPES)}")
    if dtype != "auto":
        return dtype
    return "bfloat16" if compute == "compiled" and _has_fast_bfloat16(device) else "float32"


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return bool(torch.cpu._is_avx512_bf16_supported())


_Form = Callable[[nn.Module, Tensor], Tensor]
_COMPILED: WeakKeyDictionary[nn.Module, dict[tuple[str, str, str, torch.Size], _Form]] = WeakKeyDictionary()


def fast(network: nn.Module, method: str, compute: str, dtype: str, device: torch.device) -> Batch:
    """`network.<method>` of a batch in the asked form: float32 in and out, multiplied in `dtype`.

    The compiled form is compiled anew for each shape of batch: give it few (`chunked` makes them one). What is compiled
    is kept with the network, as long as that lives; its weights may be redrawn in place at will.
    """

    def in_float32(network: nn.Module, batch: Tensor) -> Tensor:
        outputs: Tensor = getattr(network, method)(batch)
        return outputs

    def in_bfloat16(network: nn.Module, batch: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return in_float32(network, batch).float()

    form = in_float32 if dtype == "float32" else in_bfloat16
    if compute == "eager":
        return lambda batch: form(network, batch)
    # What is compiled takes the network as an argument: were it enclosed, neither would ever be forgotten.
    known = _COMPILED.setdefault(network, {})

    def compiled(batch: Tensor) -> Tensor:
        key = (method, dtype, device.type, batch.shape)
        if key not in known:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "inductor"))  # outlives the process
            os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compilers beside each worker
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it reports that a CPU has no CUDA
            # Dynamo fails at the ninth variant of one code object, whatever networks and shapes they are for: so a
            # code object for each.
            own = FunctionType(form.__code__.replace(), form.__globals__, closure=form.__closure__)
            known[key] = torch.compile(own, dynamic=False, fullgraph=True)
        return known[key](network, batch)

    return compiled


def chunk_size(device: torch.device, bytes_per_image: int) -> int:
    """Images to push through a network at a time: what fits a CPU's cache, or half of a GPU's free memory."""
    if device.type == "cpu":
        return CPU_CHUNK
    free, _ = torch.cuda.mem_get_info(device)
    return max(CPU_CHUNK, min(65_536, free // 2 // bytes_per_image))


def gradient_chunk(network: nn.Module) -> int:
    """Images to push forward and backward at a time on a CPU.

    Fewer than forward alone, since the backward pass comes back to the feature maps: images times filters is 4096 at
    most. Measured at widths 32 and 128, forward and backward in bfloat16: 7,600 and 1,330 images a second in chunks of
    64 and 32, 6,100 and 850 the other way round.
    """
    filters = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    return max(8, min(CPU_CHUNK, 4096 // max(filters, default=1)))


def evaluation_chunk(device: torch.device) -> int:
    """Images to test, or to embed, at a time."""
    return CPU_CHUNK if device.type == "cpu" else CUDA_EVALUATION_CHUNK


def chunked(function: Batch, chunk: int) -> Batch:
    """`function` applied to `chunk` images at a time; exact wherever an image's output depends on itself alone.

    A last, short chunk is filled up with zeros, which are cut off again: to a quarter, half, three quarters or all of a
    chunk, and to all of it after eight whole ones. So the calls have few shapes, and little is computed for nothing. A
    batch of one chunk or less is left as it is: small memories come in one size.
    """

    def in_chunks(images: Tensor) -> Tensor:
        if len(images) <= chunk:
            return function(images)
        parts = []
        step = chunk if len(images) > 8 * chunk else max(1, chunk // 4)
        for part in images.split(chunk):
            missing = min(-len(part) % step, chunk - len(part))
            padded = torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part
            parts.append(function(padded)[: len(part)])
        return torch.cat(parts)

    return in_chunks
