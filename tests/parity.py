"""The parity report: how far every golden array is from what this code computes.

The tests compare with the golden files through the fixture ``parity``; the session writes what
they found to ``outputs/parity.json``. ``python -m tests.parity`` prints it as ``docs/parity.md``'s
table.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

REPORT = Path(__file__).resolve().parents[1] / "outputs" / "parity.json"


class Parity:
    """Collects comparisons, and fails the test of one that is out of its tolerance."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[str, object]] = {}

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
            system: the conf or method, such as ``mtldesc``.
            array: what is compared; of several files' arrays of one name the worst is kept.
            actual: what this code computed, of any shape.
            expected: the golden values, of the same shape.
            atol: largest absolute difference allowed.
            outliers: part of the rows (first axis) that may differ by more, where the golden
                file's README allows it. The reported differences are those of the other rows.
        """
        atol = float(atol)
        actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        assert actual.shape == expected.shape, f"{array}: {actual.shape}, not {expected.shape}"
        rows = np.abs(actual - expected).reshape(len(expected), -1).max(1)
        allowed = int(outliers * len(rows))
        worst = float(np.sort(rows)[len(rows) - 1 - allowed])
        key = (system, array)
        if key not in self.rows or worst > float(str(self.rows[key]["max_abs"])):
            self.rows[key] = {
                "system": system,
                "array": array,
                "max_abs": worst,
                "max_rel": worst / float(np.abs(expected).max()),
                "tolerance": atol,
                "outliers": int((rows > atol).sum()),
                "within": worst <= atol,
            }
        assert worst <= atol, f"{system} {array}: {worst:.3g} off, {atol:.3g} allowed"

    def write(self, path: Path = REPORT) -> None:
        """Write the report, where anything was compared."""
        if self.rows:
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = sorted(self.rows.values(), key=lambda row: (row["system"], row["array"]))
            path.write_text(json.dumps(rows, indent=1) + "\n")


def as_markdown(path: Path = REPORT) -> str:
    """Give a report as a Markdown table."""
    lines = [
        "| system | array | largest difference | relative | allowed |",
        "|---|---|---|---|---|",
    ]
    for row in json.loads(path.read_text()):
        lines.append(
            f"| {row['system']} | {row['array']} | {row['max_abs']:.1e} | {row['max_rel']:.1e} "
            f"| {row['tolerance']:.0e} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(as_markdown())  # noqa: T201
