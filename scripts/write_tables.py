"""Write the tables of docs/ from the committed rows: python scripts/write_tables.py

A table lies between two comments, of which the first is the command that prints it:

    <!-- harness table results/reference/cl-quick --format md -->
    ...
    <!-- end -->
"""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

from harness.cli import main

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- harness (?P<command>.*?) -->\n\n)(?P<table>.*?)(\n\n<!-- end -->)", re.DOTALL)


def print_table(command: str) -> str:
    """What `harness COMMAND` prints, run at the top of the repository; patterns stand for the files that match.

    Raises:
        RuntimeError: the command fails.
    """
    words = [
        match
        for word in shlex.split(command)
        for match in (sorted(str(p.relative_to(ROOT)) for p in ROOT.glob(word)) if "*" in word else [word])
    ]
    printed = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(printed):
        if code := main(words):
            raise RuntimeError(f"harness {command}: exit code {code}")
    return printed.getvalue().strip()


def rewrite(page: str) -> str:
    """A page with the tables of its marked blocks written anew."""
    return BLOCK.sub(lambda block: block[1] + print_table(block["command"]) + block[4], page)


if __name__ == "__main__":
    for path in sorted((ROOT / "docs").glob("*.md")):
        page = path.read_text()
        if (new := rewrite(page)) != page:
            path.write_text(new)
            sys.stdout.write(f"{path.relative_to(ROOT)}: written\n")
