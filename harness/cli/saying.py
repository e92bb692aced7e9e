"""What the command says beside its results: on standard error, a line each."""

import sys


def say(line: str) -> None:
    """Tell the user."""
    sys.stderr.write(line + "\n")


def complain(line: str) -> None:
    """Tell the user that something is wrong."""
    sys.stderr.write(f"harness: {line}\n")
