"""The page in a browser: no complaint, tables sort, models turn, nothing sticks out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.gather import make_report
from benchmarks.report.page import render_page
from featplug.io.files import write_whole_text
from tests.benchmarks.report.twelve_methods import METHODS, write_twelve
from tests.report.conftest import browser as browser
from tests.report.conftest import open_at

pytestmark = pytest.mark.browser

FILLED = """
return [...document.querySelectorAll("canvas")].map((canvas) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  let [left, right, top, bottom] = [width, 0, height, 0];
  for (let i = 0; i < width * height; i++) {
    if (!data[4 * i + 3]) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
  }
  return [left / width, right / width, top / height, bottom / height];
});
"""
"""Script that returns the box of what is drawn on each canvas, as fractions of its sides."""


@pytest.fixture(scope="module")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of all runs, compared with themselves."""
    path = tmp_path_factory.mktemp("page") / "it's a page.html"
    compared = (runs / "reconstruction", runs / "reconstruction")
    write_whole_text(path, render_page(make_report([runs], compared)))
    return path


@pytest.fixture(scope="module")
def twelve(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of twelve methods, as large as such pages are."""
    root = tmp_path_factory.mktemp("twelve")
    write_whole_text(root / "page.html", render_page(make_report([write_twelve(root, model)])))
    return root / "page.html"


@pytest.fixture
def open_page(browser: Any, page: Path) -> Callable[..., Any]:
    """Open the page at some width, in light or dark."""
    return partial(open_at, browser, page)


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def column(browser: Any, table: str, number: int) -> list[str]:
    cells = f"#{table} .table .results tbody tr > :nth-child({number})"
    return [cell.text for cell in browser.find_elements("css selector", cells)]


def pixels(browser: Any, canvas: Any) -> str:
    """The picture on a canvas after the next frame is drawn; empty before the first."""
    return browser.execute_async_script(
        "const [canvas, done] = arguments;"
        "requestAnimationFrame(() => requestAnimationFrame(() =>"
        "  done(canvas.width === canvas.clientWidth ? canvas.toDataURL() : '')));",
        canvas,
    )


def background(browser: Any) -> list[int]:
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_and_nothing_is_complained_of(
    open_page: Callable[..., Any], width: int, scheme: str
) -> None:
    check(open_page(width, scheme), width, scheme)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_of_twelve_methods_is_small_and_nothing_is_complained_of(
    browser: Any, twelve: Path, width: int, scheme: str
) -> None:
    assert twelve.stat().st_size <= 12e6
    check(open_at(browser, twelve, width, scheme), width, scheme)
    rows = browser.execute_script(
        "return [...document.querySelectorAll('.of-pair')].map((row) =>"
        "  [...row.querySelectorAll('figcaption b')].map((name) => name.textContent))"
    )
    assert rows == [list(METHODS)] * 6
    cards = find(browser, "#summary").text
    assert all(text in cards for text in ("median position error", "pose AUC, 5°"))


def test_paper_has_every_model_in_the_colours_of_paper(browser: Any, twelve: Path) -> None:
    open_at(browser, twelve, 1280, "dark")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    drawn = browser.execute_script(FILLED)
    assert len(drawn) == len(METHODS)
    for left, right, top, bottom in drawn:  # the scene fills the frame, and is in its middle
        assert max(right - left, bottom - top) > 0.8
        assert left + right == pytest.approx(1, abs=0.15)
        assert top + bottom == pytest.approx(1, abs=0.15)
    assert background(browser) == [255, 255, 255]
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert background(browser) != [255, 255, 255]


def check(browser: Any, width: int, scheme: str) -> None:
    """Check that nothing sticks out of the page, and that the browser has no complaint."""
    browser.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    browser.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert all((level > 200) == (scheme == "light") for level in background(browser))
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    assert browser.execute_script("return typeof evil") == "undefined"


def test_tables_sort_by_number_and_by_word(open_page: Callable[..., Any]) -> None:
    browser = open_page()
    assert column(browser, "table-0", 1) == ["sift", "doap", "lisrd"]
    head = "#table-0 .table .results th:nth-child({}) button"
    points = next(
        number
        for number in range(1, 9)
        if "sparse points" in find(browser, f"#table-0 .table .results th:nth-child({number})").text
    )
    find(browser, head.format(points)).click()
    assert column(browser, "table-0", 1)[-1] == "sift"
    find(browser, head.format(points)).click()
    assert column(browser, "table-0", 1)[0] == "sift"
    cell = find(browser, f"#table-0 .table .results th:nth-child({points})")
    assert cell.get_attribute("aria-sort") == "ascending"
    find(browser, head.format(1)).click()
    assert column(browser, "table-0", 1) == ["doap", "lisrd", "sift"]


def test_all_columns_are_shown_where_asked_for(open_page: Callable[..., Any]) -> None:
    browser = open_page()
    shown = "return [...document.querySelectorAll('#table-1 .results thead th')]"
    shown += ".filter((cell) => cell.offsetWidth).length"
    before = browser.execute_script(shown)
    find(browser, "#table-1 .all-columns input").click()
    assert browser.execute_script(shown) == before + 7  # MMA at 2, 4, 6 … 9 px and the AUC


def test_a_model_turns_with_the_mouse_and_the_others_with_it(open_page: Callable[..., Any]) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import WebDriverWait

    browser = open_page()
    first, second = browser.find_elements("css selector", "canvas")[:2]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", first)
    blank = browser.execute_script(
        "const c = document.createElement('canvas'); c.width = arguments[0].clientWidth;"
        "c.height = arguments[0].clientHeight; return c.toDataURL()",
        first,
    )
    wait = WebDriverWait(browser, 20)
    wait.until(lambda _: pixels(browser, second) not in ("", blank))
    before = pixels(browser, first), pixels(browser, second)
    ActionChains(browser).drag_and_drop_by_offset(first, 80, 30).perform()
    wait.until(lambda _: pixels(browser, second) != before[1])
    turned = pixels(browser, first)
    assert turned != before[0]
    first.send_keys("+")
    wait.until(lambda _: pixels(browser, first) != turned)
    first.send_keys("0", Keys.ARROW_LEFT, Keys.ARROW_RIGHT, "0")
    wait.until(lambda _: pixels(browser, first) == before[0])


def test_curves_are_read_off_along_the_axis(open_page: Callable[..., Any]) -> None:
    from selenium.webdriver import Keys

    browser = open_page()
    chart = find(browser, ".chart")
    read = {row.text.rsplit(" ", 1)[0]: row for row in chart.find_elements("css selector", "tr")}
    assert read["mtldesc"].text.endswith("0.210")  # 0.7 × 3 / 10
    find(browser, ".chart svg[role=img]").send_keys(Keys.ARROW_RIGHT)
    assert read["mtldesc"].text.endswith("0.280")
    assert chart.find_element("css selector", "output").text == "4"


def test_pictures_are_enlarged_and_closed_by_the_keyboard(open_page: Callable[..., Any]) -> None:
    from selenium.webdriver import Keys

    browser = open_page()
    button = find(browser, ".enlarge")
    button.send_keys(Keys.ENTER)
    dialog = find(browser, "#lightbox")
    assert dialog.is_displayed()
    dialog.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
