"""The report in a browser: opened, used, and printed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dhs.report import report_cases as cases

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MOST_MILLISECONDS = 15_000
WIDTHS = (360, 800, 1280)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> cases.WrittenReport:
    return cases.whole_report(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, timeout=MOST_MILLISECONDS
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def faults() -> list[str]:
    return []


@pytest.fixture(scope="module")
def page(browser: Any, result: cases.WrittenReport, faults: list[str]) -> Any:
    """Open the report; every console message, error and request counts as a fault."""
    opened = browser.new_page(viewport={"width": 800, "height": 900}, reduced_motion="reduce")
    opened.set_default_timeout(MOST_MILLISECONDS)
    address = result.path.as_uri()
    opened.on("console", lambda said: faults.append(f"{said.type}: {said.text}"))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on(
        "request",
        lambda asked: (
            None
            if asked.url == address or asked.url.startswith("data:")
            else faults.append(asked.url)
        ),
    )
    opened.goto(address)
    opened.wait_for_selector("#map-0 .heatmaplayer image")
    return opened


@pytest.fixture(autouse=True)
def _no_faults(faults: list[str]) -> Iterator[None]:
    yield
    assert faults == []


def test_every_chart_is_drawn(page: Any, result: cases.WrittenReport) -> None:
    drawn = page.evaluate("charts.map((key) => document.getElementById(key).data.length)")
    assert len(drawn) == result.page.count("data-chart=") == 7
    assert all(drawn)


def test_keys_reach_all_that_can_be_used(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.closest('.gallery')?.className"
            )
        )
        if "gallery" in reached:
            break
    assert {"map-0-slider", "gallery"} <= reached
    # Only the focused image shows its parameters.
    opacity = "(k) => getComputedStyle(document.querySelectorAll('.parameters')[k]).opacity"
    assert [page.evaluate(opacity, k) for k in (0, 1)] == ["1", "0"]


def test_the_slider_is_moved_with_keys(page: Any, result: cases.WrittenReport) -> None:
    slider = page.locator("#map-0-slider")
    levels = result.data("levels", "map-0")
    before = page.locator("#map-0-state").inner_text()
    place = int(slider.input_value())
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    step = levels["steps"][place + 2]
    after = page.locator("#map-0-state").inner_text()
    assert after != before
    assert step["rate"] in after
    assert step["completeness"] in after
    assert slider.get_attribute("aria-valuetext") == step["said"]
    shown = page.evaluate("document.getElementById('map-0').data[1].z")
    expected = [
        [
            None if tried < levels["fewest"] else pytest.approx(found / tried)
            for found, tried in zip(*row, strict=True)
        ]
        for row in zip(step["found"], levels["tried"], strict=True)
    ]
    assert shown == expected
    cell = page.locator("[data-table=map-0] tbody td").first
    mark = levels["marks"][0][0]
    assert cell.text_content() == f"{shown[0][0]:.2f} of {levels['tried'][0][0]}{mark}"
    assert page.locator("[data-table=map-0] tbody td").last.text_content() == "n/a"
    slider.press("Home")
    assert levels["steps"][0]["rate"] in page.locator("#map-0-state").inner_text()


def test_every_picture_says_what_it_shows(page: Any) -> None:
    alternatives = page.evaluate("[...document.images].map((image) => image.alt.trim())")
    assert len(alternatives) > 12
    assert all(alternatives)
    labels = page.evaluate(
        "[...document.querySelectorAll('[role=img]')].map((e) => e.ariaLabel.length)"
    )
    assert min(labels) > 20
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate(
        "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(page: Any, width: int, tmp_path: Path) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    widest = (
        "Math.max(document.documentElement.scrollWidth, "
        "document.querySelector('#training-auc .main-svg').getBoundingClientRect().right)"
    )
    # Plotly adapts to the window after a delay, and the page's policy forbids `wait_for_function`.
    for _ in range(MOST_MILLISECONDS // 50):
        if page.evaluate(widest) <= width:
            break
        page.wait_for_timeout(50)
    assert page.evaluate(widest) <= width
    picture = tmp_path / f"report-{width}.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size > 10_000


def test_paper_has_no_slider_but_what_it_says(page: Any) -> None:
    page.set_viewport_size({"width": 690, "height": 900})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("#map-0-slider").is_visible()
    assert not page.locator("nav").is_visible()
    for shown in ("#map-0-state", "#map-0", "[data-table=map-0]"):
        assert page.locator(shown).is_visible(), shown
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 690
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("#map-0-slider").is_visible()
    assert not page.locator("[data-table=map-0]").is_visible()


def test_nasty_names_are_shown_and_not_run(page: Any) -> None:
    assert cases.NASTY in page.locator("#plan").inner_text()
    assert json.dumps(page.title()).startswith('"Lens finder report')
