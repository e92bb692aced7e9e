"""Fuzz what users give to the commands: folders, archives, files of sets, TOML files and command lines.

    python -m scripts.fuzz --seconds 300 --seed 0

Each case makes a small input, often damaged or odd, and gives it to a command in this process. A command has to end
with exit code 0, or 2 and at most three lines on stderr, and without a traceback. A case that does not is printed with
its seed, which makes it again: `--seed SEED --cases 1`.
"""

import argparse
import sys

from scripts.fuzz.cases import fuzz

parser = argparse.ArgumentParser(prog="python -m scripts.fuzz", description="Fuzz what users give to the commands.")
parser.add_argument("--seconds", type=float, default=60)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--cases", type=int)
given = parser.parse_args()
count, failures = fuzz(given.seconds, given.seed, given.cases)
sys.stdout.write("".join(f"{failure}\n" for failure in failures) + f"{count} cases\n")
sys.exit(1 if failures else 0)
