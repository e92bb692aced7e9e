"""Downloads continue, are checked, and ask the next place."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision

from harness.core.data import download
from harness.core.data.download import Remote

CONTENT = np.random.default_rng(3).bytes(3_000_000)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class Host(ThreadingHTTPServer):
    """Serves CONTENT; notes the ranges asked for; may hang up after `hang_up` bytes or ignore ranges."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.hang_up = len(CONTENT)
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if asked and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + self.server.hang_up])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("no_proxy", "*")
    with Host() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(download, "remotes", lambda _: (Remote("file.bin", (server.url,), md5(CONTENT)),))
        yield server
        server.shutdown()
        thread.join()


def test_a_download_reports_its_bytes_and_is_done_once(host: Host, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    download.fetch("any", tmp_path / "new", lambda done, total: calls.append((done, total)))
    assert (tmp_path / "new/file.bin").read_bytes() == CONTENT
    assert calls[-1] == (3_000_000, 3_000_000)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    download.fetch("any", tmp_path / "new")
    assert host.asked == [None]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.bin"]


def test_a_download_continues_what_an_earlier_one_began(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1_000_000])
    calls: list[tuple[int, int]] = []
    download.fetch("any", tmp_path, lambda done, total: calls.append((done, total)))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert host.asked == ["bytes=1000000-"]
    assert calls[0][0] > 1_000_000
    assert calls[-1] == (3_000_000, 3_000_000)


def test_a_download_goes_on_after_the_host_hangs_up(host: Host, tmp_path: Path) -> None:
    host.hang_up = 1_200_000
    download.fetch("any", tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert host.asked == [None, "bytes=1200000-", "bytes=2400000-"]


def test_a_complete_part_is_taken_as_it_is(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    download.fetch("any", tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_host_that_ignores_ranges_sends_all_again(host: Host, tmp_path: Path) -> None:
    host.ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 4_000_000)  # longer than the file, to see it cut
    download.fetch("any", tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_download_that_stays_incomplete_keeps_what_came(host: Host, tmp_path: Path) -> None:
    host.hang_up = 0
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:500])
    with pytest.raises(ConnectionError, match=r"file\.bin: connection closed after 500 of 3000000 bytes"):
        download.fetch("any", tmp_path)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:500]
    assert not (tmp_path / "file.bin").exists()


def test_a_wrong_checksum_sends_a_download_to_the_next_mirror(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)  # resumed on top of something else
    with pytest.raises(ConnectionError, match=r"file\.bin: MD5 is \w+, expected \w+"):
        download.fetch("any", tmp_path)
    assert list(tmp_path.iterdir()) == []
    closed = "http://127.0.0.1:9/file.bin"
    monkeypatch.setattr(download, "remotes", lambda _: (Remote("file.bin", (closed, host.url), md5(CONTENT)),))
    download.fetch("any", tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_addresses_and_checksums_are_torchvisions() -> None:
    (archive,) = download.remotes("cifar100")
    assert archive.file == "cifar-100-python.tar.gz"
    assert archive.urls == (torchvision.datasets.CIFAR100.url,)
    assert archive.md5 == torchvision.datasets.CIFAR100.tgz_md5
    assert [remote.file for remote in download.remotes("svhn")] == ["train_32x32.mat", "test_32x32.mat"]
    assert len(download.remotes("mnist")) == 4
    assert all(url.endswith(remote.file) for remote in download.remotes("mnist") for url in remote.urls)
    assert download.remotes("tinyimagenet") == ()
