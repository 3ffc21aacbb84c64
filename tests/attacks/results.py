"""Damaged and crafted ``results.json`` among good runs: what does the report make of them?

``python -m tests.attacks.results --trials 300 --seed 0``. Besides crashes, a trial fails if a
format is missing, the numbers of the good runs change, the bad run is neither reported nor named,
anything from outside of the runs is in an output, or a value of the record becomes a tag, a
formula, a command or a control character.
"""

import base64
import copy
import csv
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import tyro

from benchmarks.record import ModelSize, Picture, Problem, write_run
from benchmarks.report.__main__ import main as report
from featplug.cli.command_line import run_command
from tests.attacks.harness import Outcome, Tally, attempt
from tests.benchmarks.report.conftest import PIPELINE_RECORD, make_run, matching_row

SECRET = "secret-sentinel"
MAGENTA = (255, 0, 255)
FORMATS = ("md", "csv", "tex", "json")
PATHS = (
    "../private/secret.png {private}/secret.png a/../../private/secret.png link.png ../private "
    "{private} linked/secret.png linked links file://{private}/secret.png http://127.0.0.1:9/a.png "
    f"loop pipe . \0 {'x' * 5000} results.json "
).split(" ")
TEXTS = (
    '</script><script>alert(1)</script> ~" onload="alert(1) ~<img src=x onerror=alert(1)> ~=1+1 ~+1'
    " ~-1+1 ~@A1 ~\t=1 ~\r=1 ~a|b\n\n# c ~[a](http://b) ~\n```\n<b>x</b> ~\\input{/etc/passwd}"
    " ~[1em] ~\\end{tabular} ~^^5c ~\x1b[2J ~\ud800 ~\u202e ~{{7*7}} ~1 ~nan ~" + "a" * 200_000
).split(" ~")
HOSTILE = (
    *(*PATHS, *TEXTS, None, True, False, 0, -1, 1.5, 10**30, -(10**400), 1e308, 5e-324, 2**64),
    *([], {}, [[]], [None], {"value": "x"}, {"value": 1, "unit": None}, [{"path": 1}]),
)
NESTED = ("[" * 3000 + "]" * 3000, '{"a":' * 90 + "1" + "}" * 90)
LITERALS = ("NaN", "Infinity", "-Infinity", "1e999", *NESTED)


def write_world(root: Path) -> None:
    """Write two good runs, a bad one to be, and what must not be shown of the disk."""
    private, model = root / "private", root / "runs" / "good-b" / "model"
    for folder in (private, model, root / "runs" / "bad"):
        folder.mkdir(parents=True)
    picture = np.full((40, 60, 3), 90, np.uint8)
    picture[:, ::7] = 200
    for folder in ("good-a", "bad"):
        (root / "runs" / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(root / "runs" / folder / "a.png"), picture)
    cv2.imwrite(str(private / "secret.png"), np.full((40, 60, 3), MAGENTA, np.uint8))
    options = pycolmap.SyntheticDatasetOptions()
    pycolmap.set_random_seed(0)
    options.num_frames_per_rig, options.num_points3D = 4, 50
    made = pycolmap.synthesize_dataset(options)
    made.write(str(model))
    for image in made.images.values():
        image.name = f"{SECRET}-{image.image_id}.jpg"
    made.write(str(private))
    (private / "secret.txt").write_text(SECRET)
    stages = {"extract": {"seconds": 2.0, "peak_memory_mib": 100.0}}

    def write(folder: Path, feature: str, **more: Any) -> None:
        more |= {"models": [ModelSize(4, 50)], "verified_pairs_by_inliers": {"15-29": 3}}
        row = matching_row(feature, "all", 0.5, weights=[{"name": "w"}], stages=stages, **more)
        write_run(folder, make_run("matching", [row, row], problems=[Problem("a", "b")]))

    picture = [Picture("a.png", "a and b")]
    write(root / "runs" / "good-a", "sift", pictures=picture)
    write(root / "runs" / "good-b", "doap", model="model")
    write(root / "runs" / "bad", "bad", pictures=picture, model="links")
    write(private, SECRET)
    bad = root / "runs" / "bad"
    (bad / "link.png").symlink_to(private / "secret.png")
    (bad / "linked").symlink_to("../../private")
    (bad / "loop").symlink_to("loop")
    os.mkfifo(bad / "pipe")
    (bad / "links").mkdir()
    for file in private.glob("*.bin"):
        (bad / "links" / file.name).symlink_to(file)


def write_finished(folder: Path) -> None:
    """Write what a run that was killed while it finished leaves, of files that are not its own."""
    (folder / ".finished").mkdir()
    (folder / ".finished" / ".obsolete.json").write_text('["../../private", "../good-a"]')
    (folder / ".finished" / "results.json").write_text(json.dumps(PIPELINE_RECORD))
    (folder / ".replaced").symlink_to("../../private")


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield containers of a record with each of their keys."""
    for key in list(value if isinstance(value, dict) else range(len(value))):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def damage(root: Path, rng: np.random.Generator) -> str:
    """Damage the record of the bad run, and return how."""
    path = root / "runs" / "bad" / "results.json"
    text = path.read_text() if rng.random() < 0.7 else json.dumps(PIPELINE_RECORD)
    record, kind = json.loads(text), int(rng.integers(12))
    found = list(places(record))
    container, key = found[rng.integers(len(found))]
    other, other_key = found[rng.integers(len(found))]
    hostile = HOSTILE[rng.integers(len(HOSTILE))]
    if isinstance(hostile, str):
        hostile = hostile.replace("{private}", str(root / "private"))
    content = bytearray(text.encode())
    at = int(rng.integers(len(content)))
    if kind == 0:
        for bit in rng.integers(8 * len(content), size=rng.integers(1, 9)):
            content[bit // 8] ^= 1 << int(bit) % 8
    elif kind == 1:
        content = content[:at]
    elif kind == 2:
        content[at : at + 40] = bytes(40) if rng.random() < 0.5 else rng.bytes(30)
    elif kind == 3:
        container[key], other[other_key] = copy.deepcopy((other[other_key], container[key]))
    elif kind == 4:
        del container[key]
    elif kind == 5:
        container[key] = "@literal@"
    elif kind == 6:
        row = record.get("rows", [record])[0]
        name = str(PATHS[rng.integers(len(PATHS))]).replace("{private}", str(root / "private"))
        row.update(pictures=[{"path": name, "title": "t"}], model=name)
    elif kind == 7:
        path.unlink()
        ways = [path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path.name),
                lambda: path.symlink_to(root / "private" / "results.json"),
                lambda: path.symlink_to("/dev/zero"), lambda: None,
                lambda: write_finished(path.parent)]  # fmt: skip
        way = int(rng.integers(len(ways)))
        ways[way]()
        return f"kind 7, way {way}"
    elif kind == 8:
        whole = (b"", b"[]", b"3", b"null", b"{}", b"\x89PNG", text.encode("utf-16"), b"\0" * 9)
        content = bytearray(whole[rng.integers(len(whole))])
    elif kind == 9 and isinstance(container, dict):
        container[str(hostile)] = container.pop(key)
    elif kind == 9:
        record["schema_version"] = hostile
    else:
        container[key] = copy.deepcopy(hostile)
    if kind in (3, 4, 5, 6, 9, 10, 11):
        literal = LITERALS[rng.integers(len(LITERALS))]
        content = bytearray(json.dumps(record).replace('"@literal@"', literal).encode())
    path.write_bytes(content)
    if rng.random() < 0.15:
        names = ("\udcff", "=1", "<b>x", "a\x1b[2Jb", "a\nb", "a|b", "\\input", "-x")
        path.parent.rename(root / "runs" / names[rng.integers(8)])
    return f"kind {kind}, {key} = {hostile!r:.40}"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script" and "type" not in dict(attrs)
        self.faults += [f"tag {tag}"] * (tag in ("i", "iframe", "object", "base", "form"))
        self.faults += [name for name, _ in attrs if name.startswith("on")]


def fault_of(root: Path, outcome: Outcome, good: list[Any]) -> str | None:
    """Look for what no report may have, or lack."""
    if outcome.exit_code != 0:
        return f"exit {outcome.exit_code}"
    out = {name: (root / f"page.{name}").read_text("utf-8") for name in ("html", *FORMATS)}
    everything = "".join(out.values()) + outcome.output
    if not (root / "private" / "secret.txt").exists():
        return "a file outside of the runs is gone"
    if SECRET in everything:
        return "a secret text is shown"
    for data in re.findall(r"data:image/jpeg;base64,([^\"]*)", out["html"]):
        shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        if np.abs(shown.mean((0, 1)) - MAGENTA).max() < 20:
            return "a secret picture is shown"
    if found := re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", everything):
        return f"control character {found[0]!r}"
    tags = _Tags()
    tags.feed(out["html"])
    if tags.faults or tags.scripts != 2:
        return f"tags: {tags.faults}, {tags.scripts} scripts"
    for cells in csv.reader(io.StringIO(out["csv"], newline="")):
        if any(
            cell.lstrip()[:1] in tuple("=+-@") and not _is_number(cell) for cell in cells if cell
        ):
            return f"formula in {cells}"
    if re.search(r"(?<!\\)<(?:script|img|b>)", out["md"].split("## Commands")[0]):
        return "a tag in Markdown"
    if re.search(r"\\input|\\end\{tabular\}(?!\n\\end)", out["tex"]):
        return "a command in LaTeX"
    record = json.loads(out["json"], parse_constant=lambda name: 1 / 0)
    if [run for run in record["runs"] if run["name"].startswith("good")] != good:
        return "the good runs changed"
    named = [run for run in record["runs"] if not run["name"].startswith("good")]
    named += [p for p in record["problems"] if not p["subject"].startswith("good")]
    return None if named else "the bad run is not named"


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", cell) is not None


def main(trials: int = 300, seed: int = 0) -> None:
    """Attack the report.

    Args:
        trials: number of records.
        seed: seed of all of them.
    """
    tally = Tally("results.json", seed)
    with tempfile.TemporaryDirectory() as temporary:
        world = Path(temporary) / "world"
        write_world(world)

        def make(root: Path) -> Outcome:
            os.chdir(root)
            sys.argv = ["report", "runs", "-o", "page.html", "--formats", *FORMATS]
            return attempt(lambda: run_command(report, "report"))

        first = make(world)
        runs = json.loads((world / "page.json").read_text("utf-8"))["runs"]
        good = [run for run in runs if run["name"].startswith("good")]
        assert len(good) == 2, first.output
        for trial in range(trials):
            root = Path(temporary) / "trial"
            # Links and pipes are made again; copytree would follow or wait.
            write_world(root)
            kind = damage(root, np.random.default_rng([seed, trial]))
            outcome = make(root)
            tally.add(f"{trial} ({kind})", outcome, fault_of(root, outcome, good))
            os.chdir(temporary)
            shutil.rmtree(root)
    tally.finish()


if __name__ == "__main__":
    tyro.cli(main)
