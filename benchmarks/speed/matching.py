"""Matching, beside hloc and the bare products."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.speed.measure import Case, Figures, Setup
from featplug.io.h5file import Provenance
from featplug.io.pair_lists import read_pairs, write_pairs
from featplug.io.results import peak_memory
from featplug.io.store import FeatureReader, FeatureWriter, MatchReader
from featplug.methods import build_matcher
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from featplug.stages.pairs import exhaustive


def make_inputs(setup: Setup) -> tuple[Path, Path]:
    """One feature file in hloc's range of keypoints, and all its pairs."""
    features, pairs = setup.work / "speed-feats.h5", setup.work / "speed-pairs.txt"
    if not features.exists():
        extract_features("sift", setup.images, feature_path=features, max_keypoints=3500)
        with FeatureReader(features) as reader:
            write_pairs(pairs, exhaustive(reader.names()))
    return features, pairs


def match_ours(setup: Setup) -> Figures:
    """``NN-ratio`` on every pair of one feature file, within 1 GiB."""
    features, pairs = make_inputs(setup)
    target = setup.work / "match-ours.h5"
    start = time.perf_counter()
    summary = match_features(
        "NN-ratio", pairs, features, matches=target, overwrite=True, device="cpu"
    )
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "pairs": summary.num_matched, "matches": summary.num_matches}


def match_product(setup: Setup) -> Figures:
    """The bare float32 matrix products of the same pairs, nothing else: the floor."""
    features, _ = make_inputs(setup)
    with FeatureReader(features) as reader:
        names = reader.names()
        arrays = [reader.read(name, ["descriptors"])["descriptors"] for name in names]
    descriptors = [torch.from_numpy(array).float() for array in arrays]
    start = time.perf_counter()
    for i, left in enumerate(descriptors):
        for right in descriptors[i + 1 :]:
            torch.mm(left.t(), right)
    return {"seconds": time.perf_counter() - start}


def match_hloc(setup: Setup) -> Figures:
    """``match_features`` of hloc on the same file and pairs, and whether the matches agree."""
    sys.path.insert(0, str(setup.hloc))
    from hloc import match_features as hloc_match  # type: ignore[import-not-found]

    features, pairs = make_inputs(setup)
    target = setup.work / "match-hloc.h5"
    target.unlink(missing_ok=True)
    start = time.perf_counter()
    hloc_match.main(hloc_match.confs["NN-ratio"], pairs, features, matches=target)
    figures: Figures = {
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


def match_40k(setup: Setup) -> Figures:
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


def _lisrd_features(num: int) -> list[dict[str, torch.Tensor]]:
    """Two images' features of ``lisrd``, drawn at random, with a batch axis."""
    torch.manual_seed(0)
    return [
        {
            "descriptors": F.normalize(torch.randn(1, 4, 128, num), dim=2).flatten(1, 2),
            "meta_descriptors": F.normalize(torch.randn(1, 4, 1024, 3, 3), dim=2),
            "meta_grid": torch.rand(1, 2, num) * 2 - 1,
        }
        for _ in range(2)
    ]


def _lisrd_match(num: int) -> Figures:
    matcher = build_matcher({"name": "lisrd"})
    sides = _lisrd_features(num)
    data = {f"{key}{i}": side[key] for i, side in enumerate(sides) for key in side}
    before = peak_memory()
    seconds = []
    for _ in range(5 if num < 5000 else 1):
        start = time.perf_counter()
        matches = matcher(data)["matches0"]
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": min(seconds),
        "matching_memory_mib": (peak_memory() - before) / 2**20,
        "matches": int((matches >= 0).sum()),
    }


def lisrd_2k_ours(setup: Setup) -> Figures:
    """The matcher ``lisrd`` on two images of 2,000 keypoints."""
    return _lisrd_match(2000)


def lisrd_20k_ours(setup: Setup) -> Figures:
    """The matcher ``lisrd`` on two images of 20,000 keypoints."""
    return _lisrd_match(20_000)


def lisrd_2k_whole(setup: Setup) -> Figures:
    """The same as arrays of N0 x 4 x N1, from meta descriptors sampled at the keypoints."""
    sides = _lisrd_features(2000)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        (d0, m0), (d1, m1) = (
            (
                side["descriptors"][0].unflatten(0, (4, 128)).permute(2, 0, 1),
                F.normalize(
                    F.grid_sample(
                        side["meta_descriptors"][0],
                        side["meta_grid"][0].t()[None, None].expand(4, -1, -1, -1),
                        align_corners=False,
                    )[:, :, 0].permute(2, 0, 1),
                    dim=2,
                ),
            )
            for side in sides
        )
        weights = torch.einsum("nid,mid->nim", m0, m1).softmax(1)
        similarities = (weights * torch.einsum("nid,mid->nim", d0, d1)).sum(1)
        forth, back = similarities.argmax(1), similarities.argmax(0)
        mutual = back[forth] == torch.arange(len(forth))
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "matches": int(mutual.sum())}


CASES: dict[str, Case] = {
    "match": Case(
        "sift",
        {"featplug": match_ours, "hloc": match_hloc, "products": match_product},
        make_inputs,
    ),
    "match-40k": Case("NN-ratio", {"featplug": match_40k}, uses_images=False),
    "match-lisrd": Case(
        "lisrd", {"featplug": lisrd_2k_ours, "N x 4 x M": lisrd_2k_whole}, uses_images=False
    ),
    "match-lisrd-20k": Case("lisrd", {"featplug": lisrd_20k_ours}, uses_images=False),
}
