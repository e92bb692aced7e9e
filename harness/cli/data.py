"""`harness data`: list, check, fetch and import image data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Data

if TYPE_CHECKING:
    from harness.core.data.report import Report

LISTED_CLASSES = 200  # as many as the largest set but ImageNet has

data_app = typer.Typer(no_args_is_help=True, help="List, check, fetch and import image data.")


@data_app.command("list")
def data_list(data: Data = None) -> None:
    """List every named data set and where its images would come from."""
    from harness.core import data as sets

    for listing in sets.describe(data):
        where = listing.found or ("a download" if listing.downloadable else "nowhere yet: supply it by --data")
        print(f"{listing.name:14} {where}")


@data_app.command("check")
def data_check(
    name: str,
    data: Data = None,
    official: Annotated[bool, typer.Option(help="Exit with code 2 unless the data is official.")] = False,
) -> None:
    """Tell whether a data set is the official one, by digests of its pixels and labels."""
    from harness.core import data as sets

    _print_report(sets.check(name, data))
    if official:
        sets.require_official(sets.load(name, data))


@data_app.command("fetch")
def data_fetch(name: str) -> None:
    """Download a data set, continuing where an earlier call was cut off."""
    from rich.console import Console
    from rich.progress import Progress

    from harness.core import data as sets

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(name)
        print(sets.fetch(name, lambda done, total: bars.update(task, completed=done, total=total or None)))


@data_app.command("import")
def data_import(source: Path, name: Annotated[str, typer.Option(help="The name of the data set.")]) -> None:
    """Decode a directory or archive into the cache, so that no --data is needed later."""
    from harness.core import data as sets

    _print_report(sets.import_data(source, name))


def _print_report(report: "Report") -> None:
    from harness.core.reading import show

    print(f"{show(report.name)}: {report.exactness}")
    print(f"  {report.train_size} train and {report.test_size} test images, {report.num_classes} classes, ", end="")
    print(f"{' x '.join(map(str, report.image_shape))}, from {show(report.found)}")
    print(f"  digest {report.digest}")
    for part, digest in report.digests.items():
        expected = report.expected.get(part)
        verdict = "" if expected is None else "  as expected" if expected == digest else f"  expected {expected}"
        print(f"  {part:13} {digest}{verdict}")
    print("  images of each class, train and test:")
    for name, (train, test) in list(report.class_sizes.items())[:LISTED_CLASSES]:
        print(f"    {name:20} {train:6} {test:6}")
    if (more := len(report.class_sizes) - LISTED_CLASSES) > 0:
        print(f"    and {more} classes more")
