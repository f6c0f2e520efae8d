"""Tests of getting a published set, from a server in this process."""

import contextlib
import dataclasses
import hashlib
import io
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from encoder.datasets.download import download_set, fetch
from encoder.datasets.official import Archive, OfficialSet
from encoder.datasets.unpack import unpack
from encoder.errors import PocketlensError

FakeSet = tuple[OfficialSet, Path]
PAGE = "https://example.org/set"


class Server:
    """Serve one file; it can ignore ranges, or break off after some bytes."""

    def __init__(self) -> None:
        self.data = b""
        self.ranges = True
        self.break_after: int | None = None
        self.status = 0
        self.asked: list[str] = []
        self.address = ""


def make_handler(served: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            served.asked.append(asked)
            start = int(asked[6:-1]) if asked and served.ranges else 0
            if served.status or start >= len(served.data):
                self.send_error(served.status or 416)
                return
            body = served.data[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if start:
                whole = len(served.data)
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            self.end_headers()
            self.wfile.write(body[: served.break_after])

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    served = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(served))
    served.address = f"http://127.0.0.1:{http.server_address[1]}/set.tgz"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    http.shutdown()
    thread.join()
    http.server_close()


def archive_of(served: Server) -> Archive:
    served.data = served.data or bytes(range(256)) * 400
    return Archive(
        "set.tgz",
        gives="set",
        address=served.address,
        size=len(served.data),
        md5=hashlib.md5(served.data).hexdigest(),
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_whole(server: Server, tmp_path: Path) -> None:
    fetch(archive_of(server), tmp_path / "set.tgz", page=PAGE)
    assert (tmp_path / "set.tgz").read_bytes() == server.data
    assert names(tmp_path) == ["set.tgz"] and server.asked == [""]


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    archive, file = archive_of(server), tmp_path / "set.tgz"
    server.break_after = 30_000
    for _ in range(3):
        with pytest.raises(PocketlensError, match=r"ended after [\d,]+ of 102,400 bytes.*is kept"):
            fetch(archive, file, page=PAGE)
    assert names(tmp_path) == ["set.tgz.partial"]
    server.break_after = None
    fetch(archive, file, page=PAGE)
    assert server.asked == ["", "bytes=30000-", "bytes=60000-", "bytes=90000-"]
    assert file.read_bytes() == server.data and names(tmp_path) == ["set.tgz"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    archive = archive_of(server)
    (tmp_path / "set.tgz.partial").write_bytes(b"?" * 500)
    server.ranges = False
    fetch(archive, tmp_path / "set.tgz", page=PAGE)
    assert (tmp_path / "set.tgz").read_bytes() == server.data


@pytest.mark.parametrize("size_is_known", [True, False])
def test_a_download_that_was_complete_is_only_verified(
    server: Server, tmp_path: Path, size_is_known: bool
) -> None:
    archive = archive_of(server)
    if not size_is_known:
        archive = dataclasses.replace(archive, size=0)
    (tmp_path / "set.tgz.partial").write_bytes(server.data)
    fetch(archive, tmp_path / "set.tgz", page=PAGE)
    assert names(tmp_path) == ["set.tgz"]


@pytest.mark.parametrize("known", ["size", "md5"])
def test_another_file_is_refused_and_deleted(server: Server, tmp_path: Path, known: str) -> None:
    archive = archive_of(server)
    wrong = {"size": 1} if known == "size" else {"md5": "0" * 32}
    archive = dataclasses.replace(archive, **wrong)  # type: ignore[arg-type]
    with pytest.raises(PocketlensError, match=rf"not the published set\.tgz and was .*see {PAGE}"):
        fetch(archive, tmp_path / "set.tgz", page=PAGE)
    assert names(tmp_path) == []


def test_a_damaged_beginning_is_found_out(server: Server, tmp_path: Path) -> None:
    archive = archive_of(server)
    (tmp_path / "set.tgz.partial").write_bytes(b"?" * 500)
    with pytest.raises(PocketlensError, match="not the published"):
        fetch(archive, tmp_path / "set.tgz", page=PAGE)
    fetch(archive, tmp_path / "set.tgz", page=PAGE)
    assert (tmp_path / "set.tgz").read_bytes() == server.data


def test_no_network_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    for address in ("http://127.0.0.1:1/set.tgz", "http://nowhere.invalid/set.tgz"):
        with pytest.raises(PocketlensError, match=r"cannot be reached .* by hand$") as caught:
            fetch(Archive("set.tgz", "set", address), tmp_path / "set.tgz", page=PAGE)
        assert address in str(caught.value) and "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_an_answer_that_is_no_file_names_the_page(server: Server, tmp_path: Path) -> None:
    archive = archive_of(server)
    server.status = 404
    with pytest.raises(PocketlensError, match=rf"answered 404 Not Found; see {PAGE}"):
        fetch(archive, tmp_path / "set.tgz", page=PAGE)


def tar_of(*members: tuple[str, bytes], link: str = "") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo("set/link")
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry)
    return data.getvalue()


def zip_of(*members: tuple[str, bytes], link: bool = False) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
        if link:
            entry = zipfile.ZipInfo("set/link")
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc")
    return data.getvalue()


def put(folder: Path, data: bytes) -> tuple[Path, Path]:
    """Return an archive and a folder to unpack it in, one below the other."""
    inside = folder / "outer" / "inner"
    inside.mkdir(parents=True)
    (folder / "archive").write_bytes(data)
    return folder / "archive", inside


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_only_what_the_archive_gives_is_kept(tmp_path: Path, pack: object) -> None:
    members = (("set/a/1.jpg", b"one"), ("set/list.txt", b"two"), ("__MACOSX/x", b""))
    archive, folder = put(tmp_path, pack(*members))  # type: ignore[operator]
    unpack(archive, folder, "set")
    assert names(folder) == ["set"] and names(folder / "set") == ["a", "list.txt"]
    assert (folder / "set/a/1.jpg").read_bytes() == b"one"


@pytest.mark.parametrize(
    "data",
    [
        tar_of(("set/1.jpg", b"x"), ("../evil", b"x")),
        tar_of(("set/../../evil", b"x")),
        tar_of(("set/1.jpg", b"x"), link="../../evil"),
        tar_of(("set/1.jpg", b"x"), link="/etc"),
        zip_of(("set/1.jpg", b"x"), ("../evil", b"x")),
        zip_of(("set/../../evil", b"x")),
        zip_of(("/evil", b"x"), ("set/1.jpg", b"x")),
        zip_of(("set\\..\\..\\evil", b"x")),
        zip_of(("C:\\evil", b"x"), ("set/1.jpg", b"x")),
        zip_of(("set/1.jpg", b"x"), link=True),
    ],
)
def test_an_archive_that_leaves_the_folder_is_not_unpacked(tmp_path: Path, data: bytes) -> None:
    archive, folder = put(tmp_path, data)
    with pytest.raises(PocketlensError, match="archive: not unpacked, as it is not safe") as caught:
        unpack(archive, folder, "set")
    assert "\n" not in str(caught.value)
    assert names(folder) == [] and not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    "data",
    [tar_of(("set/1.jpg", bytes(9999)))[:-30], b"\x1f\x8bnothing", b"text", b""],
    ids=["cut", "gzip", "text", "empty"],
)
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    archive, folder = put(tmp_path, data)
    with pytest.raises(PocketlensError, match="archive: damaged archive"):
        unpack(archive, folder, "set")
    assert names(folder) == []


def test_another_archive_is_named(tmp_path: Path) -> None:
    archive, folder = put(tmp_path, tar_of(("other/1.jpg", b"x")))
    with pytest.raises(PocketlensError, match="archive: holds no set"):
        unpack(archive, folder, "set")
    assert names(folder) == []


def tar_folder(folder: Path, *names: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name in names:
            archive.add(folder / name, name)
    return data.getvalue()


def test_a_set_is_downloaded_unpacked_and_counted(
    server: Server, cub200: FakeSet, tmp_path: Path
) -> None:
    official, made = cub200
    server.data = tar_folder(made.parent, "CUB_200_2011")
    archive = dataclasses.replace(archive_of(server), gives="CUB_200_2011")
    official = dataclasses.replace(official, archives=(archive,))
    table = download_set(official, tmp_path / "new" / "birds")
    assert table.root == tmp_path / "new" / "birds" / "CUB_200_2011" and len(table) == 7
    assert names(tmp_path / "new" / "birds") == ["CUB_200_2011", "set.tgz"]
    download_set(official, tmp_path / "new" / "birds")
    assert len(server.asked) == 1
    # What is incomplete is not fetched over: it may be the user's.
    (table.root / table.rows[0].path).unlink()
    with pytest.raises(PocketlensError, match="file is missing"):
        download_set(official, tmp_path / "new" / "birds")


def test_a_set_without_an_address_says_what_to_put_where(cars196: FakeSet, tmp_path: Path) -> None:
    official, made = cars196
    with pytest.raises(PocketlensError) as caught:
        download_set(official, tmp_path / "new")
    message = str(caught.value)
    for part in ("Cars196 cannot be downloaded", "car_ims.tgz (md5 d5c8", "cars_annos.mat (md5"):
        assert part in message
    assert "\n" not in message

    data = tar_folder(made, "car_ims")
    (tmp_path / "new" / "car_ims.tgz").write_bytes(data)
    shutil.copy(made / "cars_annos.mat", tmp_path / "new")
    with pytest.raises(PocketlensError, match=r"car_ims\.tgz: expected md5 d5c8.*, found "):
        download_set(official, tmp_path / "new")
    assert (tmp_path / "new" / "car_ims.tgz").exists()

    images, annotations = official.archives
    archives = (
        dataclasses.replace(images, md5=hashlib.md5(data).hexdigest()),
        dataclasses.replace(annotations, md5=""),
    )
    table = download_set(dataclasses.replace(official, archives=archives), tmp_path / "new")
    assert len(table) == 6 and (tmp_path / "new" / "car_ims" / "000001.jpg").is_file()


def test_a_set_with_an_agreement_says_so(inshop: FakeSet, tmp_path: Path) -> None:
    official, made = inshop
    with pytest.raises(PocketlensError, match=r"agreement .*DeepFashion.*img\.zip and Eval/list_"):
        download_set(official, tmp_path / "new")
    assert len(download_set(official, made)) == 5


def test_a_file_in_the_folders_place_is_named(cub200: FakeSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PocketlensError, match="file: not a folder"):
        download_set(cub200[0], tmp_path / "file")


def test_a_kill_while_unpacking_leaves_no_half_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, folder = put(tmp_path, tar_of(("set/1.jpg", b"x")))

    def stop(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", stop)
    with contextlib.suppress(KeyboardInterrupt):
        unpack(archive, folder, "set")
    assert names(folder) == []
