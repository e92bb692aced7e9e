"""Words that tables, figures and messages share: quantities, durations, and notes beside the name of a memory."""

SMOKE = "(smoke: not a result)"
RECONSTRUCTION = "(reconstruction)"


def quantity(number: int, noun: str) -> str:
    """A number with its noun: "1 net", "2 nets", "0 nets"; of a phrase, the first word takes the plural."""
    thing, *more = noun.split(" ", 1)
    plural = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
    return " ".join([str(number), thing if number == 1 else plural, *more])


def duration(seconds: float) -> str:
    """Seconds in a unit that people read easily: "45 s", "12 min", "3.5 h", "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def memory_label(memory: str) -> str:
    """The name of a memory, marked if its builder is a reconstruction.

    Builders named mim-... (MIM4DD, arXiv:2312.16627) were rebuilt from an abstract, because the formulas of the paper
    could not be obtained.
    """
    return f"{memory} {RECONSTRUCTION}" if memory.startswith("mim-") else memory


def memory_note(memory: str, changes: str, preset: str) -> str:
    """What a reader must know beside a memory's name.

    The note says that the builder is a reconstruction, what was set otherwise than in the preset, and that rows of
    the preset smoke are no result.
    """
    reconstruction = memory_label(memory).removeprefix(memory).strip()
    parts = [reconstruction, f"({changes})" if changes else "", SMOKE if preset == "smoke" else ""]
    return " ".join(part for part in parts if part)
