"""The page of a run: what it shows, how it looks in a browser, and that it never costs a result."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from featplug.report.run_page import RunPage
from pipelines.datasets.aachen import AachenOptions
from pipelines.localize import localize
from pipelines.run_report import PAGE, files_line, write_report
from pipelines.sfm import SfmOptions, reconstruct
from tests.report.conftest import browser as browser
from tests.report.conftest import open_at
from tests.report.page_reader import PageReader, read_page
from tests.scenes.pictures import textured_image

EVIL = "<b>evil.png"


@pytest.fixture(scope="module")
def reconstructed(room_corner: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a run of six photographs, one of another place, and a damaged one."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("run")
    images = Path(shutil.copytree(room_corner / "images", folder / "corner" / "images"))
    Image.fromarray(textured_image(7, 480, 360)).save(images / EVIL)
    (images / "damaged.jpg").write_bytes(b"\xff\xd8 not a photograph")
    reconstruct(SfmOptions(images, outputs=folder / "outputs"))
    return folder / "outputs"


@pytest.fixture(scope="module")
def localized(aachen_room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a localization."""
    outputs = tmp_path_factory.mktemp("localized") / "outputs"
    localize(AachenOptions(dataset=aachen_room, outputs=outputs))
    return outputs


def read(folder: Path) -> PageReader:
    return read_page((folder / PAGE).read_text("utf-8"))


def payloads(page: PageReader) -> list[dict[str, Any]]:
    return [json.loads(text) for tag, text in page.texts if tag == "script" and text[:1] == "{"]


def test_the_page_of_a_reconstruction_shows_all_of_it(reconstructed: Path) -> None:
    page = read(reconstructed)
    texts = [text for _, text in page.texts]
    assert "corner" in texts
    assert "6 of 8" in texts
    model, matrix = payloads(page)
    assert len(model["cameras"]) == 6
    assert model["queries"] == []
    assert matrix["names"] == sorted(matrix["names"])
    assert dict(zip(matrix["names"], matrix["registered"], strict=True))[EVIL] == 0
    assert sum(matrix["registered"]) == 6
    assert any("damaged.jpg" in text for text in texts)
    assert any(text.startswith("has ") for text in texts), "why the other photograph is left out"
    assert EVIL in texts, "a name is text, and no tag"
    assert sum("src" in image for image in page.all("img")) == 2
    for stage in json.loads((reconstructed / "results.json").read_text())["stages"]:
        assert stage in texts


def test_the_page_of_a_localization_shows_queries_in_the_model(localized: Path) -> None:
    page = read(localized)
    texts = [text for _, text in page.texts]
    record = json.loads((localized / "results.json").read_text())
    (model,) = payloads(page)
    num_localized = len(json.loads((localized / "logs.json").read_text())["loc"])
    num_localized -= len(record["data"]["not_localized"])
    assert len(model["queries"]) == num_localized > 0
    assert len(model["cameras"]) > 0
    for condition in record["data"]["conditions"]:
        assert condition in texts
    for name in record["data"]["not_localized"]:
        assert name in texts
    assert sum("src" in image for image in page.all("img")) >= 1


def test_nothing_is_fetched_from_elsewhere_and_links_lead_somewhere(reconstructed: Path) -> None:
    page = read(reconstructed)
    for _, attributes in page.found:
        for name in ("src", "href"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:"))
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {str(attributes["href"])[1:] for attributes in page.all("a")} <= set(ids)
    assert (reconstructed / PAGE).stat().st_size < 1_000_000


def test_the_last_line_of_a_run_leads_to_the_page(reconstructed: Path, tmp_path: Path) -> None:
    line = files_line(["sparse/0", "results.json"], reconstructed)
    assert line.endswith(str(reconstructed / PAGE))
    assert PAGE not in files_line(["sparse/0", "results.json"], tmp_path)


@pytest.mark.parametrize("gone", ["database.db", "sparse", "images of the run"])
def test_what_cannot_be_shown_is_named_on_the_page(
    reconstructed: Path, tmp_path: Path, gone: str
) -> None:
    folder = Path(shutil.copytree(reconstructed, tmp_path / "run", symlinks=True))
    if gone == "images of the run":
        record = json.loads((folder / "results.json").read_text())
        record["data"]["images"] = str(tmp_path / "gone")
        (folder / "results.json").write_text(json.dumps(record))
    elif gone == "sparse":
        shutil.rmtree(folder / "sparse")
    else:
        (folder / gone).write_bytes(b"SQLite format 3\0 damaged")
    assert write_report(folder)
    page = read(folder)
    texts = " ".join(text for _, text in page.texts)
    assert "not shown" in texts
    assert "6 of 8" in texts


def test_a_page_that_fails_costs_no_results(
    room_corner: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = SfmOptions(room_corner / "images", pairs="sequential", outputs=tmp_path)
    reconstruct(options)
    before = (tmp_path / PAGE).read_text()
    assert "6 of 6" in before

    def fail(page: RunPage) -> str:
        raise RuntimeError("no template")

    monkeypatch.setattr("pipelines.run_report.render_run_page", fail)
    with caplog.at_level(logging.WARNING):
        results = reconstruct(options)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert not (tmp_path / PAGE).exists(), "the page of an earlier run"
    (line,) = [text for text in caplog.messages if PAGE in text]
    assert "no template" in line


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["reconstructed", "localized"])
def test_nothing_sticks_out_and_nothing_is_complained_of(
    browser: Any, request: pytest.FixtureRequest, kind: str, width: int, scheme: str
) -> None:
    open_at(browser, request.getfixturevalue(kind) / PAGE, width, scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    browser.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []


@pytest.mark.browser
def test_a_cell_of_the_matrix_is_read_by_mouse_and_keyboard(
    browser: Any, reconstructed: Path
) -> None:
    from selenium.webdriver import ActionChains, Keys

    open_at(browser, reconstructed / PAGE)
    canvas = browser.find_element("css selector", ".matrix canvas")
    readout = browser.find_element("css selector", ".matrix output")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    side = canvas.size["width"] / 7
    offset = int(-3 * side), int(-2 * side)  # from the middle: first column, second row
    ActionChains(browser).move_to_element_with_offset(canvas, *offset).perform()
    assert "00.png" in readout.text
    assert "01.png" in readout.text
    assert "inliers" in readout.text
    canvas.send_keys(Keys.ARROW_RIGHT)
    assert readout.text.startswith("01.png")
    before = browser.execute_script("return arguments[0].toDataURL()", canvas)
    browser.find_element("css selector", "input[value=connection]").click()
    assert browser.execute_script("return arguments[0].toDataURL()", canvas) != before
