import importlib.util
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from harness.core.compute import compiler, resolve, resolve_dtype
from tests.core.compute.nets import CPU, CUDA


def compilers(monkeypatch: pytest.MonkeyPatch, *there: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(compiler, "try_compiler", lambda *_: "")
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")


def python_headers(monkeypatch: pytest.MonkeyPatch, folder: Path, *, there: bool) -> None:
    if there:
        (folder / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(folder))


NONE = "there is no C++ compiler (g++); several times slower than compiled"


@pytest.mark.parametrize(
    ("asked", "device", "smoke", "there", "form", "reason"),
    [
        ("auto", CPU, False, ("g++",), "compiled", "g++ is there"),
        ("auto", CPU, False, ("c++", "g++"), "compiled", "g++ is there"),
        ("auto", CPU, False, ("gcc", "clang++", "c++"), "eager", NONE),  # torch.compile looks for g++ alone
        ("auto", CPU, False, (), "eager", NONE),
        ("auto", CUDA, False, ("gcc",), "compiled", "gcc is there"),
        ("auto", CUDA, False, ("clang", "gcc"), "compiled", "gcc is there"),
        ("auto", CUDA, False, ("clang",), "compiled", "clang is there"),
        ("auto", CUDA, False, ("cc", "g++"), "eager", "there is no C compiler (gcc)"),
        ("auto", CPU, True, ("g++",), "eager", "preset smoke"),
        ("auto", CUDA, True, (), "eager", "preset smoke"),
        ("eager", CPU, False, ("g++",), "eager", "as asked"),
        ("eager", CPU, False, (), "eager", "as asked"),
        ("compiled", CPU, False, ("g++",), "compiled", "as asked"),
        ("compiled", CPU, True, ("g++",), "compiled", "as asked"),
        ("compiled", CUDA, False, ("gcc",), "compiled", "as asked"),
    ],
)
def test_resolve(
    asked: str,
    device: torch.device,
    smoke: bool,
    there: tuple[str, ...],
    form: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    compilers(monkeypatch, *there)
    python_headers(monkeypatch, tmp_path, there=True)
    assert resolve(asked, device, smoke) == (form, reason)


def test_the_environments_compiler_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compilers(monkeypatch, "g++", "gcc", "ccache")
    python_headers(monkeypatch, tmp_path, there=True)
    monkeypatch.setenv("CXX", "ccache g++")
    monkeypatch.setenv("CC", "icx")
    assert resolve("auto", CPU, False) == ("compiled", "ccache is there")
    assert resolve("auto", CUDA, False) == ("eager", "there is no C compiler (icx)")


def test_cuda_compiles_by_triton_and_pythons_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compilers(monkeypatch, "gcc")
    python_headers(monkeypatch, tmp_path, there=False)
    reason = "Python's headers are not there (python3-dev)"
    assert resolve("auto", CUDA, False) == ("eager", reason)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    reason = "there is no Triton (the package triton)"
    assert resolve("auto", CUDA, False) == ("eager", reason)
    with pytest.raises(ValueError, match=r".* there is no Triton .*; mend that or use eager$"):
        resolve("compiled", CUDA, False)


def test_what_cannot_be_resolved_gets_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(monkeypatch)
    with pytest.raises(ValueError, match=r".* there is no C\+\+ compiler \(g\+\+\); [^\n]*$"):
        resolve("compiled", CPU, False)
    with pytest.raises(ValueError, match=r"^compute: 'fast' is unknown; choose from auto, eager, compiled$"):
        resolve("fast", CPU, False)
    with pytest.raises(
        ValueError, match=r"^dtype: 'float16' is unknown \(did you mean 'bfloat16'\?\); choose from auto, float32, "
    ):
        resolve_dtype("float16", "eager", CPU)


@pytest.mark.parametrize(
    ("asked", "form", "hardware", "dtype"),
    [
        ("auto", "compiled", True, "bfloat16"),
        ("auto", "compiled", False, "float32"),
        ("auto", "eager", True, "float32"),
        ("float32", "compiled", True, "float32"),
        ("bfloat16", "eager", False, "bfloat16"),
    ],
)
def test_resolve_dtype(asked: str, form: str, hardware: bool, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: hardware)
    assert resolve_dtype(asked, form, CPU) == dtype


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_bfloat16_on_cuda_from_ampere_on(
    capability: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert resolve_dtype("auto", "compiled", CUDA) == dtype
