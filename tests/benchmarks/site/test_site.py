"""Sites of runs: every link leads to a file, and nothing that a run says becomes part of a page."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from benchmarks.pair_values import write_pair_values
from benchmarks.record import Row, write_run
from benchmarks.site.sent_run import run_to_send, write_sent_runs
from benchmarks.site.site_pages import make_site
from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM
from tests.benchmarks.report.conftest import EVIL, make_run, matching_row, reconstruction_row
from tests.benchmarks.site.conftest import pair_values, sent_rows, write_sendable_run
from tests.documented import metric

SEARCH = "https://scholar.google.com/scholar?q="


class Links(HTMLParser):
    """Addresses in a page, the names of its places, and what would load something."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self.links.append(given["href"] or "")
        if "id" in given:
            self.places.add(given["id"] or "")
        if given.get("src") or (tag == "link" and given.get("href") != "data:,"):
            self.loaded.append(f"{tag} {given}")


def build(*arguments: str | Path) -> None:
    run_command(PROGRAM, "featplug", ["bench", "site", *map(str, arguments)])


def test_all_links_are_relative_and_lead_to_a_place(runs: Path, sendable: Path) -> None:
    _, files = make_site([runs, sendable], "Record")
    pages = {name: Links(text) for name, text in files.items() if name.endswith(".html")}
    assert len(pages) == 4  # index, methods, two tables
    for name, page in pages.items():
        assert page.loaded == []
        for link in page.links:
            if link.startswith(SEARCH):
                continue
            parts = urlsplit(link)
            assert not parts.scheme
            assert not parts.netloc
            assert not parts.path.startswith("/")
            target = PurePosixPath(name).parent / unquote(parts.path) if parts.path else name
            resolved: list[str] = []
            for word in PurePosixPath(target).parts:
                resolved = resolved[:-1] if word == ".." else [*resolved, word]
            path = "/".join(resolved)
            assert path in files, (name, link)
            if parts.fragment:
                assert parts.fragment in pages[path].places, (name, link)
    texts = [files[name].decode() for name in pages]
    assert not any("<script>evil" in text or "<i>bark" in text for text in texts)
    assert any("evil=1" in text for text in texts)
    assert "results.json" in files["index.html"].decode()


def test_the_same_runs_make_the_same_bytes_anywhere(
    runs: Path, sendable: Path, tmp_path: Path
) -> None:
    copies = [shutil.copytree(path, tmp_path / "b" / path.name) for path in (runs, sendable)]
    _, first = make_site([runs, sendable], "Record")
    _, second = make_site(copies, "Record")
    assert first == second
    for text in first.values():
        assert str(tmp_path).encode() not in text
        assert b"/data/scene" not in text


def test_a_sent_run_and_its_folder_are_one(sendable: Path, tmp_path: Path) -> None:
    write_sent_runs(tmp_path / "my-run.zip", [run_to_send(sendable)])
    site, files = make_site([sendable, tmp_path / "my-run.zip"], "Record")
    assert [sent.name for sent in site.runs] == ["my-run"]
    assert [problem.subject for problem in site.problems] == ["my-run.zip"]
    assert files == make_site([tmp_path / "my-run.zip", sendable], "Record")[1] or site.problems


def test_two_runs_of_one_name_are_both_there(tmp_path: Path) -> None:
    for number in range(2):
        write_sendable_run(tmp_path / str(number) / "peers", 0.5 + number / 10)
    site, files = make_site([tmp_path / "0" / "peers", tmp_path / "1" / "peers"], "Record")
    assert [sent.name for sent in site.runs] == ["peers", "peers-2"]
    rows = {row.method: row.cells["mma_10"].mean for row in site.tables[0].rows}
    assert rows["sift (peers)"] == pytest.approx(0.5)
    assert rows["sift (peers-2)"] == pytest.approx(0.6)
    for name, accuracy in (("peers", 0.5), ("peers-2", 0.6)):
        record = json.loads(files[f"runs/{name}/results.json"])
        assert record["rows"][0]["metrics"]["mma_10"]["value"] == pytest.approx(accuracy)
        assert f"runs/{name}/config.toml" in files
        assert f"runs/{name}/pairs/lisrd.csv" in files


def test_what_cannot_be_read_is_a_problem_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    write_sent_runs(inbox / "good.zip", [run_to_send(write_sendable_run(tmp_path / "good"))])
    (inbox / "cut.zip").write_bytes((inbox / "good.zip").read_bytes()[:-300])
    old = write_sendable_run(tmp_path / "old")
    record = json.loads((old / "results.json").read_text("utf-8"))
    (old / "results.json").write_text(json.dumps(record | {"schema_version": 99}), "utf-8")
    build(inbox, old, "-o", tmp_path / "site")
    printed = capsys.readouterr().out.splitlines()
    assert "1 table of 1 run" in printed[0]
    assert [line.partition(": ")[2].partition(":")[0] for line in printed[1:]] == ["cut.zip", "old"]
    assert "damaged" in printed[1]
    assert "version 99" in printed[2]
    page = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert "cut.zip" in page
    assert str(tmp_path) not in page


def test_bad_calls_end_with_a_sentence(
    tmp_path: Path, sendable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    for arguments, what in (
        (["-o", tmp_path / "s"], "Give the folders"),
        ([tmp_path / "none", "-o", tmp_path / "s"], "does not exist"),
        ([tmp_path / "none.zip", "-o", tmp_path / "s"], "does not exist"),
        ([tmp_path / "mine", "-o", tmp_path / "s"], "contains no run"),
        ([sendable, "-o", tmp_path / "mine"], "--output"),
    ):
        with pytest.raises(SystemExit) as ended:
            build(*arguments)
        assert ended.value.code == 2
        assert what in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_published_numbers_are_rows_of_the_protocol_in_the_unit_of_the_column(
    tmp_path: Path,
) -> None:
    rows = [
        reconstruction_row("sift", seed, 1000 + seed, dataset="fountain-P11") for seed in range(3)
    ]
    write_run(tmp_path, make_run("reconstruction", rows))
    site, files = make_site([tmp_path], "Record")
    (page,) = site.tables
    assert page.published
    published = {(row.method, row.cells["sparse_points"].mean) for row in page.published}
    assert ("SIFT", 10_004.0) in published
    assert all(row.notes[0].startswith("Published: ") for row in page.published)
    assert page.choices["rows"] == ["measured", "published"]
    text = files[f"tables/{page.name}.html"].decode()
    assert text.count('class="of-paper"') == len(page.published)


def test_filters_have_what_tells_rows_apart(tmp_path: Path) -> None:
    rows = [*sent_rows(), matching_row("disk", "all", 0.4, not_comparable="other data.")]
    write_sendable_run(tmp_path / "a")
    write_run(tmp_path / "b", make_run("matching", rows, options={"max_keypoints": 512}))
    site, _ = make_site([tmp_path / "a", tmp_path / "b"], "Record")
    choices = site.tables[0].choices
    assert choices["matcher"] == ["NN-ratio (ratio 0.8)", "lisrd"]
    assert choices["weights"] == ["featplug", "none"]
    assert choices["comparable"] == ["yes", "no"]
    assert choices["keypoints"] == ["512", "1024", "2048", "4096", "8192"]
    assert "part" not in choices
    assert "rows" not in choices
    (disk,) = [row for row in site.tables[0].rows if row.method == "disk"]
    assert disk.notes[0] == "Not comparable: other data."


def test_runs_of_other_files_of_one_data_set_say_so(tmp_path: Path) -> None:
    for name, fingerprint in (("a", "e509" * 16), ("b", "ffff" * 16)):
        data = {"oxford": {"path": "/x", "fingerprint": fingerprint}}
        write_sendable_run(tmp_path / name, 0.4 if name == "a" else 0.5, data=data)
    site, _ = make_site([tmp_path / "a", tmp_path / "b"], "Record")
    notes = {row.runs: " ".join(row.notes) for row in site.tables[0].rows}
    assert "Fingerprint of the data: e509e509." in notes[("a",)]
    assert "Fingerprint of the data: ffffffff." in notes[("b",)]


def test_intervals_and_bold_are_those_of_the_pairs(sendable: Path) -> None:
    site, files = make_site([sendable], "Record")
    (page,) = site.tables
    rows = {row.method: row for row in page.rows}
    assert rows["lisrd"].cells["mma_3"].interval is not None
    assert any("bootstrap over the 10 pairs" in sentence for sentence in page.legend)
    text = files[f"tables/{page.name}.html"].decode()
    for sentence in page.legend:
        assert sentence.replace("'", "&#39;").replace("<", "&lt;") in text


def test_values_of_pairs_that_are_not_those_of_the_rows_are_named(sendable: Path) -> None:
    write_pair_values(sendable / "pairs" / "sift.csv", pair_values(0.9))
    site, _ = make_site([sendable], "Record")
    (sentence,) = [text for text in site.tables[0].legend if "other values" in text]
    assert sentence.startswith("my-run/pairs/sift.csv has other values than its run of mma_3")


def test_a_card_is_that_of_the_weights(sendable: Path) -> None:
    _, files = make_site([sendable], "Record")
    methods = files["methods.html"].decode()
    assert "LISRD (Pautrat et al." in methods  # weights/lisrd.md
    assert "Card of these weights" in methods
    assert "Lowe, IJCV 2004" in methods
    assert f"{SEARCH}Pautrat+et+al." in methods


def test_no_code_of_a_method_that_a_record_names_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('code of a record was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = ["evil.py:F", "evil:F", "lisrd@evil.py:F", "sift+evil.py:F", "contextdesc@evil.py:F"]
    names += ["contextdesc@evil:F", EVIL]
    recall = {"recall": metric(0.5, "fraction")}
    rows = [
        Row(name, "hpatches", "recall-contextdesc", matcher="m", metrics=recall) for name in names
    ]
    write_run(tmp_path / "run", make_run("matching", rows))
    site, _ = make_site([tmp_path / "run"], "Record")
    assert {row.method for row in site.tables[0].measured} == set(names)


ODD: list[Any] = [None, True, "x", 1e19, [1], {"a": [1]}, "<q>"]


@pytest.mark.parametrize(
    "keys",
    [
        ("options",),
        ("options", "max_keypoints"),
        ("environment",),
        ("environment", "libraries"),
        ("environment", "featplug"),
        ("data", "oxford", "fingerprint"),
        ("command",),
        ("rows", 0, "settings", "max_keypoints"),
        ("rows", 0, "settings", "resize_max"),
        ("rows", 0, "weights"),
        ("rows", 0, "methods"),
        ("rows", 0, "metrics", "mma_3"),
        ("rows", 0, "seed"),
        ("rows", 0, "pair_values"),
        ("rows", 0, "protocol"),
        ("benchmark",),
    ],
)
def test_no_record_of_a_stranger_keeps_the_others_from_the_site(
    tmp_path: Path, keys: tuple[str | int, ...]
) -> None:
    good = write_sendable_run(tmp_path / "good")
    for number, odd in enumerate(ODD):
        other = write_sendable_run(tmp_path / f"odd-{number}")
        record = json.loads((other / "results.json").read_text("utf-8"))
        place = record
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = odd
        (other / "results.json").write_text(json.dumps(record), "utf-8")
    site, files = make_site([good, *sorted(tmp_path.glob("odd-*"))], "Record")
    assert site.runs[0].name == "good"
    assert b"<q>" not in files["index.html"]
    for sent in site.runs:
        assert f"runs/{sent.name}/results.json" in files
