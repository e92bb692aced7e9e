"""What tables, figures and printed lines say alike: beside a memory's name, and of how many there are of a thing."""

SMOKE = "(smoke: not a result)"
RECONSTRUCTION = "(reconstruction)"


def some(number: int, of: str) -> str:
    """A number of things, in words: "1 net", "2 nets", "0 nets"; of a phrase the first word is counted."""
    thing, *more = of.split(" ", 1)
    plural = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
    return " ".join([str(number), thing if number == 1 else plural, *more])


def marked(memory: str) -> str:
    """The name of a memory, marked where the builder is a reconstruction.

    Builders named mim-... (MIM4DD) were rebuilt from an abstract: neither code nor formula constants were published.
    """
    return f"{memory} {RECONSTRUCTION}" if memory.startswith("mim-") else memory


def note(memory: str, changes: str, preset: str) -> str:
    """All that is to be said of a line beside its memory: reconstruction, changes of the preset, no result."""
    reconstruction = marked(memory).removeprefix(memory).strip()
    parts = [reconstruction, f"({changes})" if changes else "", SMOKE if preset == "smoke" else ""]
    return " ".join(part for part in parts if part)
