"""The engine of detector-free methods on photographs of a room's corner, with true matches."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featplug.api.image_matcher import ImageMatcher
from featplug.io import match_store
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader
from featplug.methods import pair_matcher_conf
from featplug.stages import match_images as match_images_module
from featplug.stages.match_images import MatchImagesSummary, match_images
from pipelines.datasets.true_poses import read_strecha_camera
from tests.scenes.room_corner import write_room_corner
from tests.scenes.wall_matcher import write_wall_matcher
from tests.stages.killing import Killer

WIDTH = 320


@dataclass(frozen=True)
class Room:
    folder: Path
    matcher: str
    names: list[str]

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def pairs(self, out: Path, pairs: list[tuple[str, str]] | None = None) -> Path:
        path = out / "pairs.txt"
        write_pairs(path, list(combinations(self.names, 2)) if pairs is None else pairs)
        return path


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    folder = tmp_path_factory.mktemp("room")
    write_room_corner(folder, num_images=5, width=WIDTH)
    names = sorted(path.name for path in (folder / "images").iterdir())
    poses = {name: read_strecha_camera(folder / "cameras" / f"{name}.camera") for name in names}
    matcher = write_wall_matcher(folder / "matcher", folder / "images", poses, WIDTH)
    return Room(folder, matcher, names)


def contents(features: Path, matches: Path, pairs: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """All arrays of both files."""
    found = {}
    with FeatureReader(features) as reader, MatchReader(matches) as match_reader:
        for name in reader.names():
            found |= {f"{name} {key}": value for key, value in reader.read(name).items()}
        for pair in pairs:
            indices, scores = match_reader.read(*pair)
            found |= {f"{pair} indices": indices, f"{pair} scores": scores}
    return found


def run(
    room: Room, out: Path, pairs: list[tuple[str, str]] | None = None, **options: Any
) -> MatchImagesSummary:
    out.mkdir(exist_ok=True)
    return match_images(
        room.matcher, room.pairs(out, pairs), room.images, out, image_list=room.names, **options
    )


def test_matches_are_pairs_of_the_gathered_keypoints(room: Room, tmp_path: Path) -> None:
    done = run(room, tmp_path)
    assert (done.num_matched, done.num_present, done.skipped) == (10, 0, {})
    assert done.names == room.names
    pair = ("01.png", "03.png")
    raw = ImageMatcher(room.matcher).match(*(room.images / name for name in pair))
    with FeatureReader(done.feature_path) as features, MatchReader(done.match_path) as matches:
        keypoints = [features.read(name) for name in pair]
        assert all(set(arrays) == {"keypoints", "scores", "image_size"} for arrays in keypoints)
        assert keypoints[0]["image_size"].tolist() == [WIDTH, WIDTH * 3 // 4]
        counts = tuple(len(arrays["keypoints"]) for arrays in keypoints)
        indices, scores = matches.read(*pair, counts)
    assert len(indices) > 0.95 * len(raw)
    for column in indices.T:
        assert len(np.unique(column)) == len(column)
    # Each match is one of the matcher's, moved by less than a cell of 2 px on both sides.
    matched = [arrays["keypoints"][i] for arrays, i in zip(keypoints, indices.T, strict=True)]
    both = np.column_stack(matched)[:, None] - np.column_stack([raw.points0, raw.points1])
    nearest = np.abs(both).max(2)
    assert (nearest.min(1) < 2).all()
    np.testing.assert_allclose(scores, raw.scores[nearest.argmin(1)], atol=2e-3)
    assert np.median(nearest.min(1)) < 0.5


def test_keypoints_are_shared_by_pairs(room: Room, tmp_path: Path) -> None:
    done = run(room, tmp_path)
    with FeatureReader(done.feature_path) as features, MatchReader(done.match_path) as matches:
        num = len(features.keypoints("02.png"))
        times = np.zeros(num, int)
        for partner in room.names:
            if partner != "02.png":
                times[matches.read("02.png", partner)[0][:, 0]] += 1
        scores = features.read("02.png")["scores"]
    assert (times >= 2).sum() > 300
    assert (np.diff(scores) <= 0).all(), "the strongest first"


def test_the_largest_number_keeps_what_most_pairs_see(room: Room, tmp_path: Path) -> None:
    every = run(room, tmp_path / "all", max_keypoints=-1)
    few = run(room, tmp_path / "few", max_keypoints=400)
    with FeatureReader(every.feature_path) as a, FeatureReader(few.feature_path) as b:
        np.testing.assert_array_equal(a.keypoints("01.png")[:400], b.keypoints("01.png"))
    assert 0 < few.num_matches < every.num_matches
    with pytest.raises(ValueError, match="max_keypoints"):
        run(room, tmp_path / "none", max_keypoints=0)
    with pytest.raises(ValueError, match=r"cell_size"):
        run(room, tmp_path / "none", cell_size=0.0)


def test_the_order_of_pairs_does_not_matter(room: Room, tmp_path: Path) -> None:
    pairs = list(combinations(room.names, 2))
    forward = run(room, tmp_path / "forward", pairs)
    backward = run(room, tmp_path / "backward", pairs[::-1], memory_gib=1e-6)
    files = [(done.feature_path, done.match_path) for done in (forward, backward)]
    expected, found = (contents(*paths, pairs) for paths in files)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, key)


def test_more_pairs_match_the_new_ones_only_and_gather_all(room: Room, tmp_path: Path) -> None:
    pairs = list(combinations(room.names, 2))
    first = run(room, tmp_path, pairs[:4])
    with FeatureReader(first.feature_path) as reader:
        assert len(reader.keypoints("04.png"))
        assert len(reader.keypoints("03.png"))
    more = run(room, tmp_path, pairs)
    assert (more.num_matched, more.num_present) == (6, 4)
    again = run(room, tmp_path, pairs[::-1])
    assert (again.num_matched, again.num_keypoints, again.num_matches) == (0, 0, 0)
    scratch = run(room, tmp_path / "scratch", pairs)
    expected = contents(scratch.feature_path, scratch.match_path, pairs)
    found = contents(again.feature_path, again.match_path, pairs)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, key)


def test_an_image_of_no_pair_has_no_keypoints(room: Room, tmp_path: Path) -> None:
    done = run(room, tmp_path, [("00.png", "01.png")])
    with FeatureReader(done.feature_path) as reader:
        assert reader.names() == room.names
        assert reader.keypoints("04.png").shape == (0, 2)


def test_other_options_do_not_replace_a_file_unasked(room: Room, tmp_path: Path) -> None:
    run(room, tmp_path)
    with pytest.raises(ValueError, match=r"cell_size = 2\.0, this run has 4\.0"):
        run(room, tmp_path, cell_size=4.0)
    done = run(room, tmp_path, cell_size=4.0, overwrite=True)
    assert done.num_matched == 10


def test_what_cannot_be_used_ends_nothing_else(room: Room, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(room.images, images)
    (images / "01.png").write_bytes((room.images / "01.png").read_bytes()[:2000])
    Image.new("L", (WIDTH, 240), 9).save(images / "02.png")  # the matcher does not know it
    pairs = [*combinations(room.names, 2), ("00.png", "absent.png")]
    done = match_images(
        room.matcher, room.pairs(tmp_path, pairs), images, tmp_path, image_list=room.names
    )
    assert done.names == ["00.png", "02.png", "03.png", "04.png"]
    assert done.num_matched == 3
    assert "01.png" in done.skipped["01.png"]
    assert "absent.png" in done.skipped["absent.png"]
    assert "'00.png' and '02.png'" in done.skipped["00.png 02.png"]
    with pytest.raises(ValueError, match=r"None of the 1 pairs .*'00.png' and '02.png'"):
        match_images(
            room.matcher, room.pairs(tmp_path, [("00.png", "02.png")]), images, tmp_path / "none"
        )


def test_a_photograph_that_changed_is_reported(room: Room, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(room.images, images)
    pairs = room.pairs(tmp_path)
    match_images(room.matcher, pairs, images, tmp_path)
    Image.new("L", (WIDTH, 240), 9).save(images / "02.png")
    with pytest.raises(ValueError, match=r"02\.png is another photograph .*overwrite"):
        match_images(room.matcher, pairs, images, tmp_path)


def test_points_are_in_pixels_of_the_original(room: Room, tmp_path: Path) -> None:
    """An image of twice the size, of which the matcher gets half: pixel centres stay."""
    images = tmp_path / "images"
    images.mkdir()
    for name in room.names[:2]:
        pixels = np.array(Image.open(room.images / name))
        Image.fromarray(pixels.repeat(2, 0).repeat(2, 1)).save(images / name)
    conf = pair_matcher_conf(room.matcher)
    conf["preprocessing"] |= {"resize_max": WIDTH}
    small = ImageMatcher(room.matcher).match(*(room.images / name for name in room.names[:2]))
    large = ImageMatcher(conf).match(*(images / name for name in room.names[:2]))
    np.testing.assert_allclose(large.points0, 2 * small.points0 + 0.5, atol=1e-4)
    np.testing.assert_allclose(large.points1, 2 * small.points1 + 0.5, atol=1e-4)


def _match(matcher: str, pairs: Path, images: Path, out: Path) -> None:
    match_store.CHUNK_SECONDS = 0.001  # write often, so that kills find work done
    conf = pair_matcher_conf(matcher)
    conf["model"]["delay"] = 0.01
    match_images(conf, pairs, images, out)


@pytest.mark.slow
def test_killed_at_random_instants_it_loses_nothing(room: Room, tmp_path: Path) -> None:
    pairs, listed = room.pairs(tmp_path), list(combinations(room.names, 2))
    whole = match_images(room.matcher, pairs, room.images, tmp_path / "whole")
    names = [path.name for path in sorted((tmp_path / "whole").glob("*.h5"))]
    assert [name.partition("-")[0] for name in names] == ["feats", "matches", "points"]
    out = tmp_path / "killed"
    killer = Killer([match_images_module.__name__])
    rng = np.random.default_rng(0)
    arguments = (room.matcher, pairs, room.images, out)
    for _ in range(3):
        killer.kill(_match, arguments, out / names[2], rng.uniform(0, 0.04))
    for name in names[:2]:
        for _ in range(3):
            (out / name).unlink(missing_ok=True)
            killer.kill(_match, arguments, out / name, rng.uniform(0, 0.02))
    assert killer.num_hits > 5
    _match(*arguments)
    expected = contents(whole.feature_path, whole.match_path, listed)
    found = contents(out / names[0], out / names[1], listed)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, key)
