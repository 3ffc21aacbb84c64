"""The page is whole, whatever the results are called, and the command says what it made."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.record import Curve, ModelSize, Picture, write_run
from benchmarks.report.__main__ import main
from benchmarks.report.charts import Colours, bar_charts, curve_charts
from benchmarks.report.gather import Report, make_report
from benchmarks.report.page import render_page
from benchmarks.report.result_tables import make_tables
from benchmarks.report.runs import LoadedRun, load_runs
from benchmarks.report.stage_chart import stage_chart
from featplug.report.inline_images import MAX_SIZE, inline_picture, longest_side
from tests.benchmarks.report.conftest import (
    EVIL,
    make_run,
    matching_row,
    reconstruction_row,
    write_record,
)
from tests.benchmarks.report.test_evidence import row_of
from tests.documented import metric
from tests.report.page_reader import PageReader, read_page


@pytest.fixture(scope="module")
def report(runs: Path) -> Report:
    return make_report([runs])


@pytest.fixture(scope="module")
def page(report: Report) -> PageReader:
    return read_page(render_page(report, datetime(2026, 1, 2, tzinfo=UTC)))


def test_nothing_is_fetched_from_elsewhere(page: PageReader) -> None:
    for tag, attributes in page.found:
        for name in ("src", "href", "data", "action", "srcset"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
    policy = next(a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


def test_names_from_results_are_text_and_never_tags(page: PageReader) -> None:
    texts = [text for _, text in page.texts]
    assert EVIL in texts
    assert any("<i>bark</i>" in text for text in texts)
    assert page.all("i") == []
    scripts = [attributes for attributes in page.all("script") if "type" not in attributes]
    assert len(scripts) == 2  # ours
    assert not any(tag == "script" and text.startswith("evil") for tag, text in page.texts)


def test_links_lead_somewhere(page: PageReader) -> None:
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = {str(attributes["href"])[1:] for attributes in page.all("a")}
    assert targets <= set(ids)


def test_models_pictures_curves_and_commands_are_in_the_page(page: PageReader) -> None:
    models = [json.loads(text) for tag, text in page.texts if tag == "script" and text[:1] == "{"]
    assert len(models) == len(page.all("canvas")) == 3
    assert {len(model["cameras"]) for model in models} == {6}
    [image] = [a for a in page.all("img") if "src" in a]
    assert str(image["src"]).startswith("data:image/jpeg;base64,/9j/")
    assert (image["width"], image["height"]) == ("1100", "275")
    texts = [text for _, text in page.texts]
    assert "python -m benchmarks.matching --dataset 'it'\"'\"'s here'" in texts
    assert "2,001" in texts
    assert "mean matching accuracy, all" in texts


def test_what_cannot_be_read_is_named_on_the_page(report: Report, page: PageReader) -> None:
    reasons = {problem.subject: problem.reason for problem in report.problems}
    assert "There is no image" in reasons["matching: lost"]
    assert "no COLMAP model" in reasons[f"matching: {EVIL}"]
    assert reasons["matching: <i>bark</i>"] == "H1to2p is not 3×3"
    texts = [text for _, text in page.texts]
    assert all(problem.reason in texts for problem in report.problems)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder next to a run, with a picture and a model that are no business of the run."""
    folder = tmp_path / "private"
    folder.mkdir()
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(folder / "secret.png")
    (tmp_path / "run").mkdir()
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("../private/secret.png", "{outside}/secret.png", "a/../../private/secret.png"),
        *("file://{outside}/secret.png", "http://127.0.0.1:9/secret.png", "link.png"),
        *("linked/secret.png", "loop.png", "pipe.png", ".", "", "x" * 300),
    ],
)
def test_pictures_from_outside_of_the_run_are_left_out_and_named(
    outside: Path, tmp_path: Path, name: str
) -> None:
    run = tmp_path / "run"
    (run / "link.png").symlink_to(outside / "secret.png")
    (run / "linked").symlink_to("../private")
    (run / "loop.png").symlink_to("loop.png")
    os.mkfifo(run / "pipe.png")
    picture = Picture(name.replace("{outside}", str(outside)), "the picture")
    write_run(run, make_run("matching", [matching_row("sift", "all", 0.5, pictures=[picture])]))
    report = make_report([run])
    assert report.sections[0].pictures == []
    [problem] = report.problems
    assert problem.subject == "run: the picture"
    assert str(run) in problem.reason
    assert "base64" not in render_page(report)


@pytest.mark.parametrize("name", ["../private", "linked", "with_links"])
def test_models_from_outside_of_the_run_are_left_out_and_named(
    outside: Path, tmp_path: Path, model: Path, name: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(model, outside, dirs_exist_ok=True)
    (run / "linked").symlink_to(outside)
    (run / "with_links").mkdir()
    for file in outside.glob("*.bin"):
        (run / "with_links" / file.name).symlink_to(file)
    write_run(run, make_run("matching", [matching_row("sift", "all", 0.5, model=name)]))
    report = make_report([run])
    assert report.sections[0].scenes == []
    [problem] = report.problems
    assert "copy" in problem.reason


def test_a_record_that_is_a_link_out_of_its_folder_is_not_read(
    outside: Path, runs: Path, tmp_path: Path
) -> None:
    shutil.copy(runs / "matching" / "results.json", outside)
    (tmp_path / "run" / "results.json").symlink_to(outside / "results.json")
    loaded, problems = load_runs([runs / "matching", tmp_path / "run"])
    assert len(loaded) == 1
    assert "run/results.json is a link" in problems[0].reason


def test_a_picture_too_large_for_a_page_is_named(tmp_path: Path) -> None:
    content = bytearray(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    content += struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    content += struct.pack(">I", zlib.crc32(content[12:]))
    content += struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png has 30000×30000 pixels.*make it smaller"):
        inline_picture(tmp_path / "a.png", "a")


def test_models_and_pairs_by_inliers_are_listed_without_an_arrow(tmp_path: Path) -> None:
    rows = [
        reconstruction_row(
            feature,
            0,
            100,
            models=[ModelSize(5, 1200), ModelSize(2, 30)],
            verified_pairs_by_inliers={"15-29": 7, "300 or more": 1},
        )
        for feature in ("sift", "doap")
    ]
    for row in rows:
        row.metrics["verified_pairs"] = metric(8, "pairs")
    write_run(tmp_path, make_run("reconstruction", rows))
    report = make_report([tmp_path])
    page = PageReader()
    page.feed(render_page(report))
    texts = [text for _, text in page.texts]
    assert texts.count("5 images, 1,200 points; 2 images, 30 points") == 2
    heads = [text for tag, text in page.texts if tag == "button"]
    assert "pairs, 15-29 inliers" in heads
    assert "pairs, 300 or more inliers" in heads
    assert report.sections[0].table.metrics["verified_pairs"].better is None
    assert report.sections[0].bars["all"]
    assert "verified pairs" not in {chart.title for chart in report.sections[0].bars["all"]}


def test_a_record_without_hashes_has_a_page(tmp_path: Path) -> None:
    row = matching_row("sift", "all", 0.5, weights=[{"name": "own"}])
    write_run(tmp_path, make_run("matching", [row], data={"oxford": {"path": "/data"}}))
    assert "weights of sift" in render_page(make_report([tmp_path]))


def test_a_page_of_many_pictures_says_what_it_leaves_out(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.report.gather.MAX_BYTES", 0)
    report = make_report([runs / "matching"])
    [section] = report.sections
    assert (section.pictures, section.num_more_pictures) == ([], 1)
    assert "1 more pictures are in the folders" in render_page(report)


def test_pictures_of_one_pair_stand_in_one_row_for_all_features(runs: Path, tmp_path: Path) -> None:
    pairs = [["graf/1.ppm", "graf/2.ppm"], ["graf/1.ppm", "bark/3.ppm"]]
    shutil.copy(runs / "matching" / "matches.png", tmp_path)
    rows = []
    for feature, first in (("sift", 0), ("doap", 1), ("lisrd", 0)):
        pictures = [
            Picture(
                "matches.png", f"{feature}, pair {i}: 7 of 9", pairs[i], {"right": 7, "wrong": i}
            )
            for i in range(first, 2)
        ]
        rows.append(matching_row(feature, "all", 0.5, pictures=pictures, matcher="NN-mutual"))
    write_run(tmp_path, make_run("matching", rows))
    report = make_report([tmp_path])
    [section] = report.sections
    shown = {
        row.title: [each.series if each.picture else None for each in row.pictures]
        for row in section.pictures
    }
    assert shown == {
        "graf/1.ppm and 2.ppm": ["sift", None, "lisrd"],
        "graf/1.ppm and bark/3.ppm": ["sift", "doap", "lisrd"],
    }
    texts = [text for _, text in read_page(render_page(report)).texts]
    assert texts.count("7 right") == 5
    assert texts.count("no picture") == 1


def test_many_pictures_are_smaller() -> None:
    assert longest_side(0) == longest_side(48) == MAX_SIZE
    assert 192 * longest_side(192) ** 2 == pytest.approx(48 * MAX_SIZE**2, rel=0.01)


def test_charts_are_drawn_to_scale() -> None:
    rows = [matching_row(name, "all", value) for name, value in (("a", 0.4), ("b", 0.8))]
    [table] = make_tables([LoadedRun(Path("x"), "x", make_run("matching", rows))])
    next(line for line in table.lines if line.series == "b").cells["mma_3"].verdict = "best"
    colours = Colours()
    [chart] = curve_charts(table, colours)
    assert [line.series for line in chart.readout] == ["b", "a"]
    assert chart.readout[0].y[chart.start] == pytest.approx(0.8 * 0.3)  # read off at 3 px
    at_one, at_ten = (
        float(chart.lines[0].path.strip("M").split("L")[i].split()[1]) for i in (0, 9)
    )
    by_value = {tick.label: tick.at for tick in chart.y_ticks}
    scale = by_value["0.2"] - by_value["0.4"]
    assert at_one - at_ten == pytest.approx((0.4 - 0.04) / 0.2 * scale, abs=0.2)
    bars = {c.title: c.bars for charts in bar_charts(table, colours).values() for c in charts}
    for threshold in (3, 10):  # one axis for all fractions
        ends = [bar.end for bar in bars[f"MMA {threshold}\N{NO-BREAK SPACE}px"]]
        assert ends == [5.0 * threshold, 10.0 * threshold]
    assert stage_chart(table) is None


def test_charts_of_all_parts_have_the_same_axes() -> None:
    rows = [
        matching_row(feature, part, accuracy)
        for part, accuracy in (("viewpoint", 0.2), ("illumination", 0.8))
        for feature in ("a", "b")
    ]
    [table] = make_tables([LoadedRun(Path("x"), "x", make_run("matching", rows))])
    charts = curve_charts(table, Colours())
    assert len(charts) == 2
    assert charts[0].y_ticks == charts[1].y_ticks
    assert charts[0].x_ticks == charts[1].x_ticks
    ends = {
        part: next(c.bars[0].end for c in charts if c.title.startswith("MMA 10"))
        for part, charts in bar_charts(table, Colours()).items()
    }
    assert ends == {"viewpoint": 25.0, "illumination": 100.0}


def test_a_part_that_has_all_pairs_has_no_second_chart() -> None:
    rows = [
        matching_row(name, part, 0.5 if part != "viewpoint" else 0.4)
        for part in ("all", "illumination", "viewpoint")
        for name in ("a", "b")
    ]
    [table] = make_tables([LoadedRun(Path("x"), "x", make_run("matching", rows))])
    assert [chart.title.rpartition(", ")[2] for chart in curve_charts(table, Colours())] == [
        "all",
        "viewpoint",
    ]


def test_curves_of_one_quantity_are_named_by_what_they_are_over() -> None:
    curves = {
        "precision": Curve([0.0, 9.0], [1.0, 0.9], "right matches", "precision"),
        "precision_recall": Curve([0.0, 1.0], [1.0, 0.8], "recall", "precision"),
    }
    row = matching_row("a", "all", 0.5, curves=curves)
    [table] = make_tables([LoadedRun(Path("x"), "x", make_run("matching", [row]))])
    titles = [chart.title for chart in curve_charts(table, Colours())]
    assert titles == ["precision over right matches", "precision over recall"]


def test_points_that_confs_ship_with_are_on_their_curves() -> None:
    curves = {
        "a": Curve([0.0, 100.0, 300.0], [1.0, 0.9, 0.5], "right", "precision", [300.0, 0.5]),
        "b": Curve([0.0, 150.0], [1.0, 0.8], "right", "precision"),
    }
    rows = [matching_row(name, "all", 0.5, curves={"p": c}) for name, c in curves.items()]
    [table] = make_tables([LoadedRun(Path("x"), "x", make_run("matching", rows))])
    [chart] = curve_charts(table, Colours())
    a, b = chart.lines
    assert chart.marks_shipped
    assert a.shipped == pytest.approx([float(v) for v in a.path.split("L")[-1].split()], abs=0.1)
    assert b.shipped is None
    assert (chart.x[0], chart.x[-1]) == (0.0, 300.0)  # read off from the first x to the last
    assert a.y[-1] == 0.5
    assert b.y[-1] is None  # it ended before


def test_series_have_colours_and_dashes_of_their_own() -> None:
    colours = Colours()
    drawn = {(colours(str(i)), colours.dash(str(i))) for i in range(24)}
    assert len(drawn) == 24


def test_stages_are_stacked_to_the_slowest(report: Report) -> None:
    section = next(s for s in report.sections if s.table.benchmark == "reconstruction")
    chart = section.stages
    assert chart is not None
    segments = chart.seconds[0].segments
    assert [(s.stage, s.start, s.length) for s in segments] == [
        *(("extract", 0.0, 80.0), ("map", 80.0, 20.0))
    ]
    assert (chart.seconds[0].total, chart.memory[0].total) == ("10.0 s", "900 MiB")
    assert chart.cells["sift"]["map"] == "2.0 s, 300 MiB"
    assert not chart.has_reused


def test_stages_of_an_earlier_run_are_marked(tmp_path: Path) -> None:
    stages = {"extract": {"seconds": 8.0}, "map": {"seconds": 2.0}}
    rows = [
        reconstruction_row(feature, 0, 100, stages=stages, reused=reused)
        for feature, reused in (("sift", ["extract"]), ("doap", []))
    ]
    write_run(tmp_path, make_run("reconstruction", rows))
    [section] = make_report([tmp_path]).sections
    assert section.stages is not None
    assert section.stages.cells["sift"] == {"extract": "8.0 s (earlier run)", "map": "2.0 s"}
    assert section.stages.cells["doap"] == {"extract": "8.0 s", "map": "2.0 s"}
    assert "made by an earlier run" in render_page(make_report([tmp_path]))


def test_the_command_writes_the_page_and_says_what_is_missing(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from featplug.cli.command_line import run_command

    newer = write_record(tmp_path / "newer", {"benchmark": "matching", "schema_version": 99})
    output = tmp_path / "deep" / "page.html"
    arguments = [str(runs / "reconstruction"), str(newer), "-o", str(output), "--formats", "md"]
    monkeypatch.setattr(sys, "argv", ["report", *arguments])
    run_command(main, "report")
    out = capsys.readouterr().out
    assert "1 table of 1 run:" in out
    assert "schema version 99" in out
    assert output.with_suffix(".md").exists()
    assert "schema version 99" in output.read_text("utf-8")


def test_two_runs_are_compared(runs: Path, tmp_path: Path) -> None:
    report = make_report([], (runs / "reconstruction", runs / "reconstruction"))
    assert report.comparison is not None
    page = render_page(report)
    assert "no significant difference" in page
    assert 'id="comparison"' in page
    with pytest.raises(ValueError, match=runs.name):
        make_report([], (runs, runs / "matching"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give the folders of runs"),
        (["nowhere"], "nowhere"),
        (["{tmp}"], "results.json"),
    ],
)
def test_bad_requests_end_with_one_sentence(
    refusal: Callable[..., str], tmp_path: Path, arguments: list[str], reason: str
) -> None:
    given: list[Any] = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert reason in refusal(main, "python -m benchmarks.report", *given)


def test_settings_caveats_and_ties_are_on_the_page(tmp_path: Path) -> None:
    hardness = np.random.default_rng(0).uniform(0.2, 0.8, 60)
    common: dict[str, Any] = {
        "matcher": "NN-ratio (ratio 0.8)",
        "settings": {"max_keypoints": 2048},
        "not_comparable": "a sequence is missing",
    }
    bold = {}
    for name, other in (("sure", hardness - 0.1), ("tied", hardness[::-1] - 0.001)):
        rows = [
            row_of(tmp_path / name, "sift", hardness, **common),
            row_of(tmp_path / name, "doap", other, **common),
        ]
        write_run(tmp_path / name, make_run("matching", rows))
        report = make_report([tmp_path / name])
        page = read_page(render_page(report))
        texts = [text for _, text in page.texts]
        assert all(sentence in texts for sentence in report.sections[0].table.caveats)
        assert any("a sequence is missing" in text for text in texts)
        assert "2,048 keypoints" in texts
        bold[name] = ("b", "sift") in page.texts
        assert any(text.startswith("tied with doap") for text in texts) == (name == "tied")
    assert bold == {"sure": True, "tied": False}
