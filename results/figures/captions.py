"""What figures say in words: settings, networks, intervals and counts."""

from collections.abc import Sequence

from pandas import DataFrame

from harness.results.wording import SMOKE, memory_label, quantity


def setting_in_words(setting: dict[str, str]) -> str:
    """Two lines for the title of a figure of one setting; what it has no value of is left out."""
    data = data_in_words(setting["dataset"], setting["exactness"])
    budget = images_in_words(setting["ipc"]) if setting["ipc"] else ""
    recipe = f"recipe {setting['recipe']}" if setting["recipe"] else ""
    lines = ((data, budget, preset_in_words(setting["preset"])), (recipe, setting["model"]))
    return "\n".join(", ".join(filter(None, line)) for line in lines)


def network_in_words(model: str) -> str:
    """A shorter name of the same network: usual parts are left out, norms are abbreviated.

    `convnet-d3-w128-batchnorm-relu-avgpooling` is `convnet-d3-w128-bn`, `alexnet-batchnorm` is `alexnet-bn`.
    """
    if model.startswith("convnet-"):
        usual = ("instancenorm", "relu", "avgpooling")
        model = "-".join(part for part in model.split("-") if part not in usual)
    for part, short in (("batchnorm", "bn"), ("layernorm", "ln"), ("groupnorm", "gn"), ("nonorm", "nn")):
        model = model.replace(f"-{part}", f"-{short}")
    return model


def data_in_words(dataset: str, exactness: str) -> str:
    """The data set's name, and where it is not the official one, what differs."""
    return dataset if exactness in ("", "official") else f"{dataset} ({exactness})"


def images_in_words(ipc: str) -> str:
    """The budget."""
    return quantity(int(ipc), "image per class")


def preset_in_words(preset: str) -> str:
    """The preset's name, and where it gives no result, that."""
    return f"preset {preset} {SMOKE}" if preset == "smoke" else f"preset {preset}"


def of_league(memory: str, league: str) -> str:
    """A memory's name, and its league where that is not the usual one."""
    return memory_label(memory) if league in ("", "pixel", memory) else f"{memory_label(memory)}, league {league}"


def intervals_in_words(data: DataFrame) -> str:
    """What the bars of a figure are, and which points have none."""
    if not (over := over_in_words(data)):
        return "one value each, no interval"
    alone = "; what has no bar is one value" if (data["varies"] == "nothing").any() else ""
    return f"mean, 95 % interval {over}{alone}"


def over_in_words(data: DataFrame) -> str:
    """What the intervals of a figure are over; "" where there is none."""
    over = sorted(set(data["varies"]) - {"nothing"})
    return f"over {' or '.join(over)}" if over else ""


def counts_in_words(data: DataFrame) -> str:
    """The n of most lines of `data`, and of which memories others have another: "n = 2 sets x 3 nets; full: 6 nets"."""
    usual = str(data["n"].mode().iloc[0])
    others = data[data["n"] != usual].groupby("n", sort=False)["memory"].unique()
    told = [f"{_some_of(sorted(map(memory_label, memories)))}: {n}" for n, memories in others.items()]
    return "; ".join([f"n = {usual}", *told])


def _some_of(names: Sequence[str]) -> str:
    """At most four of them, and how many there are beside."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
