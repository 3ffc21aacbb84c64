"""Kapture folders: as the format's description has them, and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featplug.cli.program import PROGRAM
from featplug.io.exchange.kapture import KaptureOptions, export_kapture, import_kapture
from featplug.io.exchange.transfer import ImportFiles
from featplug.io.match_store import MatchReader
from featplug.io.store import FeatureReader
from tests.io.exchange.conftest import (
    NAMES,
    assert_same_features,
    assert_same_matches,
    random_features,
    write_feature_file,
)
from tests.scenes.synthetic import MatchedImages


@pytest.fixture
def exported(photographs: MatchedImages, tmp_path: Path) -> Path:
    """A kapture folder of the photographs."""
    folder = tmp_path / "kapture"
    images = photographs.folder / "images"
    export_kapture(
        folder, photographs.features, photographs.matches, options=KaptureOptions(image_dir=images)
    )
    return folder


def test_the_folder_is_as_the_format_says(photographs: MatchedImages, exported: Path) -> None:
    sensors, reconstruction = exported / "sensors", exported / "reconstruction"
    lines = (sensors / "sensors.txt").read_text().splitlines()
    assert lines[0] == "# kapture format: 1.1"
    assert lines[2] == "cam0, , camera, UNKNOWN_CAMERA, 160, 120"
    lines = (sensors / "records_camera.txt").read_text().splitlines()
    assert lines[2:] == [f"{i}, cam{i}, {name}" for i, name in enumerate(NAMES)]
    assert (sensors / "records_data" / "db" / "a.png").is_file()
    folder = reconstruction / "keypoints" / "featplug"
    assert (folder / "keypoints.txt").read_text().splitlines()[2] == "featplug, float32, 4"
    frames = np.fromfile(folder / "db" / "a.png.kpt", np.float32).reshape(-1, 4)
    with FeatureReader(photographs.features) as reader:
        wanted = reader.read("db/a.png")
    # [0, 0] is the corner of the first pixel.
    np.testing.assert_allclose(frames[:, :2], wanted["keypoints"] + 0.5)
    np.testing.assert_allclose(frames[:, 3], np.deg2rad(wanted["oris"]))
    folder = reconstruction / "descriptors" / "featplug"
    lines = (folder / "descriptors.txt").read_text().splitlines()
    assert lines[2] == "featplug, float32, 128, featplug, L2"
    descriptors = np.fromfile(folder / "db" / "a.png.desc", np.float32).reshape(-1, 128)
    np.testing.assert_array_equal(descriptors, wanted["descriptors"].T)
    # The name first in the order of letters comes first, whichever was matched first.
    folder = reconstruction / "matches" / "featplug"
    rows = np.fromfile(folder / "b.png.overlapping" / "db" / "a.png.matches").reshape(-1, 3)
    with MatchReader(photographs.matches) as match_reader:
        indices, scores = match_reader.read("b.png", "db/a.png")
    np.testing.assert_array_equal(rows, np.column_stack([indices, scores]))
    assert (folder / "b.png.overlapping" / "query" / "night" / "c.png.matches").stat().st_size == 0


def test_there_and_back(photographs: MatchedImages, exported: Path, tmp_path: Path) -> None:
    features, matches = tmp_path / "back.h5", tmp_path / "back-matches.h5"
    transfer = import_kapture(exported, ImportFiles(features, matches))
    assert (transfer.num_images, transfer.num_pairs) == (3, 2)
    keys = ("keypoints", "scales", "oris", "descriptors")
    assert_same_features(features, photographs.features, keys, atol=1e-4)
    assert_same_matches(matches, photographs.matches, scores=True)


def test_columns_of_unknown_meaning_are_left_out(exported: Path, tmp_path: Path) -> None:
    folder = exported / "reconstruction" / "keypoints" / "featplug"
    (folder / "keypoints.txt").write_text("# kapture format: 1.1\nfeatplug, float32, 5\n")
    for path in folder.rglob("*.kpt"):
        frames = np.fromfile(path, np.float32).reshape(-1, 4)
        np.pad(frames, ((0, 0), (0, 1)), constant_values=7).tofile(path)
    import_kapture(exported, ImportFiles(tmp_path / "back.h5"))
    with FeatureReader(tmp_path / "back.h5") as reader:
        found = reader.read("db/a.png")
    frames = np.fromfile(folder / "db" / "a.png.kpt", np.float32).reshape(-1, 5)
    np.testing.assert_allclose(found["keypoints"], frames[:, :2] - 0.5)
    assert not {"scales", "oris"} & found.keys()


def test_features_join_a_kapture_that_is_there(
    photographs: MatchedImages, exported: Path, tmp_path: Path
) -> None:
    """Its cameras stay; another type of features has a name of its own."""
    sensors = exported / "sensors" / "sensors.txt"
    listed = sensors.read_text().replace("UNKNOWN_CAMERA, 160, 120", "PINHOLE,160,120,99,99,80,60")
    sensors.write_text(listed)
    plain = {name: random_features(6, i, 512) for i, name in enumerate(NAMES)}
    for datasets in plain.values():
        del datasets["scales"], datasets["oris"]
    path = write_feature_file(tmp_path / "plain.h5", plain)
    export_kapture(exported, path, options=KaptureOptions(feature_type="d2net"))
    assert sensors.read_text() == listed
    with pytest.raises(ValueError, match="several types of keypoints, d2net, featplug"):
        import_kapture(exported, ImportFiles(tmp_path / "back.h5"))
    import_kapture(exported, ImportFiles(tmp_path / "back.h5"), feature_type="d2net")
    with FeatureReader(tmp_path / "back.h5") as reader:
        found = reader.read("db/a.png")
        np.testing.assert_allclose(found["keypoints"], plain["db/a.png"]["keypoints"], atol=1e-5)
        np.testing.assert_array_equal(found["descriptors"], plain["db/a.png"]["descriptors"])
        assert "scales" not in found
    other = write_feature_file(tmp_path / "other.h5", {"new.png": plain["b.png"]})
    with pytest.raises(ValueError, match=r"lacks 1 of the 1 images, the first is 'new.png'"):
        export_kapture(exported, other, options=KaptureOptions(feature_type="other"))


def test_features_of_different_kinds_are_refused(tmp_path: Path) -> None:
    mixed = {"a.png": random_features(3, 0, 128), "b.png": random_features(3, 1, 256)}
    path = write_feature_file(tmp_path / "mixed.h5", mixed)
    with pytest.raises(ValueError, match=r"256 a descriptor for 'b.png' but 4 and 128 for 'a.png'"):
        export_kapture(tmp_path / "kapture", path)
    assert not (tmp_path / "kapture").exists()
    with pytest.raises(FileNotFoundError, match="There is no image folder"):
        export_kapture(
            tmp_path / "kapture",
            path,
            options=KaptureOptions(descriptors=False, image_dir=tmp_path / "lost"),
        )
    transfer = export_kapture(tmp_path / "kapture", path, options=KaptureOptions(descriptors=False))
    assert transfer.num_images == 2


def test_an_earlier_export_is_replaced_only_when_asked(
    photographs: MatchedImages, exported: Path, refusal: Callable[..., str]
) -> None:
    export = "export", "kapture", "--features", photographs.features, "--output", exported
    assert "holds 3 .kpt files already" in refusal(PROGRAM, "featplug", *export)
    export_kapture(
        exported, photographs.features, options=KaptureOptions(descriptors=False, overwrite=True)
    )
    assert not list(exported.rglob("*.matches"))
    assert not list(exported.rglob("*.desc"))


def test_what_cannot_be_read_is_named(
    photographs: MatchedImages, exported: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    folder = exported / "reconstruction" / "keypoints" / "featplug"
    features, matches = tmp_path / "back.h5", tmp_path / "back-matches.h5"
    arguments = "--kapture", exported, "--features", features, "--matches", matches

    def refused() -> str:
        return refusal(PROGRAM, "featplug", "import", "kapture", *arguments, "--overwrite")

    path = exported / "reconstruction/matches/featplug/b.png.overlapping/db/a.png.matches"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    line = refused()
    assert str(path) in line
    assert "cut off" in line
    path.write_bytes(np.array([1.0, 30.0, 0.5]).tobytes())
    assert "matches keypoint 1 of 'b.png' with 30 of 'db/a.png'" in refused()
    path.rename(path.with_name("z.png.matches"))
    assert "has matches of 'db/z.png', which has no keypoints" in refused()
    (folder / "b.png.kpt").write_bytes(bytes(17))
    assert "b.png.kpt has 17 bytes, no multiple of a row's 16" in refused()
    (folder / "keypoints.txt").write_text("# kapture format: 1.1\nx, __import__('os'), 4\n")
    assert "keypoints.txt must have one line" in refused()
    (folder / "keypoints.tar").touch()
    assert "keypoints.tar is an archive; unpack it there" in refused()
    (folder.parent / "keypoints.txt").touch()
    assert "version 1.0 of kapture's format" in refused()
    (exported / "sensors" / "sensors.txt").unlink()
    assert "There is no file" in refused()
    assert not features.exists()


@pytest.mark.parametrize("name", ["a,b.png", "a.overlapping/b.png"])
def test_names_that_kapture_cannot_carry_are_refused(tmp_path: Path, name: str) -> None:
    path = write_feature_file(tmp_path / "feats.h5", {name: random_features(3, 0)})
    with pytest.raises(ValueError, match="Kapture cannot carry the image name"):
        export_kapture(tmp_path / "kapture", path)
