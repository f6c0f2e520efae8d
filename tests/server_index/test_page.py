"""The page that encodes in the browser, in a real Chromium against a real service."""

import base64
import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import open_browser, skip_without_runtime
from playwright.sync_api import Browser, Page, expect
from running_service import run_service

from encoder.checkpoint import Checkpoint
from encoder.space import mint_space
from export.bundle import export_bundle
from export.runtime import QueryEncoder
from export.variants import plan_variants
from server_index.build import build_index
from server_index.encode import open_encoder
from server_index.index import Index
from server_index.service import ServiceSettings
from server_index.source import read_entries

CAMERA = ("--use-fake-device-for-media-stream",)


@pytest.fixture(scope="module")
def bundle(student: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_without_runtime()
    output = tmp_path_factory.mktemp("page") / "query"
    variants = plan_variants({"student": student}, precisions=("fp32", "fp16"), kinds=("photo",))
    export_bundle(variants, output)
    return output


@pytest.fixture(scope="module")
def index(saved: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("page") / "index"
    build_index(open_encoder(saved / "teacher"), read_entries(drawn), output)
    return output


@pytest.fixture(scope="module")
def address(index: Path, bundle: Path) -> Iterator[str]:
    with run_service(ServiceSettings(index, bundle=bundle, log=False)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser(*CAMERA) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with browser.new_context(locale="en-US") as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        open_page(page, address)
        yield page
        assert not faults


def open_page(page: Page, address: str) -> None:
    """Open the page; however busy this machine is, every encoder is fast enough."""
    page.goto(address)
    page.evaluate("document.getElementById('budget').value = 10000")


def choose(page: Page, file: Path | dict[str, Any]) -> None:
    page.set_input_files("#file", file)


def expect_answers(page: Page, count: int = 12) -> None:
    expect(page.locator("#answers li")).to_have_count(count, timeout=60_000)


def test_a_picture_is_encoded_here_and_only_its_vector_is_sent(
    page: Page, address: str, index: Path, bundle: Path, drawn: Path
) -> None:
    picture = sorted(drawn.rglob("*.jpg"))[0]
    asked: list[tuple[str, str, bytes]] = []
    page.context.on(
        "request", lambda one: asked.append((one.method, one.url, one.post_data_buffer or b""))
    )
    choose(page, picture)
    expect_answers(page)
    encoder = QueryEncoder(bundle, precision="fp16")
    with Index(index) as opened:
        hits = opened.search(encoder.encode(picture)[None], 12)[0]
    shown = page.locator("#answers li p:not(.score):not(.more)").all_inner_texts()
    assert shown == [hit.item.id for hit in hits]
    scores = [float(text) for text in page.locator("#answers .score").all_inner_texts()]
    assert scores == pytest.approx([hit.score for hit in hits], abs=2e-3)
    # Nothing but one vector was sent, and to nobody else.
    assert all(url.startswith((f"{address}/", "blob:")) for _, url, _ in asked)
    (body,) = [body for method, _, body in asked if method != "GET" or body]
    sent = json.loads(body)
    assert set(sent) == {"vector", "space", "k"}
    assert len(base64.b64decode(sent["vector"])) == 32 * 4
    assert f"{len(body)} bytes left this device" in page.inner_text("#sent")
    stages = page.locator("#stages th").all_inner_texts()
    assert stages == ["Decode", "Encode", "Search, with the network", "Together"]
    # Thumbnails are pictures.
    page.wait_for_function("document.querySelector('#answers img').naturalWidth > 0")
    assert page.evaluate("crossOriginIsolated")


def test_the_best_encoder_within_the_budget_is_taken(page: Page, drawn: Path) -> None:
    choose(page, sorted(drawn.rglob("*.jpg"))[0])
    # The smallest answers first; the budget allows the best.
    expect(page.locator("#measured")).to_contain_text("32 px, fp32 (in use)", timeout=60_000)
    page.locator("summary").click()
    page.locator("#encoder").select_option(
        label=page.locator("#encoder option").nth(2).inner_text()
    )
    expect(page.locator("#measured")).to_contain_text("32 px, fp16 (in use)")
    page.reload()
    choose(page, sorted(drawn.rglob("*.jpg"))[1])
    expect_answers(page)
    expect(page.locator("#measured")).to_contain_text("32 px, fp16 (in use)")


def test_choice_of_an_encoder(page: Page) -> None:
    def choose_among(measured: dict[str, float | None], budget: float) -> list[str | None]:
        found: list[str | None] = page.evaluate(
            """async ([measured, budget]) => {
                const { choose, listUsable } = await import("/runtime/choice.js");
                const entry = (size, precision, bytes, cosine, rest = {}) => ({
                    encoder: `${precision}@${size}`, input: "photo", form: "float", dim: 8, size,
                    precision, bytes, alignment: { mean_cosine: cosine }, ...rest });
                const encoders = [entry(56, "int8", 4, 0.7), entry(56, "fp32", 14, 0.7),
                    entry(112, "fp32", 14, 0.9), entry(112, "int8", 4.1, 0.9),
                    entry(224, "fp32", 14, 1, { input: "pixels" }),
                    entry(224, "int8", 3, 1, { form: "int8" }),
                    entry(225, "fp32", 3, 1, { dim: 4 })];
                const usable = listUsable({ space: { dim: 8 }, encoders });
                const { use, next } = choose(usable, measured, budget);
                return [use?.encoder ?? null, next?.encoder ?? null];
            }""",
            [measured, budget],
        )
        return found

    assert choose_among({}, 50) == [None, "int8@56"]
    # Four times the pixels are taken to cost four times as much.
    assert choose_among({"int8@56": 10}, 50) == ["int8@56", "fp32@112"]
    assert choose_among({"int8@56": 10}, 30) == ["int8@56", "fp32@56"]
    both = {"int8@56": 10.0, "fp32@56": 11.0, "fp32@112": 60.0, "int8@112": 55.0}
    assert choose_among(both, 50) == ["fp32@56", None]
    assert choose_among({"int8@56": 10, "fp32@112": 60}, 61) == ["fp32@112", None]
    # One that failed is never tried again; where none is fast enough the fastest is used.
    assert choose_among({"int8@56": 10, "fp32@112": None}, 50) == ["int8@56", "int8@112"]
    assert choose_among({"int8@56": 10, "fp32@112": 60}, 1) == ["int8@56", None]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("broken.jpg", b"\xff\xd8\xff\xe0" + b"x" * 500, "not a picture"),
        ("words.png", b"no picture at all, only words" * 10, "not a picture"),
        ("empty.jpg", b"", "empty"),
        (
            "huge.png",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 30000, 20000) + bytes(25),
            "30000×20000 pixels",
        ),
        (
            "huge.jpg",
            b"\xff\xd8\xff\xe0\0\x10" + bytes(14) + b"\xff\xc0\0\x11\x08"
            + struct.pack(">HH", 60000, 50000) + bytes(20),
            "50000×60000 pixels",
        ),
    ],
)  # fmt: skip
def test_a_picture_that_cannot_be_used_is_told(
    page: Page, drawn: Path, name: str, data: bytes, told: str
) -> None:
    choose(page, {"name": name, "mimeType": "image/jpeg", "buffer": data})
    expect(page.locator("#error")).to_contain_text(told, timeout=60_000)
    assert page.locator("#answers li").count() == 0 and page.locator("#preview").is_hidden()
    # The page goes on.
    choose(page, sorted(drawn.rglob("*.jpg"))[0])
    expect_answers(page)
    assert page.locator("#error").is_hidden()


def test_the_camera(browser: Browser, page: Page, address: str) -> None:
    # Without permission it is denied.
    page.click("#camera-on")
    expect(page.locator("#error")).to_contain_text("The camera was not allowed")
    with browser.new_context(permissions=["camera"]) as context:
        allowed = context.new_page()
        allowed.goto(address)
        allowed.click("#camera-on")
        expect(allowed.locator("#camera-take")).to_be_focused(timeout=30_000)
        allowed.keyboard.press("Enter")
        expect_answers(allowed)
        assert allowed.locator("#camera").is_hidden()
        assert allowed.evaluate("document.getElementById('camera').srcObject === null")


def test_a_server_that_is_down_is_told_and_asked_again(page: Page, drawn: Path) -> None:
    choose(page, sorted(drawn.rglob("*.jpg"))[1])
    expect_answers(page)
    page.route("**/v1/search", lambda route: route.abort())
    choose(page, sorted(drawn.rglob("*.jpg"))[0])
    expect(page.locator("#error")).to_contain_text("does not answer", timeout=60_000)
    # Another picture's answers are not shown beside this one.
    assert page.locator("#answers li").count() == 0 and page.locator("#facts").is_hidden()
    page.unroute("**/v1/search")
    page.click("#retry")
    expect_answers(page)
    assert page.locator("#error").is_hidden() and page.locator("#retry").is_hidden()


def test_what_does_not_arrive_once_is_fetched_again(
    browser: Browser, address: str, drawn: Path
) -> None:
    """An encoder, and the runtime itself."""
    for pattern in ("**/bundle/*.onnx*", "**/runtime/vendor/*.mjs"):
        with browser.new_context(service_workers="block") as context:
            page = context.new_page()
            page.route(pattern, lambda route: route.fulfill(status=503))
            page.goto(address)
            expect(page.locator("#error")).not_to_be_empty(timeout=60_000)
            page.unroute(pattern)
            choose(page, sorted(drawn.rglob("*.jpg"))[0])
            expect_answers(page)
            assert page.locator("#error").is_hidden()


def test_a_browser_that_keeps_nothing(browser: Browser, address: str, drawn: Path) -> None:
    with browser.new_context(service_workers="block") as context:
        page = context.new_page()
        page.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); }")
        fetched: list[str] = []
        page.on("request", lambda one: fetched.append(one.url))
        open_page(page, address)
        choose(page, sorted(drawn.rglob("*.jpg"))[0])
        # It measures, and goes on to the better one; once.
        expect(page.locator("#measured")).to_contain_text("32 px, fp32 (in use)", timeout=60_000)
        choose(page, sorted(drawn.rglob("*.jpg"))[1])
        expect_answers(page)
        assert len([url for url in fetched if ".onnx" in url]) == 2


def test_settings_may_change_while_pictures_are_encoded(
    page: Page, index: Path, bundle: Path, drawn: Path
) -> None:
    expect(page.locator("#status")).to_have_text("Ready.", timeout=60_000)
    page.locator("summary").click()
    first, second, third = sorted(drawn.rglob("*.jpg"))[:3]
    for picture, option in ((first, 1), (second, 2), (third, 1)):
        choose(page, picture)
        page.locator("#encoder").select_option(index=option)
    expect_answers(page)
    expect(page.locator("#measured")).to_contain_text("32 px, fp32 (in use)", timeout=60_000)
    # The last picture's answers are shown.
    with Index(index) as opened:
        vector = QueryEncoder(bundle, precision="fp32").encode(third)
        wanted = opened.search(vector[None], 1)[0][0].item.id
    expect(page.locator("#answers li img").first).to_have_attribute("alt", f"Picture of {wanted}")
    assert page.locator("#error").is_hidden()


def test_offline_all_works_but_the_search(page: Page, drawn: Path) -> None:
    choose(page, sorted(drawn.rglob("*.jpg"))[0])
    expect(page.locator("#measured")).to_contain_text("(in use)", timeout=60_000)
    page.context.set_offline(True)
    page.reload()
    expect(page.locator("#status")).to_have_text("Ready.", timeout=60_000)
    choose(page, sorted(drawn.rglob("*.jpg"))[1])
    expect(page.locator("#error")).to_contain_text("This device is offline", timeout=60_000)
    page.context.set_offline(False)
    page.click("#retry")
    expect_answers(page)


def test_a_bundle_of_another_space_is_told(
    browser: Browser, index: Path, student: Checkpoint, drawn: Path, tmp_path: Path
) -> None:
    other = dataclasses.replace(student, space=mint_space("teacher", 32, "another"))
    export_bundle(
        plan_variants({"other": other}, precisions=("fp32",), kinds=("photo",)), tmp_path / "other"
    )
    settings = ServiceSettings(index, bundle=tmp_path / "other", log=False)
    with run_service(settings) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        choose(page, sorted(drawn.rglob("*.jpg"))[0])
        error = page.locator("#error")
        expect(error).to_contain_text("does not understand this encoder", timeout=60_000)
        expect(error).to_contain_text(student.space.id)


def test_with_a_keyboard_on_a_phone_in_the_dark(browser: Browser, address: str) -> None:
    small = {"width": 320, "height": 640}
    with browser.new_context(viewport=small, color_scheme="dark", has_touch=True) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(21, 24, 28)"
        reached = []
        for _ in range(4):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.id || document.activeElement.tagName")
            )
        assert reached == ["A", "file", "camera-on", "SUMMARY"]
        # Everything that can be operated has a name, and what changes is announced.
        names = page.evaluate(
            "[...document.querySelectorAll('button, input, select, summary')].map("
            "(one) => one.labels?.[0]?.textContent || one.textContent)"
        )
        assert all(name.strip() for name in names)
        assert page.locator("[role=status]").count() == page.locator("[role=alert]").count() == 1
