"""The published tables that `harness reproduce` holds our runs against, cell by cell.

A cell is one published number and the run that should reproduce it: a track, and settings as `harness run TRACK --set`
takes them. A setting that is not named has the track's default under `paper`, the published protocol. The numbers and
their sources are read from the CSV files of `published/`; none is written here.
"""

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from harness.results.published.values import (
    CONDENSED_WITH,
    CONVNET3,
    CONVNET4,
    DATASETS,
    METHODS,
    SEARCH_NAMES,
    STREAM_NAMES,
    TESTED,
)

PICKED = "spearman_rho_picked_5_percent"  # as `nas_tables` calls it
Line = Mapping[str, str]  # of a published file, by column

# Methods beside those of `values.METHODS`: our builder, which may not exist, and the recipe.
OTHERS = {
    "MMD-pixel-linear": ("mmd-pixel", "dm"), "LoDM": ("lo-dm", "dm"), "LoDSA": ("lo-dsa", "dm"),
    "LoDC": ("lo-dc", "dc"), "LoMTT": ("lo-mtt", "dm"),
}  # fmt: skip
NETWORKS = {"random": "random", ">=70": "trained:70-100"}  # Table 4's bands; the others are LO-HI
DOUBTED = re.compile("position only|lost in the seed|sign lost|value assigned|digitised")  # in the files' notes
SMALL = ("MNIST", "FashionMNIST", "SVHN", "CIFAR10", "CIFAR100")  # images of at most 32 x 32, for a ConvNet of depth 3


@dataclass(frozen=True)
class Printed:
    """A number as it stands in a paper."""

    value: float = math.nan  # nan where it could not be obtained
    std: float = math.nan  # of all networks of all sets, pooled; missing where not printed
    reading: float = math.nan  # how far the true value may be from it: half a digit, or what its file notes
    source: str = ""
    doubt: str = ""  # why the value may belong to another setting, or be wrong


@dataclass(frozen=True)
class Cell:
    """A published number, and the run that should reproduce it."""

    name: str  # unique in its table, such as cifar10/dm/10
    track: str
    settings: Mapping[str, str] = field(hash=False)  # of the run, over a preset
    metric: str = "test_accuracy"
    model: str = ""  # the network tested, where the run names several (`eval_models`)
    printed: Printed = Printed()
    missing: str = ""  # why no run can reproduce it, where the settings do not show that


@dataclass(frozen=True)
class Reproduction:
    """A published table: the file of its numbers, and the function that makes cells of a line of the file."""

    note: str
    file: str
    cells_of: Callable[[Line], Iterator[Cell]]

    def cells(self) -> list[Cell]:
        """All cells, in the file's order."""
        return [cell for line in _lines(self.file) for cell in self.cells_of(line)]


def _accuracy(line: Line) -> Iterator[Cell]:
    """A method's accuracy at a budget of a data set."""
    yield _condensed(line)


def _norm(line: Line) -> Iterator[Cell]:
    """Table 2: one norm in the network for condensing and in those tested."""
    model = _convnet(line).replace("instancenorm", line["norm"].lower())
    yield _condensed(line, line["norm"].lower(), model=model)


def _cross(line: Line) -> Iterator[Cell]:
    """Table 3: condensed with one network, tested with all four in the same run."""
    settings = {"model": CONDENSED_WITH[line["condense_arch"]], "eval_models": ",".join(TESTED.values())}
    name = f"{line['condense_arch']}-to-{line['test_arch']}".lower()
    yield _condensed(line, name, tested=TESTED[line["test_arch"]], **settings)


def _distribution(line: Line) -> Iterator[Cell]:
    """Table 4: matched in networks of one band of accuracy."""
    band = line["network_val_accuracy_bucket"]
    networks = NETWORKS.get(band, f"trained:{band}")
    missing = "networks of all bands together" if band == "all" else ""
    yield _condensed(line, band, missing=missing, **({} if missing else {"networks": networks}))


def _larger(line: Line) -> Iterator[Cell]:
    """Budgets up to a quarter of the data; random images are judged as DM's are, unlike in Table 1."""
    yield _condensed(line, recipe="dm")


def _of_network(line: Line) -> Iterator[Cell]:
    """Accuracies of several networks, each condensed with and tested on."""
    network = line["network"].lower().replace("-", "")  # ResNet-18 in the papers
    missing = "" if network in ("convnet", "resnet18") else f"network {network}"
    model = _convnet(line) if network == "convnet" else "resnet18"
    yield _condensed(line, network, missing=missing, model=model)


def _stream(line: Line) -> Iterator[Cell]:
    """The end point of a stream; the budget, the recipe and the network are the track's own."""
    memory = {name: ours for ours, name in STREAM_NAMES.items()}[line["method"]]
    settings = {"dataset": DATASETS[line["dataset"]], "memory": memory, "steps": line["steps"]}
    yield Cell(f"{line['steps']}-steps/{memory}", "cl", settings, "last_accuracy", printed=_printed(line))


def _ranking(line: Line) -> Iterator[Cell]:
    """Table 5: the test accuracy of the architecture a proxy selects, and the rho within its own top twentieth.

    The truth's rho with itself is 1 by definition: no cell.
    """
    proxy = SEARCH_NAMES[line["method"]]
    settings = {"dataset": DATASETS[line["dataset"]], "memory": proxy}
    yield Cell(f"{proxy}/accuracy", "nas", settings, "performance", printed=_printed(line, "best_selected_test_acc"))
    if proxy != "full":
        yield Cell(f"{proxy}/rho", "nas", settings, PICKED, printed=_printed(line, "spearman"))


def _low_rank(line: Line) -> Iterator[Cell]:
    """LoDC's configurations, which the builder has by data set and budget; their accuracies could not be had."""
    yield _condensed({**line, "ipc": line["ipc_budget"], "mean": "", "std": ""})


REPRODUCTIONS: Mapping[str, Reproduction] = {
    "table1": Reproduction("DM, Table 1: every method by data set and budget", "table1_accuracy", _accuracy),
    "dcc": Reproduction("DCC: gradients summed over classes, beside scores", "dcc_accuracy", _accuracy),
    "table2-norm": Reproduction("DM, Table 2: instance norm and batch norm", "table2_norm", _norm),
    "cross-arch": Reproduction(
        "DM, Table 3: condensed with one network, tested on others", "table3_cross_arch", _cross
    ),
    "network-distribution": Reproduction(
        "DM, Table 4: networks trained to a band of accuracy", "table4_network_distribution", _distribution
    ),
    "larger-sets": Reproduction("DM on CIFAR-10 with up to 1,250 images per class", "larger_sets", _larger),
    "cl-figure": Reproduction("DM, section 3.5: CIFAR-100 in 5 and 10 steps", "cl_final_accuracy", _stream),
    "nas-table": Reproduction("DM, Table 5: 720 ConvNets ranked on proxies", "nas_table5", _ranking),
    "lodc": Reproduction("LoDC: low-rank images around other methods; settings only", "lodc_configs", _low_rank),
    "dwa": Reproduction("DWA, Tables 1 and 2", "dwa_accuracy", _of_network),
    "generative": Reproduction("DM, Table T6: beside generators and MMD of pixels", "t6_generative", _accuracy),
}


def _condensed(line: Line, *more: str, tested: str = "", missing: str = "", recipe: str = "", **settings: str) -> Cell:
    """The cell of a line of accuracies; `more` in its name, `settings` beside data set, memory, ipc and recipe."""
    method, ipc = line["method"], line["ipc"]
    memory, usual = {**METHODS, **OTHERS}.get(method, (method.lower(), "dm"))
    if not missing and line["dataset"] not in DATASETS:
        missing = f"data set {line['dataset']}"
    dataset = DATASETS.get(line["dataset"], line["dataset"].lower())
    own = {"dataset": dataset, "memory": memory, "recipe": recipe or usual}
    own |= {} if ipc == "all" else {"ipc": ipc}
    own |= {} if line["dataset"] in SMALL else {"model": CONVNET4}
    name = "/".join((dataset, memory, ipc, *more))
    return Cell(name, "condense", own | settings, model=tested, printed=_printed(line), missing=missing)


def _convnet(line: Line) -> str:
    """The ConvNet the papers have for a line's data set."""
    return CONVNET3 if line["dataset"] in SMALL else CONVNET4


def _printed(line: Line, column: str = "mean") -> Printed:
    """Read the number in a column of a line, with its standard deviation, its precision and its source."""
    text = line[column]
    if not text:
        return Printed(source=line["source"].removeprefix("seed "))
    off = re.search(r"about \+-(\d+(?:\.\d+)?)", line["note"])  # digitised from a figure
    return Printed(
        float(text),
        _number(line["std"]) if column == "mean" else math.nan,
        float(off[1]) if off else 0.5 * 10 ** -len(text.partition(".")[2]),
        line["source"].removeprefix("seed "),
        line["note"] if DOUBTED.search(line["note"]) else "",
    )


def _number(text: str) -> float:
    return float(text) if text else math.nan


@cache
def _lines(file: str) -> tuple[Line, ...]:
    with (resources.files("harness.results") / "published" / f"{file}.csv").open(encoding="utf-8") as content:
        return tuple(csv.DictReader(content))
