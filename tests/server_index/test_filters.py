import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_folders import ENCODER, SPACE, unit_vectors

from encoder.errors import PocketlensError
from server_index.filters import parse_filter
from server_index.index import Index
from server_index.items import Item
from server_index.writer import IndexWriter, create_index

ITEMS: list[dict[str, Any]] = [
    {"price": 10, "brand": "acme", "sold": True},
    {"price": 10.5, "brand": "o'hara", "sold": False},
    {"price": "10", "brand": 'say "hi"', "sold": None},
    {"price": -3, "größe": "L", "two words": 1},
    {},
    {"price": 2**62, "brand": "", "sold": True},
]

CASES = [
    ("price = 10", [0]),
    ("price != 10", [1, 3, 5]),
    ("price < 10.6 and price >= -3", [0, 1, 3]),
    ("price = '10'", [2]),
    ("price > ''", [2]),
    ("price > 4611686018427387903", [5]),
    ("price = 4611686018427387905", []),
    ("price < 1e3 and not price < 0", [0, 1]),
    ("brand = 'acme' or brand = \"o'hara\"", [0, 1]),
    ("brand in ('acme', 'o''hara', 'none')", [0, 1]),
    ("brand not in ('acme')", [1, 2, 3, 4, 5]),
    ("not brand = 'acme' and brand is not null", [1, 2, 5]),
    ('brand = "say ""hi"""', [2]),
    ("brand = ''", [5]),
    ("sold = true", [0, 5]),
    ("sold != true", [1]),
    ("sold is null", [2, 3, 4]),
    ("größe = 'L' and `two words` = 1", [3]),
    ("not (price = 10 or (price = 10.5 and not sold = true))", [2, 3, 4, 5]),
    ("not not price = 10", [0]),
    ("price in (10, 10.5, '10')", [0, 1, 2]),
    ("id = '3' or id in ('1')", [1, 3]),
    ("path > '/c'", [3, 4, 5]),
    ("`id` = '3'", []),
    ("id is null", []),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filters")
    create_index(folder, SPACE)
    items = [Item(str(n), f"/{'abcdef'[n]}", known) for n, known in enumerate(ITEMS)]
    with IndexWriter(folder) as writer:
        writer.add(unit_vectors(3), items[:3], ENCODER)
        writer.seal()
        writer.add(unit_vectors(3, seed=1), items[3:], ENCODER)
    return folder


@pytest.mark.parametrize(("text", "wanted"), CASES)
def test_a_filter_keeps_what_it_says(folder: Path, text: str, wanted: list[int]) -> None:
    (hits,) = Index(folder).search(unit_vectors(1, seed=5), 10, where=text)
    assert sorted(int(hit.item.id) for hit in hits) == wanted
    assert all(hit.item.metadata == ITEMS[int(hit.item.id)] for hit in hits)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the name of a field, found the end"),
        ("price", "expected a comparison after 'price', found the end"),
        ("price <", "expected a value"),
        ("price < cheap", "true or false after 'price <', found 'cheap'"),
        ("price ~ 3", "cannot read '~ 3'"),
        ("price = 1 price = 2", "expected and, or, or the end"),
        ("(price = 1", r"expected \)"),
        ("price in 3", r"expected \("),
        ("price in ()", "expected a number"),
        ("3 = price", "expected the name of a field, found '3'"),
        ("sold < true", "can only be equal"),
        ("id = 3", "id is text"),
        ("price = 1; DROP TABLE items", "cannot read ';"),
        ('`a"b` = 1', "cannot read"),
        ("price = 99999999999999999999", "64 bits"),
        ("not " * 40 + "a = 1", "more than 32 deep"),
        (" or ".join(["a = 1"] * 101), "more than 100 comparisons"),
        (f"a in ({','.join(['1'] * 1001)})", "more than 1000 values"),
        ("a = '" + "x" * 9000 + "'", "at most 8192"),
        ("price = 01x", "cannot read"),
    ],
)
def test_what_is_no_filter_is_named(folder: Path, text: str, message: str) -> None:
    with pytest.raises(PocketlensError, match=message):
        Index(folder).search(unit_vectors(1), 1, where=text)


@settings(max_examples=300)
@given(st.text(max_size=60) | st.text("price= <>()'\"`andortuse1.,", max_size=60))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    """What is accepted is a condition that SQLite understands, and nothing else."""
    try:
        found = parse_filter(text)
    except PocketlensError:
        return
    record = sqlite3.connect(":memory:")
    record.execute("CREATE TABLE items (id TEXT, path TEXT, metadata TEXT)")
    for known in ITEMS:
        record.execute("INSERT INTO items VALUES ('a', 'b', ?)", [json.dumps(known)])
    rows = record.execute(f"SELECT {found.condition} FROM items", found.values).fetchall()
    assert {row[0] for row in rows} <= {0, 1}


@pytest.mark.parametrize("spec", ["Flat", "IVF8,SQ8", "HNSW16", "BFlat"])
@pytest.mark.parametrize("share", [2, 200])
def test_a_filter_finds_the_best_of_what_it_leaves(tmp_path: Path, spec: str, share: int) -> None:
    """Many left are looked for by the index, few are all compared; deleted ones never come."""
    from server_index import snapshot
    from server_index.faiss_index import Kind, SearchEffort

    assert snapshot._SCORED_ALL > 200
    count = 10_000
    vectors = unit_vectors(count)
    create_index(tmp_path, SPACE)
    items = [Item(str(n), "", {"part": n % share}) for n in range(count)]
    with IndexWriter(tmp_path) as writer:
        writer.add_segment(vectors, items, ENCODER)
        writer.compact(Kind(spec), SearchEffort(8, 400, 100))
        writer.delete([str(n) for n in range(100)])
    index = Index(tmp_path)
    for query in unit_vectors(5, seed=2):
        (hits,) = index.search(query[None], 10, where="part = 1")
        rows = np.arange(count)[100:]
        rows = rows[rows % share == 1]
        best = rows[np.argsort(-(vectors[rows] @ query))[:10]]
        found = {int(hit.item.id) for hit in hits}
        assert found <= set(rows.tolist()) and len(found & set(best.tolist())) >= 9
