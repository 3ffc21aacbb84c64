"""Tables in other formats: read back, or by their rules."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pair_values import PairValues, write_pair_values
from benchmarks.published import load_published
from benchmarks.record import Row, write_run
from benchmarks.report.csv_format import csv_table
from benchmarks.report.formats import output_paths, write_formats
from benchmarks.report.gather import Report, make_report
from benchmarks.report.json_format import json_report
from benchmarks.report.latex_format import escape_latex, latex
from benchmarks.report.markdown_format import markdown
from featplug.io.metric_table import METRICS, generic_name
from tests.benchmarks.report.conftest import EVIL, make_run, matching_row
from tests.documented import metric


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


COMMANDS = """
    begin end caption label centering footnotesize setlength tabcolsep toprule midrule addlinespace
    resizebox
    bottomrule smallskip parbox linewidth textbf pm circ times leq geq uparrow downarrow to mu ldots
    textbackslash textasciitilde textasciicircum textasciigrave textquotedbl textless textgreater
    textbar
"""
"""What tables use of LaTeX and booktabs."""


def check_latex(text: str) -> None:
    """Check what would keep LaTeX from compiling: braces, environments, columns, stray signs."""
    text = re.sub(r"(?m)^%.*$", "", text)
    depth = 0
    for sign in re.findall(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end){(\w+)}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= set(COMMANDS.split())
    assert re.search(r"(?<!\\)[#%]", text) is None
    plain = re.sub(r"\$(\\[a-z]+|\^\\circ|-)\$", "", text)
    assert re.search(r"(?<!\\)[$_^]", plain) is None
    for block in text.split(r"\begin{tabular}")[1:]:
        columns = re.match(r"{([lr]+)}", block)
        assert columns is not None
        body = block[: block.index(r"\end{tabular}")]
        rows = re.findall(r"^ +(.*) \\\\$", body, re.MULTILINE)
        assert len(rows) > 1
        for row in rows:
            assert len(re.split(r"(?<!\\)&", row)) == len(columns[1])
    labels = re.findall(r"\\label{(.*)}", text)
    assert len(set(labels)) == len(labels) == text.count(r"\begin{table}")
    assert all(re.fullmatch(r"tab:[a-z0-9.-]+", label) for label in labels)


def compile_latex(text: str, folder: Path) -> None:
    """Compile a document of tables, where a LaTeX is installed."""
    program = shutil.which("pdflatex") or shutil.which("tectonic")
    if program is None:
        return
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage{graphicx}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}{text}\end{{document}}"
    (folder / "tables.tex").write_text(document, "utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in program else []
    command = [program, *options, "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_latex_is_booktabs_with_nothing_left_to_interpret(report: Report, tmp_path: Path) -> None:
    text = latex(report)
    check_latex(text)
    compile_latex(text, tmp_path)
    for rule in ("toprule", "midrule", "bottomrule", "caption", "label"):
        assert text.count(rf"\{rule}") == len(report.tables) + 1  # A − B
    assert r"\textbf{2,001 $\pm$ 1}" in text
    line = next(line for line in text.splitlines() if "evil" in line)
    name = line.split(" & ")[0]
    assert r"\textless{}b\textgreater{}" in name
    assert r"\&" in line
    assert r"\label{tab:matching-oxford-oxford-mma}" in text
    assert "% problem: matching: <i>bark</i>: H1to2p is not 3×3" in text


def test_labels_of_two_tables_differ_and_every_letter_compiles(tmp_path: Path) -> None:
    names = [
        "日本語",
        "ñandú ß",
        "\u202eabc",
        "a%b#c_d$e^f~g",
        "x^2 & \\evil{y}",
        '"`quoted`"',
        "e\u0301",
    ]
    rows = [matching_row(name, "all", 0.5, protocol=name, matcher=name) for name in names]
    rows += [
        matching_row("sift", "all", 0.5, protocol="A B"),
        matching_row("sift", "all", 0.5, protocol="a-b"),
    ]
    write_run(tmp_path, make_run("matching", rows))
    text = latex(make_report([tmp_path]))
    check_latex(text)
    compile_latex(text, tmp_path)
    assert "tab:matching-oxford-a-b}" in text
    assert "tab:matching-oxford-a-b-2}" in text
    assert "U+65E5U+672CU+8A9E & " in text
    assert r"x\textasciicircum{}2 \& \textbackslash{}evil\{y\}" in text
    assert all(letter <= "\u017f" for letter in text)
    assert escape_latex("a--b ''c'' 0.5 ≤ 1 −2…") == r"a-{}-b '{}'c'{}' 0.5 $\leq$ 1 $-$2\ldots{}"


NUM_PAIRS = 40


@pytest.fixture
def with_pairs(tmp_path: Path) -> Report:
    """Two methods with settings: one is better on every pair, the other one fails twice."""
    rows = []
    for name, accuracy in (("sift", 0.4), ("lisrd", 0.6)):
        values = accuracy + 0.2 * np.sin(np.arange(NUM_PAIRS))
        pairs = [(f"{i}/1.png", f"{i}/2.png") for i in range(NUM_PAIRS)]
        columns = PairValues(pairs, [""] * NUM_PAIRS, ["s"] * NUM_PAIRS, {"mma_3": values})
        write_pair_values(tmp_path / "pairs" / f"{name}.csv", columns)
        metrics = {
            "mma_3": metric(float(values.mean()), "fraction"),
            "mean_keypoints": metric(2000.0, "keypoints per image"),
            "mean_matches": metric(700.0, "matches per pair"),
            "failed_pairs": metric(2.0 if name == "sift" else 0.0, "pairs"),
        }
        rows.append(
            Row(
                name,
                "oxford",
                "oxford-mma",
                matcher="NN-ratio (ratio 0.8)",
                metrics=metrics,
                settings={"max_keypoints": 2048, "detection_threshold": 0.2},
                estimator="poselib (1 px)",
                weights=[{"name": "w_1", "origin": "featplug", "sha256": "ab"}],
                pair_values=f"pairs/{name}.csv",
                not_comparable="three sequences are missing",
            )
        )
    write_run(tmp_path, make_run("matching", rows))
    return make_report([tmp_path])


def test_what_a_figure_depends_on_stands_beside_it_in_every_format(with_pairs: Report) -> None:
    [table] = with_pairs.tables
    assert len(table.caveats) > 3
    text, tex = markdown(with_pairs), latex(with_pairs)
    check_latex(tex)
    lines = list(csv.DictReader(csv_table(with_pairs).splitlines()))
    found = json.loads(json_report(with_pairs))["tables"][0]
    for sentence in table.caveats:
        plain = sentence.replace("\n", " ")
        assert any(_words(plain) == _words(line) for line in text.splitlines())
        assert _words(plain) in _words(tex)
    assert found["caveats"] == table.caveats
    for words in ("2,048 keypoints", "detection threshold 0.2", "poselib (1 px)", "(ratio 0.8)"):
        assert words in text
        assert words in tex
    for number in ("2,000", "700"):
        assert f"| {number} " in text
        assert f"& {number} " in tex
    assert {line["matcher"] for line in lines} == {"NN-ratio (ratio 0.8)"}
    assert {line["estimator"] for line in lines} == {"poselib (1 px)"}
    assert {line["weights"] for line in lines} == {"w_1 (featplug)"}
    assert {line["not_comparable"] for line in lines} == {"three sequences are missing"}
    assert "2,048 keypoints" in lines[0]["settings"]
    assert found["lines"][0]["settings"] == {"max_keypoints": 2048, "detection_threshold": 0.2}
    assert found["lines"][0]["estimator"] == "poselib (1 px)"


def _words(text: str) -> str:
    """Letters and digits of a text, without what Markdown and LaTeX add."""
    plain = re.sub(r"\\[a-z]+{}|\$\\[a-z]+\$", "", text)
    return "".join(re.findall(r"[A-Za-z0-9]", plain))


def test_csv_and_json_have_the_interval_and_what_is_bold(with_pairs: Report) -> None:
    lines = list(csv.DictReader(csv_table(with_pairs).splitlines()))
    best = [line for line in lines if line["metric"] == "mma_3"]
    assert [line["verdict"] for line in best] == ["worse", "best"]
    for line in best:
        mean, half = float(line["mean"]), float(line["half"])
        assert float(line["low"]) == pytest.approx(mean - half)
        assert float(line["high"]) == pytest.approx(mean + half)
        assert line["half_is"] == "half of a 95 % interval over 40 pairs"
        assert float(line["value"]) == mean
    others = [line for line in lines if line["metric"] == "mean_keypoints"]
    assert [(line["half"], line["low"], line["half_is"]) for line in others] == [("", "", "")] * 2
    cells = [
        line["metrics"]["mma_3"]
        for line in json.loads(json_report(with_pairs))["tables"][0]["lines"]
    ]
    for cell, line in zip(cells, best, strict=True):
        assert cell["interval"] == [float(line["low"]), float(line["high"])]
        assert cell["verdict"] == line["verdict"]
    assert "**0.6" in markdown(with_pairs)
    assert r"\textbf{0.6" in latex(with_pairs)
    assert "**0.4" not in markdown(with_pairs)


def test_seeds_and_their_spread_are_told_apart_from_intervals(report: Report) -> None:
    lines = list(csv.DictReader(csv_table(report).splitlines()))
    of_seeds = [line for line in lines if line["metric"] == "sparse_points"]
    assert {line["half_is"] for line in of_seeds} == {"standard deviation over 3 seeds"}
    assert {line["low"] for line in of_seeds} == {""}
    assert "seeds | " in markdown(report)


def test_published_numbers_come_with_source_and_caveat_in_markdown_and_latex(
    tmp_path: Path,
) -> None:
    number = next(
        number
        for number in load_published()
        if number.caveat and not (number.settings or number.keypoints or number.weights)
    )
    keys = number.feature, number.dataset, number.protocol, number.part
    metrics = {number.metric: metric(number.value, METRICS[generic_name(number.metric)].unit)}
    write_run(tmp_path, make_run(number.benchmark, [Row(*keys, metrics=metrics)]))
    report = make_report([tmp_path])
    [table] = report.tables
    assert len(table.compared) == 1
    text, tex = markdown(report), latex(report)
    check_latex(tex)
    assert _words(number.caveat) in _words(tex)
    for number, (source, caveat) in enumerate(table.sources, 1):
        assert f"- \\[{number}\\]" in text
        assert _words(source) in _words(tex)
        assert _words(caveat) in _words(tex)


def test_json_has_everything(report: Report) -> None:
    found = json.loads(json_report(report))
    assert [run["name"] for run in found["runs"]] == ["matching", "reconstruction"]
    table = next(t for t in found["tables"] if t["benchmark"] == "reconstruction")
    line = next(line for line in table["lines"] if line["feature"] == "doap")
    assert line["seeds"] == [0, 1, 2]
    assert line["metrics"]["sparse_points"] == {
        **{"mean": 2001.0, "spread": 1.0, "values": [2000.0, 2001.0, 2002.0], "best": True},
        **{"interval": None, "basis": "seeds", "verdict": "best"},
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
