"""The numbers that papers print, by the names that our rows have for the same setting."""

import math
from importlib import resources

import pandas as pd
from pandas import DataFrame, Series

CONVNET3 = "convnet-d3-w128-instancenorm-relu-avgpooling"  # the papers' network
CONVNET4 = "convnet-d4-w128-instancenorm-relu-avgpooling"  # their network for images of 64 x 64
SHORT = {"convnet3": CONVNET3, "convnet4": CONVNET4}

# The setting for which the end points of streams were published, and the papers' names for our memories.
STREAM = {"dataset": "cifar100", "split": "test", "preset": "paper", "ipc": 20, "recipe": "dm"}
STREAM_NAMES = {"random": "GDumb+random", "herding": "GDumb+herding", "dsa": "GDumb+DSA", "dm": "GDumb+DM"}

# Files of accuracies; where two give the same cell, the earlier one counts.
FILES = ("table1_accuracy", "dc_dsa_readme", "dcc_accuracy", "idc_accuracy", "table3_cross_arch", "larger_sets")
DIGITISED = "digitised"  # in the note of a value that was read off a figure, not printed
DATASETS = {
    "MNIST": "mnist", "FashionMNIST": "fashionmnist", "SVHN": "svhn", "CIFAR10": "cifar10", "CIFAR100": "cifar100",
    "TinyImageNet": "tinyimagenet", "ImageNet1K-64": "imagenet64",
}  # fmt: skip
# The papers' name of a method: our builder, and the recipe by which their networks were trained.
METHODS = {
    "Random": ("random", "dc"), "Herding": ("herding", "dc"), "Forgetting": ("forgetting", "dc"),
    "C-score": ("cscore", "dc"), "GraNd": ("grand", "dc"), "EL2N": ("el2n", "dc"), "DC": ("dc", "dc"),
    "DCC": ("dcc", "dc"), "DSA": ("dsa", "dm"), "DSAC": ("dsac", "dm"), "DM": ("dm", "dm"),
    "IDC-I": ("idc-i", "idc"), "IDC": ("idc", "idc"), "Whole": ("full", "dm"),
}  # fmt: skip
# The setting for which the numbers of the search on proxy sets were published, and our names for its methods.
SEARCH = {"dataset": "cifar10", "preset": "paper", "space": "convnet720", "architectures": 720}
SEARCH_NAMES = {"Random": "random", "DSA": "dsa", "DM": "dm", "EarlyStopping": "early-stopping", "Whole": "full"}
SELECTION = ("random", "herding", "forgetting", "cscore", "grand", "el2n", "full")
# Networks of the DM paper's Table 3; to condense with, ResNet18 pools where it otherwise strides.
TESTED = {
    "ConvNet": "convnet-d3-w128-batchnorm-relu-avgpooling",
    "AlexNet": "alexnet-batchnorm",
    "VGG11": "vgg11-batchnorm",
    "ResNet18": "resnet18-batchnorm",
}
CONDENSED_WITH = TESTED | {"ResNet18": "resnet18-batchnorm-ap"}


def published_end_points() -> DataFrame:
    """The published last accuracies (%), as steps, memory (our name for the method) and value.

    CIFAR-100, 20 images per class, DM's ConvNet and recipe (Zhao & Bilen, WACV 2023, section 3.5); their standard
    deviations were not printed.
    """
    published = _table("cl_final_accuracy")
    published = published[(published["dataset"].str.lower() == "cifar100") & (published["ipc"] == 20)]
    ours = {name: memory for memory, name in STREAM_NAMES.items()}
    points = DataFrame(
        {"steps": published["steps"], "memory": published["method"].map(ours), "value": published["mean"]}
    )
    return points.dropna().reset_index(drop=True)


def published_accuracies() -> DataFrame:
    """The published test accuracies (%) of networks trained on condensed or selected images, one line per setting.

    Where sources disagree the method's own paper or repository counts, as the DM paper's Table 1 and the readme of
    DatasetCondensation repeat it; the DCC slides fill in what these leave out, so that DSA at 50 images per class of
    CIFAR-100 is 42.8, not the slides' 38.6. All hold for the whole test set. Recipe dm is DSA's and DM's evaluation,
    with augmentation; dc is DC's, without. The papers' selected images were, as far as is known, judged without. How
    they trained on the whole data they do not say: it stands under dm. Their networks are the ConvNet of depth 3 (4 for
    64 x 64), width 128, instance norm; the DM paper's Table 3 has batch norm and other architectures. What was read off
    a figure is left out: a table could not say so.

    Returns:
        dataset, memory (our builder), ipc (missing: all images), recipe, memory_model (empty: none, or unknown),
        model, value and std (%; their std is that of 100 networks pooled over 5 sets, missing where not printed),
        source.
    """
    printed = pd.concat([_table(name) for name in FILES], ignore_index=True)
    printed = printed[printed["dataset"].isin(list(DATASETS)) & printed["method"].isin(list(METHODS))]
    printed = printed[~printed["note"].str.contains(DIGITISED, na=False)]
    memory = printed["method"].map({method: memory for method, (memory, _) in METHODS.items()})
    usual = printed["dataset"].map(lambda name: CONVNET4 if name in ("TinyImageNet", "ImageNet1K-64") else CONVNET3)
    found = DataFrame({
        "dataset": printed["dataset"].map(DATASETS),
        "memory": memory,
        "ipc": pd.to_numeric(printed["ipc"], errors="coerce").astype("Int64"),  # "all" becomes missing
        "recipe": printed["method"].map({method: recipe for method, (_, recipe) in METHODS.items()}),
        "memory_model": printed["condense_arch"].map(CONDENSED_WITH).fillna(usual).mask(memory.isin(SELECTION), ""),
        "model": printed["test_arch"].map(TESTED).fillna(usual),
        "value": printed["mean"],
        "std": printed["std"],
        "source": printed["source"],
    })  # fmt: skip
    setting = ["dataset", "memory", "ipc", "recipe", "memory_model", "model"]
    return found.drop_duplicates(setting).reset_index(drop=True)


def end_points_for(table: DataFrame) -> "Series[float]":
    """The published end point of each line of a table of streams; missing if none has its setting."""
    end_points = published_end_points()
    points = dict(zip(zip(end_points["steps"], end_points["memory"], strict=True), end_points["value"], strict=True))
    same = table["model"].replace(SHORT) == CONVNET3
    for column, value in STREAM.items():
        same &= (table[column] == value).fillna(False).astype(bool)
    found = [points.get(setting, math.nan) for setting in zip(table["steps"], table["memory"], strict=True)]
    return Series(found, index=table.index, dtype="float64").where(same)


def accuracies_for(table: DataFrame) -> DataFrame:
    """The published accuracy of each line of a table of condensed memories, as `value` and `std`, line by line.

    Missing where none was published for the line's data set, split, preset, memory, ipc, recipe and networks.
    `changes` are not looked at: the value may still be a reader's reference.
    """
    published = published_accuracies()
    setting = ["dataset", "memory", "ipc", "recipe", "model"]
    ours = table[[*setting, "memory_model"]].replace({"model": SHORT, "memory_model": SHORT}).reset_index(drop=True)
    found = ours.reset_index().merge(published, on=setting, suffixes=("", "_theirs"))
    found = found[(found["memory_model_theirs"] == "") | (found["memory_model_theirs"] == found["memory_model"])]
    beside = found.set_index("index")[["value", "std"]].reindex(ours.index).set_axis(table.index)
    return beside.where((table["split"] == "test") & (table["preset"] == "paper"))


def searches_for(table: DataFrame) -> DataFrame:
    """The DM paper's Table 5 beside each line of a table of NAS proxies; missing if it has another setting.

    It is for 720 architectures of CIFAR-10 and, where images were condensed or drawn, 50 of them per class; rho is that
    of the 36 architectures the proxy itself ranks best, of one run.

    Returns:
        published_performance (%), published_rho and published_minutes (of training the networks, on a V100).
    """
    printed = _table("nas_table5")
    printed["memory"] = printed["method"].map(SEARCH_NAMES)
    printed = printed.set_index("memory")[["best_selected_test_acc", "spearman", "time_min"]]
    printed.columns = pd.Index(["published_performance", "published_rho", "published_minutes"])
    same = (table["ipc"] == 50).fillna(False) | table["memory"].isin(["early-stopping", "full"])
    for column, value in SEARCH.items():
        same &= table[column] == value
    return printed.reindex(table["memory"]).set_axis(table.index).where(same.astype(bool))


def _table(name: str) -> DataFrame:
    with (resources.files("harness.results") / "published" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)
