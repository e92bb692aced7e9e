"""Functions that take derivatives themselves, traced into one graph and compiled."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from harness.core.compute import second_order_form, trace, tuning


def backend(monkeypatch: pytest.MonkeyPatch, compiled: Callable[..., Any]) -> list[Any]:
    """Let `compiled(graph)` stand in for torch.compile, which takes half a minute; the graphs it is given."""
    graphs: list[Any] = []

    def compile_graph(graph: Any, **_: object) -> Any:
        graphs.append(graph)
        return compiled(graph)

    monkeypatch.setattr(torch, "compile", compile_graph)
    return graphs


def penalty(network: nn.Module) -> Callable[..., Tensor]:
    """The gradient by the images of the length of the loss's gradient by the weights: a second derivative."""

    def length(images: Tensor, weights: dict[str, Tensor]) -> Tensor:
        slopes = grad(lambda w: functional_call(network, w, (images,)).square().sum())(weights)
        return torch.stack([slope.square().sum() for slope in slopes.values()]).sum()

    return grad(length)


def network_and_weights() -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    return network, {name: weight.detach() for name, weight in network.named_parameters()}


def test_a_graph_serves_one_shape_and_any_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = backend(monkeypatch, lambda graph: graph)
    network, weights = network_and_weights()
    images = torch.randn(5, 4, dtype=torch.float64)
    for count in (5, 5, 2):
        form = trace(network, "penalty", penalty(network), "compiled")
        torch.testing.assert_close(form(images[:count], weights), penalty(network)(images[:count], weights))
    assert len(graphs) == 2
    other = {name: weight * 2 for name, weight in weights.items()}
    torch.testing.assert_close(form(images, other), penalty(network)(images, other))
    assert len(graphs) == 2
    network.eval()  # norms and dropout compute otherwise
    form(images, weights)
    assert len(graphs) == 3


def test_a_graph_holds_the_whole_of_both_backward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = backend(monkeypatch, lambda graph: graph)
    network, weights = network_and_weights()
    found = trace(network, "penalty", penalty(network), "compiled")(torch.ones(5, 4, dtype=torch.float64), weights)
    assert not found.requires_grad
    leaf = torch.ones(5, 4, dtype=torch.float64, requires_grad=True)
    slopes = torch.autograd.grad(network(leaf).square().sum(), list(network.parameters()), create_graph=True)
    expected = torch.autograd.grad(torch.stack([slope.square().sum() for slope in slopes]).sum(), leaf)[0]
    torch.testing.assert_close(found, expected)
    assert not any("backward" in str(node.target) and "autograd" in str(node.target) for node in graphs[0].graph.nodes)


def test_a_compiled_function_takes_positional_arguments_alone() -> None:
    network, weights = network_and_weights()
    form: Callable[..., Tensor] = trace(network, "penalty", penalty(network), "compiled")
    with pytest.raises(TypeError, match="weights"):
        form(torch.ones(5, 4, dtype=torch.float64), weights=weights)


def test_what_does_not_trace_stays_eager_and_says_why() -> None:
    network, _ = network_and_weights()

    def decides_by_value(images: Tensor) -> Tensor:
        return images * 2 if float(images.sum()) > 0 else images * 3

    form = trace(network, "by value", decides_by_value, "compiled")
    with pytest.warns(UserWarning, match="^a second derivative stays eager, for it does not compile "):
        assert form(-torch.ones(2)).tolist() == [-3, -3]
    assert form(torch.ones(2)).tolist() == [2, 2]  # not the branch of the first call


def test_a_compiler_that_fails_leaves_the_function_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(graph: Any) -> Any:
        raise RuntimeError("g++ ran out of stack\nwith many lines")

    backend(monkeypatch, fails)
    network, weights = network_and_weights()
    images = torch.randn(5, 4, dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"for it does not compile \(g\+\+ ran out of stack\)$"):
        found = trace(network, "penalty", penalty(network), "compiled")(images, weights)
    torch.testing.assert_close(found, penalty(network)(images, weights))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, KeyboardInterrupt])
def test_no_memory_and_interrupts_are_for_the_caller(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(graph: Any) -> Any:
        raise error

    backend(monkeypatch, fails)
    network, weights = network_and_weights()
    with pytest.raises(error):
        trace(network, "penalty", penalty(network), "compiled")(torch.ones(5, 4, dtype=torch.float64), weights)


def test_only_long_work_is_compiled() -> None:
    cpu, enough = torch.device("cpu"), int(tuning.SECOND_ORDER_FROM["cpu"])
    assert second_order_form("compiled", cpu, enough) == "compiled"
    assert second_order_form("compiled", cpu, enough - 1) == "eager"
    assert second_order_form("eager", cpu, 2 * enough) == "eager"
