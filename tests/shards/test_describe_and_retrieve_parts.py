"""Global descriptors and retrieval in parts: the pairs that one file would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featplug.cli.shard_commands import status
from featplug.io.parts.feature_parts import open_global_descriptors
from featplug.io.parts.manifest import make_manifest
from featplug.io.parts.pair_parts import read_pair_part, read_pair_parts
from featplug.shards.describe_parts import VOCABULARY, describe_parts
from featplug.shards.extract_parts import ExtractParts
from featplug.shards.retrieve_parts import RetrieveParts
from featplug.shards.run_parts import run_parts
from featplug.shards.share import Share
from featplug.shards.status import store_status
from featplug.stages.retrieval_pairs import pairs_from_retrieval
from featplug.stages.retrieve import RetrieveOptions, global_descriptors
from tests.shards.conftest import EXTRACTION, NUM_IMAGES, retrieval_options


def test_the_pairs_are_those_of_one_file(store: Path, tmp_path: Path) -> None:
    options = retrieval_options(store)
    described = describe_parts(store, "vlad", options)
    for index in (2, 0, 1):
        run_parts(described, Share(index, 3))
    assert (described.folder / VOCABULARY).is_file()
    with open_global_descriptors(described.folder) as reader:
        assert len(reader.names()) == NUM_IMAGES

    whole = global_descriptors("vlad", None, tmp_path, options=options).descriptor_path
    with open_global_descriptors(whole) as one, open_global_descriptors(described.folder) as parts:
        for name in one.names():
            np.testing.assert_array_equal(one.read_one(name), parts.read_one(name))

    stage = RetrieveParts(store, described.folder, 3)
    for index in (1, 0):
        assert run_parts(stage, Share(index, 2)).num_made == (1 if index else 2)
    expected = pairs_from_retrieval(whole, 3)
    found = [pair for _, pairs in read_pair_parts(stage.folder) for pair in pairs]
    assert found == expected
    _, scores = read_pair_part(stage.path((0,)))
    assert (np.diff(scores.reshape(4, 3), axis=1) <= 0).all()
    assert run_parts(stage).num_made == 0

    strict = RetrieveParts(store, described.folder, 3, min_score=float(np.median(scores)))
    assert run_parts(strict).num_items < len(expected)
    assert strict.folder != stage.folder


def test_status_counts_what_is_missing_and_damaged(store: Path) -> None:
    run_parts(describe_parts(store, "vlad", retrieval_options(store)))
    states = {state.stage: state for state in store_status(store, check=True)}
    assert states["extract"].num_done == 3
    assert states["extract"].num_items == NUM_IMAGES
    assert states["extract"].seconds_left == 0
    path = store / "feats-featplug-sift_global-feats-featplug-vlad" / "part-00001.h5"
    if not path.exists():
        (path,) = store.glob("*vlad*/part-00001.h5")
    content = bytearray(path.read_bytes())
    (path.parent / "part-00002.h5").unlink()
    content[len(content) // 2] ^= 255
    middle = bytes(content)
    path.write_bytes(middle)
    state = next(s for s in store_status(store, check=True) if s.folder == path.parent)
    assert state.missing == [(2,)]
    assert list(state.damaged) in ([path], [])
    path.write_bytes(middle[:-100])
    state = next(s for s in store_status(store) if s.folder == path.parent)
    assert list(state.damaged) == [path]
    assert state.num_done == 1
    with pytest.raises(SystemExit):
        status(store, remove_damaged=True)
    assert not path.exists()
    run_parts(describe_parts(store, "vlad", retrieval_options(store)))
    state = next(s for s in store_status(store, check=True) if s.folder == path.parent)
    assert state.num_done == 3


def test_a_vocabulary_needs_all_features(store: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(2):
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(images / f"{number}.png")
    make_manifest(images, tmp_path / "store", 1)
    run_parts(ExtractParts(tmp_path / "store", EXTRACTION.conf("sift"), EXTRACTION), Share(0, 2))
    stage = describe_parts(tmp_path / "store", "vlad", retrieval_options(tmp_path / "store"))
    with pytest.raises(FileNotFoundError, match=r"part-00001\.h5; make the part first"):
        run_parts(stage)
    with pytest.raises(ValueError, match="by --features"):
        describe_parts(store, "vlad", RetrieveOptions())


def test_a_store_where_nothing_has_begun_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="featplug shard make"):
        store_status(tmp_path)
