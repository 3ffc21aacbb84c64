"""The parity report: how far every golden array is from what this code computes.

The tests compare with the golden set through the fixture ``parity``. ``pytest --parity-report
FILE`` adds the differences to those that earlier sessions wrote there for the same golden set, and
``python -m tests.golden.parity FILE`` prints them as the table of ``docs/parity.md``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.golden_set import SMALL


class Parity:
    """Comparisons; the test of one that exceeds its tolerance fails.

    Args:
        golden: Folder of the golden set.
    """

    def __init__(self, golden: Path) -> None:
        self.is_whole = golden != SMALL
        files = sorted(golden.rglob("*.npz"))
        sizes = "".join(f"{file.relative_to(golden)} {file.stat().st_size}\n" for file in files)
        self.golden = {
            **json.loads((golden / "set.json").read_text()),
            "files_sha256": hashlib.sha256(sizes.encode()).hexdigest(),
        }
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}

    def compare(
        self,
        system: str,
        array: str,
        actual: np.ndarray,
        expected: np.ndarray,
        atol: float,
        outliers: float = 0.0,
    ) -> None:
        """Compare one array with its golden values.

        Args:
            system: Conf or method, such as ``mtldesc``.
            array: Label; of several files' arrays with one label the worst is kept.
            actual: Values that this code computed, of any shape.
            expected: Golden values, of the same shape. Rows of NaN, which the small set leaves
                out, are not compared.
            atol: Largest absolute difference allowed.
            outliers: Fraction of the rows (first axis) that may differ by more, where the golden
                file's README allows it.
        """
        actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        assert actual.shape == expected.shape, f"{array}: {actual.shape}, not {expected.shape}"
        if not self.is_whole:
            kept = ~np.isnan(expected).reshape(len(expected), -1).any(1)
            assert kept.any(), f"{array}: the small golden set has no row of it"
            actual, expected = actual[kept], expected[kept]
        assert np.isfinite(actual).all(), f"{array} has NaN or infinite values"
        atol = float(atol)
        rows = np.abs(actual - expected).reshape(len(expected), -1).max(1)
        worst, beyond = float(rows.max()), int((rows > atol).sum())
        key = (system, array)
        if key not in self.rows or worst > self.rows[key]["max_abs"]:
            self.rows[key] = {
                "system": system,
                "array": array,
                "max_abs": worst,
                "max_rel": worst / float(np.abs(expected).max()),
                "tolerance": atol,
                "rows": len(rows),
                "rows_beyond": beyond,
                "rows_allowed_beyond": int(outliers * len(rows)),
            }
        assert beyond <= outliers * len(rows), (
            f"{system} {array}: {worst:.3g} off, {atol:.3g} allowed ({beyond} of {len(rows)} rows)"
        )

    def write(self, path: Path) -> None:
        """Write the report, where anything was compared."""
        if not self.rows:
            return
        rows = dict(self.rows)
        if path.is_file():
            before = json.loads(path.read_text())
            if isinstance(before, dict) and before["golden"] == self.golden:
                rows = {(row["system"], row["array"]): row for row in before["arrays"]} | rows
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = [rows[key] for key in sorted(rows)]
        path.write_text(json.dumps({"golden": self.golden, "arrays": arrays}, indent=1) + "\n")


def as_markdown(path: Path, worst_only: bool = False) -> str:
    """Return a report as a Markdown table.

    Args:
        path: File of the report.
        worst_only: Keep of each system only the array that is nearest to its tolerance.
    """
    rows = json.loads(path.read_text())["arrays"]
    if worst_only:
        nearest = {}
        for row in sorted(rows, key=lambda row: row["max_abs"] / (row["tolerance"] or 1)):
            nearest[row["system"]] = row
        rows = [nearest[system] for system in sorted(nearest)]
    lines = ["| system | array | largest difference | relative | allowed |", "|---" * 5 + "|"]
    for row in rows:
        beyond = f" ({row['rows_beyond']} of {row['rows']} rows more)" if row["rows_beyond"] else ""
        lines.append(
            f"| {row['system']} | {row['array']} | {row['max_abs']:.1e} | {row['max_rel']:.1e} "
            f"| {row['tolerance']:.1e}{beyond} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(as_markdown(Path(sys.argv[1]), worst_only="--worst" in sys.argv))
