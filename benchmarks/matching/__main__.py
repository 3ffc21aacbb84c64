"""Matching accuracy of features on image pairs whose geometry is known.

``python -m benchmarks.matching --dataset DIR --feature NAME [NAME …] --outputs DIR``: sequences of
HPatches, Oxford or RDNIM, which homographies relate, and pairs as WxBS has them. The layout is
recognised by the folder's files; ``--protocol`` selects one or more papers' rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import tyro

from benchmarks.choices import choose_features
from benchmarks.console import NOTHING, conclude, table_lines
from benchmarks.matching.datasets import read_pairs, recognise
from benchmarks.matching.evaluate import Benchmark, MatchingOptions
from benchmarks.matching.protocols import Protocol, choose_protocols
from benchmarks.record import Row, Run, write_run
from featplug.cli.command_line import leave_config, run_command
from featplug.io.results import data_fingerprint
from pipelines.run import plain

_HEADS = {
    "match_score": "M.S.",
    "repeatability": "rep.",
    "homography_accuracy_3": "HA 3 px",
    "precision": "prec.",
    "recall": "recall",
    "average_precision": "AP",
}


def measure_all(options: MatchingOptions, progress: bool = False) -> tuple[Run, list[Protocol]]:
    """Measure all features by all protocols; what fails becomes a problem of the run.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has no pairs, or the request does not fit.
    """
    features, problems = choose_features(options.feature, dict(options.weights))
    options.check()
    layout = options.layout or recognise(options.dataset)
    protocols = choose_protocols(layout, options.protocol)
    pair_set = read_pairs(options.dataset, layout)
    data = {
        "path": str(options.dataset.resolve()),
        "fingerprint": data_fingerprint(options.dataset, pair_set.names),
    }
    run = Run(
        options.benchmark,
        plain(asdict(options)) | {"protocol": [protocol.name for protocol in protocols]},
        {pair_set.name: data},
        problems=[*problems, *pair_set.problems],
    )
    leave_config(options)
    benchmark = Benchmark(pair_set, options, progress)
    for feature in features:
        for rows, problems in benchmark.measure(feature, protocols):
            run.rows += rows
            run.problems += [problem for problem in problems if problem not in run.problems]
            write_run(options.output_dir, run)  # what is measured is kept, whatever happens next
    write_run(options.output_dir, run)
    return run, protocols


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


def main(options: Annotated[MatchingOptions, tyro.conf.arg(name="")]) -> None:
    """Measure how well features match image pairs whose geometry is known."""
    run, protocols = measure_all(options, progress=True)
    lines = [line for protocol in protocols for line in _table(protocol, run.rows)]
    conclude(run, options.output_dir, lines)


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.matching")
