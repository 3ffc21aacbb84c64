"""Matching accuracy of features on image pairs whose geometry is known.

``python -m benchmarks.matching --dataset DIR --feature NAME [NAME …]`` measures sequences of
HPatches, Oxford or RDNIM, which homographies relate, or pairs of WxBS. The layout is recognised by
the folder's files; ``--protocol`` selects one or more papers' rules. Feature and match files of any
tool are measured as ``--features NAME=FILE --matches NAME=FILE``.
"""

from collections.abc import Sequence

from benchmarks.choices import start_methods
from benchmarks.console import NOTHING, conclude, table_lines
from benchmarks.matching.datasets import read_pairs, recognise
from benchmarks.matching.evaluate import Benchmark, MatchingOptions
from benchmarks.matching.measuring import AMONG
from benchmarks.matching.protocols import Protocol, choose_protocols
from benchmarks.record import Row, Run, benchmark_folder, write_run
from featplug.cli.command_line import Unprefixed, leave_config, run_command

_HEADS = {
    "match_score": "M.S.",
    "repeatability": "rep.",
    "homography_accuracy_3": "HA 3 px",
    "precision": "prec.",
    "recall": "recall",
    "average_precision": "AP",
}
"""Metric to its head in the console's tables."""
_OF_KEYPOINTS = ("match_score", "repeatability", "recall", "mean_keypoints")
_NOT_DEFINED = "not defined"
"""Entry for figures of keypoints of a method that detects none."""
_COUNTS = {
    **{f"right_among_{number}": f"right of {number:,}" for number in AMONG},
    "right_matches": "right",
    "wrong_matches": "wrong",
    "mean_keypoints": "keypoints",
}


def measure_all(options: MatchingOptions, progress: bool = False) -> tuple[Run, list[Protocol]]:
    """Measure all features by all protocols; what fails becomes a problem of the run.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has no pairs, or the request does not fit.
    """
    methods, run = start_methods(options, options.matcher)
    options.check()
    layout = options.layout or recognise(options.dataset)
    protocols = choose_protocols(layout, options.protocol)
    pair_set = read_pairs(options.dataset, layout)
    run.options["protocol"] = [protocol.name for protocol in protocols]
    run.add_data(pair_set.name, options.dataset, pair_set.names)
    run.problems += pair_set.problems
    with benchmark_folder(options.output_dir, run) as folder:
        leave_config(options, folder)
        benchmark = Benchmark(pair_set, options, progress)
        for method in methods:
            for rows, problems in benchmark.measure(method, protocols):
                run.rows += rows
                run.problems += [problem for problem in problems if problem not in run.problems]
                write_run(folder, run)
        write_run(folder, run)
    return run, protocols


def _table(protocol: Protocol, rows: Sequence[Row]) -> list[str]:
    rows = [row for row in rows if row.protocol == protocol.name]
    thresholds = [t for t in (1, 3, 5, 10) if any(f"mma_{t}" in row.metrics for row in rows)]
    heads = {f"mma_{t}": f"MMA {t} px" for t in thresholds}
    heads |= {name: _HEADS[name] for name in protocol.shown}
    heads |= _COUNTS
    cells = [["feature", "part", *heads.values(), "matcher"]]
    for row in rows:
        lacks_keypoints = "mean_keypoints" not in row.metrics
        figures = [
            f"{row.metrics[name]['value']:.{0 if name in _COUNTS else 3}f}"
            if name in row.metrics
            else (_NOT_DEFINED if lacks_keypoints and name in _OF_KEYPOINTS else NOTHING)
            for name in heads
        ]
        cells.append([row.feature, row.part, *figures, row.matcher or ""])
    return ["", protocol.name, *table_lines(cells, "<<")] if rows else []


def main(options: Unprefixed[MatchingOptions]) -> None:
    """Measure how well features match image pairs whose geometry is known."""
    run, protocols = measure_all(options, progress=True)
    lines = [line for protocol in protocols for line in _table(protocol, run.rows)]
    conclude(run, options.output_dir, lines)


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.matching")
