import base64
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_folders import DIM, ENCODER, SPACE, make_index, name_items, unit_vectors
from running_service import TOKEN, run_service

from encoder.errors import PocketlensError
from server_index.client import SearchClient, encode_vector
from server_index.faiss_index import Kind
from server_index.index import Index
from server_index.items import Item
from server_index.lookups import Lookups
from server_index.service import ServiceSettings
from server_index.verify import verify
from server_index.writer import IndexWriter, create_index

CLI = Path(__file__).parents[2] / "cli.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "index"
    create_index(folder, SPACE)
    items = [Item(str(n), f"/secret/{n}.jpg", {"price": n, "odd": n % 2 == 1}) for n in range(50)]
    with IndexWriter(folder) as writer:
        writer.add(unit_vectors(50), items, ENCODER)
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with run_service(ServiceSettings(folder, max_k=40, max_body=1 << 20, log=False)) as address:
        yield address


def ask(address: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    data = body if isinstance(body, bytes | None) else json.dumps(body)
    connection.request(method, path, data, {"content-type": "application/json", **headers})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if path != "/metrics" else text.decode()


def query(**changes: Any) -> dict[str, Any]:
    return {"vector": encode_vector(unit_vectors(50)[7]), "space": SPACE.id, "k": 3, **changes}


def test_a_search_answers_as_the_index_does(folder: Path, address: str) -> None:
    wanted = Index(folder).search(unit_vectors(50)[7:8], 3)[0]
    for vector in (encode_vector(unit_vectors(50)[7]), unit_vectors(50)[7].tolist()):
        status, answer = ask(address, "POST", "/v1/search", query(vector=vector))
        assert status == 200 and answer["space"] == SPACE.id
        assert [each["id"] for each in answer["answers"]] == [hit.item.id for hit in wanted]
        assert [each["score"] for each in answer["answers"]] == pytest.approx(
            [hit.score for hit in wanted], abs=1e-6
        )
        assert answer["answers"][0]["metadata"] == {"price": 7, "odd": True}
        assert "/secret/" not in json.dumps(answer)
    with SearchClient(address) as client:
        found = client.search(unit_vectors(50)[7], SPACE.id, 40, where="price < 4 and odd = true")
        assert sorted(each["id"] for each in found) == ["1", "3"]
        assert client.describe() == {
            "space": SPACE.id, "dim": DIM, "accepts": [], "items": 50, "generation": 1,
            "damaged": 0,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"space": "f" * 16}, 409, f"vectors of space {SPACE.id}, not of"),
        ({"vector": encode_vector(unit_vectors(1, dim=15)[0])}, 422, "[n, 16]"),
        ({"vector": [1.0] * 16}, 422, "unit length"),
        ({"vector": [0.0] * 16}, 422, "unit length"),
        ({"vector": [1e39] * 16}, 422, "unit length"),
        ({"vector": "no base64!"}, 422, "not base64"),
        ({"vector": base64.b64encode(b"abc").decode()}, 422, "not float32"),
        (
            {"vector": base64.b64encode(np.full(16, np.nan, "<f4").tobytes()).decode()},
            422,
            "finite",
        ),
        ({"vector": "A" * 100_000}, 422, "vector"),
        ({"vector": None}, 422, "vector"),
        ({"k": 0}, 422, "k"),
        ({"k": 41}, 422, "k: Input should be less than or equal to 40"),
        ({"k": 10**30}, 422, "k"),
        ({"filter": "price <"}, 422, "filter: expected a value"),
        ({"filter": "x" * 9000}, 422, "filter"),
        ({"extra": 1}, 422, "extra"),
    ],
)
def test_what_cannot_be_served_is_refused_and_said(
    address: str, changes: dict[str, Any], status: int, message: str
) -> None:
    found, answer = ask(address, "POST", "/v1/search", query(**changes))
    assert found == status and message in json.dumps(answer)


def test_bodies_are_limited_and_never_trusted(address: str) -> None:
    big = json.dumps(query(filter="x" * (600 << 10))).encode()
    assert ask(address, "POST", "/v1/search", big)[0] == 413
    # Announced as far too large: refused before it is read.
    assert ask(address, "POST", "/v1/search", b"{}", **{"content-length": "9999999999"})[0] == 413

    def trickle() -> Iterator[bytes]:
        for _ in range(12):
            yield b" " * (1 << 16)

    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    connection.request("POST", "/v1/search", trickle(), {"content-type": "application/json"})
    assert connection.getresponse().status == 413
    connection.close()
    for body in (b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"vector": NaN}'):
        status, answer = ask(address, "POST", "/v1/search", body)
        assert status in (400, 422) and "Traceback" not in json.dumps(answer)
    assert ask(address, "GET", "/healthz") == (200, {"status": "ready"})


def test_nothing_is_written_without_the_token(folder: Path, address: str, tmp_path: Path) -> None:
    new = {"id": "new", "vector": encode_vector(unit_vectors(1, seed=9)[0])}
    body = {"items": [new], "space": SPACE.id, "encoder": ENCODER}
    assert ask(address, "POST", "/v1/items", body)[0] == 403
    assert ask(address, "POST", "/v1/items/delete", {"ids": ["1"]})[0] == 403
    # Such a service is no writer: another process may be.
    IndexWriter(folder).close()
    make_index(tmp_path, unit_vectors(5)).close()
    with run_service(ServiceSettings(tmp_path, token=TOKEN, log=False)) as own:
        for header in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Bearer {TOKEN}x"},
        ):
            assert ask(own, "POST", "/v1/items", body, **header)[0] == 401
        with pytest.raises(PocketlensError, match="being written by"):
            IndexWriter(tmp_path)
        with SearchClient(own, token=TOKEN) as client:
            first = client.add(
                [{"id": "new", "metadata": {"price": 3}}],
                unit_vectors(1, seed=9),
                SPACE.id,
                ENCODER,
            )
            answer = client.search(unit_vectors(1, seed=9)[0], SPACE.id, 1)[0]
            assert answer["id"] == "new" and answer["metadata"] == {"price": 3}
            with pytest.raises(PocketlensError, match="409: id 'new' is in the index already"):
                client.add([{"id": "new"}], unit_vectors(1), SPACE.id, ENCODER)
            again = client.add([{"id": "new"}], unit_vectors(1), SPACE.id, ENCODER, replace=True)
            assert again > first
            with pytest.raises(PocketlensError, match="409: the index is in space"):
                client.add([{"id": "x"}], unit_vectors(1), "f" * 16, ENCODER)
            with pytest.raises(PocketlensError, match="422: vector 0 has length"):
                client.add([{"id": "x"}], 2 * unit_vectors(1), SPACE.id, ENCODER)
            assert client.delete(["new", "0", "none"]) == 2
            assert client.describe()["items"] == 4
    assert verify(tmp_path) == []


def test_a_new_generation_is_served_without_a_failed_request(tmp_path: Path) -> None:
    vectors = unit_vectors(300)
    make_index(tmp_path, vectors[:50], [str(n) for n in range(50)]).close()
    failures: list[Any] = []
    stop = threading.Event()
    settings = ServiceSettings(tmp_path, reload_every=0.01, log=False)
    with run_service(settings) as address:

        def keep_asking() -> None:
            with SearchClient(address) as client:
                while not stop.is_set():
                    try:
                        if client.search(vectors[0], SPACE.id, 1)[0]["id"] != "0":
                            failures.append("another answer")
                    except Exception as error:
                        failures.append(error)

        asking = [threading.Thread(target=keep_asking) for _ in range(3)]
        for each in asking:
            each.start()
        with IndexWriter(tmp_path) as writer:
            for n in range(50, 300):
                writer.add(vectors[n : n + 1], name_items([str(n)]), ENCODER)
                if n % 60 == 0:
                    writer.compact(Kind("Flat"))
        with SearchClient(address) as client:
            deadline = time.monotonic() + 20
            while client.describe()["items"] < 300 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert client.search(vectors[299], SPACE.id, 1)[0]["id"] == "299"
        stop.set()
        for each in asking:
            each.join()
    assert not failures


def test_more_than_can_wait_is_told_to_come_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Index._find
    slow = threading.Event()

    def find_slowly(self: Index, *given: Any, **named: Any) -> Any:
        slow.wait(1.0)
        return find(self, *given, **named)

    settings = ServiceSettings(folder, threads=1, waiting=2, timeout=0.3, log=False)
    with run_service(settings) as address:
        monkeypatch.setattr(Index, "_find", find_slowly)
        with ThreadPoolExecutor(12) as pool:
            answers = list(
                pool.map(lambda _: ask(address, "POST", "/v1/search", query()), range(12))
            )
        statuses = sorted(status for status, _ in answers)
        assert statuses.count(429) == 9 and statuses.count(503) == 3
        slow.set()
        deadline = time.monotonic() + 10
        while ask(address, "POST", "/v1/search", query())[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_figures_and_log_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_service(ServiceSettings(folder)) as address:
        assert ask(address, "POST", "/v1/search", query())[0] == 200
        assert ask(address, "GET", "/nowhere/at/all")[0] == 404
        _, text = ask(address, "GET", "/metrics")
    assert 'pocketlens_requests_total{route="/v1/search",status="200"} 1.0' in text
    assert "pocketlens_items 50.0" in text and "nowhere" not in text
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["status"] for line in lines] == [200, 404, 200]
    assert lines[0]["path"] == "/v1/search" and lines[0]["ms"] > 0


def test_pages_of_other_origins_are_refused_unless_named(folder: Path, address: str) -> None:
    def allowed(address: str) -> str | None:
        connection = http.client.HTTPConnection(address.removeprefix("http://"))
        connection.request("GET", "/v1/space", headers={"origin": "https://shop.example"})
        found = connection.getresponse().getheader("access-control-allow-origin")
        connection.close()
        return found

    assert allowed(address) is None
    named = ServiceSettings(folder, origins=("https://shop.example",), log=False)
    with run_service(named) as own:
        assert allowed(own) == "https://shop.example"


def test_an_index_that_breaks_while_it_is_served_names_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_index(tmp_path, unit_vectors(5)).close()
    with run_service(ServiceSettings(tmp_path, log=False)) as address:

        def fail(self: Lookups, keys: Any) -> Any:
            raise PocketlensError(f"{tmp_path}/index.sqlite: damaged")

        monkeypatch.setattr(Lookups, "items", fail)
        status, answer = ask(address, "POST", "/v1/search", query())
        assert status == 500 and str(tmp_path) not in json.dumps(answer)


def run_serve(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(CLI), "serve", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_the_command_serves_and_stops(folder: Path) -> None:
    process = run_serve("--index", folder, "--port", 0)
    assert process.stdout
    assert "50 items" in process.stdout.readline()
    line = process.stdout.readline()
    address = line.split()[2]
    assert address.startswith("http://127.0.0.1:") and "read only" in line
    with SearchClient(address) as client:
        deadline = time.monotonic() + 30
        while True:
            try:
                assert client.describe()["items"] == 50
                break
            except PocketlensError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors


def test_workers_serve_together_and_count_together(folder: Path) -> None:
    process = run_serve("--index", folder, "--port", 0, "--workers", 2)
    assert process.stdout
    process.stdout.readline()
    address = process.stdout.readline().split()[2]
    deadline = time.monotonic() + 60
    clients = [SearchClient(address) for _ in range(12)]
    while time.monotonic() < deadline:
        try:
            clients[0].describe()
            break
        except PocketlensError:
            time.sleep(0.2)
    for client in clients:
        assert client.search(unit_vectors(50)[7], SPACE.id, 1)[0]["id"] == "7"
        client.close()
    # Each worker counts what it served; any of them tells the sum.
    for _ in range(50):
        _, text = ask(address, "GET", "/metrics")
        if 'route="/v1/search",status="200"} 12.0' in text:
            break
        time.sleep(0.1)
    assert 'pocketlens_requests_total{route="/v1/search",status="200"} 12.0' in text
    assert "pocketlens_items 50.0" in text
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors


def test_a_fault_of_our_own_is_told_as_any_other(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise RuntimeError("/secret/place")

    monkeypatch.setattr(Index, "search", fail)
    status, answer = ask(address, "POST", "/v1/search", query())
    assert status == 500 and answer == {"detail": "a fault of the service; see its log"}
    monkeypatch.undo()
    assert ask(address, "POST", "/v1/search", query())[0] == 200


def test_what_cannot_be_served_is_named_in_one_line(folder: Path, tmp_path: Path) -> None:
    short = tmp_path / "token"
    short.write_text("short")
    long = tmp_path / "long"
    long.write_text(TOKEN)
    for arguments, message in (
        (["--index", tmp_path], "not an index folder"),
        (["--index", folder, "--token-file", short], "16 characters"),
        (["--index", folder, "--token-file", tmp_path / "none"], "not a readable token"),
        (["--index", folder, "--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--index", folder, "--port", 99999999], "cannot be used"),
        (["--index", folder, "--max-body", "big"], "not an amount of memory"),
        (["--index", folder, "--workers", 0], "--workers must be at least 1"),
        (["--index", folder, "--workers", 2, "--token-file", long], "only one process can change"),
    ):
        process = run_serve(*arguments)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2 and errors.count("\n") == 1 and message in errors


def test_the_client_says_what_is_wrong(address: str) -> None:
    for bad in ("127.0.0.1:80", "ftp://a", "http://"):
        with pytest.raises(PocketlensError, match="not an address"):
            SearchClient(bad)
    with (
        SearchClient("http://127.0.0.1:9") as client,
        pytest.raises(PocketlensError, match="not reached"),
    ):
        client.describe()
    with SearchClient(address) as client:
        with pytest.raises(PocketlensError, match="404"):
            client._ask("/nowhere")
        with pytest.raises(PocketlensError, match="409: the index answers vectors of space"):
            client.search(unit_vectors(1)[0], "f" * 16)
