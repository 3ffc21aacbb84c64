"""D2-Net's archives: as its own tools read them, and back."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featplug.cli.program import PROGRAM
from featplug.io.exchange.d2net import export_archives, import_archives, read_archive
from featplug.io.store import FeatureReader
from tests.io.exchange.conftest import (
    NAMES,
    assert_same_features,
    random_features,
    write_feature_file,
)
from tests.scenes.synthetic import MatchedImages


def test_the_archive_is_as_d2nets_tools_read_it(photographs: MatchedImages, tmp_path: Path) -> None:
    transfer = export_archives(tmp_path, photographs.features, suffix=".featplug-sift")
    assert (transfer.num_images, transfer.num_keypoints) == (3, 70)
    with FeatureReader(photographs.features) as reader:
        wanted = reader.read("db/a.png")
    with np.load(tmp_path / "db" / "a.png.featplug-sift") as archive:
        assert sorted(archive.files) == ["descriptors", "keypoints", "scores"]
        # Integer = pixel centre, where a homography of HPatches takes it.
        np.testing.assert_array_equal(archive["keypoints"][:, :2], wanted["keypoints"])
        np.testing.assert_array_equal(archive["keypoints"][:, 2], wanted["scales"])
        np.testing.assert_array_equal(archive["descriptors"], wanted["descriptors"].T)
        np.testing.assert_array_equal(archive["scores"], wanted["scores"])


def test_there_and_back(photographs: MatchedImages, tmp_path: Path) -> None:
    export_archives(tmp_path, photographs.features)
    features = tmp_path / "back.h5"
    transfer = import_archives(photographs.folder / "images", features, tmp_path)
    assert not transfer.skipped
    keys = ("keypoints", "scales", "scores", "descriptors")
    assert_same_features(features, photographs.features, keys)


def test_features_without_scale_have_scale_1(photographs: MatchedImages, tmp_path: Path) -> None:
    plain = {n: random_features(4, 1, 512) for n in NAMES[:2]}
    for datasets in plain.values():
        del datasets["scales"], datasets["oris"], datasets["scores"]
    export_archives(tmp_path, write_feature_file(tmp_path / "plain.h5", plain))
    found = read_archive(tmp_path / "b.png.d2-net")
    np.testing.assert_array_equal(found["scales"], np.ones(4))
    assert found["descriptors"].shape == (512, 4)
    transfer = import_archives(photographs.folder / "images", tmp_path / "back.h5", tmp_path)
    assert list(transfer.skipped) == ["query/night/c.png"]


def test_damaged_archives_are_named_and_nothing_is_unpickled(
    photographs: MatchedImages, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    export_archives(tmp_path, photographs.features)
    path = tmp_path / "b.png.d2-net"
    whole = path.read_bytes()
    images, features = photographs.folder / "images", tmp_path / "back.h5"
    arguments = "--image_dir", images, "--archives", tmp_path, "--features", features
    for content in (whole[:-200], whole[:40], b"", pickle.dumps({"keypoints": 1})):
        path.write_bytes(content)
        line = refusal(PROGRAM, "featplug", "import", "d2net", *arguments)
        assert "b.png.d2-net is no NumPy archive, or damaged" in line
        assert not features.exists()
    with path.open("wb") as file:
        np.savez(file, keypoints=np.zeros((3, 3)))
    assert "b.png.d2-net has no descriptors" in refusal(
        PROGRAM, "featplug", "import", "d2net", *arguments
    )
    with path.open("wb") as file:
        np.savez(file, keypoints=np.zeros((3, 3)), descriptors=np.zeros((2, 512)))
    line = refusal(PROGRAM, "featplug", "import", "d2net", *arguments)
    assert "b.png.d2-net: descriptors must be D×3, not 512×2" in line
    with path.open("wb") as file:
        np.savez(file, keypoints=np.full((3, 3), np.nan), descriptors=np.zeros((3, 512)))
    line = refusal(PROGRAM, "featplug", "import", "d2net", *arguments)
    assert "b.png.d2-net: keypoints must be finite" in line


def test_an_earlier_export_is_replaced_only_when_asked(
    photographs: MatchedImages, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    export_archives(tmp_path, photographs.features)
    export = "export", "d2net", "--features", photographs.features, "--output", tmp_path
    assert "holds 3 .d2-net files already" in refusal(PROGRAM, "featplug", *export)
    (tmp_path / "list.txt").write_text("b.png")
    export_archives(
        tmp_path, photographs.features, image_list=tmp_path / "list.txt", overwrite=True
    )
    assert [path.name for path in tmp_path.rglob("*.d2-net")] == ["b.png.d2-net"]


@pytest.mark.parametrize("suffix", ["", ".", ".png", ".d2-net.JPG", "d2-net", "./x"])
def test_a_suffix_that_could_be_an_images_is_refused(
    photographs: MatchedImages, tmp_path: Path, suffix: str
) -> None:
    with pytest.raises(ValueError, match="The suffix must be a dot and a method's name"):
        export_archives(tmp_path, photographs.features, suffix=suffix, overwrite=True)


def test_images_without_archives_are_told(photographs: MatchedImages, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"b\.png\.d2-net"):
        import_archives(photographs.folder / "images", tmp_path / "back.h5", tmp_path)
