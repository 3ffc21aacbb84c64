"""A photograph that was changed where no shortcut looks: every stage notices, or works again."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from featplug.base import GlobalExtractor
from featplug.colmap.cameras import CameraOptions
from featplug.colmap.mapping import MapOptions
from featplug.io.h5file import OtherContentsError
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader, GlobalDescriptorReader
from featplug.methods import retrieval_conf
from featplug.stages.extract import extract_features
from featplug.stages.map import map_images
from featplug.stages.match import match_features
from featplug.stages.retrieve import global_descriptors
from featplug.stages.verify import VerifyOptions, verify_pairs

NAMES = [f"{i:02}.bmp" for i in range(6)]
CHANGED = NAMES[2]
OTHERS = [name for name in NAMES if name != CHANGED]


class MeanOfRows(GlobalExtractor):
    """Stands in for a network: the mean of each sixteenth of the rows."""

    def describe(self, image: torch.Tensor) -> torch.Tensor:
        rows = image.mean((0, 2))
        means = rows[: len(rows) // 16 * 16].reshape(16, -1).mean(1)
        return torch.nn.functional.normalize(means, dim=0)


class Stages:
    """Every stage from photographs to a model, and what each of them made."""

    def __init__(self, images: Path, folder: Path) -> None:
        self.images, self.folder = images, folder
        self.pairs = folder / "pairs.txt"
        write_pairs(self.pairs, combinations(NAMES, 2))

    def extract(self, overwrite: bool = False) -> dict[str, np.ndarray]:
        done = extract_features("sift", self.images, self.folder, overwrite=overwrite)
        self.features = done.feature_path
        with FeatureReader(self.features) as reader:
            return {name: reader.keypoints(name) for name in NAMES}

    def match(self, overwrite: bool = False) -> dict[str, np.ndarray]:
        done = match_features("NN-mutual", self.pairs, self.features, overwrite=overwrite)
        self.matches = done.match_path
        with MatchReader(self.matches) as reader:
            return {" ".join(pair): reader.read(*pair)[0] for pair in combinations(NAMES, 2)}

    def _describe(self, conf: dict[str, object], overwrite: bool) -> dict[str, np.ndarray]:
        done = global_descriptors(
            conf, self.images, self.folder, features=self.features, overwrite=overwrite
        )
        with GlobalDescriptorReader(done.descriptor_path) as reader:
            return {name: reader.read_one(name) for name in NAMES}

    def retrieve_by_features(self, overwrite: bool = False) -> dict[str, np.ndarray]:
        conf = retrieval_conf("vlad")
        conf["model"]["num_clusters"] = 4
        return self._describe(conf, overwrite)

    def retrieve_by_images(self, overwrite: bool = False) -> dict[str, np.ndarray]:
        name = f"{__name__}:MeanOfRows"
        return self._describe(
            {"output": "global-feats-featplug", "model": {"name": name}}, overwrite
        )

    def verify(self) -> dict[str, np.ndarray]:
        database = self.folder / "database.db"
        pairs = list(combinations(NAMES, 2))
        options = VerifyOptions(camera=CameraOptions(mode="single"))
        verify_pairs(database, self.images, NAMES, self.features, self.matches, pairs, options)
        with pycolmap.Database.open(str(database)) as opened:
            return {
                image.name: opened.read_keypoints(image.image_id)[:, :2] - 0.5
                for image in opened.read_all_images()
            }

    def map(self) -> dict[str, np.ndarray]:
        database = self.folder / "database.db"
        model = map_images(database, self.images, self.folder, MapOptions()).model
        return {
            image.name: np.stack([point.xy for point in image.points2D]) - 0.5
            for image in model.images.values()
        }


def paint_the_top_black(path: Path) -> None:
    """Keep size, times and the middle of the file, which featplug 0.1 looked at."""
    before = path.stat()
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[: len(pixels) // 4] = 0
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[str]:
    return [name for name in after if not np.array_equal(before[name], after[name])]


@pytest.mark.slow
def test_every_stage_works_again_for_a_changed_photograph(
    room_corner: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for source, name in zip(sorted((room_corner / "images").iterdir()), NAMES, strict=True):
        Image.open(source).save(images / name)
    stages = Stages(images, tmp_path / "out")
    before = stages.extract(), stages.match()
    by_features, by_images = stages.retrieve_by_features(), stages.retrieve_by_images()
    stages.verify()
    assert set(stages.map()) == set(NAMES)

    paint_the_top_black(images / CHANGED)
    for stage in (stages.extract, stages.retrieve_by_images):
        with pytest.raises(OtherContentsError, match=rf"{CHANGED} is another photograph.*--over"):
            stage()
    features = stages.extract(overwrite=True)
    assert changed(before[0], features) == [CHANGED]
    for stage in (stages.match, stages.retrieve_by_features):
        with pytest.raises(OtherContentsError, match=r"made from other features.*--overwrite"):
            stage()
    pairs = {" ".join(pair) for pair in combinations(NAMES, 2) if CHANGED in pair}
    assert set(changed(before[1], stages.match(overwrite=True))) == pairs
    assert CHANGED in changed(by_features, stages.retrieve_by_features(overwrite=True))
    assert changed(by_images, stages.retrieve_by_images(overwrite=True)) == [CHANGED]
    for stage in (stages.verify, stages.map):
        keypoints = stage()
        assert set(keypoints) == set(NAMES)
        for name, expected in features.items():
            np.testing.assert_allclose(keypoints[name], expected, atol=1e-3)

    fresh = Stages(images, tmp_path / "fresh")
    for stage in ("extract", "match", "retrieve_by_features", "retrieve_by_images"):
        assert not changed(getattr(fresh, stage)(), getattr(stages, stage)())
