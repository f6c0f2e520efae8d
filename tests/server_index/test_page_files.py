"""What the service gives of the page, the bundle and the items' pictures, and what it does not."""

import gzip
import http.client
import io
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from index_folders import ENCODER, make_index, name_picture, unit_vectors
from PIL import Image
from program import refuse
from running_service import run_service

from encoder.checkpoint import Checkpoint
from encoder.errors import PocketlensError
from export.bundle import export_bundle
from export.card import Card
from export.variants import plan_variants
from server_index.items import Item
from server_index.page import read_bundle_files
from server_index.service import ServiceSettings
from server_index.writer import IndexWriter, create_index

NAME = "s32.fp32.photo.onnx"


@pytest.fixture(scope="module")
def address(index_of_pictures: Path, query: Path) -> Iterator[str]:
    with run_service(ServiceSettings(index_of_pictures, bundle=query, log=False)) as address:
        yield address


def get(address: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=named)
    answer = connection.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    body = answer.read()
    connection.close()
    return answer.status, found, body


def test_files_come_with_what_isolates_the_page(address: str) -> None:
    for path, type_ in {
        "/": "text/html",
        "/page.js": "text/javascript",
        "/runtime/worker.js": "text/javascript",
        "/runtime/vendor/ort-wasm-simd-threaded.wasm": "application/wasm",
        "/bundle/card.json": "application/json",
        f"/bundle/{NAME}": "application/octet-stream",
    }.items():
        status, headers, body = get(address, path)
        assert status == 200 and headers["content-type"].startswith(type_) and body
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-embedder-policy"] == "require-corp"
        assert "connect-src 'self'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-cache"
        assert get(address, path, if_none_match=headers["etag"])[0] == 304


def test_files_are_sent_packed_to_those_who_take_it(address: str) -> None:
    path = "/runtime/vendor/ort-wasm-simd-threaded.wasm"
    _, headers, packed = get(address, path, accept_encoding="gzip, br")
    assert headers["content-encoding"] == "gzip" and headers["content-type"] == "application/wasm"
    whole = get(address, path)[2]
    assert gzip.decompress(packed) == whole and len(packed) < len(whole) / 3


def test_an_encoder_named_by_its_digest_is_kept_for_ever(address: str, query: Path) -> None:
    (entry,) = Card.read(query).encoders
    status, headers, body = get(address, f"/bundle/{NAME}?sha256={entry['sha256']}")
    assert status == 200 and "immutable" in headers["cache-control"]
    assert body == (query / NAME).read_bytes()
    assert get(address, f"/bundle/{NAME}?sha256={'0' * 64}")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/nothing.js",
        "/runtime/fetch.js",
        "/runtime/package.json",
        "/bundle/golden/grey.jpg",
        "/bundle/../card.json",
        "/bundle/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/..%2f..%2fpyproject.toml",
        "/v1/nothing",
    ],
)
def test_nothing_else_is_given(address: str, path: str) -> None:
    status, headers, _ = get(address, path)
    assert status == 404 and headers["content-type"] == "application/json"


def test_thumbnails(address: str) -> None:
    def see(id_: str) -> Image.Image:
        path = f"/v1/thumbnail?{urllib.parse.urlencode({'id': id_})}"
        status, headers, body = get(address, path)
        assert status == 200 and headers["content-type"] == "image/jpeg"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        return Image.open(io.BytesIO(body))

    assert see("a/wide é").size == (256, 85)
    # Of a box only what is in it.
    red, _, blue = see("half").resize((1, 1)).getpixel((0, 0))
    assert red < 60 and blue > 180
    for id_ in ("words", "pipe", "folder", "gone", "nowhere", "unheard"):
        status, _, body = get(address, f"/v1/thumbnail?id={id_}")
        # Where the files lie is nobody's business.
        assert status == 404 and b"no picture of such an item" in body
    assert get(address, "/v1/thumbnail")[0] == 422
    assert get(address, f"/v1/thumbnail?id={'x' * 2000}")[0] == 422


def test_the_service_worker_changes_with_the_bundle(
    address: str, index_of_pictures: Path, query: Path, student: Checkpoint, tmp_path: Path
) -> None:
    before = get(address, "/service-worker.js")[2].decode()
    assert before.startswith('const RELEASE = "') and '"./page.js"' in before
    assert "./bundle/" not in before.split("\n")[1]
    other = tmp_path / "other"
    variants = plan_variants({"student": student}, precisions=("fp16",), kinds=("photo",))
    export_bundle(variants, other)
    with run_service(ServiceSettings(index_of_pictures, bundle=other, log=False)) as elsewhere:
        after = get(elsewhere, "/service-worker.js")[2].decode()
        shutil.copy(query / NAME, other / "s32.fp16.photo.onnx")
        # What lies there now is not what the page was told of.
        assert get(elsewhere, "/bundle/s32.fp16.photo.onnx")[0] == 404
    assert before.split("\n")[0] != after.split("\n")[0]
    assert before.split("\n")[1:] == after.split("\n")[1:]


def test_a_picture_that_this_service_has_not_read_is_not_shown(
    query: Path, pictures: Path, student: Checkpoint, tmp_path: Path
) -> None:
    """Who may add items could name any file of the machine; and a file may have been replaced."""
    folder, file = tmp_path / "index", tmp_path / "own.png"
    shutil.copy(pictures / "wide.png", file)
    create_index(folder, student.space)
    items = [Item("named", str(pictures / "wide.png")), name_picture("changed", str(file))]
    with IndexWriter(folder) as writer:
        writer.add(np.eye(student.space.dim, dtype=np.float32)[:2], items, ENCODER)
    with run_service(ServiceSettings(folder, bundle=query, log=False)) as address:
        assert get(address, "/v1/thumbnail?id=changed")[0] == 200
        Image.new("RGB", (50, 50)).save(file)
        for id_ in ("named", "changed"):
            assert get(address, f"/v1/thumbnail?id={id_}")[0] == 404


def test_a_reverse_proxy_may_ask_by_its_name(index_of_pictures: Path, query: Path) -> None:
    hosts = ("127.0.0.1", "search.example.org")
    with run_service(
        ServiceSettings(index_of_pictures, bundle=query, log=False, hosts=hosts)
    ) as address:
        assert get(address, "/", host="search.example.org")[0] == 200
        assert get(address, "/", host="elsewhere.example.org")[0] == 400


def test_without_a_bundle_there_is_no_page(index_of_pictures: Path) -> None:
    with run_service(ServiceSettings(index_of_pictures, log=False)) as address:
        assert get(address, "/")[0] == get(address, "/v1/thumbnail?id=half")[0] == 404


def test_a_bundle_that_does_not_fit_is_refused(
    index_of_pictures: Path, query: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(query, damaged)
    (damaged / NAME).write_bytes(b"other bytes")
    with pytest.raises(PocketlensError, match="not those that were exported"):
        read_bundle_files(damaged)
    assert NAME in refuse(capsys, "serve", "--index", index_of_pictures, "--bundle", damaged)
    assert "card.json" in refuse(
        capsys, "serve", "--index", index_of_pictures, "--bundle", tmp_path
    )
    make_index(tmp_path / "foreign", unit_vectors(4)).close()
    told = refuse(capsys, "serve", "--index", tmp_path / "foreign", "--bundle", query)
    assert f"--bundle {query}: " in told and Card.read(query).space in told
