"""Matching accuracy of features on image pairs whose geometry is known.

``python -m benchmarks.matching --dataset DIR --feature NAME [NAME …] --outputs DIR``: sequences of
HPatches, Oxford or RDNIM, which homographies relate, and pairs as WxBS has them. The layout is told
from the folder; ``--protocol`` names one or more sets of rules, as papers have them.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.matching.datasets import Layout, read_pairs, recognise
from benchmarks.matching.protocols import Protocol, choose_protocols
from benchmarks.matching.run import Benchmark, Options
from benchmarks.record import Problem, Row, Run, write_run
from featplug.cli import run_command
from featplug.results import data_fingerprint

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
        matcher: name of the matcher; by default each conf's own, but mutual nearest neighbours
            without a ratio test, which the protocols have not.
        max_keypoints: of each image, the strongest by score, in place of the protocol's number.
        weights: names of features and the weights of each, ``official``, ``featplug`` or a file,
            such as ``--weights doap own.safetensors``.
        pictures: draw the matches of two pairs.
    """
    unused = [name for name, _ in weights if name not in feature]
    if unused:
        raise ValueError(f"There are weights for {unused[0]}, which is not among the features.")
    if max_keypoints is not None and max_keypoints < 1 and max_keypoints != -1:
        raise ValueError(f"max_keypoints must be 1 or more, or -1 for all, not {max_keypoints}.")
    layout = layout or recognise(dataset)
    protocols = choose_protocols(layout, protocol)
    pair_set = read_pairs(dataset, layout)
    options = Options(outputs, matcher, max_keypoints, dict(weights), pictures, progress=True)
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
        problems=list(pair_set.problems),
    )
    benchmark = Benchmark(pair_set, options)
    for name in dict.fromkeys(feature):
        if feature.count(name) > 1:
            run.problems.append(Problem(name, "was named more than once, and is measured once"))
        for rows, problems in benchmark.measure(name, protocols):
            run.rows += rows
            run.problems += [problem for problem in problems if problem not in run.problems]
            write_run(outputs, run)  # what is measured stays, whatever comes
    for chosen in protocols:
        _print_table(chosen, [row for row in run.rows if row.protocol == chosen.name])
    for problem in run.problems:
        print(f"not measured: {problem.subject}: {problem.reason}")
    if not run.rows:
        raise ValueError(f"Nothing could be measured; the reasons are in {outputs}/results.json.")
    print(f"all figures are in {outputs / 'results.json'}")


def _print_table(protocol: Protocol, rows: list[Row]) -> None:
    if not rows:
        return
    thresholds = [t for t in (1, 3, 5, 10) if f"mma_{t}" in rows[0].metrics]
    heads = "".join(f"{t:>4} px" for t in thresholds)
    heads += "".join(f"{_HEADS[name]:>9}" for name in protocol.shown)
    first = "MMA at" if thresholds else ""
    print(f"\n{protocol.name}\n{first:<30}{heads}  keypoints  matches  matcher")
    for row in rows:
        values = {name: entry["value"] for name, entry in row.metrics.items()}
        cells = "".join(f"{values[f'mma_{t}']:7.3f}" for t in thresholds)
        cells += "".join(
            f"{values[name]:9.3f}" if name in values else f"{'–':>9}" for name in protocol.shown
        )
        counts = f"{values['mean_keypoints']:11.0f}{values['mean_matches']:9.0f}"
        label = row.feature if row.part == "all" else f"  {row.part}"
        print(f"{label:<30}{cells}{counts}  {row.matcher if row.part == 'all' else ''}".rstrip())
    if rows[0].not_comparable:
        print(f"not to be compared with published numbers: {rows[0].not_comparable}")


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.matching")
