"""The configurations of runs check themselves."""

from typing import Any

import pytest

from harness.config import CLRun, CondenseRun


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps: at least 1 is needed, got 0"),
        ({"ipc": 0}, "ipc: at least 1 is needed, got 0"),
        ({"nets": -1}, "nets: at least 1 is needed, got -1"),
        ({"classes_per_unit": 0}, "classes_per_unit: at least 1 is needed, got 0"),
        ({"orders": ()}, "orders: at least one class order is needed"),
        ({"orders": (0, -2)}, "orders: expected seeds of 0 or more, got -2"),
        ({"split": "train"}, "split: 'train' is unknown; choose from test, validation"),
        ({"recipe": "dn"}, "recipe: 'dn' is unknown"),
        ({"preset": "quik"}, r"preset: 'quik' is unknown \(did you mean 'quick'"),
        ({"memory": "dmm"}, r"memory: 'dmm' is unknown \(did you mean 'dm'"),
        ({"model": "resnet"}, "model: 'resnet' is unknown"),
    ],
)
def test_a_run_checks_itself(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        CLRun(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sets": 0}, "sets: at least 1 is needed, got 0"),
        ({"nets": 0}, "nets: at least 1 is needed, got 0"),
        ({"eval_models": ("convnet3", "resnt18")}, "model: 'resnt18' is unknown"),
        (
            {"eval_models": ("convnet3", "mlp", "convnet-d3")},
            "eval_models: convnet3 and convnet-d3 are the same network",
        ),
        ({"at": (4, 2)}, "at: expected ascending numbers of iterations, got 4, 2$"),
        ({"at": (2, 2)}, "at: expected ascending numbers of iterations, got 2, 2$"),
        ({"at": (0, 2)}, "at: expected ascending numbers of iterations, got 0, 2$"),
    ],
)
def test_a_run_of_condense_checks_itself(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        CondenseRun(**values)
