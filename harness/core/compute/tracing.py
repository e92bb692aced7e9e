"""Functions of tensors with all their derivatives in one graph, which Inductor compiles.

`torch.compile` does not go backward twice. `make_fx` traces a function that takes its derivatives itself, by
`torch.func`, into one graph in which every backward pass already stands; that graph needs no derivative any more, and
Inductor compiles it like any other.
"""

import logging
import warnings
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from harness.core.compute import tuning
from harness.core.compute.forms import remove_damaged_library, set_up_inductor

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_COMPILED: WeakKeyDictionary[nn.Module, dict[Hashable, Callable[..., Any]]] = WeakKeyDictionary()


def trace(
    network: nn.Module, name: Hashable, function: Callable[[*Arguments], Result], compute: str
) -> Callable[[*Arguments], Result]:
    """Return `function` in the asked form of computing; eager, it is the function itself.

    Compiled, it is traced and compiled for each shape of its arguments, the first time they have it. What is compiled
    is kept with the network, so that a later call for the same network and name finds it. Where tracing or compiling
    fails, the function stays eager for that shape, with a warning that gives the reason.

    Args:
        network: whose modules the function calls; their training modes are taken as they are when it is traced.
        name: tells apart the functions of one network.
        function: takes positional arguments alone. It takes and returns tensors in any nest of lists, tuples and
            dictionaries, and reads no other tensors; no argument requires a gradient.
        compute: eager or compiled.
    """
    if compute == "eager":
        return function
    known = _COMPILED.setdefault(network, {})

    def compiled(*args: *Arguments) -> Result:
        tensors, nest = pytree.tree_flatten(args)
        modes = tuple(module.training for module in network.modules())
        key = (name, modes, str(nest), *((part.shape, part.dtype, str(part.device)) for part in tensors))
        if key not in known:
            known[key], first = _compile(function, *args)
            return first
        form: Callable[..., Result] = known[key]
        with torch.no_grad():
            return form(*args)

    return compiled


def second_order_form(compute: str, device: torch.device, flop: int) -> str:
    """Return the form of second derivatives: compiled where that is asked for and wins back the time of compiling.

    Args:
        compute: the form that is asked for.
        flop: floating-point operations of the forward passes of all images that will be pushed through.
    """
    pays = flop >= tuning.SECOND_ORDER_FROM[device.type]
    return "compiled" if compute == "compiled" and pays else "eager"


def _compile(function: Callable[..., Result], *args: object) -> tuple[Callable[..., Result], Result]:
    """Return the compiled function, or the function itself where that fails, and its result."""
    set_up_inductor()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it reports that a CPU has no CUDA
    while True:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
                graph = torch.compile(make_fx(lambda *given: function(*given))(*args), dynamic=False, fullgraph=True)
                return graph, graph(*args)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if remove_damaged_library(error):
                continue
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            warnings.warn(f"a second derivative stays eager, for it does not compile ({reason})", stacklevel=2)
            return function, function(*args)
