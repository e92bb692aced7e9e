"""`python -m harness.cli`, which is `python -m harness`."""

from harness.cli import entry

entry()
