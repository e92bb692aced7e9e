"""Command lines and TOML files with odd options and values."""

import random
from pathlib import Path

from harness import memory
from harness.config import RUNS, assemble, to_dotted
from scripts.fuzz.folders import damage

DRY = ["--dataset", "digits", "--preset", "smoke", "--dry-run"]
VALUES = (
    *(
        "0",
        "1",
        "-1",
        "3",
        "1e9",
        "10000000000000000000000",
        "0.5",
        "nan",
        "inf",
        "-0",
        "",
        " ",
        "none",
        "true",
        "auto",
    ),
    *(
        "0-2",
        "2-0",
        "0,1",
        ",",
        "random",
        "dm",
        "herding",
        "DM",
        "caf\u00e9",
        "\u0661",
        "a=b",
        "=",
        "x" * 300,
        "\0",
        "\n",
    ),
    *("..", "/", "/dev/null", "/none/none", "folder:", "folder:.", "file:", "file:none.pt", "digits", "paper", "smoke"),
    *("convnet3", "convnet-d9", "resnet18-bn", "trained:20-30", "width=32", "width<=", "1/2", "0/0", "90s", "1h30m"),
)
OPTIONS = (
    *("--memory", "--ipc", "--nets", "--recipe", "--model", "--sets", "--steps", "--orders", "--eval-models", "--at"),
    *("--networks", "--seed", "--preset", "--dataset", "--config", "--out", "--data", "--device", "--jobs", "--name"),
    *("--engine", "--shard", "--time-limit", "--proxy", "--space", "--archs", "--subset", "--truth", "--logger"),
    *("--figure", "-o", "--format", "--against", "--rows", "--json", "--quiet", "--details", "--wide", "--bogus", "--"),
)
SHORT = (  # commands that end at once
    *("ls", "ls memories", "ls runs", "ls bogus", "show dm", "show quick", "show", "show none.pt", "--version"),
    *("table", "table none", "plot", "plot none --figure cl-accuracy", "report", "report none", "export none"),
    *("merge", "merge none --out all", "tabular none -o t.parquet"),
    *("data list", "data check digits", "data check folder:none"),
)
HEADS = ("[memory]", "[recipe]", "[memory.host]", "[[memory]]", "[none]", "[", "# ", "[[]]")


def pick_setting(rng: random.Random) -> str:
    """Choose the name of a setting, or one that is nearly one."""
    run = assemble(RUNS[rng.choice(sorted(RUNS))], "smoke", {})
    names = [*to_dotted(run), *to_dotted(memory.find(rng.choice(memory.names())).config, "memory.")]
    name = rng.choice(names)
    return rng.choice([name, name, name, name.rpartition(".")[2], name[:-1], name.upper(), f"{name}.x", "", "."])


def fuzz_run(rng: random.Random) -> list[str]:
    """The command line of a run with options and settings of any value."""
    arguments = ["run", rng.choice(sorted(RUNS)), *DRY]
    for _ in range(rng.randrange(4)):
        arguments += [rng.choice(OPTIONS), rng.choice(VALUES)][: rng.choice([2, 2, 2, 1])]
    for _ in range(rng.randrange(3)):
        arguments += ["--set", f"{pick_setting(rng)}={rng.choice(VALUES)}"]
    if rng.random() < 0.1:
        rng.shuffle(arguments)
        arguments.append("--dry-run")
    return arguments


def fuzz_command(rng: random.Random) -> list[str]:
    """The command line of any other command, with options of any value."""
    arguments = rng.choice(SHORT).split()
    for _ in range(rng.randrange(3)):
        arguments.insert(rng.randrange(len(arguments) + 1), rng.choice([rng.choice(OPTIONS), rng.choice(VALUES)]))
    return arguments


def fuzz_toml(rng: random.Random) -> list[str]:
    """A TOML file of settings, odd or damaged."""
    lines = []
    for _ in range(rng.randrange(6)):
        value = rng.choice(VALUES)
        texts = [value, f'"{value}"', f"[{value}]", "[1, 2]", "{a = 1}", "1979-05-27", "0x1f", "1_000", "[]", "'''a'''"]
        lines.append(f"{pick_setting(rng)} = {rng.choice(texts)}")
        if rng.random() < 0.3:
            lines.append(rng.choice(HEADS))
    content = "\n".join(lines).encode("utf-8", "surrogateescape")
    choice = rng.random()
    if choice < 0.2:
        content = damage(rng, content)
    elif choice < 0.4:
        content = rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\0"]) + content
    path = Path(rng.choice(["run.toml", "run.txt", "caf\u00e9.toml"]))
    path.write_bytes(content)
    return [
        "run",
        rng.choice(sorted(RUNS)),
        *DRY,
        "--config",
        str(rng.choice([path, path, path, path, "none.toml", "."])),
    ]
