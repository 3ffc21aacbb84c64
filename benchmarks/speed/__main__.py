"""Seconds and peak memory of each stage and conf, beside the peers where they are at hand.

``python -m benchmarks.speed --images DIR --feature NAME [NAME …]``: every measurement runs in a
process of its own, ours and the peer's in turn, so that their ratio holds on a machine that is
shared and noisy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.choices import FAILURES, choose_features, problem_of
from benchmarks.console import conclude
from benchmarks.record import Row, Run, write_run
from benchmarks.scene_names import scene_folder
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
from featplug.base import choose_device
from featplug.cli.runner import run_command
from featplug.io.images import list_images
from featplug.io.results import data_fingerprint
from pipelines.run import plain

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
    weights: tuple[tuple[str, str], ...] = (),
    device: str | None = None,
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
        weights: names of features and the weights of each, ``official``, ``featplug`` or a file,
            such as ``--weights doap own.safetensors``, in the cases of --feature.
        device: of torch in the cases of --feature, such as cpu or cuda:1; the best one by default.
        hloc: checkout of hloc, to be measured beside us.
        d2net: checkout of the authors' D2-Net, to be measured beside us.
    """
    unknown = [name for name in cases if name not in ALL_CASES]
    if unknown:
        raise ValueError(f"There is no case {unknown[0]!r}; there are {', '.join(ALL_CASES)}.")
    if repeats < 1:
        raise ValueError(f"--repeats must be 1 or more, not {repeats}.")
    choose_device(device)
    features, problems = choose_features(feature, dict(weights))
    options = {
        "images": images,
        "reference": reference,
        "feature": feature,
        "cases": cases,
        "repeats": repeats,
        "max_keypoints": max_keypoints,
        "weights": dict(weights),
        "device": device,
        "hloc": hloc,
        "d2net": d2net,
    }
    run = Run("speed", plain(options), {}, problems=problems)
    with tempfile.TemporaryDirectory() as work:
        setup = Setup(
            images, reference, Path(work), hloc, d2net, max_keypoints, dict(weights), device
        )
        chosen = list(_chosen(cases, features))
        if any(case.uses_images for _, case in chosen):
            list_images(setup.images)  # before anything is measured
        for part, case in chosen:
            dataset = _dataset(setup, case, run)
            print(part, flush=True)
            for row in _rows(part, case, dataset, setup, repeats, run):
                run.rows.append(row)
                print("\n".join(row_lines(row)), flush=True)
            write_run(outputs, run)
    write_run(outputs, run)
    conclude(run, outputs)


def _chosen(cases: Sequence[str], features: Sequence[str]) -> Iterator[tuple[str, Case]]:
    """Give the cases, those of confs once for each feature."""
    for name in cases:
        if name in CASES:
            yield name, CASES[name]
        else:
            yield from ((name, confs.CASES[name](feature)) for feature in features)


def _dataset(setup: Setup, case: Case, run: Run) -> str:
    """Name what a case is measured on, and note it."""
    if not case.uses_images:
        run.data.setdefault(SYNTHETIC, {"path": None, "fingerprint": None})
        return SYNTHETIC
    name = scene_folder(setup.images).name
    if name not in run.data:
        fingerprint = data_fingerprint(setup.images, list_images(setup.images))
        run.data[name] = {"path": str(setup.images.resolve()), "fingerprint": fingerprint}
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
        except FAILURES as error:
            run.problems.append(problem_of(subject, error))
            return []
    runs: dict[str, list[Figures]] = {}
    peers = _peers_at_hand(case, setup)
    for _ in range(repeats):
        for name, measurement in list(peers.items()):
            try:
                figures = measure(f"{subject}, by {name},", measurement, setup)
            except ValueError as error:
                run.problems.append(problem_of(f"{subject}, {name}", error))
                del peers[name]
                runs.pop(name, None)
            else:
                runs.setdefault(name, []).append(figures)
    return case_rows(part, case, dataset, runs)


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.speed")
