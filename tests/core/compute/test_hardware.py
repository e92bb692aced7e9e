from pathlib import Path

import pytest
import torch

from harness.core.compute import hardware

X86 = """processor\t: {core}
model name\t: AMD EPYC
cpu family\t: 25
model\t\t: {model}
cpu MHz\t\t: {megahertz}
flags\t\t: fpu avx2{more}

"""


def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **of_core: object) -> str:
    """Name of the instructions where Linux describes two cores in this way."""
    cores = [X86.format(**{"core": core, "model": 1, "megahertz": 2450, "more": ""} | of_core) for core in range(2)]
    (tmp_path / "cpuinfo").write_text("".join(cores))
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
    return hardware.instructions()


def test_the_instructions_differ_with_model_and_flags_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = told(tmp_path, monkeypatch)
    assert told(tmp_path, monkeypatch, megahertz=3100) == plain
    assert len({plain, told(tmp_path, monkeypatch, more=" avx512f"), told(tmp_path, monkeypatch, model=17)}) == 3
    assert len(plain) == 8
    assert plain.isalnum()


def test_the_processor_is_named_with_what_torch_uses_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(tmp_path, monkeypatch)
    used = torch.backends.cpu.get_cpu_capability()
    assert hardware.processor() == f"AMD EPYC, {used}"
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "elsewhere")
    assert hardware.processor() == f"CPU, {used}"
    assert hardware.instructions().isalnum()
