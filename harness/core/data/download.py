"""Downloads of the official files, from the places that torchvision lists, with resume and a checksum."""

from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from harness.core.data.source import TORCHVISION, Progress, md5_of, torchvision_class
from harness.core.reading import join_lines

TIMEOUT_SECONDS = 30


class Remote(NamedTuple):
    """An official file: its name, the places that serve it, its MD5."""

    file: str
    urls: tuple[str, ...]
    md5: str


def remotes(name: str) -> tuple[Remote, ...]:
    """The files to download for `name`, as torchvision lists them; none where it lists none."""
    if name not in TORCHVISION:
        return ()
    kind = torchvision_class(name)
    if name == "svhn":
        return tuple(Remote(file, (url,), md5) for url, file, md5 in (kind.split_list[s] for s in ("train", "test")))
    if name in ("mnist", "fashionmnist"):
        return tuple(Remote(file, tuple(m + file for m in kind.mirrors), md5) for file, md5 in kind.resources)
    return (Remote(kind.filename, (kind.url,), kind.tgz_md5),)


def fetch(name: str, directory: Path, progress: Progress | None = None) -> None:
    """Download the official files of `name` into `directory`; what is there already, whole or in part, is kept.

    Raises:
        OSError: no place serves a file, or what came has another MD5. What came in part stays, to be continued.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for remote in remotes(name):
        target = directory / remote.file
        if target.exists() and md5_of(target) == remote.md5:
            continue
        failures = []
        for url in remote.urls:
            try:
                _download(url, target, remote.md5, progress)
                break
            except (HTTPException, OSError) as error:
                failures.append(f"{url}: {join_lines(error)}")
        else:
            raise ConnectionError("; ".join(failures))


def _download(url: str, target: Path, md5: str, progress: Progress | None) -> None:
    part = target.with_name(target.name + ".part")
    part.touch()
    try:
        while True:
            before = part.stat().st_size
            try:
                _receive(url, part, progress)
                break
            except (HTTPException, OSError):
                if part.stat().st_size <= before:  # nothing new came: trying on would not help
                    raise
        came = md5_of(part)
        if came != md5:
            part.unlink()
            raise ConnectionError(f"MD5 is {came}, expected {md5}")
        part.replace(target)
    except FileNotFoundError:
        if not target.exists():  # unless another process finished the same file first
            raise


def _receive(url: str, part: Path, progress: Progress | None) -> None:
    """Continue `part` from its end; several processes may: they write the same bytes to the same places."""
    have = part.stat().st_size
    try:
        response = urlopen(Request(url, headers={"Range": f"bytes={have}-"} if have else {}), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing beyond what is here; its MD5 will tell
            return
        raise
    with response, part.open("r+b") as file:
        done = have if response.status == 206 else 0
        total = done + int(response.headers.get("Content-Length") or 0)
        file.seek(done)
        while block := response.read(1 << 20):
            file.write(block)
            done += len(block)
            if progress:
                progress(done, total)
        if done < total:
            raise ConnectionError(f"connection closed after {done} of {total} bytes")
        file.truncate()
