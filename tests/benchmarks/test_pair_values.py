"""The file of the values of pairs: what is written is read, by spreadsheets too."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pair_values import PairValues, read_pair_values, write_pair_values


def values_of(*names: str, **columns: list[float]) -> PairValues:
    pairs = [(f"{name}/1.png", f"{name}/2.png") for name in names]
    arrays = {name: np.array(column) for name, column in columns.items()}
    return PairValues(pairs, ["day", "night"][: len(names)], list(names), arrays)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = values_of(
        *("graf, 'old'", '=1+1"x'), mma_3=[1 / 3, np.nan], corner_error=[np.inf, -2.5e-7]
    )
    write_pair_values(tmp_path / "pairs.csv", written)
    read = read_pair_values(tmp_path / "pairs.csv")
    assert (read.pairs, read.parts, read.sequences) == (
        written.pairs,
        written.parts,
        written.sequences,
    )
    assert list(read.values) == ["mma_3", "corner_error"]
    for name, column in written.values.items():
        np.testing.assert_allclose(read.values[name], column, rtol=1e-8)
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1][4:] == ["0.333333333", "inf"]
    assert rows[2][4] == ""  # not measured
    assert not any(cell.startswith("=") for row in rows for cell in row)


def test_rows_of_parts_have_their_pairs() -> None:
    values = values_of("a", "b", mma_3=[1.0, 2.0])
    assert values.of_part("all").values["mma_3"].tolist() == [1, 2]
    assert values.of_part("night").pairs == values.of_part("b").pairs == [("b/1.png", "b/2.png")]
    assert values.of_part("other").pairs == []


HEAD = "image0,image1,part,sequence,mma_3\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n", "is not a file of pair values"),
        ("", "is not a file of pair values"),
        (HEAD.strip() + ",mma_3\n", "is not a file of pair values"),
        (f'{HEAD}a,b,,s,"1\n', "is not a file of pair values"),
        (f"{HEAD}a,b,,s\n", "line 2: expected 5 cells, got 4"),
        (f"{HEAD}a,b,,s,good\n", "line 2: expected a number, got 'good'"),
        (f"{HEAD}a,b,,s,1\na,b,,s,2\n", "a b is there twice"),
    ],
)
def test_another_file_is_rejected_by_name_and_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ValueError, match=expected) as error:
        read_pair_values(tmp_path / "pairs.csv")
    assert "pairs.csv" in str(error.value)
    assert "easure again" in str(error.value)
