"""Seconds and peak memory of each stage, beside the peers where they are at hand.

``python -m benchmarks.speed --images DIR``: every measurement runs in a process of its own, ours
and the peer's in turn, so that their ratio holds on a machine that is shared and noisy.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pycolmap
import torch
from PIL import Image

from featplug.cli import run_command
from featplug.colmap import log_to_file
from featplug.extract import extract_features
from featplug.h5file import Provenance
from featplug.images import list_images, read_image
from featplug.match import match_features
from featplug.metrics import reconstruction_statistics
from featplug.pairs import exhaustive, read_pairs, write_pairs
from featplug.results import environment, peak_memory, write_results
from featplug.store import FeatureReader, FeatureWriter, MatchReader
from pipelines.sfm import SfmOptions, reconstruct

Case = Literal["sfm", "match", "match-40k", "d2net", "d2net-ms", "many-images", "many-pairs"]
CASES: tuple[Case, ...] = get_args(Case)


@dataclass(frozen=True)
class Setup:
    """What the measurements share; everything can be handed to another process."""

    images: Path
    reference: Path | None
    work: Path
    hloc: Path | None
    d2net: Path | None


Measurement = Callable[[Setup], dict[str, Any]]


def sfm_ours(setup: Setup) -> dict[str, Any]:
    """``pipelines.sfm`` with ``sift``, from photographs to model."""
    outputs = setup.work / "sfm"
    shutil.rmtree(outputs, ignore_errors=True)
    start = time.perf_counter()
    results = reconstruct(SfmOptions(setup.images, outputs=outputs, reference=setup.reference))
    seconds = time.perf_counter() - start
    metrics = {name: entry["value"] for name, entry in results["metrics"].items()}
    stages = {f"{name}_seconds": stage["seconds"] for name, stage in results["stages"].items()}
    peak = max(stage["peak_memory_mib"] for stage in results["stages"].values())
    return {"seconds": seconds, "peak_memory_mib": peak, **stages, **metrics}


def sfm_pycolmap(setup: Setup) -> dict[str, Any]:
    """COLMAP alone through pycolmap: full resolution, all defaults."""
    outputs = setup.work / "pycolmap"
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir(parents=True)
    database = outputs / "database.db"
    marks = [time.perf_counter()]
    with log_to_file(outputs / "colmap.log"):
        pycolmap.extract_features(str(database), str(setup.images))
        marks.append(time.perf_counter())
        pycolmap.match_exhaustive(str(database))
        marks.append(time.perf_counter())
        models = pycolmap.incremental_mapping(str(database), str(setup.images), str(outputs))
        marks.append(time.perf_counter())
    model = max(models.values(), key=lambda m: m.num_reg_images())
    figures = reconstruction_statistics(model)
    extract, match, mapping = np.diff(marks).tolist()
    return {
        "seconds": marks[-1] - marks[0],
        "extract_seconds": extract,
        "match_seconds": match,
        "map_seconds": mapping,
        "registered_images": figures.num_registered,
        "sparse_points": figures.num_points,
        "observations": figures.num_observations,
        "mean_reprojection_error": figures.mean_reprojection_error,
    }


def _matching_inputs(setup: Setup) -> tuple[Path, Path]:
    """One feature file in hloc's range of keypoints, and all its pairs."""
    features, pairs = setup.work / "speed-feats.h5", setup.work / "speed-pairs.txt"
    if not features.exists():
        extract_features("sift", setup.images, feature_path=features, max_keypoints=3500)
        with FeatureReader(features) as reader:
            write_pairs(pairs, exhaustive(reader.names()))
    return features, pairs


def match_ours(setup: Setup) -> dict[str, Any]:
    """``NN-ratio`` on every pair of one feature file, within 1 GiB."""
    features, pairs = _matching_inputs(setup)
    target = setup.work / "match-ours.h5"
    start = time.perf_counter()
    summary = match_features(
        "NN-ratio", pairs, features, matches=target, overwrite=True, device="cpu"
    )
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "pairs": summary.num_matched, "matches": summary.num_matches}


def match_product(setup: Setup) -> dict[str, Any]:
    """The bare float32 matrix products of the same pairs, nothing else: the floor."""
    features, _ = _matching_inputs(setup)
    with FeatureReader(features) as reader:
        names = reader.names()
        arrays = [reader.read(name, ["descriptors"])["descriptors"] for name in names]
    descriptors = [torch.from_numpy(array).float() for array in arrays]
    start = time.perf_counter()
    for i, left in enumerate(descriptors):
        for right in descriptors[i + 1 :]:
            torch.mm(left.t(), right)
    return {"seconds": time.perf_counter() - start}


def match_hloc(setup: Setup) -> dict[str, Any]:
    """``match_features`` of hloc on the same file and pairs, and whether the matches agree."""
    sys.path.insert(0, str(setup.hloc))
    from hloc import match_features as hloc_match  # type: ignore[import-not-found]

    features, pairs = _matching_inputs(setup)
    target = setup.work / "match-hloc.h5"
    target.unlink(missing_ok=True)
    start = time.perf_counter()
    hloc_match.main(hloc_match.confs["NN-ratio"], pairs, features, matches=target)
    figures: dict[str, Any] = {
        "seconds": time.perf_counter() - start,
        "peak_memory_mib": peak_memory() / 2**20,
    }
    same = either = 0
    # Ours were measured just before, on the same files.
    with MatchReader(target) as theirs, MatchReader(setup.work / "match-ours.h5") as ours:
        for name0, name1 in read_pairs(pairs):
            found0 = set(map(tuple, theirs.read(name0, name1)[0].tolist()))
            found1 = set(map(tuple, ours.read(name0, name1)[0].tolist()))
            same += len(found0 & found1)
            either += len(found0 | found1)
    return {**figures, "matches_in_common": same, "matches_of_either": either}


def match_40k(setup: Setup) -> dict[str, Any]:
    """Two images of 40,000 keypoints, 128-D, within a budget of 1 GiB."""
    rng = np.random.default_rng(0)
    features, pairs = setup.work / "speed-40k.h5", setup.work / "speed-40k.txt"
    features.unlink(missing_ok=True)
    with FeatureWriter(features, Provenance("features", {})) as writer:
        for name in ("a.jpg", "b.jpg"):
            descriptors = rng.standard_normal((128, 40_000), dtype=np.float32)
            descriptors /= np.linalg.norm(descriptors, axis=0)
            values: dict[str, np.ndarray] = {
                "keypoints": np.zeros((40_000, 2), np.float32),
                "scores": np.zeros(40_000, np.float32),
                "descriptors": descriptors.astype(np.float16),
            }
            writer.write(name, values, (6000, 4000), 1.0, "")
    write_pairs(pairs, [("a.jpg", "b.jpg")])
    before = peak_memory()
    start = time.perf_counter()
    match_features("NN-ratio", pairs, features, matches=setup.work / "x.h5", overwrite=True)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "matching_memory_mib": (peak_memory() - before) / 2**20}


def _d2net_image(setup: Setup, width: int) -> np.ndarray:
    image = Image.fromarray(read_image(setup.images / list_images(setup.images)[0]))
    return np.asarray(image.resize((width, round(width * image.height / image.width))))


def _d2net_ours(setup: Setup, width: int, scales: list[float]) -> dict[str, Any]:
    from featplug.extractors import build_extractor

    conf = {"name": "d2net", "checkpoint": "d2net-ots", "use_relu": False, "scales": scales}
    extractor = build_extractor(conf)
    image = torch.from_numpy(_d2net_image(setup, width).transpose(2, 0, 1) / np.float32(255))
    start = time.perf_counter()
    features = extractor({"image": image[None]})
    return {
        "seconds": time.perf_counter() - start,
        "keypoints": len(features["keypoints"][0]),
    }


def _d2net_authors(setup: Setup, width: int, scales: list[float]) -> dict[str, Any]:
    sys.path.insert(0, str(setup.d2net))
    from lib.model_test import D2Net  # type: ignore[import-not-found]
    from lib.pyramid import process_multiscale  # type: ignore[import-not-found]
    from lib.utils import preprocess_image  # type: ignore[import-not-found]

    from featplug.weights import load_weights

    model = D2Net(model_file=None, use_relu=False, use_cuda=False)
    load_weights("d2net-ots", "auto", model)
    image = preprocess_image(_d2net_image(setup, width), preprocessing="caffe")
    start = time.perf_counter()
    with torch.no_grad():
        batch = torch.tensor(image[None].astype(np.float32))
        keypoints, _, _ = process_multiscale(batch, model, scales=scales)
    return {"seconds": time.perf_counter() - start, "keypoints": len(keypoints)}


def d2net_ours(setup: Setup) -> dict[str, Any]:
    """``d2net-ots``, 1,600 px wide."""
    return _d2net_ours(setup, 1600, [1.0])


def d2net_authors(setup: Setup) -> dict[str, Any]:
    """The authors' code on the same image and weights."""
    return _d2net_authors(setup, 1600, [1.0])


def d2net_ms_ours(setup: Setup) -> dict[str, Any]:
    """``d2net-ots-ms``, three scales, 1,024 px wide."""
    return _d2net_ours(setup, 1024, [0.5, 1.0, 2.0])


def d2net_ms_authors(setup: Setup) -> dict[str, Any]:
    """The authors' code on the same image and weights."""
    return _d2net_authors(setup, 1024, [0.5, 1.0, 2.0])


def many_images(setup: Setup) -> dict[str, Any]:
    """10,000 small images: a whole run, and one that lists and checks them and finds all done."""
    folder, target = setup.work / "many", setup.work / "many.h5"
    if not folder.exists():
        folder.mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "0000.png")
        for i in range(1, 10_000):
            shutil.copyfile(folder / "0000.png", folder / f"{i:04}.png")
    target.unlink(missing_ok=True)
    whole = extract_features("sift", folder, feature_path=target).seconds
    again = extract_features("sift", folder, feature_path=target).seconds
    return {"seconds": whole, "resume_seconds": again}


def many_pairs(setup: Setup) -> dict[str, Any]:
    """A run that finds all of 100,000 pairs matched."""
    features, pairs = setup.work / "many-pairs.h5", setup.work / "many-pairs.txt"
    target = setup.work / "many-matches.h5"
    names = [f"{i:03}.jpg" for i in range(448)]
    values: dict[str, np.ndarray] = {
        "keypoints": np.zeros((1, 2), np.float32),
        "scores": np.zeros(1, np.float32),
        "descriptors": np.ones((1, 1), np.float16),
    }
    with FeatureWriter(features, Provenance("features", {}), overwrite=True) as writer:
        for name in names:
            writer.write(name, values, (64, 48), 1.0, "")
    write_pairs(pairs, exhaustive(names))
    first = match_features("NN-mutual", pairs, features, matches=target, overwrite=True)
    again = match_features("NN-mutual", pairs, features, matches=target)
    return {"seconds": first.seconds, "resume_seconds": again.seconds, "pairs": again.num_present}


MEASUREMENTS: dict[Case, dict[str, Measurement]] = {
    "sfm": {"featplug": sfm_ours, "pycolmap": sfm_pycolmap},
    "match": {"featplug": match_ours, "hloc": match_hloc, "products": match_product},
    "match-40k": {"featplug": match_40k},
    "d2net": {"featplug": d2net_ours, "authors": d2net_authors},
    "d2net-ms": {"featplug": d2net_ms_ours, "authors": d2net_ms_authors},
    "many-images": {"featplug": many_images},
    "many-pairs": {"featplug": many_pairs},
}


def _in_process(measurement: Measurement, setup: Setup, channel: Any) -> None:
    figures = measurement(setup)
    figures.setdefault("peak_memory_mib", peak_memory() / 2**20)
    channel.send(figures)


def measure(measurement: Measurement, setup: Setup) -> dict[str, Any]:
    """Run one measurement in a new process.

    Raises:
        ValueError: it failed; its own error is on the terminal.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_in_process, args=(measurement, setup, sender))
    process.start()
    sender.close()
    try:
        figures = receiver.recv()
    except EOFError:
        raise ValueError(f"The measurement {measurement.__name__} failed.") from None
    finally:
        process.join()
    return figures


def _peers_at_hand(case: Case, setup: Setup) -> dict[str, Measurement]:
    absent = {"hloc": setup.hloc is None, "authors": setup.d2net is None}
    return {name: m for name, m in MEASUREMENTS[case].items() if not absent.get(name, False)}


def main(
    images: Path,
    reference: Path | None = None,
    outputs: Path = Path("outputs/speed"),
    cases: tuple[Case, ...] = CASES,
    repeats: int = 1,
    hloc: Path | None = None,
    d2net: Path | None = None,
) -> None:
    """Measure seconds and peak memory, ours and the peers' in turn.

    Args:
        images: folder of overlapping photographs, such as fountain-P11's.
        reference: their true poses.
        outputs: gets speed.json.
        cases: what to measure.
        repeats: how often each is measured; the medians are compared.
        hloc: checkout of hloc, to be measured beside us.
        d2net: checkout of the authors' D2-Net, to be measured beside us.
    """
    report: dict[str, Any] = {"environment": environment(), "repeats": repeats, "cases": {}}
    with tempfile.TemporaryDirectory() as work:
        setup = Setup(images, reference, Path(work), hloc, d2net)
        for case in cases:
            peers = _peers_at_hand(case, setup)
            if case == "match":
                _matching_inputs(setup)  # not part of any measurement
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
