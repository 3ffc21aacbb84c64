"""The local feature evaluation benchmark's files: bytes, origin, and the way back."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featplug.cli.program import PROGRAM
from featplug.io.artifact import Provenance
from featplug.io.exchange.schoenberger import (
    export_dataset,
    import_dataset,
    read_matrix,
    write_matrix,
)
from featplug.io.exchange.transfer import ImportFiles, Selection
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.store import FeatureReader
from tests.io.exchange.conftest import (
    NAMES,
    assert_same_features,
    random_features,
    write_feature_file,
)
from tests.scenes.pictures import textured_image
from tests.scenes.synthetic import MatchedImages

FLAT = ["0000.png", "0001.png"]


def write_flat_dataset(folder: Path, dimensions: int = 128) -> MatchedImages:
    """Two images without sub-folders, as the benchmark's are, five keypoints each."""
    (folder / "images").mkdir(parents=True)
    for i, name in enumerate(FLAT):
        Image.fromarray(textured_image(i)).save(folder / "images" / name)
    features = {name: random_features(5, i, dimensions) for i, name in enumerate(FLAT)}
    write_feature_file(folder / "feats.h5", features)
    with MatchWriter(folder / "matches.h5", Provenance("matches", {})) as writer:
        writer.write(*FLAT, np.array([-1, 4, -1, 0, 2]), np.ones(5), 5)
    return MatchedImages(folder)


def test_the_files_are_as_the_instructions_say(tmp_path: Path) -> None:
    """Read with struct alone; the first pixel's centre is (0, 0), as the benchmark exports it."""
    scene = write_flat_dataset(tmp_path)
    transfer = export_dataset(tmp_path, scene.features, scene.matches)
    assert (transfer.num_images, transfer.num_pairs, transfer.num_matches) == (2, 1, 3)
    with FeatureReader(scene.features) as reader:
        wanted = reader.read("0001.png")
    content = (tmp_path / "keypoints" / "0001.png.bin").read_bytes()
    assert struct.unpack_from("<ii", content) == (5, 4)
    rows = np.array(struct.unpack_from("<20f", content, 8)).reshape(5, 4)
    np.testing.assert_array_equal(rows[:, :2], wanted["keypoints"])
    np.testing.assert_array_equal(rows[:, 2], wanted["scales"])
    np.testing.assert_array_equal(rows[:, 3], np.deg2rad(wanted["oris"]))
    content = (tmp_path / "descriptors" / "0001.png.bin").read_bytes()
    assert struct.unpack_from("<ii", content) == (5, 128)
    first = struct.unpack_from("<128f", content, 8)
    np.testing.assert_array_equal(first, wanted["descriptors"][:, 0])
    content = (tmp_path / "matches" / "0000.png---0001.png.bin").read_bytes()
    assert struct.unpack("<ii6I", content) == (3, 2, 1, 4, 3, 0, 4, 2)


@pytest.mark.parametrize("dimensions", [32, 512])
def test_there_and_back(tmp_path: Path, dimensions: int) -> None:
    scene = write_flat_dataset(tmp_path, dimensions)
    export_dataset(tmp_path, scene.features, scene.matches)
    features, matches = tmp_path / "back.h5", tmp_path / "back-matches.h5"
    transfer = import_dataset(tmp_path, ImportFiles(features, matches))
    assert (transfer.num_keypoints, transfer.num_matches) == (10, 3)
    keys = ("keypoints", "scales", "oris", "descriptors")
    with FeatureReader(scene.features) as reader:
        assert reader.names() == FLAT
    assert_same_features(features, scene.features, keys, atol=1e-4)
    with MatchReader(matches) as reader:
        assert reader.read(*FLAT)[0].tolist() == [[1, 4], [3, 0], [4, 2]]


def test_sub_folders_hold_features_but_no_matches(
    photographs: MatchedImages, tmp_path: Path
) -> None:
    (tmp_path / "images").symlink_to(photographs.folder / "images")
    with pytest.raises(ValueError, match=r"match files cannot carry the image name 'db/a.png'"):
        export_dataset(tmp_path, photographs.features, photographs.matches)
    assert not (tmp_path / "keypoints").exists()
    export_dataset(tmp_path, photographs.features)
    assert read_matrix(
        tmp_path / "keypoints" / "query" / "night" / "c.png.bin", np.dtype("<f4")
    ).shape == (0, 4)
    import_dataset(tmp_path, ImportFiles(tmp_path / "back.h5"))
    with FeatureReader(tmp_path / "back.h5") as reader:
        assert reader.names() == NAMES


def test_features_without_frames_have_scale_and_orientation_0(tmp_path: Path) -> None:
    """As the benchmark says; and 0 is not taken for a scale when read back."""
    scene = write_flat_dataset(tmp_path)
    plain = {
        name: {k: v for k, v in random_features(5, 3).items() if k not in ("scales", "oris")}
        for name in FLAT
    }
    path = write_feature_file(tmp_path / "plain.h5", plain)
    export_dataset(tmp_path, path)
    frames = read_matrix(tmp_path / "keypoints" / "0000.png.bin", np.dtype("<f4"))
    assert frames.shape == (5, 4)
    assert not frames[:, 2:].any()
    import_dataset(tmp_path, ImportFiles(tmp_path / "back.h5"))
    with FeatureReader(tmp_path / "back.h5") as reader:
        assert set(reader.read("0000.png")) == {"keypoints", "descriptors", "image_size"}
    assert scene.matches.exists()


@pytest.mark.parametrize("kind", ["keypoints", "descriptors", "matches"])
@pytest.mark.parametrize("cut", [-3, 5])
def test_a_cut_file_is_named(
    tmp_path: Path, refusal: Callable[..., str], kind: str, cut: int
) -> None:
    scene = write_flat_dataset(tmp_path)
    export_dataset(tmp_path, scene.features, scene.matches)
    path = sorted((tmp_path / kind).iterdir())[-1]
    path.write_bytes(path.read_bytes()[:cut])
    features, matches = tmp_path / "back.h5", tmp_path / "back-matches.h5"
    arguments = "--dataset", tmp_path, "--features", features, "--matches", matches
    line = refusal(PROGRAM, "featplug", "import", "schoenberger", *arguments)
    assert str(path) in line
    assert "cut off" in line
    assert not matches.exists()
    assert not features.exists()


def test_matches_that_do_not_fit_are_named(tmp_path: Path) -> None:
    scene = write_flat_dataset(tmp_path)
    export_dataset(tmp_path, scene.features)
    path = tmp_path / "matches" / "0000.png---0001.png.bin"
    write_matrix(path, np.array([[0, 1], [2, 5]]))
    features, matches = tmp_path / "back.h5", tmp_path / "back-matches.h5"
    with pytest.raises(ValueError, match=r"0001.png.bin matches keypoint 2 of '0000.png' with 5"):
        import_dataset(tmp_path, ImportFiles(features, matches))
    path.rename(path.with_name("0000.png---0002.png.bin"))
    with pytest.raises(ValueError, match=r"has matches of '0002.png', which has no keypoints"):
        import_dataset(tmp_path, ImportFiles(features, matches, overwrite=True))


def test_an_earlier_export_is_replaced_only_when_asked(
    tmp_path: Path, refusal: Callable[..., str]
) -> None:
    """Old matches left beside new features would be read as theirs."""
    scene = write_flat_dataset(tmp_path)
    export = "export", "schoenberger", "--features", scene.features, "--output", tmp_path
    export_dataset(tmp_path, scene.features, scene.matches)
    notes = tmp_path / "keypoints" / "notes.txt"
    notes.write_text("mine")
    line = refusal(PROGRAM, "featplug", *export)
    assert "holds 2 .bin files already" in line
    export_dataset(tmp_path, scene.features, overwrite=True)
    assert notes.exists()
    assert not list((tmp_path / "matches").glob("*.bin"))


def test_images_without_keypoints_are_told(tmp_path: Path) -> None:
    scene = write_flat_dataset(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"None of the 2 images has keypoints"):
        import_dataset(tmp_path, ImportFiles(tmp_path / "back.h5"))
    (tmp_path / "list.txt").write_text("0001.png")
    export_dataset(tmp_path, scene.features, selection=Selection(tmp_path / "list.txt"))
    transfer = import_dataset(tmp_path, ImportFiles(tmp_path / "back.h5"))
    assert list(transfer.skipped) == ["0000.png"]


def test_a_file_larger_than_any_array_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(struct.pack("<ii", 2**28, 4))
    os.truncate(path, 8 + 2**32)
    with pytest.raises(ValueError, match=r"a\.bin has .*make it again"):
        read_matrix(path, np.dtype("<f4"))
