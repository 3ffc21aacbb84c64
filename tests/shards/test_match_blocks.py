"""Matches in blocks of shards: bit by bit those of one file, whichever share makes them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featplug.io.pair_lists import write_pairs
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.manifest import Manifest
from featplug.io.parts.match_parts import open_matches
from featplug.methods import matcher_conf
from featplug.shards.describe_parts import describe_parts
from featplug.shards.extract_parts import ExtractParts
from featplug.shards.match_blocks import MatchBlocks, match_blocks
from featplug.shards.retrieve_parts import RetrieveParts
from featplug.shards.run_parts import run_parts
from featplug.shards.share import Share
from featplug.stages.extract import ExtractOptions, extract_features
from featplug.stages.match import MatchOptions, match_features
from tests.shards.conftest import EXTRACTION, retrieval_options

FEATURES = "feats-featplug-sift"
OPTIONS = MatchOptions(device="cpu")


def stage_of(store: Path, pairs: Path, **options: Any) -> MatchBlocks:
    return match_blocks(store, FEATURES, pairs, matcher_conf("NN-mutual"), OPTIONS, **options)


@pytest.fixture(scope="module")
def one_file(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matches of all pairs, in one file."""
    folder = tmp_path_factory.mktemp("one")
    manifest = Manifest(store)
    features = extract_features(
        EXTRACTION.conf("sift"), manifest.image_dir, folder, options=EXTRACTION
    ).feature_path
    pairs = folder / "pairs.txt"
    write_pairs(pairs, list(combinations(manifest.all_names(), 2)))
    return match_features("NN-mutual", pairs, features, folder, options=OPTIONS).match_path


@pytest.mark.parametrize(("block", "shares"), [(1, (2, 0, 1)), (2, (1, 0, 2, 1))])
def test_all_pairs_are_matched_as_in_one_file(
    store: Path, one_file: Path, block: int, shares: tuple[int, ...]
) -> None:
    stage = stage_of(store, Path("exhaustive"), block=block)
    if block == 2:
        run_parts(stage, overwrite=True, share=Share(0, 1))
    for index in shares:
        run_parts(stage, Share(index, 3), overwrite=block == 2)
    names = Manifest(store).all_names()
    with open_matches(stage.folder) as parts, open_matches(one_file) as whole:
        assert sorted(parts.pairs(names)[0]) == sorted(combinations(names, 2))
        for pair in combinations(names, 2):
            for found, expected in zip(parts.read(*pair), whole.read(*pair), strict=True):
                np.testing.assert_array_equal(found, expected)
    assert len(stage.keys()) == (6 if block == 1 else 3)
    assert run_parts(stage).num_made == 0


def test_pairs_of_retrieval_and_of_a_list_are_matched_once(
    store: Path, one_file: Path, tmp_path: Path
) -> None:
    described = describe_parts(store, "vlad", retrieval_options(store))
    run_parts(described)
    retrieved = RetrieveParts(store, described.folder, 2)
    run_parts(retrieved)
    stage = stage_of(store, retrieved.folder)
    run_parts(stage)
    keys = stage.keys()
    listed = {frozenset(pair) for key in keys for pair in stage.pairs_of(key)}
    with open_matches(stage.folder) as parts, open_matches(one_file) as whole:
        found = parts.pairs(Manifest(store).all_names())[0]
        assert len(found) == len({frozenset(pair) for pair in found}) == len(listed)
        for pair in found:
            (ours, scores), (theirs, expected) = parts.read(*pair), whole.read(*pair)
            order = np.argsort(theirs[:, 0])  # the file may have them in the other order
            np.testing.assert_array_equal(ours[np.argsort(ours[:, 0])], theirs[order])
            np.testing.assert_array_equal(scores[np.argsort(ours[:, 0])], expected[order])

    pairs = tmp_path / "chosen.txt"
    write_pairs(pairs, [("0.png", "1.png"), ("8.png", "0.png"), ("1.png", "0.png")])
    of_list = stage_of(store, pairs)
    assert of_list.keys() == [(0, 0), (0, 2)]
    assert run_parts(of_list).num_items == 2
    write_pairs(pairs, [("0.png", "1.png")])
    again = stage_of(store, pairs)
    assert again.keys() == [(0, 0)]
    assert run_parts(again).num_made == 1

    write_pairs(pairs, [("0.png", "elsewhere.png")])
    with pytest.raises(ValueError, match=r"images that .*manifest\.parquet lacks: .*elsewhere"):
        stage_of(store, pairs)


def test_matches_of_other_features_are_made_again(store: Path, tmp_path: Path) -> None:
    """A lost part that is made again is the same; one of other options is not."""
    stage = stage_of(store, Path("exhaustive"), block=3)
    run_parts(stage, overwrite=True)
    part = store / FEATURES / "part-00001.h5"
    part.unlink()
    with pytest.raises(ValueError, match=r"1 of 1 parts .*part-00001\.h5; make the part first"):
        run_parts(stage_of(store, Path("exhaustive"), block=3))
    run_parts(ExtractParts(store, EXTRACTION.conf("sift"), EXTRACTION))
    assert run_parts(stage_of(store, Path("exhaustive"), block=3)).num_made == 0
    with open_features(store / FEATURES) as features, open_matches(stage.folder) as matches:
        matches.check_features(features)
    fewer = ExtractOptions(device="cpu", max_keypoints=40)
    run_parts(ExtractParts(store, fewer.conf("sift"), fewer), overwrite=True)
    with (
        open_features(store / FEATURES) as features,
        open_matches(stage.folder) as matches,
        pytest.raises(ValueError, match=r"part-00000-00000\.h5 is of other features"),
    ):
        matches.check_features(features)
    assert run_parts(stage_of(store, Path("exhaustive"), block=3)).num_made == 1
    run_parts(ExtractParts(store, EXTRACTION.conf("sift"), EXTRACTION), overwrite=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": None}, "--features"),
        ({"features": "feats-none"}, "no folder of feature parts"),
        ({"block": 0}, "--block must be 1 or more"),
    ],
)
def test_what_does_not_fit(store: Path, arguments: dict[str, Any], message: str) -> None:
    given = {"features": FEATURES, "pairs": Path("exhaustive"), "block": 1, **arguments}
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        match_blocks(store, conf=matcher_conf("NN-mutual"), options=OPTIONS, **given)
