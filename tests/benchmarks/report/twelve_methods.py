"""Runs of twelve methods by three benchmarks: seeds, pair values, curves, pictures and models."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.pair_values import PairValues, write_pair_values
from benchmarks.record import Curve, Picture, Row, write_run
from tests.benchmarks.report.conftest import make_run, reconstruction_row
from tests.documented import metric
from tests.scenes.pictures import textured_image

METHODS = {
    "contextdesc": "NN-mutual",
    "mtldesc": "mtldesc",
    "doap": "NN-mutual",
    "d2net": "NN-mutual",
    "lisrd@mtldesc": "lisrd",
    "aliked-n16": "NN-mutual",
    "aliked-n16+lightglue": "lightglue",
    "disk+lightglue": "lightglue",
    "xfeat+lighterglue": "lighterglue",
    "sift+NN-ratio": "NN-ratio (ratio 0.8)",
    "hloc/superpoint_aachen+superglue": "superglue",
    "my_feature_with_a_long_name.py:FeatureWithALongName+NN-mutual": "NN-mutual",
}
"""Methods and their matchers."""
PAIRS = [("graf/img1.ppm", f"graf/img{i}.ppm") for i in range(2, 8)]


def write_twelve(root: Path, model: Path) -> Path:
    """Write the runs into a folder."""
    random = np.random.default_rng(0)
    _write_reconstruction(root / "reconstruction", model)
    for benchmark, dataset, protocol in (
        ("matching", "oxford", "oxford-mma"),
        ("relative-pose", "megadepth1500", "megadepth-1500+poselib"),
    ):
        rows = [
            _pair_row(root / benchmark, benchmark, method, dataset, protocol, random)
            for method in METHODS
        ]
        write_run(root / benchmark, make_run(benchmark, rows))
    return root


def _write_reconstruction(folder: Path, model: Path) -> None:
    shutil.copytree(model, folder / "model")
    rows = []
    for number, (method, matcher) in enumerate(METHODS.items()):
        for seed in range(3):
            stages = {
                "extract": {"seconds": 9.0, "peak_memory_mib": 900.0},
                "map": {"seconds": 2.0},
            }
            row = reconstruction_row(
                *(method, seed, 1000 + 50 * number + seed),
                matcher=matcher,
                stages=stages,
                reused=["extract"] if number % 2 else [],
                model="model",
                pictures=[] if seed else _pictures(folder, method, {"inliers": 90, "matches": 120}),
            )
            row.metrics["median_position_error"] = metric(0.01 + number / 1000, "m")
            row.metrics["median_rotation_error"] = metric(0.3 + number / 100, "deg")
            rows.append(row)
    write_run(folder, make_run("reconstruction", rows))


def _pair_row(
    folder: Path,
    benchmark: str,
    method: str,
    dataset: str,
    protocol: str,
    random: np.random.Generator,
) -> Row:
    accuracy = random.uniform(0.3, 0.8, len(PAIRS))
    mean = float(accuracy.mean())
    names = ["mma_3"] if benchmark == "matching" else ["pose_auc_5", "pose_auc_10", "pose_auc_20"]
    x = [float(t) for t in range(1, 11)]
    curves = {"mma": Curve(x, [mean * t / 10 for t in x], "threshold (px)", "MMA")}
    right = np.linspace(0, 800 * mean, 12)
    precision = (1 - 0.4 * right / 800).tolist()
    shipped = [float(right[-1]), precision[-1]]
    curves["precision"] = Curve(
        right.tolist(), precision, "right matches of a pair (3 px)", "precision", shipped
    )
    stem = method.replace("/", "-").replace(":", "-")
    columns = {"mma_3": accuracy} if benchmark == "matching" else {"pose_error": 10 * accuracy}
    values = PairValues(PAIRS, ["" for _ in PAIRS], ["graf" for _ in PAIRS], columns)
    (folder / "pairs").mkdir(parents=True, exist_ok=True)
    write_pair_values(folder / "pairs" / f"{stem}.csv", values)
    return Row(
        *(method, dataset, protocol),
        matcher=METHODS[method],
        metrics={name: metric(mean, "fraction") for name in names},
        curves=curves,
        stages={"match and measure": {"seconds": 5.0, "peak_memory_mib": 700.0}},
        pictures=_pictures(folder, method, {"right": int(800 * mean), "wrong": 120}),
        pair_values=f"pairs/{stem}.csv",
    )


def _pictures(folder: Path, method: str, counts: dict[str, int]) -> list[Picture]:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for number, pair in enumerate(PAIRS[:2]):
        name = f"pair-{number}.jpg"  # the same file for all methods, which costs a page no less
        if not (folder / name).exists():
            Image.fromarray(textured_image(number, 1600, 600)).save(folder / name, quality=90)
        pictures.append(Picture(name, f"{method}, {pair[0]}", list(pair), counts))
    return pictures
