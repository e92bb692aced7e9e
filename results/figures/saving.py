"""Figures as the content of files, which say which figure they show."""

import io
import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

KIND = ", a figure of the harness"  # what a file's title ends with, after the name of the figure in it


def to_bytes(figure: Figure, path: str | Path, kind: str = "") -> bytes:
    """The content of a .pdf, .png or .svg file of a figure; the same drawing gives the same bytes.

    Args:
        path: name of the file, whose suffix is the format.
        kind: name of the figure, which `kind_of` reads back.
    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    # Dates, and the programs' versions, would make the bytes differ from day to day.
    metadata = {".pdf": {"CreationDate": None}, ".png": {"Software": None}, ".svg": {"Date": None}}
    if path.suffix not in metadata:
        raise ValueError(f"{path}: a figure is written as {', '.join(metadata)}, not {path.suffix or 'without suffix'}")
    title = {"Title": f"{kind}{KIND}"} if kind else {}
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "results", "pdf.fonttype": 42}):
        figure.savefig(content, format=path.suffix[1:], dpi=200, metadata=metadata[path.suffix] | title)
    return content.getvalue()


def kind_of(content: bytes) -> str:
    """The name of the figure in a file of `to_bytes`; "" if the file does not contain one."""
    found = re.search(rb"([\w-]+)%s" % KIND.encode(), content)
    return found[1].decode() if found else ""
