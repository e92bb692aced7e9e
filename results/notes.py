"""What is said beside a memory's name, wherever a table or a figure prints it."""

SMOKE = "(smoke: not a result)"
RECONSTRUCTION = "(reconstruction)"


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
