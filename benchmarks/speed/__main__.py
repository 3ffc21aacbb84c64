"""Seconds and peak memory of each stage and conf, beside the peers where they are at hand.

``python -m benchmarks.speed --images DIR --feature NAME [NAME …]``: every measurement runs in a
process of its own, ours and the peer's in turn, so that their ratio holds on a machine that is
shared and noisy.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.record import Problem, Row, Run, write_run
from benchmarks.speed import (
    bookkeeping,
    confs,
    localization,
    matching,
    networks,
    patches,
    reconstruction,
    scans,
)
from benchmarks.speed.measure import Case, Figures, Measurement, Setup, measure
from benchmarks.speed.rows import case_rows, row_lines
from featplug.cli import run_command
from featplug.confs import feature_conf
from featplug.images import list_images
from featplug.results import data_fingerprint

CASES: dict[str, Case] = {
    **reconstruction.CASES,
    **matching.CASES,
    **networks.CASES,
    **patches.CASES,
    **bookkeeping.CASES,
    **localization.CASES,
    **scans.CASES,
}
"""Of one conf each, or of none."""
ALL_CASES = (*confs.CASES, *CASES)
SYNTHETIC = "synthetic"
"""Name of the data of cases that draw their inputs at random."""


def main(
    images: Path | None = None,
    reference: Path | None = None,
    feature: tuple[str, ...] = ("sift",),
    outputs: Path = Path("outputs/speed"),
    cases: tuple[str, ...] = ALL_CASES,
    repeats: int = 1,
    max_keypoints: int | None = None,
    hloc: Path | None = None,
    d2net: Path | None = None,
) -> None:
    """Measure seconds and peak memory, ours and the peers' in turn.

    Args:
        images: folder of overlapping photographs, such as fountain-P11's.
        reference: their true poses.
        feature: names of features, of which the cases stages, image-size and keypoints are
            measured; the other cases are of one feature each.
        outputs: gets results.json, for benchmarks.report.
        cases: what to measure, all by default.
        repeats: how often each is measured; the medians are compared.
        max_keypoints: of each image, the strongest by score, in the cases stages and keypoints.
        hloc: checkout of hloc, to be measured beside us.
        d2net: checkout of the authors' D2-Net, to be measured beside us.
    """
    unknown = [name for name in cases if name not in ALL_CASES]
    if unknown:
        raise ValueError(f"There is no case {unknown[0]!r}; there are {', '.join(ALL_CASES)}.")
    if len(set(feature)) < len(feature):
        raise ValueError("A feature is named twice; name each once.")
    if repeats < 1:
        raise ValueError(f"--repeats must be 1 or more, not {repeats}.")
    options = {
        "cases": list(cases),
        "feature": list(feature),
        "repeats": repeats,
        "max_keypoints": max_keypoints,
        "hloc": None if hloc is None else str(hloc),
        "d2net": None if d2net is None else str(d2net),
    }
    run = Run("speed", options, {})
    with tempfile.TemporaryDirectory() as work:
        setup = Setup(images, reference, Path(work), hloc, d2net, max_keypoints)
        chosen = list(_chosen(cases, feature, run))
        if any(case.uses_images for _, case in chosen):
            list_images(setup.images)  # before anything is measured
        for part, case in chosen:
            dataset = _dataset(setup, case, run)
            print(part, flush=True)
            for row in _rows(part, case, dataset, setup, repeats, run):
                run.rows.append(row)
                print("\n".join(row_lines(row)), flush=True)
            write_run(outputs, run)
    for problem in run.problems:
        print(f"not measured: {problem.subject}: {problem.reason}")
    if not run.rows:
        sys.exit(2)
    print(f"all figures are in {outputs / 'results.json'}")


def _chosen(cases: Sequence[str], feature: Sequence[str], run: Run) -> Iterator[tuple[str, Case]]:
    """Give the cases, those of confs once for each feature there is."""
    known = []
    for name in feature:
        try:
            feature_conf(name)
            known.append(name)
        except ValueError as error:
            run.problems.append(Problem(name, str(error)))
    for name in cases:
        if name in CASES:
            yield name, CASES[name]
        else:
            yield from ((name, confs.CASES[name](of_feature)) for of_feature in known)


def _dataset(setup: Setup, case: Case, run: Run) -> str:
    """Name what a case is measured on, and note it."""
    if not case.uses_images:
        run.data.setdefault(SYNTHETIC, {"path": None, "fingerprint": None})
        return SYNTHETIC
    folder = setup.images.resolve()
    name = folder.parent.name if folder.name == "images" else folder.name
    if name not in run.data:
        fingerprint = data_fingerprint(folder, list_images(folder))
        run.data[name] = {"path": str(folder), "fingerprint": fingerprint}
    return name


def _peers_at_hand(case: Case, setup: Setup) -> dict[str, Measurement]:
    absent = {"hloc": setup.hloc is None, "authors": setup.d2net is None}
    return {name: m for name, m in case.measurements.items() if not absent.get(name, False)}


def _rows(part: str, case: Case, dataset: str, setup: Setup, repeats: int, run: Run) -> list[Row]:
    """Measure a case; what fails becomes a problem of the run."""
    subject = f"{case.feature}, {part}"
    if case.make_inputs is not None:
        try:
            case.make_inputs(setup)
        except (FileNotFoundError, ValueError) as error:
            run.problems.append(Problem(subject, str(error)))
            return []
    runs: dict[str, list[Figures]] = {}
    peers = _peers_at_hand(case, setup)
    for _ in range(repeats):
        for name, measurement in list(peers.items()):
            try:
                figures = measure(f"{subject}, by {name},", measurement, setup)
            except ValueError as error:
                run.problems.append(Problem(f"{subject}, {name}", str(error)))
                del peers[name]
                runs.pop(name, None)
            else:
                runs.setdefault(name, []).append(figures)
    return case_rows(part, case, dataset, runs)


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.speed")
