"""Verdicts: the tolerance, its direction, and why some numbers are not compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accept.acceptance_plan import Plan, Task
from benchmarks.accept.acceptance_report import json_text, markdown, page
from benchmarks.accept.found_data import FoundData
from benchmarks.accept.verdicts import Verdict, judge
from benchmarks.bootstrap import interval
from benchmarks.pair_values import PairValues, write_pair_values
from benchmarks.published import Published
from benchmarks.record import Problem, Row, Run
from tests.documented import metric

NUMBER = Published(
    feature="d2net",
    benchmark="matching",
    protocol="mma-d2net",
    dataset="hpatches",
    part="all",
    metric="mma_3",
    value=43.0,
    unit="%",
    source="A paper",
    url="https://example.org",
    table="Table 1",
    weights="d2_tf",
    digits=1,
)
OFFICIAL = [{"name": "d2_tf", "origin": "official"}]


def verdict(word: Any) -> Verdict:
    figures = {} if word in ("not comparable", "not measured") else {"ours": 42.0, "tolerance": 1.0}
    return Verdict("d2net", "hpatches", "all", "mma-d2net", "mma_3", 43.0, "%", "A paper",
                   "Table 1", "https://example.org", word, reason="" if figures else "a reason",
                   **figures)  # fmt: skip


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that judges the rows of a run against one published number."""

    def judge_one(number: Published, *rows: Row, folder: Path = Path(), **run: Any) -> Verdict:
        module = "benchmarks.published.fair_comparison.load_published"
        monkeypatch.setattr(module, lambda: (number,))
        data = FoundData(number.benchmark, number.dataset, Path("folder"), "")
        task = Task(data, number.protocol, (number.feature,), (number,))
        measured = Run(number.benchmark, {}, {}, list(rows), **run)
        (found,) = judge([task], {task.block: (measured, folder)})
        return found

    return judge_one


def row(value: float, name: str = "mma_3", unit: str = "fraction", **fields: Any) -> Row:
    fields = {"weights": OFFICIAL, "metrics": {name: metric(value, unit)}, **fields}
    return Row("d2net", "folder", "mma-d2net", **fields)


def test_half_of_the_last_printed_digit_is_tolerated(judged: Any) -> None:
    assert judged(NUMBER, row(0.4304)).verdict == "within"
    assert judged(NUMBER, row(0.4304)).tolerance == pytest.approx(0.05)
    assert judged(NUMBER, row(0.4304)).difference == pytest.approx(0.04)
    assert judged(NUMBER, row(0.4310)).verdict == "above"
    assert judged(NUMBER, row(0.4290)).verdict == "below"


def test_below_is_worse_whichever_direction_is_better(judged: Any) -> None:
    error = replace(NUMBER, metric="fpr95", value=2.0)
    assert judged(error, row(0.03, "fpr95")).verdict == "below"
    assert judged(error, row(0.01, "fpr95")).verdict == "above"
    count = replace(NUMBER, metric="mean_matches", value=100.0, unit="matches per pair")
    assert judged(count, row(200, "mean_matches", "matches per pair")).verdict == "differs"


def test_the_interval_over_pairs_is_tolerated(judged: Any, tmp_path: Path) -> None:
    column = np.random.default_rng(0).uniform(0.2, 0.8, 40)
    pairs = [(f"a/{i}", f"b/{i}") for i in range(40)]
    values = PairValues(pairs, ["all"] * 40, ["a"] * 40, {"mma_3": column})
    (tmp_path / "pairs").mkdir()
    write_pair_values(tmp_path / "pairs" / "d2net.csv", values)
    measured = row(float(column.mean()), pair_values="pairs/d2net.csv")
    estimate = interval("mma_3", [{"mma_3": column}])
    assert estimate is not None
    published = replace(NUMBER, value=100 * (column.mean() - 0.9 * estimate.half))
    found = judged(published, measured, folder=tmp_path)
    assert found.verdict == "within"
    assert found.tolerance == pytest.approx(0.05 + 100 * estimate.half)
    published = replace(NUMBER, value=100 * (column.mean() + 1.2 * estimate.half))
    assert judged(published, measured, folder=tmp_path).verdict == "below"
    (tmp_path / "pairs" / "d2net.csv").write_bytes(b"\xff\x00")
    assert judged(published, measured, folder=tmp_path).tolerance == pytest.approx(0.05)


def test_the_spread_over_seeds_is_tolerated(judged: Any) -> None:
    rows = [row(value, seed=seed) for seed, value in enumerate((0.42, 0.43, 0.44))]
    found = judged(NUMBER, *rows)
    assert found.ours == pytest.approx(43.0)
    assert found.tolerance == pytest.approx(0.05 + 4.3027 * 1.0 / np.sqrt(3), rel=1e-4)


def test_recalls_have_the_interval_of_their_number_of_queries(judged: Any) -> None:
    recall = replace(
        NUMBER, benchmark="localization", protocol="aachen", dataset="aachen", part="night",
        metric="recall_5m_10deg", value=80.0,
    )  # fmt: skip
    metrics = {"recall_5m_10deg": metric(75.0, "%"), "queries_with_true_pose": metric(98, "images")}
    measured = Row("d2net", "any", "aachen", "night", weights=OFFICIAL, metrics=metrics)
    found = judged(recall, measured)
    assert found.verdict == "within"
    assert found.tolerance == pytest.approx(0.05 + 196 * np.sqrt(0.75 * 0.25 / 98), rel=1e-3)
    unknown = replace(measured, metrics={"queries": metric(98, "images")})
    found = judged(recall, unknown, folder=Path("out"))
    assert found.verdict == "not measured"
    assert "submit out/d2net/submission.txt" in found.reason


def test_why_a_number_is_not_compared(judged: Any) -> None:
    own = [{"name": "featplug_d2net", "origin": "featplug"}]
    found = judged(NUMBER, row(0.3, weights=own))
    assert found.verdict == "not comparable"
    assert "featplug_d2net, not with the authors' weights" in found.reason
    assert found.ours == pytest.approx(30)
    assert found.difference is None
    partial = judged(NUMBER, row(0.4, not_comparable="8 of 108 sequences are missing"))
    assert partial.reason == "8 of 108 sequences are missing"
    failed = judged(NUMBER, problems=[Problem("d2net, a b", "out of memory")])
    assert (failed.verdict, failed.reason) == ("not measured", "out of memory")
    other_part = judged(replace(NUMBER, part="viewpoint"), row(0.4))
    assert "no mma_3 of viewpoint" in other_part.reason


def test_a_benchmark_that_did_not_end_leaves_its_numbers_unmeasured() -> None:
    data = FoundData("matching", "hpatches", Path("folder"), "")
    task = Task(data, "mma-d2net", ("d2net",), (NUMBER,))
    (found,) = judge([task], {})
    assert found.verdict == "not measured"
    assert found.reason == "its benchmark did not end"


def test_every_form_has_the_verdicts_worst_first_and_the_reasons() -> None:
    words = ("within", "below", "above", "differs", "not comparable", "not measured")
    verdicts = [verdict(word) for word in words]
    plan = Plan([], {"doap": "get its weights"}, {"inloc": "InLoc: an address"}, [])
    problems = [Problem("a | b", "is damaged")]
    text = markdown(Path("data"), verdicts, plan, problems)
    assert text.index("| below |") < text.index("| within |") < text.index("| above |")
    for part in (
        "6 published numbers: 1 within, 1 above, 1 below",
        "a reason",
        "InLoc: an address",
        "doap: get its weights",
        "a \\| b: is damaged",
        "−1.0",
    ):
        assert part in text
    html = page(Path("data"), verdicts, plan, problems)
    assert "<b>below</b>" in html
    assert "https://example.org" in html
    assert "a reason" in html
    assert '"verdict": "below"' in json_text(verdicts, plan, problems)
