"""Tables in other formats: read back, or by their rules."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from benchmarks.record import write_run
from benchmarks.report.formats import (
    csv_table,
    json_report,
    latex,
    markdown,
    output_paths,
    write_formats,
)
from benchmarks.report.gather import Report, make_report
from tests.benchmarks.report.conftest import EVIL, make_run, matching_row


@pytest.fixture(scope="module")
def report(runs: Path) -> Report:
    compared = (runs / "reconstruction", runs / "reconstruction")
    return make_report([runs], compared)


def test_csv_has_every_value_in_full(report: Report) -> None:
    found = list(csv.DictReader(csv_table(report).splitlines()))
    rows = [(entry, row) for entry in report.runs for row in entry.run.rows]
    assert len(found) == sum(len(row.metrics) for _, row in rows)
    entry, row = rows[-1]
    last = found[-1]
    assert (last["run"], last["feature"], last["seed"]) == (entry.name, row.feature, "2")
    name, value = list(row.metrics.items())[-1]
    assert last["metric"] == name
    assert float(last["value"]) == value["value"]
    assert EVIL in {line["feature"] for line in found}


def test_markdown_tables_have_as_many_cells_as_heads(report: Report) -> None:
    text = markdown(report)
    table = next(block for block in text.split("\n\n") if "sparse points" in block)
    heads, rule, *lines = table.splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in (heads, rule, *lines)]
    assert len({len(row) for row in cells}) == 1
    assert "sparse points ↑" in heads
    assert any("**2,001 ± 1**" in line for line in lines)
    assert "\\<script\\>" in text
    assert re.search(r"(?<!\\)<script", text) is None
    assert "python -m benchmarks.matching --dataset 'it'\"'\"'s here'" in text


def test_latex_is_booktabs_with_nothing_left_to_interpret(report: Report) -> None:
    text = latex(report)
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(rf"\{rule}") == len(report.tables)
    assert r"\textbf{2,001 $\pm$ 1}" in text
    line = next(line for line in text.splitlines() if "evil" in line)
    name = line.split(" & ")[0]
    assert r"\textless{}b\textgreater{}" in name
    assert r"\&" in line
    # Every row has the columns that its table was opened with.
    for block in text.split(r"\begin{tabular}")[1:]:
        columns = len(re.match(r"{([lr]+)}", block)[1])  # type: ignore[index]
        for row in re.findall(r"^ +(.*) \\\\$", block, re.MULTILINE):
            assert len(re.split(r"(?<!\\)&", row)) == columns


def test_json_has_everything(report: Report) -> None:
    found = json.loads(json_report(report))
    assert [run["name"] for run in found["runs"]] == ["matching", "reconstruction"]
    table = next(t for t in found["tables"] if t["benchmark"] == "reconstruction")
    line = next(line for line in table["lines"] if line["feature"] == "doap")
    assert line["seeds"] == [0, 1, 2]
    assert line["metrics"]["sparse_points"] == {
        **{"mean": 2001.0, "spread": 1.0, "values": [2000.0, 2001.0, 2002.0], "best": True}
    }
    assert {d["difference"] for d in found["comparison"]["differences"]} == {0.0}


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", " =1", "=1"]


def test_no_cell_of_csv_is_a_formula_and_numbers_stay_numbers(tmp_path: Path) -> None:
    rows = [
        matching_row(text, text, -0.5, dataset=text, protocol=text, matcher=text, seed=-1)
        for text in FORMULAS
    ]
    write_run(tmp_path, make_run("matching", rows))
    lines = list(csv.DictReader(io.StringIO(csv_table(make_report([tmp_path])), newline="")))
    assert [line["feature"] for line in lines[::11]] == [f"'{text}" for text in FORMULAS]
    for line in lines:
        assert line["seed"] == "-1"
        assert float(line["value"]) < 0
        for key in ("feature", "part", "dataset", "protocol", "matcher"):
            assert line[key][0] == "'"


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("a\n\n# b", "a \\# b"),
        ("[a](http://b.c)", "\\[a\\](http\\://b.c)"),
        ("www.a.b &amp; $x$ @me", "www\\.a.b \\&amp; \\$x\\$ \\@me"),
        ("1. a", "1\\. a"),
        ("1.5", "1.5"),
        ("- a", "\\- a"),
    ],
)
def test_names_are_text_in_markdown(tmp_path: Path, name: str, escaped: str) -> None:
    write_run(tmp_path, make_run("matching", [matching_row(name, "all", 0.5)]))
    text = markdown(make_report([tmp_path]))
    assert any(line.startswith(f"| {escaped} | ") for line in text.splitlines())


def test_a_command_does_not_end_its_block_in_markdown(tmp_path: Path) -> None:
    command = ["x", "\n````\n# not a title"]
    run = make_run("matching", [matching_row("sift", "all", 0.5)], command=command)
    write_run(tmp_path, run)
    lines = markdown(make_report([tmp_path])).splitlines()
    fence = lines[lines.index("## Commands") + 2]
    assert set(fence) == {"`"}
    assert lines[-1] == fence
    assert lines.count(fence) == 2


def test_no_name_is_an_argument_or_a_paragraph_in_latex(tmp_path: Path) -> None:
    rows = [matching_row(name, "all", 0.5) for name in ("[1em]", "*", "a\n\nb", "a--b")]
    write_run(tmp_path, make_run("matching", rows))
    text = latex(make_report([tmp_path]))
    for name in ("{[}1em{]}", "{*}", "a b", "a-{}-b"):
        assert f"\n    {name} & " in text


def test_no_file_takes_the_place_of_the_page_or_of_a_record(runs: Path, tmp_path: Path) -> None:
    for name, formats in (
        ("page.md", ["md"]),
        ("results.html", ["csv", "json"]),
        ("results.json", []),
    ):
        with pytest.raises(ValueError, match=f"{name[:4]}.*--output"):
            output_paths(tmp_path / name, formats)


def test_files_are_next_to_the_page(report: Report, tmp_path: Path) -> None:
    written = write_formats(report, tmp_path / "page.html", ["md", "csv", "tex", "json", "md"])
    assert [path.name for path in written] == ["page.md", "page.csv", "page.tex", "page.json"]
    assert sorted(tmp_path.iterdir()) == sorted(written)
