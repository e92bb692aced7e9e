"""Bad input gets one clear line and exit code 2, and loses nothing."""

import errno
import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.core import atomic as files
from harness.core import registry
from tests.cli.complaints import complaint
from tests.results.files import write_rows

RUN = ["run", "cl"]
DIGITS = [*RUN, "--dataset", "digits", "--preset", "smoke", "--steps", "2"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        # what would change nothing, or contradicts what else is given
        ([*DIGITS, "--orders", "0,1,0"], "orders: expected each seed once, got 0, 1, 0"),
        (
            [*DIGITS, "--orders", "0", "--set", "class_order=9-0"],
            "orders: class_order already gives the order of the classes; leave one of them out",
        ),
        (
            [*DIGITS, "--memory", "file:mine.pt", "--ipc", "5"],
            "ipc: the file determines the number of images per class",
        ),
        (
            ["reproduce", "table1", "--rows", "x", "--dry-run"],
            "--dry-run: --rows trains nothing; leave one of them out",
        ),
        (["reproduce", "table1", "x"], "reproduce: x is unexpected; give runs by --rows RUN..."),
        (["data", "fetch", "digits"], "digits: come with scikit-learn and are always there"),
        (["reproduce"], "Missing argument 'NAME'"),
        (["bench", "dm", "--threads", "-1"], "threads: 1 or more, got -1"),
        (["bench", "dm", "--seconds", "nan"], "seconds: a number, 0 or more, got nan"),
        # names, with the nearest
        ([*RUN[:1], "nas", "--proxy", "dmm"], "proxy: 'dmm' is unknown (did you mean 'dm'?); choose from cscore, "),
        (
            [*RUN, "--memory", "dmm"],
            "memory: 'dmm' is unknown (did you mean 'dm'?); choose from cscore, dc, dcc, dm, dsa, dsac, ",
        ),
        ([*RUN, "--dataset", "digit"], "data set: 'digit' is unknown (did you mean 'digits'?); choose from cifar100, "),
        ([*DIGITS, "--recipe", "dmm"], "recipe: 'dmm' is unknown (did you mean 'dm'?); choose from dc, dm, idc"),
        ([*DIGITS, "--model", "convnt3"], "model: 'convnt3' is unknown; models are named like convnet3 or "),
        ([*DIGITS, "--model", "convnet3-bm"], "model: 'bm' in 'convnet3-bm' is unknown; parts are dDEPTH, wWIDTH, "),
        (
            [*RUN, "--preset", "quik"],
            "preset: 'quik' is unknown (did you mean 'quick'?); choose from ",
        ),
        ([*DIGITS, "--set", "lr=3"], "--set: 'lr' is a setting of a part of the run: memory.lr or recipe.lr"),
        ([*DIGITS, "--set", "memory.iteration=3"], "--set: 'memory.iteration' is unknown (did you mean 'memory.itera"),
        ([*DIGITS, "--set", "recipe.epoch=3"], "--set: 'recipe.epoch' is unknown (did you mean 'recipe.epochs'?)"),
        ([*DIGITS, "--set", "stepz=3"], "--set: 'stepz' is unknown (did you mean 'steps'?); choose from class_order, "),
        ([*DIGITS, "--seed", "9" * 20], f"seed: a 64-bit number is needed, got {'9' * 20}"),
        (
            [*DIGITS, "--engine", "sreial"],
            "engine: 'sreial' is unknown (did you mean 'serial'?); choose from ",
        ),
        (
            [*DIGITS, "--avalanche-logger", "txt"],
            "avalanche logger: 'txt' is unknown (did you mean 'text'?); choose",
        ),
        ([*DIGITS, "--device", "tpu"], "device: 'tpu' is unknown; choose from auto, cpu, cuda"),
        ([*DIGITS, "--set", "split=train"], "split: 'train' is unknown; choose from test, validation"),
        ([*DIGITS, "--set", "compute=fast"], "compute: 'fast' is unknown; choose from auto, eager, compiled"),
        ([*DIGITS, "--set", "recipe.augment=colour"], "augment: 'colour' is unknown; operations are color, crop, "),
        (["plot", "x", "--figure", "cl-acuracy"], "figure: 'cl-acuracy' is unknown (did you mean 'cl-accuracy'?); "),
        (["ls", "memoris"], "ls: 'memoris' is unknown (did you mean 'memories'?); choose from "),
        (["show", "herdin"], "show: 'herdin' is unknown (did you mean 'herding'?); choose from "),
        (["frobnicate"], "No such command 'frobnicate'."),
        ([*RUN, "--bogus"], "No such option: --bogus"),
        # types and ranges
        ([*DIGITS, "--set", "recipe.epochs=ten"], "recipe.epochs: a whole number is needed, got 'ten'"),
        ([*DIGITS, "--set", "memory.lr=fast"], "memory.lr: a number is needed, got 'fast'"),
        ([*DIGITS, "--orders", "x"], "orders: numbers such as 0 or 0,2 or 0-4 are needed, got 'x'"),
        ([*DIGITS, "--orders", "-1"], "orders: expected seeds of 0 or more, got -1"),
        ([*DIGITS, "--orders", "4-0"], "orders: at least one class order is needed, such as 0 or 0-4"),
        ([*DIGITS, "--set", "ipc"], "--set: expected KEY=VALUE, got 'ipc'"),
        ([*DIGITS, "--steps", "0"], "steps: at least 1 is needed, got 0"),
        ([*DIGITS, "--steps", "3"], "steps: 3 does not divide the 10 classes; choose from 1, 2, 5, 10"),
        ([*DIGITS, "--steps", "two"], "steps: a whole number is needed, got 'two'"),
        ([*DIGITS, "--ipc", "0"], "ipc: at least 1 is needed, got 0"),
        ([*DIGITS, "--ipc", "141"], "ipc: expected at most 140 images per class, as many as class 8 has"),
        ([*DIGITS, "--nets", "0"], "nets: at least 1 is needed, got 0"),
        ([*DIGITS, "--set", "memory.iterations=0"], "iterations: at least 1 is needed, got 0"),
        ([*DIGITS, "--set", "memory.iterations=-5"], "iterations: at least 1 is needed, got -5"),
        ([*DIGITS, "--set", "memory.lr=0"], "lr: a finite number above 0 is needed, got 0"),
        ([*DIGITS, "--set", "memory.momentum=1"], "momentum: a number below 1 is needed, got 1"),
        ([*DIGITS, "--set", "memory.init=ones"], "init: 'ones' is unknown; choose from real, noise"),
        ([*DIGITS, "--set", "recipe.lr=-1"], "recipe.lr: a finite number above 0 is needed, got -1"),
        ([*DIGITS, "--set", "class_order=0,1,2"], "class_order: expected each of 0 .. 9 once"),
        ([*DIGITS, "--model", "convnet-d9"], "model: convnet-d9-w128-instancenorm-relu-avgpooling pools 8 x 8 images "),
        ([*DIGITS, "--set", "memory.model=convnet9"], "model: convnet-d9-w128-instancenorm-relu-avgpooling pools 8 x"),
        (
            [*DIGITS, "--set", "memory.compute=eager"],
            "--set: memory.compute follows compute of the run; set compute instead",
        ),
        (
            [*DIGITS, "--set", "recipe.dtype=half"],
            "recipe.dtype: 'half' is unknown; choose from auto, float32, tf32",
        ),
        (
            [*DIGITS, "--set", "memory.synthetic_dtype=float16"],
            "memory.synthetic_dtype: 'float16' is unknown (did you ",
        ),
        ([*DIGITS, "--set", "recipe.momentum=nan"], "recipe.momentum: a number below 1 is needed, got nan"),
        (
            [*DIGITS, "--time-limit", "soon"],
            "--time-limit: expected a time such as 90s, 30min, 1h30m or 01:30:00, got 'soon'",
        ),
        (
            [*DIGITS, "--time-limit", "-5s"],
            "--time-limit: expected a time such as 90s, 30min, 1h30m or 01:30:00, got '-5s'",
        ),
        ([*DIGITS, "--shard", "3/2"], "--shard: expected i/n with i from 1 to n, got '3/2'"),
        ([*DIGITS, "--shard", "0/2"], "--shard: expected i/n with i from 1 to n, got '0/2'"),
        ([*DIGITS, "--jobs", "0"], "jobs: at least 1 is needed, got 0"),
        ([*DIGITS, "--jobs", "two"], "Invalid value for '--jobs': "),
        (["table", "x", "--format", "xlsx"], "x: no such file or directory; pass a rows.csv or a run directory"),
        # data and files
        ([*RUN, "--dataset", "cifar100"], "cifar100: not in the cache ("),
        ([*RUN, "--data", "nowhere"], r"/nowhere: is no such directory; expected train/ and test/ "),
        ([*RUN, "--dataset", "folder:nowhere"], "nowhere: is no such directory in "),
        ([*DIGITS, "--config", "nowhere.toml"], "--config: nowhere.toml cannot be read ("),
        (["data", "check", "cifar10"], "cifar10: not in the cache ("),
        (["data", "check", "cifr10"], "data set: 'cifr10' is unknown (did you mean 'cifar10'?); "),
        (["data", "fetch", "cifar10"], "cifar10: not in the cache ("),
        (["data", "fetch", "digits"], "digits: "),
        (["data", "import", "nowhere", "--name", "cifar10"], "nowhere: is no such directory; expected "),
        (["plot", "nowhere", "--figure", "cl-accuracy"], "nowhere: no such file or directory; pass a rows.csv or "),
        (["plot", "nowhere", "--figure", "memory-images"], "nowhere: "),
        (["table", "nowhere"], "nowhere: no such file or directory; pass a rows.csv or a run directory"),
    ],
    ids=lambda part: " ".join(part[-2:]) if isinstance(part, list) else "",
)
def test_one_clear_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in complaint(arguments, capsys)


@pytest.mark.parametrize("command", [[], ["run"], ["data"]])
def test_no_command_shows_the_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    printed, errors = capsys.readouterr()
    assert "Usage: harness" in printed + errors
    assert "harness: " not in errors.replace("Usage: harness", "")


def test_a_builder_of_another_package_that_cannot_be_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = [
        EntryPoint("gone", "no_such_module:build", "harness.memories"),
        EntryPoint("renamed", "harness.cli:no_such_function", "harness.memories"),
        EntryPoint("plain", "harness.cli:entry", "harness.memories"),
    ]
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group, name=None: [e for e in offers if e.group == group and name in (None, e.name)],
    )
    said = complaint([*DIGITS, "--memory", "gone"], capsys)
    assert said.startswith("memory: 'gone' cannot be loaded from no_such_module:build (ModuleNotFoundError: No module")
    said = complaint([*DIGITS, "--memory", "renamed"], capsys)
    assert said.startswith(
        "memory: 'renamed' cannot be loaded from harness.cli:no_such_function (AttributeError: module 'harness.cli'"
    )
    said = complaint([*DIGITS, "--memory", "plain"], capsys)
    assert said == "memory: harness.cli's builder needs a parameter cfg that defaults to a dataclass"
    assert main(["ls", "memories"]) == 0
    printed = capsys.readouterr().out
    assert "gone                 memory: 'gone' cannot be loaded from" in printed
    assert "\nherding " in printed  # the others are listed all the same


def test_cuda_where_there_is_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = complaint([*DIGITS, "--device", "cuda"], capsys)
    assert said == "device: cuda needs a CUDA device, but torch finds none; use --device cpu"


@pytest.mark.parametrize("setting", ["recipe.dtype=tf32", "real_dtype=tf32", "memory.synthetic_dtype=tf32"])
def test_tf32_where_there_is_none(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint([*DIGITS, "--memory", "dm", "--device", "cpu", "--set", setting], capsys)
    assert said == "dtype: tf32 needs an NVIDIA GPU from Ampere on, and cpu is none; use float32"


def test_a_config_that_is_no_toml(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.toml").write_text("steps = = 2")
    assert complaint([*DIGITS, "--config", "run.toml"], capsys).startswith("--config: run.toml cannot be read (")
    Path("bytes.toml").write_bytes(b"\xff\xfe\x00")
    assert complaint([*DIGITS, "--config", "bytes.toml"], capsys).startswith("--config: bytes.toml cannot be read (")


def test_a_config_with_an_unknown_field(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.toml").write_text("[memory]\niteration = 2")
    assert "'memory.iteration' is unknown (did you mean 'memory.iterations'?" in complaint(
        [*DIGITS, "--config", "run.toml"], capsys
    )


def test_an_output_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()  # also for root, to whom permissions mean nothing
    said = complaint([*DIGITS, "--out", "file/runs"], capsys)
    assert said == "file/runs: not a directory, because it or a parent is a file; use another --out"
    said = complaint(["estimate", *DIGITS[1:], "--out", "file"], capsys)
    assert said == "file: not a directory, because it or a parent is a file; use another --out"


def test_an_output_whose_units_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").mkdir()
    Path("runs/units").touch()
    assert "units" in complaint([*DIGITS, "--engine", "serial"], capsys)


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "..", "units", "a\\b"])
def test_a_name_that_leads_elsewhere(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint([*DIGITS, "--name", name], capsys).startswith("--name: expected a plain name")
    assert not Path("runs").exists()


def test_memory_images_of_two_runs(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a").mkdir()
    said = complaint(["plot", "a", "b", "--figure", "memory-images"], capsys)
    assert said == "a: holds no memory yet"


@pytest.fixture
def some_rows() -> str:
    """A file of one row."""
    write_rows([{"track": "nas", "metric": "parameters", "value": 1.0}], Path("rows.csv"))
    return "rows.csv"


def test_a_directory_in_the_place_of_a_report(some_rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").mkdir()
    said = complaint(["report", some_rows, "-o", "there"], capsys)
    assert said == "there: cannot be written (Is a directory); name another place"


def fail_with(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file that is written fail as the system does."""

    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(files, "write_bytes", fail)


def test_a_disk_that_is_read_only(
    some_rows: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(errno.EROFS, monkeypatch)
    said = complaint(["report", some_rows, "-o", "there/report.html"], capsys)
    assert said == "there/report.html: cannot be written (Read-only file system); name another place"


def test_a_disk_that_is_full(
    some_rows: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(errno.ENOSPC, monkeypatch)
    assert main(["report", some_rows]) == 3
    assert capsys.readouterr().err == (
        "harness: No space left on device; once there is room, the same command continues\n"
    )


@pytest.mark.parametrize(("content", "why"), [("{", "Expecting"), ("[1]", "an object fits, got list")])
def test_showing_a_run_whose_configuration_is_damaged(
    content: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run").mkdir()
    Path("run/config.json").write_text(content)
    assert complaint(["show", "run"], capsys).startswith(f"run/config.json: damaged ({why}")


def test_showing_or_exporting_what_is_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").mkdir()
    Path("res.pt").touch()
    said = complaint(["show", "res.pt"], capsys)
    assert (
        said == "res.pt: expected a file that harness wrote; `run condense --memory file:res.pt` evaluates other files"
    )
    said = complaint(["show", "there"], capsys)
    assert said == "there: holds no config.json, so it is no run; name a directory inside --out"
    said = complaint(["export", "nowhere"], capsys)
    assert said == "nowhere: no such directory; pass a run's, such as `harness ls runs` lists"
