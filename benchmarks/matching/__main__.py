"""Matching accuracy of features on image pairs whose geometry is known.

``python -m benchmarks.matching --dataset DIR --feature NAME [NAME …] --outputs DIR``: sequences of
HPatches, Oxford or RDNIM, which homographies relate, and pairs as WxBS has them. The layout is told
from the folder; ``--protocol`` names one or more sets of rules, as papers have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.choices import choose_features
from benchmarks.console import NOTHING, conclude, table_lines
from benchmarks.matching.datasets import Layout, read_pairs, recognise
from benchmarks.matching.evaluate import Benchmark, Options
from benchmarks.matching.protocols import Protocol, choose_protocols
from benchmarks.record import Row, Run, write_run
from featplug.base import choose_device
from featplug.cli.runner import run_command
from featplug.io.results import data_fingerprint

_HEADS = {
    "match_score": "M.S.",
    "repeatability": "rep.",
    "homography_accuracy_3": "HA 3 px",
    "precision": "prec.",
    "recall": "recall",
    "average_precision": "AP",
}


def main(
    dataset: Path,
    feature: tuple[str, ...] = ("sift",),
    outputs: Path = Path("outputs/matching"),
    protocol: tuple[str, ...] = (),
    layout: Layout | None = None,
    matcher: str | None = None,
    max_keypoints: int | None = None,
    weights: tuple[tuple[str, str], ...] = (),
    device: str | None = None,
    pictures: bool = True,
) -> None:
    """Measure how well features match image pairs whose geometry is known.

    Args:
        dataset: folder of the sequences or pairs.
        feature: names of features.
        outputs: gets results.json, features that later runs use again, and pictures.
        protocol: rules to measure by: mma-d2net, mma-116, recall-contextdesc, lisrd-480x640 and
            mtldesc-hpatches (HPatches), oxford-mma and oxford-ap (Oxford), rdnim, wxbs; by default
            the first of the layout.
        layout: of the folder, where it cannot be told.
        matcher: name of the matcher; by default each conf's own, except that a conf whose matcher
            has a ratio test gets mutual nearest neighbours instead, as no protocol has one.
        max_keypoints: of each image, the strongest by score, in place of the protocol's number.
        weights: names of features and the weights of each, ``official``, ``featplug`` or a file,
            such as ``--weights doap own.safetensors``.
        device: of torch, such as cpu or cuda:1; the best one by default.
        pictures: draw the matches of two pairs.
    """
    features, problems = choose_features(feature, dict(weights))
    if max_keypoints is not None and max_keypoints < 1 and max_keypoints != -1:
        raise ValueError(f"max_keypoints must be 1 or more, or -1 for all, not {max_keypoints}.")
    choose_device(device)
    layout = layout or recognise(dataset)
    protocols = choose_protocols(layout, protocol)
    pair_set = read_pairs(dataset, layout)
    options = Options(
        outputs, matcher, max_keypoints, dict(weights), device, pictures, progress=True
    )
    run = Run(
        "matching",
        {
            "dataset": str(dataset),
            "feature": list(feature),
            "protocol": [chosen.name for chosen in protocols],
            "matcher": matcher,
            "max_keypoints": max_keypoints,
            "weights": dict(weights),
        },
        {
            pair_set.name: {
                "path": str(dataset.resolve()),
                "fingerprint": data_fingerprint(dataset, pair_set.names),
            }
        },
        problems=[*problems, *pair_set.problems],
    )
    benchmark = Benchmark(pair_set, options)
    for name in features:
        for rows, problems in benchmark.measure(name, protocols):
            run.rows += rows
            run.problems += [problem for problem in problems if problem not in run.problems]
            write_run(outputs, run)  # what is measured stays, whatever comes
    write_run(outputs, run)
    conclude(run, outputs, (line for chosen in protocols for line in _table(chosen, run.rows)))


def _table(protocol: Protocol, rows: Sequence[Row]) -> list[str]:
    rows = [row for row in rows if row.protocol == protocol.name]
    thresholds = [t for t in (1, 3, 5, 10) if any(f"mma_{t}" in row.metrics for row in rows)]
    columns = {f"mma_{t}": (f"MMA {t} px", 3) for t in thresholds}
    columns |= {name: (_HEADS[name], 3) for name in protocol.shown}
    columns |= {"mean_keypoints": ("keypoints", 0), "mean_matches": ("matches", 0)}
    cells = [["feature", "part", *(head for head, _ in columns.values()), "matcher"]]
    for row in rows:
        figures = [
            f"{row.metrics[name]['value']:.{decimals}f}" if name in row.metrics else NOTHING
            for name, (_, decimals) in columns.items()
        ]
        cells.append([row.feature, row.part, *figures, row.matcher or ""])
    return ["", protocol.name, *table_lines(cells, "<<")] if rows else []


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.matching")
