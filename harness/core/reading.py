"""Read files from outside the harness: a failure becomes a message of one line with the path and the likely reason."""

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

# Error numbers that concern the path rather than the contents of the file -> the reason and the remedy.
PATH_FAILURES = {
    errno.ELOOP: "a loop of links; remove the link",
    errno.EACCES: "reading it is not permitted; change its permissions",
    errno.EPERM: "reading it is not permitted; change its permissions",
    errno.ENAMETOOLONG: "its name is too long for this file system; shorten it",
    errno.ENOENT: "no such file, or a broken link",
    errno.ENOTDIR: "a part of the path is a file, not a directory",
    errno.EIO: "the disk cannot read it; copy it from another place",
}
# Error numbers that concern the state of the machine rather than the file.
MACHINE_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS}


class ExplainedError(ValueError):
    """An error whose message already names the path and the reason."""


@contextmanager
def explain_failures(path: object, kind: str, content: Path | bytes | None = None) -> Iterator[None]:
    """Convert any exception raised inside the context into an ExplainedError with a message of one line.

    Args:
        path: the name of the file in the message.
        kind: what the file should be, such as "a readable image".
        content: the file or its bytes; the first bytes may show what the file is instead.
    Raises:
        ExplainedError: the file cannot be read; the message has the path, the likely reason and the remedy.
        OSError: the machine is at fault rather than the file, for example because a disk is full.
    """
    try:
        yield
    except ExplainedError:
        raise
    except OSError as error:
        if error.errno in MACHINE_FAILURES:
            raise
        if reason := PATH_FAILURES.get(error.errno or 0):
            raise ExplainedError(f"{show(path)}: {reason}") from error
        raise ExplainedError(f"{show(path)}: {explain(error, kind, content)}") from error
    except Exception as error:  # decoders may raise any exception for damaged files
        raise ExplainedError(f"{show(path)}: {explain(error, kind, content)}") from error


def explain(error: BaseException, kind: str, content: Path | bytes | None = None) -> str:
    """Return the likely reason why a file is not `kind`, and the remedy."""
    if isinstance(error, Image.DecompressionBombError):
        return f"not {kind} of a usable size ({_shorten(error)}); make it smaller, or remove it"
    if isinstance(error, MemoryError):
        return f"not {kind} that fits the memory of this machine; make it smaller"
    if actual := name_kind(content):
        return f"not {kind} {actual}"
    return f"not {kind} ({_shorten(error)}); copy it again"


def name_kind(content: Path | bytes | None) -> str:
    """Return what a file is, judged by its first bytes, and the remedy; "" if they do not show it."""
    if content is None:
        return ""
    head = read_head(content).lstrip().lower()
    if head.startswith(HTML):
        return "but an HTML page; download the file itself"
    if head.startswith(LFS_POINTER):
        return "but a pointer of Git LFS; fetch the file by `git lfs pull`"
    return "" if head else "(it is empty); copy it again"


def read_head(content: Path | bytes) -> bytes:
    """Return the first 512 bytes of a file, or b"" if it cannot be read."""
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
    """Return the message of an error in one line of at most 120 characters."""
    if isinstance(error, struct.error | TypeError | KeyError | AttributeError | IndexError):
        return f"its structure is damaged: {type(error).__name__}"
    message = show(join_lines(error))
    message = re.split(r"\. |: - ", message)[0]  # the rest is advice for programmers
    return message if len(message) <= 120 else message[:117] + "..."


def show(name: object) -> str:
    """Return a name or path as printable text: control characters and bytes that are not UTF-8 are escaped."""
    text = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def join_lines(error: BaseException) -> str:
    """Return the message of an error in one line, or the name of its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def expand(text: str | Path) -> Path:
    """Replace ~ in a path; a path with an unknown user stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def exists(path: Path) -> bool:
    """Return whether a path exists; False if the path is not valid or cannot be accessed."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def require_text(path: str, what: str) -> None:
    """Raise a ValueError unless a path is printable UTF-8 text, as rows and tables need."""
    if show(path) != path:
        raise ValueError(f"{what}: {show(path)} is not printable UTF-8 text; rename it, or make a link to it")


def compose(name: str) -> str:
    """Return a name in Unicode form NFC, in which names are compared; macOS stores names in decomposed form."""
    return unicodedata.normalize("NFC", show(name))


@contextmanager
def silence_image_warnings() -> Iterator[None]:
    """Silence PIL's warnings about unusual files inside the context; files that it cannot read raise errors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
