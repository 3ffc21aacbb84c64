"""Seconds and peak memory of each stage, beside the peers where they are at hand.

``python -m benchmarks.speed --images DIR``: every measurement runs in a process of its own, ours
and the peer's in turn, so that their ratio holds on a machine that is shared and noisy.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed import (
    bookkeeping,
    localization,
    matching,
    networks,
    patches,
    reconstruction,
    scans,
)
from benchmarks.speed.measure import Measurement, Setup, measure
from featplug.cli import run_command
from featplug.results import environment, write_results

CASES: dict[str, dict[str, Measurement]] = {
    **reconstruction.CASES,
    **matching.CASES,
    **networks.CASES,
    **patches.CASES,
    **bookkeeping.CASES,
    **localization.CASES,
    **scans.CASES,
}


def _peers_at_hand(case: str, setup: Setup) -> dict[str, Measurement]:
    absent = {"hloc": setup.hloc is None, "authors": setup.d2net is None}
    return {name: m for name, m in CASES[case].items() if not absent.get(name, False)}


def main(
    images: Path,
    reference: Path | None = None,
    outputs: Path = Path("outputs/speed"),
    cases: tuple[str, ...] = tuple(CASES),
    repeats: int = 1,
    hloc: Path | None = None,
    d2net: Path | None = None,
) -> None:
    """Measure seconds and peak memory, ours and the peers' in turn.

    Args:
        images: folder of overlapping photographs, such as fountain-P11's.
        reference: their true poses.
        outputs: gets speed.json.
        cases: what to measure, all by default.
        repeats: how often each is measured; the medians are compared.
        hloc: checkout of hloc, to be measured beside us.
        d2net: checkout of the authors' D2-Net, to be measured beside us.
    """
    for case in cases:
        if case not in CASES:
            raise ValueError(f"There is no case {case!r}; there are {', '.join(CASES)}.")
    report: dict[str, Any] = {"environment": environment(), "repeats": repeats, "cases": {}}
    with tempfile.TemporaryDirectory() as work:
        setup = Setup(images, reference, Path(work), hloc, d2net)
        for case in cases:
            peers = _peers_at_hand(case, setup)
            if case == "match":
                matching.make_inputs(setup)  # not part of any measurement
            if case in localization.CASES:
                localization.make_inputs(setup)
            if case == "localize-inloc":
                scans.make_inputs(setup)
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in peers}
            for _ in range(repeats):
                for name, measurement in peers.items():
                    runs[name].append(measure(measurement, setup))
            report["cases"][case] = {"runs": runs, "ratios": _ratios(runs)}
            _print_case(case, runs, report["cases"][case]["ratios"])
            write_results(outputs / "speed.json", report)
    print(f"all figures are in {outputs / 'speed.json'}")


def _ratios(runs: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """How many times as long each peer takes as we do, by the medians."""
    medians = {name: statistics.median(r["seconds"] for r in rs) for name, rs in runs.items()}
    ours = medians.pop("featplug")
    return {name: seconds / ours for name, seconds in medians.items()}


def _print_case(case: str, runs: dict[str, list[dict[str, Any]]], ratios: dict[str, float]) -> None:
    print(f"{case}")
    for name, figures in runs.items():
        print(f"  {name:<10}{json.dumps({k: _rounded(v) for k, v in figures[-1].items()})}")
    for name, ratio in ratios.items():
        print(f"  {name} takes {ratio:.2f} x our time")


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.speed")
