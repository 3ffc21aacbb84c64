"""``python -m benchmarks.scale``: what stores of parts cost beside the work itself.

Images are tiny, and so is the work: a feature that detects nothing, 32 keypoints at random, and
mutual neighbours of these. What is left is reading, writing, and finding out what is done. Each
stage runs in a process of its own, whose peak memory stands beside its time.
"""

import multiprocessing
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from benchmarks.console import table_lines
from featplug.base import Extractor
from featplug.cli.command_line import Unprefixed, run_command
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchWriter
from featplug.io.pair_lists import write_pairs
from featplug.io.parts.manifest import Manifest, make_manifest
from featplug.io.parts.match_parts import MatchPartWriter
from featplug.methods import matcher_conf
from featplug.shards.extract_parts import ExtractParts
from featplug.shards.match_blocks import match_blocks
from featplug.shards.run_parts import run_parts
from featplug.stages.extract import ExtractOptions
from featplug.stages.match import MatchOptions
from featplug.utils.extras import require

_NUM_KEYPOINTS, _DIMENSIONS = 32, 16
_NUM_FILES = 50
"""Different images; the others are links to them."""
_IN_FOLDER = 1000
_MATCHED_KEYPOINTS = 2048
_NUM_ROUNDS = 3


class Random32(Extractor):
    """Detects nothing: the same 32 keypoints in every image."""

    default_conf: ClassVar[dict[str, Any]] = {}

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return keypoints at random places."""
        generator = torch.Generator().manual_seed(0)
        return {
            "keypoints": 15 * torch.rand(_NUM_KEYPOINTS, 2, generator=generator),
            "scores": torch.rand(_NUM_KEYPOINTS, generator=generator),
            "descriptors": torch.nn.functional.normalize(
                torch.randn(_DIMENSIONS, _NUM_KEYPOINTS, generator=generator), dim=0
            ),
        }


@dataclass(frozen=True)
class ScaleOptions:
    """Sizes of the image sets."""

    images: tuple[int, ...] = (1000, 10_000)
    """Numbers of images."""
    pairs_per_image: int = 10
    """Pairs of each image with those that follow it."""
    size: int = 512
    """Number of images of a shard."""
    outputs: Path = Path("outputs/scale")
    """Folder of the images and stores, which is removed at the end."""


def write_images(folder: Path, number: int) -> None:
    """Write images of 16×16 pixels, a thousand in each folder, as links to some files."""
    originals = folder.parent / "originals"
    originals.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(_NUM_FILES):
        Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(originals / f"{i}.png")
    for i in range(number):
        place = folder / f"{i // _IN_FOLDER:05d}"
        if i % _IN_FOLDER == 0:
            place.mkdir(parents=True)
        os.link(originals / f"{i % _NUM_FILES}.png", place / f"{i:07d}.png")


def _manifest(work: Path, options: ScaleOptions) -> None:
    make_manifest(work / "images", work / "store", options.size)


def _extract(work: Path, options: ScaleOptions) -> None:
    extraction = ExtractOptions(device="cpu")
    conf = extraction.conf("benchmarks.scale:Random32")
    run_parts(ExtractParts(work / "store", conf, extraction))


def _list_pairs(work: Path, options: ScaleOptions) -> None:
    names = Manifest(work / "store").all_names()
    following = range(1, options.pairs_per_image + 1)
    pairs = [
        (name, names[i + step])
        for i, name in enumerate(names)
        for step in following
        if i + step < len(names)
    ]
    write_pairs(work / "pairs.txt", pairs)


def _match(work: Path, options: ScaleOptions) -> None:
    features = min((work / "store").glob("feats-*"), key=lambda path: len(path.name))
    conf = matcher_conf("NN-mutual")
    stage = match_blocks(
        work / "store", features.name, work / "pairs.txt", conf, MatchOptions(device="cpu")
    )
    run_parts(stage)


_STAGES: dict[str, Callable[[Path, ScaleOptions], None]] = {
    "manifest": _manifest,
    "manifest again": _manifest,
    "extract": _extract,
    "extract again": _extract,
    "list pairs": _list_pairs,
    "match": _match,
    "match again": _match,
}
"""Name of a stage to what it does; again: when all is there."""


def _measured(name: str, work: Path, options: ScaleOptions) -> tuple[float, float]:
    """Return seconds and the peak memory of this process in MiB."""
    start = time.perf_counter()
    _STAGES[name](work, options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return time.perf_counter() - start, peak / (2**20 if sys.platform == "darwin" else 2**10)


def _written(folder: Path, num_pairs: int = 2000) -> list[str]:
    """Compare the writing of matches in hloc's layout with that of packed parts."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(20):
        matches0 = np.full(_MATCHED_KEYPOINTS, -1)
        chosen = np.sort(rng.permutation(_MATCHED_KEYPOINTS)[:500])
        matches0[chosen] = rng.permutation(_MATCHED_KEYPOINTS)[:500]
        pairs.append((matches0, rng.uniform(size=_MATCHED_KEYPOINTS).astype(np.float32)))
    made_by = Provenance("matches", {"model": {"name": "random"}})
    rates: dict[str, list[float]] = {}
    sizes = {}
    for _ in range(_NUM_ROUNDS):  # in turn, as other programs may run
        for name, writer_class in (("hloc's", MatchWriter), ("packed", MatchPartWriter)):
            path = folder / f"{name}.h5"
            path.unlink(missing_ok=True)
            start = time.perf_counter()
            with writer_class(path, made_by) as writer:
                for i in range(num_pairs):
                    names = f"{i // 50:05d}.jpg", f"{i:07d}.jpg"
                    writer.write(*names, *pairs[i % len(pairs)], _MATCHED_KEYPOINTS)
            rates.setdefault(name, []).append(num_pairs / (time.perf_counter() - start))
            sizes[name] = path.stat().st_size / num_pairs
    cells = [["layout", "pairs per s", "bytes per pair"]]
    cells += [[name, f"{median(rates[name]):,.0f}", f"{sizes[name]:,.0f}"] for name in rates]
    return table_lines(cells)


def main(options: Unprefixed[ScaleOptions]) -> None:
    """Measure what stores cost beside the work itself, by the number of images."""
    require("pyarrow", "shards")
    cells = [["images", "pairs", *(name for name in _STAGES), "largest peak MiB"]]
    for number in options.images:
        work = options.outputs / str(number)
        shutil.rmtree(work, ignore_errors=True)
        write_images(work / "images", number)
        seconds, peaks = [], []
        for name in _STAGES:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                spent, peak = pool.submit(_measured, name, work, options).result()
            seconds.append(f"{spent:.1f}")
            peaks.append(peak)
        pairs = number * options.pairs_per_image
        cells.append([f"{number:,}", f"{pairs:,}", *seconds, f"{max(peaks):.0f}"])
        print(f"{number:,} images: done", file=sys.stderr)
        shutil.rmtree(work)
    for line in table_lines(cells):
        print(line)
    print()
    for line in _written(options.outputs):
        print(line)
    shutil.rmtree(options.outputs)


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.scale")
