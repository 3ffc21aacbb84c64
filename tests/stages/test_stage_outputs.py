"""Outputs of the stages do not change unless their revision does."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from featplug.base import Extractor, GlobalExtractor, Matcher
from featplug.colmap.model_files import read_model
from featplug.extractors import vlad
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader, GlobalDescriptorReader
from featplug.keypoints.gathering import KeypointFinder, gather_keypoints, one_to_one
from featplug.localization import scans
from featplug.stages import extract, gather, match, retrieve, triangulate
from featplug.stages.pairs import exhaustive
from tests.golden.revisions import Revisions
from tests.scenes.pictures import textured_image
from tests.scenes.synthetic import SyntheticScene


class Grid(Extractor):
    """Keypoints on a grid, described by the pixels that they lie on."""

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        x, y = torch.meshgrid(torch.arange(3, 30, 4), torch.arange(3, 20, 4), indexing="xy")
        keypoints = torch.stack([x.ravel(), y.ravel()], dim=1)
        patches = [image[0, v - 2 : v + 3, u - 2 : u + 3].ravel() for u, v in keypoints.tolist()]
        descriptors = torch.nn.functional.normalize(torch.stack(patches), dim=1).T
        return {
            "keypoints": keypoints.float(),
            "scores": image[0][keypoints[:, 1], keypoints[:, 0]],
            "scales": torch.full((len(keypoints),), 2.0),
            "descriptors": descriptors.contiguous(),
        }


class Neighbour(Matcher):
    """The nearest descriptor of each."""

    def match(
        self, features0: dict[str, torch.Tensor], features1: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        scores, matches = (features0["descriptors"].T @ features1["descriptors"]).max(1)
        return {"matches0": matches, "matching_scores0": scores.clamp(0, 1)}


class Means(GlobalExtractor):
    """Mean colours of the quarters of an image."""

    def describe(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(
            torch.nn.functional.adaptive_avg_pool2d(image, 2).ravel(), dim=0
        )


def test_the_stages_of_a_feature_keep_their_output(tmp_path: Path, revisions: Revisions) -> None:
    names = [f"{i}.png" for i in range(3)]
    (tmp_path / "images").mkdir()
    for i, name in enumerate(names):
        grey = textured_image(i)
        Image.fromarray(np.stack([grey, grey[::-1], grey], axis=-1)).save(
            tmp_path / "images" / name
        )
    preprocessing = {"resize_max": 40}

    def conf(name: str) -> dict[str, object]:
        model = {"name": f"{__name__}:{name}"}
        return {"output": name, "model": model, "preprocessing": preprocessing}

    features = extract.extract_features(conf("Grid"), tmp_path / "images", tmp_path).feature_path
    with FeatureReader(features) as reader:
        outputs = reader.read(names[0])
    revisions.check("stage extract", extract.REVISION, outputs)

    write_pairs(tmp_path / "pairs.txt", combinations(names, 2))
    matches = match.match_features(conf("Neighbour"), tmp_path / "pairs.txt", features).match_path
    with MatchReader(matches) as match_reader:
        indices, scores = match_reader.read(*names[:2])
    revisions.check("stage match", match.REVISION, {"indices": indices, "scores": scores})

    described = retrieve.global_descriptors(conf("Means"), tmp_path / "images", tmp_path)
    with GlobalDescriptorReader(described.descriptor_path) as descriptors:
        outputs = {"descriptors": descriptors.read(names)}
    revisions.check("stage describe", retrieve.REVISION, outputs)


def test_gathered_points_keep_their_output(revisions: Revisions) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 20, (300, 2)).astype(np.float32)
    scores = rng.random(300).astype(np.float32)
    keypoints, sums = gather_keypoints(points, scores, np.array([2.0, 2.0]), 60)
    indices, distances = KeypointFinder(keypoints, np.array([2.0, 2.0])).find(points)
    kept = one_to_one(indices, indices[::-1], scores, distances)
    outputs = {"keypoints": keypoints, "scores": sums, "indices": indices, "kept": kept}
    revisions.check("stage gather", gather.REVISION, outputs)


def test_vlad_keeps_its_output(revisions: Revisions) -> None:
    rng = np.random.default_rng(0)
    sample = vlad.unit_rows(rng.standard_normal((16, 400)))
    vocabulary = vlad.learn_vocabulary(
        sample, vlad.VLADOptions(num_clusters=4, max_dimensions=8, power=0.5)
    )
    vectors = [vocabulary.encode(rng.standard_normal((16, 30))) for _ in range(4)]
    revisions.check("vlad", vlad.REVISION, {"vectors": np.stack(vectors)})


def test_scan_points_keep_their_output(revisions: Revisions) -> None:
    rng = np.random.default_rng(0)
    scan = rng.random((9, 12, 3))
    scan[rng.random((9, 12)) < 0.2] = np.nan
    points = scans.interpolate_scan(scan, rng.uniform([-0.5, -0.5], [11.5, 8.5], (60, 2)))
    revisions.check("scan points", scans.REVISION, {"points": points})


def test_triangulated_models_keep_their_output(
    synthetic_scene: SyntheticScene, tmp_path: Path, revisions: Revisions
) -> None:
    scene = synthetic_scene
    pairs = exhaustive(scene.names)
    model = read_model(
        triangulate.triangulate_known_poses(
            scene.truth, scene.images, pairs, scene.features, scene.matches, tmp_path
        ).model_dir
    )
    points = np.array(sorted(point.xyz.tolist() for point in model.points3D.values()))
    revisions.check("stage triangulate", triangulate.REVISION, {"points": points})
