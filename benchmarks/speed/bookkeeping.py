"""Many images and pairs, of which nearly nothing is to be done."""

from __future__ import annotations

import shutil

import numpy as np
from PIL import Image

from benchmarks.speed.measure import Case, Figures, Setup
from featplug.io.h5file import Provenance
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureWriter
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from featplug.stages.pairs import exhaustive


def many_images(setup: Setup) -> Figures:
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


def many_pairs(setup: Setup) -> Figures:
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


CASES: dict[str, Case] = {
    "many-images": Case("sift", {"featplug": many_images}, uses_images=False),
    "many-pairs": Case("NN-mutual", {"featplug": many_pairs}, uses_images=False),
}
