"""Reading files that others wrote: every failure becomes one line with the path and the likely reason."""

import errno
import re
import struct
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

HTML = (b"<!doctype html", b"<html")
LFS_POINTER = b"version https://git-lfs"

# Error numbers that tell something of the path, whatever is in the file -> the reason and what to do.
PATH_FAILURES = {
    errno.ELOOP: "a loop of links; remove the link",
    errno.EACCES: "reading it is not permitted; change its permissions",
    errno.EPERM: "reading it is not permitted; change its permissions",
    errno.ENAMETOOLONG: "its name is too long for this file system; shorten it",
    errno.ENOENT: "no such file, or a link to none",
    errno.ENOTDIR: "a part of the path is a file, not a directory",
    errno.EIO: "the disk cannot read it; copy it from another place",
}
# Error numbers that tell something of this machine at this moment and nothing of the file.
MACHINE_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS}


class ExplainedError(ValueError):
    """A failure whose message names the path and the reason already."""


@contextmanager
def explain_failures(path: object, kind: str, content: Path | bytes | None = None) -> Iterator[None]:
    """Turn whatever a reader of foreign bytes raises inside into a ValueError of one line.

    Args:
        path: what to call the file.
        kind: what it should be, such as "a readable image".
        content: the file or its bytes, where the first of them may tell what it is instead.
    Raises:
        ExplainedError: the path, the likely reason and what to do.
        OSError: the machine, not the file, is at fault, as where a disk is full.
    """
    try:
        yield
    except ExplainedError:
        raise
    except OSError as error:
        if error.errno in MACHINE_FAILURES:
            raise
        if said := PATH_FAILURES.get(error.errno or 0):
            raise ExplainedError(f"{show(path)}: {said}") from error
        raise ExplainedError(f"{show(path)}: {explain(error, kind, content)}") from error
    except Exception as error:  # foreign bytes may raise anything on their way through a reader
        raise ExplainedError(f"{show(path)}: {explain(error, kind, content)}") from error


def explain(error: BaseException, kind: str, content: Path | bytes | None = None) -> str:
    """The likely reason why a file is not `kind`, and what to do."""
    if isinstance(error, Image.DecompressionBombError):
        return f"not {kind} of a usable size ({_shorten(error)}); make it smaller, or remove it"
    if isinstance(error, MemoryError):
        return f"not {kind} that fits the memory of this machine; make it smaller"
    if told := name_kind(content):
        return f"not {kind} {told}"
    return f"not {kind} ({_shorten(error)}); copy it again"


def name_kind(content: Path | bytes | None) -> str:
    """What the first bytes of a file say that it is instead, and what to do; "" where they say nothing."""
    if content is None:
        return ""
    head = read_head(content).lstrip().lower()
    if head.startswith(HTML):
        return "but an HTML page; download the file itself"
    if head.startswith(LFS_POINTER):
        return "but a pointer of Git LFS; fetch the file by `git lfs pull`"
    return "" if head else "(it is empty); copy it again"


def read_head(content: Path | bytes) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    if isinstance(content, bytes):
        return content[:512]
    try:
        if content.is_file():
            with content.open("rb") as file:
                return file.read(512)
    except OSError:
        pass
    return b""


def _shorten(error: BaseException) -> str:
    """What an error says, in one line of at most 120 characters."""
    if isinstance(error, struct.error | TypeError | KeyError | AttributeError | IndexError):
        return f"its structure is damaged: {type(error).__name__}"
    said = show(join_lines(error))
    said = re.split(r"\. |: - ", said)[0]  # what follows is advice for programmers
    return said if len(said) <= 120 else said[:117] + "..."


def show(name: object) -> str:
    """A name or path as text that any output takes: bytes that are no UTF-8 and control characters are escaped."""
    text = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def join_lines(error: BaseException) -> str:
    """What an error says, in one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def expand(text: str | Path) -> Path:
    """A path with ~ replaced; one that names no user's home stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def exists(path: Path) -> bool:
    """Whether there is something at a path, whatever characters it is made of."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def require_text(path: str, what: str) -> None:
    """Raise ValueError unless a path can stand in rows and tables, which are text in UTF-8."""
    if show(path) != path:
        raise ValueError(f"{what}: {show(path)} has bytes that are no text in UTF-8; rename it, or make a link to it")


def compose(name: str) -> str:
    """A name in the one Unicode form (NFC) in which names are compared: a Mac decomposes them."""
    return unicodedata.normalize("NFC", show(name))


@contextmanager
def silence_image_warnings() -> Iterator[None]:
    """Inside, PIL's remarks on odd files are not shown: what it cannot read, it refuses."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
