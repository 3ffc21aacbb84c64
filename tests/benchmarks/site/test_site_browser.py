"""A site in a browser: no complaint, filters filter, nothing sticks out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.record import write_run
from benchmarks.site.site_folder import write_site
from benchmarks.site.site_pages import make_site
from tests.benchmarks.report.conftest import EVIL, make_run, matching_row
from tests.benchmarks.site.conftest import write_sendable_run
from tests.report.conftest import browser as browser
from tests.report.conftest import open_at

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of all runs, with a name that is far too long."""
    root = tmp_path_factory.mktemp("site")
    write_sendable_run(root / "runs" / "mine")
    rows = [
        matching_row("x" * 20_000, "all", 0.3, matcher="m" * 500, not_comparable="why " * 200),
        matching_row(f"\u202e{EVIL}", "all", 0.3, matcher='"><script>evil=1</script>'),
    ]
    write_run(root / "long", make_run("matching", rows, options={"max_keypoints": 512}))
    write_site(root / "a site", make_site([runs, root], "It's <b>a</b> record")[1])
    return root / "a site"


@pytest.fixture
def open_page(browser: Any, site: Path) -> Callable[..., Any]:
    """Open a page at some width, in light or dark."""
    return lambda name, *how: partial(open_at, browser, site / name)(*how)


def shown(browser: Any) -> list[str]:
    rows = browser.find_elements("css selector", "#results-table tbody tr")
    return [row.find_element("css selector", "th").text for row in rows if row.is_displayed()]


PAGES = ["index.html", "methods.html", "tables/matching-oxford-oxford-mma.html"]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_and_nothing_is_complained_of(
    open_page: Callable[..., Any], name: str, width: int, scheme: str
) -> None:
    browser = open_page(name, width, scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    browser.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    assert browser.execute_script("return typeof evil") == "undefined"


def test_rows_are_filtered_and_the_address_keeps_it(open_page: Callable[..., Any]) -> None:
    browser = open_page(PAGES[-1])
    everything = shown(browser)
    assert "lisrd" in everything
    find = partial(browser.find_element, "css selector")
    find(".filters [name=text]").send_keys("SIFT ratio")
    assert shown(browser) == [name for name in everything if name.startswith("sift + NN-ratio")]
    assert find(".filters output").text == f"1 of {len(everything)} rows"
    address = browser.current_url
    assert address.endswith("#text=SIFT+ratio")
    browser.get("about:blank")
    browser.get(address)
    assert len(shown(browser)) == 1
    find(".filters button").click()
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert shown(browser) == everything
    find(".filters [name=comparable] [value=no]").click()
    assert [len(name) for name in shown(browser)] == [90]
    find(".filters button").click()
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    find(".filters [name=keypoints] [value='512']").click()
    assert len(shown(browser)) == 2
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []


def test_links_lead_from_page_to_page(open_page: Callable[..., Any]) -> None:
    browser = open_page("index.html")
    find = partial(browser.find_element, "css selector")
    find("#index a[href*=oxford]").click()
    assert browser.title == "Oxford affine"
    browser.find_element("link text", "lisrd").click()
    assert browser.current_url.endswith("methods.html#lisrd")
    find(".byline a").click()
    assert browser.title == "It's <b>a</b> record"
    browser.find_elements("link text", "results.json")[0].click()
    assert '"schema_version"' in browser.page_source
