"""The report page: all that was measured is there, escaped, and nothing is asked of a network."""

import copy
import html
import importlib.resources
import itertools
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from encoder.errors import PocketlensError
from encoder.evaluation.bootstrap import Interval
from encoder.evaluation.commands import report
from encoder.evaluation.details import Answer, ClassFailure, Curve, Details, Example
from encoder.evaluation.document import EncoderFacts, to_document
from encoder.evaluation.protocol import EvaluationRow, HarmedRow
from encoder.evaluation.report import build_page
from encoder.evaluation.report_charts import Line, Point, draw_panel, draw_recall
from encoder.evaluation.report_data import read_report

VOID = {"br", "img", "link", "meta", "wbr"}
HOSTILE = '<img src=x onerror="alert(1)">&\x00\ud800</style><script>'
ROWS = ("teacher 224, symmetric", "student 112 → teacher 224")
SECTIONS = ("results", "differences", "curves", "robustness", "classes", "examples", "quarantined")


def measured(r1: float, spread: float = 1.0) -> dict[str, Any]:
    figures = {"map": r1 / 2, "map_at_r": r1 / 3, "r1": r1, "r16": r1 + 9, "r2": r1 + 5}
    ends = {key: {"low": value - spread, "high": value + spread} for key, value in figures.items()}
    return {"figures": figures, "intervals": ends}


def answer(path: str, right: bool) -> dict[str, Any]:
    return {"path": path, "label": "owl" if right else "kite", "score": 0.875, "right": right}


@pytest.fixture
def value() -> dict[str, Any]:
    """An evaluation with everything in it."""
    teacher, student = ROWS
    answers = [answer("b/2.png", True), answer("b/gone.png", False), answer("../x.png", False)]
    judging = {"storage": "int8", "dim": 128, "ranks": [1, 2], "whole_ranking": True, "seed": 0}
    strengths = [(name, s) for name in ("blur", "fog") for s in (0.5, 2.0)]
    return {
        "format": 1,
        "command": "cli evaluate birds --teacher t",
        "date": "2025-02-03",
        "seed": 7,
        "versions": {"numpy": "2.9.1"},
        "data": {"source": "birds", "images": 1234, "fingerprint": "ab" * 32},
        "encoders": [
            {"name": "teacher", "encoder": "0" * 16, "space": "1" * 16, "size": 224,
             "precision": "fp32"}
        ],
        "rows": [
            {"name": teacher, **measured(71.6), "queries": 1234, "without_answer": 0},
            {"name": student, **measured(50.9), "queries": 1234, "without_answer": 5,
             "judging": judging},
        ],
        "differences": [
            {"row": student, "baseline": teacher, "figures": {"r1": -20.7, "map": 0.2},
             "intervals": {"r1": {"low": -22.0, "high": -19.4}, "map": {"low": -0.5, "high": 0.9}}}
        ],
        "curves": [
            {"row": teacher, "ranks": [1, 2, 4, 8], "recall": [71.6, 80.0, 86.0, 91.0]},
            {"row": student, "ranks": [1, 2, 4, 8], "recall": [50.9, 61.0, 70.0, 79.0]},
        ],
        "robustness": [
            {"row": row, "corruption": name, "strength": strength, **measured(40 - strength)}
            for name, strength in strengths for row in ROWS
        ],
        "clusters": [{"row": teacher, "nmi": 63.25}],
        "classes": [
            {"row": teacher, "label": label, "queries": 20, "r1": r1, "confused_with": "kite"}
            for label, r1 in (("owl", 35.0), ("wren", 12.5))
        ],
        "examples": [{"row": teacher, "query": "b/1.jpg", "label": "owl", "answers": answers}],
        "quarantined": ["b/3.jpg: damaged image"],
    }  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "birds"
    (folder / "b").mkdir(parents=True)
    Image.new("RGB", (900, 300), "red").save(folder / "b/1.jpg")
    Image.new("RGB", (60, 80), "blue").save(folder / "b/2.png")
    Image.new("RGB", (60, 80), "blue").save(tmp_path / "x.png")
    return folder


Build = Callable[..., str]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def build(value: dict[str, Any], images: Path | None = None) -> str:
        file = tmp_path / "evaluation.json"
        file.write_text(json.dumps(value))
        return build_page(read_report(file), images=images)

    return build


class Reader(HTMLParser):
    """Read a page, and complain where it is not well formed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def ids(self) -> list[str]:
        return [given["id"] or "" for _, given in self.elements if "id" in given]


def test_the_page_is_well_formed_and_asks_for_nothing(
    build: Build, value: dict[str, Any], images: Path
) -> None:
    page = build(value, images)
    read = Reader(page)
    assert page.startswith("<!doctype html>") and read.all("html") == [{"lang": "en-GB"}]
    assert not re.search(r"https?:|@import|url\(|<script|\bon\w+=", page)
    for _, given in read.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (given.get(name) or "#").startswith(("#", "data:")), given
    assert len(set(read.ids())) == len(read.ids())
    targets = {(given.get("href") or "").removeprefix("#") for given in read.all("a")}
    targets |= {
        given["aria-labelledby"] or "" for _, given in read.elements if "aria-labelledby" in given
    }
    assert targets <= set(read.ids())
    assert all(given.get("alt") for given in read.all("img"))
    assert all(given.get("scope") in ("row", "col") for given in read.all("th"))
    assert len(read.all("caption")) == len(read.all("table"))
    assert all(given.get("aria-label") or given.get("aria-hidden") for given in read.all("svg"))


def test_every_row_and_figure_is_shown_with_its_interval(
    build: Build, value: dict[str, Any]
) -> None:
    text = Reader(build(value)).text
    assert "Row R@1 R@2 R@16 MAP@R mAP NMI Queries".replace(" ", "") in text
    for row in value["rows"]:
        for key, figure in row["figures"].items():
            ends = row["intervals"][key]
            assert f"{figure:.1f} {ends['low']:.1f} to {ends['high']:.1f}" in text
    assert "int8, 128 dimensions" in text and "5 left out" in text and "63.2 no interval" in text
    for fact in ("1,234 images", "ab" * 32, "2025-02-03", "numpy 2.9.1", "cli evaluate birds"):
        assert fact in text
    for fact in ("224 px", "0" * 16, "1" * 16, "fp32", "b/3.jpg: damaged image"):
        assert fact in text


def test_differences_say_in_words_whether_zero_is_excluded(
    build: Build, value: dict[str, Any]
) -> None:
    text = Reader(build(value)).text
    assert (
        f"{ROWS[1]} has a lower R@1 than {ROWS[0]}: −20.7 points, interval −22.0 to −19.4, which "
        "excludes zero." in text
    )
    assert "−20.7 −22.0 to −19.4 lower" in text
    assert "+0.2 −0.5 to +0.9 unclear" in text
    value["differences"][0]["intervals"]["r1"] = {"low": -0.5, "high": 0.04}
    assert "is not clearly different in R@1" in Reader(build(value)).text
    value["differences"][0]["intervals"]["r1"] = {"low": 0.5, "high": 0.9}
    assert "has a higher R@1 than" in Reader(build(value)).text


def test_absent_sections_are_left_out(build: Build, value: dict[str, Any]) -> None:
    assert {*SECTIONS, "measured"} <= set(Reader(build(value)).ids())
    for name in ("differences", "curves", "robustness", "classes", "examples", "quarantined"):
        for empty in ([], None):
            read = Reader(build({**value, name: empty}))
            assert name not in read.ids() and f"{name}-title" not in read.ids()
            assert f"#{name}" not in [given.get("href") for given in read.all("a")]
    least = {name: value[name] for name in ("format", "rows", "data")}
    read = Reader(build(least))
    assert [given["id"] for given in read.all("section")] == ["results", "measured"]
    assert "Seed" not in read.text and "NMI" not in read.text


def test_hostile_text_is_only_text(build: Build, value: dict[str, Any]) -> None:
    def poison(given: Any) -> Any:
        if isinstance(given, dict):
            return {key: poison(part) for key, part in given.items()}
        if isinstance(given, list):
            return [poison(part) for part in given]
        return HOSTILE + given if isinstance(given, str) else given

    page = build(poison(value))
    read = Reader(page)
    assert read.all("img") == [] and read.all("script") == [] and len(read.all("style")) == 1
    assert "\x00" not in page and page.encode()
    assert html.escape('<img src=x onerror="alert(1)">&') in page.replace("<wbr>", "")


def test_thumbnails_and_placeholders(build: Build, value: dict[str, Any], images: Path) -> None:
    (images / "b/broken.png").write_bytes(b"no picture")
    value["examples"][0]["answers"] += [answer("b/broken.png", True), answer("/etc/x.png", True)]
    read = Reader(build(value, images))
    pictures = read.all("img")
    assert [(given["width"], given["height"]) for given in pictures] == [
        ("112", "37"),
        ("60", "80"),
    ]
    assert all((given["src"] or "").startswith("data:image/jpeg;base64,") for given in pictures)
    assert [given["alt"] for given in pictures] == ["Query 1: owl", "Answer 1, right: owl"]
    assert read.text.count("no picture") == 4
    assert "no pictureno such fileb/gone.png" in read.text
    assert read.text.count("no such file in the folder of images") == 2
    assert "not an image that can be read" in read.text
    assert str(images) not in build(value, images)
    assert read.text.count("✓ right") == 3 and read.text.count("✗ wrong") == 2


def test_without_images_the_paths_are_shown(build: Build, value: dict[str, Any]) -> None:
    read = Reader(build(value))
    assert read.all("img") == []
    for path in ("b/1.jpg", "b/2.png", "b/gone.png", "../x.png"):
        assert path in read.text


def test_worst_classes_come_first(build: Build, value: dict[str, Any]) -> None:
    text = Reader(build(value)).text
    assert text.index("wren12.520kite") < text.index("owl35.020kite")


def test_the_style_knows_phones_darkness_and_paper() -> None:
    style = importlib.resources.files("encoder.evaluation").joinpath("report_page.css").read_text()
    assert "@media screen and (prefers-color-scheme: dark)" in style
    for rule in ("@media print", "break-inside: avoid", "@media (max-width:", "overflow-x: auto"):
        assert rule in style
    assert "tabular-nums" in style and "</" not in style and "url(" not in style


def points_of(drawing: str) -> list[tuple[float, float]]:
    found = re.findall(r'class="mark" transform="translate\(([\d.-]+) ([\d.-]+)\)"', drawing)
    return [(float(x), float(y)) for x, y in found]


def line(name: str, style: int, *points: tuple[float, float]) -> Line:
    return Line(name, style, tuple(Point(x, y, f"{name} {x}") for x, y in points))


@pytest.mark.parametrize("width", [340, 960])
def test_recall_lies_on_a_log_axis_and_a_linear_one(width: int) -> None:
    drawing = draw_recall(
        [line("a", 0, (1, 20), (2, 40), (16, 100)), line("b", 1, (1, 30), (16, 60))],
        width=width, label="recall",
    )  # fmt: skip
    (x1, y20), (x2, y40), (x16, y100), (also_x1, y30), (also_x16, y60) = points_of(drawing)
    assert (also_x1, also_x16) == (x1, x16)
    assert x2 - x1 == pytest.approx((x16 - x1) / math.log2(16), abs=0.02)
    assert y20 - y40 == pytest.approx((y20 - y100) / 4, abs=0.02)
    assert y20 - y30 == pytest.approx((y20 - y100) / 8, abs=0.02)
    assert y100 < y60 < y40
    assert 'role="img" aria-label="recall"' in drawing
    lines = re.findall(r'<path d="M[^"]*" class="curve"( stroke-dasharray="[^"]*")?>', drawing)
    assert len(set(lines)) == 2


def test_names_at_the_ends_do_not_overlap() -> None:
    lines = [
        line(f"a rather long name of row {n}", n, (1, 50), (64, 80 + n / 10)) for n in range(9)
    ]
    for width in (340, 960):
        drawing = draw_recall(lines, width=width, label="recall")
        blocks = re.findall(r'<text y="([\d.]+)" class="name">(.*?)</text>', drawing)
        spans = sorted((float(y) - 10.5, body.count("<tspan")) for y, body in blocks)
        assert len(spans) == 9
        for (top, count), (below, _) in itertools.pairwise(spans):
            assert top + 14 * count <= below + 0.05
        height = float(re.findall(r'viewBox="0 0 \d+ (\d+)"', drawing)[0])
        assert spans[0][0] >= 0 and spans[-1][0] + 14 * spans[-1][1] <= height


def test_a_single_rank_and_a_perfect_score_can_be_drawn() -> None:
    ((x, y),) = points_of(draw_recall([line("", 0, (1, 100))], width=340, label="recall"))
    assert 0 < x < 340 and y > 0
    ((x, y),) = points_of(draw_panel([line("a", 0, (0, 0))], ["1"], high=10, label="panel"))
    assert 0 < x < 256 and y > 0


def test_a_panel_spaces_its_strengths_evenly() -> None:
    drawing = draw_panel(
        [line("a", 0, (0, 80), (1, 40), (3, 0))], ["none", "5", "10", "45"], high=80, label="turn"
    )
    (x0, y80), (x1, y40), (x3, y0) = points_of(drawing)
    assert x3 - x0 == pytest.approx(3 * (x1 - x0), abs=0.02)
    assert y0 - y80 == pytest.approx(2 * (y0 - y40), abs=0.02)


def test_robustness_begins_at_the_clean_row(build: Build, value: dict[str, Any]) -> None:
    read = Reader(build(value))
    for tick in ("none", "0.5", "2"):
        assert tick in read.texts
    assert f"{ROWS[0]}, none: 71.6 %" in read.texts
    assert f"{ROWS[1]}, 2: 38.0 %" in read.texts
    assert "blur 0.5" in read.text and "38.0 37.0 to 39.0" in read.text


def test_what_evaluate_writes_can_be_read(build: Build) -> None:
    row = EvaluationRow("a row", {"r1": 50.0}, {"r1": Interval(48.0, 52.0)}, 10, 0)
    details = Details(
        Curve((1, 2), (50.0, 60.0)),
        (ClassFailure("owl", 3, 10.0, "kite"),),
        (Example("a.jpg", "owl", (Answer("b.jpg", "owl", 0.5, True),)),),
    )
    document = to_document(
        [row],
        {"a row": details},
        data={"source": "birds", "images": 3, "fingerprint": "ab"},
        encoders=[EncoderFacts("teacher", "12", "34", 224, "fp32")],
        command="cli evaluate",
        robustness=[HarmedRow("blur", 0.5, row)],
        clusters={"a row": 61.0},
        quarantined=["c.jpg"],
    )
    present = set(Reader(build(document)).ids())
    assert {name for name in SECTIONS if name != "differences"} <= present


MISTAKES = [
    (["format"], None, "has no format number"),
    (["format"], 2, "format 2 is newer than 1, the newest known here; update pocketlens"),
    (["format"], 0, "format 0 is not known"),
    (["format"], "1", "format: must be a whole number from 0, not '1'"),
    (["data"], None, "data: is missing"),
    (["data", "images"], -1, "data.images: must be a whole number from 0, not -1"),
    (["rows"], None, "rows: is missing"),
    (["rows"], [], "rows: is empty"),
    (["rows"], {}, "rows: must be a list"),
    (["rows", 1], "x", "rows[1]: must be an object"),
    (["rows", 1, "name"], 3, "rows[1].name: must be text, not 3"),
    (["rows", 0, "figures", "r1"], "x", "rows[0].figures.r1: must be a number, not 'x'"),
    (["rows", 0, "figures", "r1"], float("nan"), "rows[0].figures.r1: must be a finite number"),
    (["rows", 0, "figures", "r1"], 10**400, "rows[0].figures.r1: must be a finite number"),
    (["rows", 0, "figures", "r1"], True, "rows[0].figures.r1: must be a number"),
    (["rows", 0, "figures", "r1"], 716.0, "rows[0].figures.r1: must be a number from 0 to 100"),
    (["rows", 0, "figures", "rx"], 1.0, "rows[0].figures.rx: is not a figure that is known here"),
    (["rows", 0, "figures", "r\n1"], 1.0, "rows[0].figures.'r\\n1': is not a figure"),
    (["rows", 0, "figures"], {}, "rows[0].figures: is empty"),
    (["rows", 0, "intervals", "r2"], None, "rows[0].intervals.r2: is missing"),
    (["curves", 0, "ranks"], [1, 2, 2, 4], "curves[0].ranks: must be whole numbers from 1"),
    (["curves", 0, "recall"], [1.0], "curves[0].recall: has 1 values for 4 ranks"),
    (["examples", 0, "answers", 0, "right"], 1, "answers[0].right: must be true or false, not 1"),
    (["differences", 0, "baseline"], None, "differences[0].baseline: is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("way", "wrong", "message"), MISTAKES)
def test_bad_input_is_named_by_file_and_field(
    build: Build, value: dict[str, Any], way: list[str | int], wrong: object, message: str
) -> None:
    changed: Any = copy.deepcopy(value)
    place = changed
    for step in way[:-1]:
        place = place[step]
    place[way[-1]] = wrong
    with pytest.raises(PocketlensError) as caught:
        build(changed)
    said = str(caught.value)
    assert "evaluation.json: " in said and message in said and "\n" not in said


def test_the_command_writes_once_and_replaces_when_told(
    tmp_path: Path, value: dict[str, Any], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "evaluation.json", tmp_path / "report.html"
    file.write_text(json.dumps(value))
    report(file, page, images=images)
    assert str(page) in capsys.readouterr().out and "data:image/jpeg" in page.read_text()
    with pytest.raises(PocketlensError, match="exists; name another file or give --overwrite"):
        report(file, page)
    report(file, page, images=tmp_path, overwrite=True)
    assert "pictures are not in --images" in capsys.readouterr().err
    report(file, page, overwrite=True)
    assert "data:image/jpeg" not in page.read_text()
    before = page.read_bytes()
    (tmp_path / "bad.json").write_text("[]")
    for arguments, message in (
        ((tmp_path / "none.json", page), "none.json: no such file"),
        ((tmp_path / "bad.json", page), "bad.json: expected a JSON object"),
        ((file, file), "is the evaluation itself"),
        ((file, tmp_path), "is a folder; name a file to write"),
        ((file, page, tmp_path / "nowhere"), "--images .*nowhere: not a folder"),
    ):
        with pytest.raises(PocketlensError, match=message):
            report(*arguments, overwrite=True)
    assert page.read_bytes() == before and json.loads(file.read_text()) == value
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob(".*.partial"))


VIEWS = [
    (360, "light", ""),
    (360, "dark", ""),
    (1200, "light", ""),
    (1200, "dark", ""),
    (680, "dark", "print"),
]


@pytest.mark.slow
def test_a_browser_shows_it_on_phone_screen_and_paper(
    tmp_path: Path, build: Build, value: dict[str, Any], images: Path, tab: Any
) -> None:
    long = "a_class_name_without_any_blank_" * 4
    value["examples"][0]["label"] = value["classes"][0]["label"] = long
    value["command"] = "x" * 300
    value["rows"][1]["name"] = "w" * 120
    page = tmp_path / "report.html"
    page.write_text(build(value, images))
    for width, scheme, media in VIEWS:
        tab.open(page, width=width, scheme=scheme, media=media)
        picture = tmp_path / f"{width}-{scheme}{media}.png"
        tab.save_picture(picture)
        with Image.open(picture) as shown:
            assert shown.width == width and shown.height > 1000
            red, green, blue = shown.convert("RGB").getpixel((2, 2))  # type: ignore[misc]
        dark = scheme == "dark" and not media
        assert max(red, green, blue) < 40 if dark else min(red, green, blue) == 255
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        seen = "[...document.querySelectorAll('.wide, .narrow')].map(e => e.clientWidth > 0)"
        assert sum(tab.evaluate(seen)) == 1
        assert tab.complaints == []
