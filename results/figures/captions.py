"""The words of figures: settings, changes, networks, intervals and counts."""

from collections.abc import Collection, Sequence

from pandas import DataFrame

from harness.results.figures import selection
from harness.results.wording import SMOKE, memory_label, quantity


def describe_setting(data: DataFrame, apart: Collection[str], *lines: str) -> str:
    """The title of a figure: its setting, what its runs changed from their preset, then further lines.

    Args:
        data: the numbers of the figure, with the columns of its setting.
        apart: columns of the setting that the figure shows itself.
        lines: further lines; empty ones are left out.
    """
    setting = setting_in_words(selection.setting_of(data, apart))
    return "\n".join(filter(None, [setting, changes_in_words(data), *lines]))


def changes_in_words(data: DataFrame, name: str = "memory") -> str:
    """The settings that runs changed from their preset, by memory unless all share them; "" if there are none.

    Args:
        data: the numbers of a figure, with a column `changes`.
        name: the column that names the lines of the figure.
    """
    changed = data[data["changes"] != ""]
    if changed.empty:
        return ""
    if data["changes"].nunique() == 1:
        return f"changed from the preset: {data['changes'].iloc[0]}"
    parts = []
    for changes, part in changed.groupby("changes", sort=True):
        names = sorted(map(memory_label, part[name].unique()))
        parts.append(f"{_list_some(names)}: {changes}")
    return f"changed from the preset: {'; '.join(parts)}"


def setting_in_words(setting: dict[str, str]) -> str:
    """Two lines for the title of a figure of one setting; columns without a value are left out."""
    data = data_in_words(setting["dataset"], setting["exactness"])
    budget = images_in_words(setting["ipc"]) if setting["ipc"] else ""
    recipe = f"recipe {setting['recipe']}" if setting["recipe"] else ""
    lines = ((data, budget, preset_in_words(setting["preset"])), (recipe, setting["model"]))
    return "\n".join(", ".join(filter(None, line)) for line in lines)


def network_in_words(model: str) -> str:
    """A shorter name of the same network, without its usual parts and with abbreviated norms.

    `convnet-d3-w128-batchnorm-relu-avgpooling` is `convnet-d3-w128-bn`, `alexnet-batchnorm` is `alexnet-bn`.
    """
    if model.startswith("convnet-"):
        usual = ("instancenorm", "relu", "avgpooling")
        model = "-".join(part for part in model.split("-") if part not in usual)
    for part, short in (("batchnorm", "bn"), ("layernorm", "ln"), ("groupnorm", "gn"), ("nonorm", "nn")):
        model = model.replace(f"-{part}", f"-{short}")
    return model


def data_in_words(dataset: str, exactness: str) -> str:
    """The name of the data set, and what differs if it is not the official one."""
    return dataset if exactness in ("", "official") else f"{dataset} ({exactness})"


def images_in_words(ipc: str) -> str:
    """The budget, such as "10 images per class"."""
    return quantity(int(ipc), "image per class")


def preset_in_words(preset: str) -> str:
    """The name of the preset, with a warning if its rows are no result."""
    return f"preset {preset} {SMOKE}" if preset == "smoke" else f"preset {preset}"


def with_league(memory: str, league: str) -> str:
    """The name of a memory, and its league if that is not the usual one."""
    return memory_label(memory) if league in ("", "pixel", memory) else f"{memory_label(memory)}, league {league}"


def intervals_in_words(data: DataFrame) -> str:
    """What the points and bars of a figure are, and which points have no bar."""
    if not (over := over_in_words(data)):
        return "one value each, no interval"
    alone = "; what has no bar is one value" if (data["varies"] == "nothing").any() else ""
    return f"mean, 95 % interval {over}{alone}"


def over_in_words(data: DataFrame) -> str:
    """What the intervals of a figure are over; "" if there are none."""
    over = sorted(set(data["varies"]) - {"nothing"})
    return f"over {' or '.join(over)}" if over else ""


def counts_in_words(data: DataFrame) -> str:
    """The n of most lines of `data`, and the memories that have another: "n = 2 sets x 3 nets; full: 6 nets"."""
    usual = str(data["n"].mode().iloc[0])
    others = data[data["n"] != usual].groupby("n", sort=False)["memory"].unique()
    named = [f"{_list_some(sorted(map(memory_label, memories)))}: {n}" for n, memories in others.items()]
    return "; ".join([f"n = {usual}", *named])


def _list_some(names: Sequence[str]) -> str:
    """At most four names, and the number of the others."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
