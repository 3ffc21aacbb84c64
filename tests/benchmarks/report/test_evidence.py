"""± and bold are of the values of pairs; where these are missing or others', nothing is claimed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bootstrap import interval
from benchmarks.pair_values import PairValues, write_pair_values
from benchmarks.record import Row
from benchmarks.report.result_tables import Table, make_tables
from benchmarks.report.runs import LoadedRun
from tests.benchmarks.report.conftest import make_run
from tests.documented import metric

NUM_PAIRS = 60


def row_of(
    folder: Path,
    feature: str,
    accuracy: np.ndarray,
    *,
    seed: int | None = None,
    part: str = "all",
    **change: object,
) -> Row:
    """A row whose pairs have an accuracy each, in two parts."""
    pairs = [(f"{i}/1.png", f"{i}/2.png") for i in range(len(accuracy))]
    parts = ["day" if i % 2 else "night" for i in range(len(accuracy))]
    matches = np.full(len(accuracy), 700.0)
    values = PairValues(pairs, parts, parts, {"mma_3": accuracy, "mean_matches": matches})
    name = f"pairs/{feature}-{seed}.csv"
    write_pair_values(folder / name, values)
    of_part = values.of_part(part).values
    metrics = {
        "mma_3": metric(float(of_part["mma_3"].mean()), "fraction"),
        "mean_matches": metric(700.0, "matches per pair"),
    }
    fields = {"metrics": metrics, "seed": seed, "pair_values": name, "part": part}
    return Row(feature, "oxford", "oxford-mma", **{**fields, **change})  # type: ignore[arg-type]


def table_of(folder: Path, *rows: Row) -> Table:
    [table] = make_tables([LoadedRun(folder, "run", make_run("matching", list(rows)))])
    return table


def verdicts(table: Table, part: str = "all") -> dict[str, str]:
    return {line.series: line.cells["mma_3"].verdict for line in table.lines if line.part == part}


@pytest.fixture
def accuracies() -> dict[str, np.ndarray]:
    """Two methods that are a tie, and one that is a little worse on every pair."""
    rng = np.random.default_rng(0)
    hardness = rng.uniform(0.2, 0.9, NUM_PAIRS)
    return {
        "a": hardness + rng.normal(0, 0.02, NUM_PAIRS),
        "b": hardness + rng.normal(0, 0.02, NUM_PAIRS),
        "c": hardness - 0.02 + rng.normal(0, 0.02, NUM_PAIRS),
    }


def test_bold_is_better_on_the_same_pairs(
    tmp_path: Path, accuracies: dict[str, np.ndarray]
) -> None:
    rows = {name: row_of(tmp_path, name, values) for name, values in accuracies.items()}
    both = table_of(tmp_path, rows["a"], rows["c"])
    assert verdicts(both) == {"a": "best", "c": "worse"}
    cells = [line.cells["mma_3"] for line in both.lines]
    # Hard and easy pairs make each interval far wider than the difference.
    low, high = cells[0].interval or (0, 0)
    assert low < cells[1].mean < high
    assert cells[0].basis == "pairs"
    found = interval("mma_3", [{"mma_3": accuracies["a"]}])
    assert found is not None
    assert cells[0].half == pytest.approx(found.half, rel=1e-6)
    assert "60 pairs" in both.caveats[0]
    three = table_of(tmp_path, *rows.values())
    assert verdicts(three) == {"a": "tie", "b": "tie", "c": "worse"}
    assert not any(line.cells["mma_3"].is_best for line in three.lines)


def test_parts_have_their_own_pairs(tmp_path: Path, accuracies: dict[str, np.ndarray]) -> None:
    swapped = accuracies["c"].copy()
    swapped[1::2] += 0.1  # by day it is better
    rows = [
        row_of(tmp_path, name, values, part=part)
        for part in ("day", "night")
        for name, values in (("a", accuracies["a"]), ("d", swapped))
    ]
    table = table_of(tmp_path, *rows)
    assert verdicts(table, "day") == {"a": "worse", "d": "best"}
    assert verdicts(table, "night") == {"a": "best", "d": "worse"}
    assert "30 pairs" in table.caveats[0]


def test_seeds_and_pairs_are_both_in_the_interval(
    tmp_path: Path, accuracies: dict[str, np.ndarray]
) -> None:
    """A mean over seeds has less noise than one seed."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.4, (5, NUM_PAIRS))
    rows = [
        row_of(tmp_path, "a", accuracies["a"] + of_seed, seed=seed)
        for seed, of_seed in enumerate(noise)
    ]
    [with_seeds] = table_of(tmp_path, *rows).lines
    [with_pairs] = table_of(tmp_path, rows[0]).lines
    cell, other = with_seeds.cells["mma_3"], with_pairs.cells["mma_3"]
    assert (cell.basis, other.basis) == ("pairs and seeds", "pairs")
    assert cell.half is not None
    assert other.half is not None
    assert cell.half < 0.9 * other.half
    assert cell.mean == pytest.approx((accuracies["a"] + noise.mean(axis=0)).mean())


def test_old_records_without_pairs_are_read_and_decide_nothing(
    tmp_path: Path, accuracies: dict[str, np.ndarray]
) -> None:
    old = row_of(tmp_path, "a", accuracies["a"], pair_values=None)
    table = table_of(tmp_path, old, row_of(tmp_path, "c", accuracies["c"]))
    assert verdicts(table) == {"a": "undecided", "c": "undecided"}
    assert [line.cells["mma_3"].half is None for line in table.lines] == [True, False]


@pytest.mark.parametrize("damage", ["gone", "damaged", "of another run", "outside"])
def test_pairs_that_are_not_the_rows_are_left_out_and_named(
    tmp_path: Path, accuracies: dict[str, np.ndarray], damage: str
) -> None:
    folder = tmp_path / "run"
    row, other = (row_of(folder, name, accuracies[name]) for name in "ac")
    path = folder / str(row.pair_values)
    if damage == "gone":
        path.unlink()
    elif damage == "damaged":
        path.write_text("no,pairs\n")
    elif damage == "of another run":
        row_of(folder, "a", accuracies["b"])
    else:
        row = row_of(folder, "a", accuracies["a"], pair_values="../pairs.csv")
    table = table_of(folder, row, other)
    assert verdicts(table) == {"a": "undecided", "c": "undecided"}
    cell = next(line for line in table.lines if line.series == "a").cells["mma_3"]
    assert (cell.half, cell.mean) == (None, pytest.approx(accuracies["a"].mean()))
    name = "../pairs.csv" if damage == "outside" else path.name
    [told] = [text for text in table.caveats if name in text]
    assert "run" in told


def test_failures_and_weights_are_told(tmp_path: Path, accuracies: dict[str, np.ndarray]) -> None:
    row = row_of(
        *(tmp_path, "doap", accuracies["a"]),
        weights=[{"name": "doap", "origin": "featplug", "sha256": "ab"}],
        not_comparable="2 sequences are missing",
    )
    row.metrics["failed_pairs"] = metric(3, "pairs")
    other = row_of(tmp_path, "sift", accuracies["b"])
    text = "\n".join(table_of(tmp_path, row, other).caveats)
    assert "doap returned nothing for 3 pairs" in text
    assert "not the authors': doap" in text
    assert "published numbers (doap): 2 sequences are missing." in text


def test_right_matches_are_shown_at_a_number_that_all_methods_have(tmp_path: Path) -> None:
    def row(feature: str, number: float) -> Row:
        metrics = {
            f"right_among_{n}": metric(min(n, number) / 2, "matches per pair")
            for n in (50, 100, 200, 300, 400, 500, 1000)
        }
        metrics["mean_matches"] = metric(number, "matches per pair")
        return Row(feature, "oxford", "oxford-mma", metrics=metrics)

    table = table_of(tmp_path, row("sift", 812), row("sift+NN-ratio", 340))
    among = [name for name in table.main_metrics if name.startswith("right_among")]
    assert among == ["right_among_300", "right_among_500", "right_among_1000"]
    alone = table_of(tmp_path, row("sift", 2812))
    among = [name for name in alone.metrics if name.startswith("right_among")]
    assert among == ["right_among_500", "right_among_1000"]
