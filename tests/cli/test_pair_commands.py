"""``featplug retrieve`` and ``featplug pairs``, with hloc's argument names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pycolmap
import pytest

from featplug.cli.program import PROGRAM
from featplug.io.exif import GpsPosition
from featplug.io.pair_lists import read_pairs
from featplug.stages.pairs import exhaustive
from tests.scenes.positioned import write_gps_image
from tests.scenes.synthetic import SyntheticScene
from tests.stages.test_retrieve import write_features


def test_retrieve_and_pairs_with_hlocs_names(featplug: Callable[..., str], tmp_path: Path) -> None:
    names = write_features(tmp_path / "feats.h5")
    (tmp_path / "db.txt").write_text("\n".join(names[:30]))
    printed = featplug(
        "retrieve", "--conf", "vlad", "--features", tmp_path / "feats.h5",
        "--export_dir", tmp_path, "--db_list", tmp_path / "db.txt",
    )  # fmt: skip
    assert "40 images described" in printed
    descriptors = tmp_path / "feats_global-feats-featplug-vlad.h5"
    featplug(
        "pairs", "retrieval", "--descriptors", descriptors, "--output", tmp_path / "loc.txt",
        "--num_matched", 2, "--query_prefix", "db/035", "db/036", "--db_list", tmp_path / "db.txt",
    )  # fmt: skip
    pairs = read_pairs(tmp_path / "loc.txt")
    assert [query for query, _ in pairs] == 2 * ["db/035.jpg"] + 2 * ["db/036.jpg"]
    assert {image for _, image in pairs} <= set(names[:30])


def test_sequential_pairs_close_loops(
    featplug: Callable[..., str], refusal: Callable[..., str], tmp_path: Path
) -> None:
    names = write_features(tmp_path / "feats.h5")
    features = "--features", tmp_path / "feats.h5"
    featplug("retrieve", "--conf", "vlad", *features, "--export_dir", tmp_path)
    output = tmp_path / "pairs.txt"
    command = "pairs", "sequential", *features, "--output", output, "--overlap", 2
    featplug(*command)
    plain = read_pairs(output)
    featplug(
        *command, "--loop_closure", 3,
        "--descriptors", tmp_path / "feats_global-feats-featplug-vlad.h5",
    )  # fmt: skip
    pairs = read_pairs(output)
    assert pairs[: len(plain)] == plain
    closures = pairs[len(plain) :]
    assert {query for query, _ in closures} == set(names[::10])
    assert len(closures) == 3 * len(names[::10])
    assert not set(closures) & {pair[::-1] for pair in plain}
    message = refusal(PROGRAM, "featplug", *command, "--loop_closure", 3)
    assert "--descriptors" in message


def test_near_pairs_by_gps_and_by_a_file(
    featplug: Callable[..., str], refusal: Callable[..., str], tmp_path: Path
) -> None:
    # 11.1 m of a meridian from one to the next, and 111 m to the last.
    latitudes = {"a.jpg": 47.0, "b.jpg": 47.0001, "x/c.jpg": 47.00021, "d.jpg": 47.0012}
    for name, latitude in latitudes.items():
        write_gps_image(tmp_path / "images" / name, GpsPosition(latitude, 8))
    lines = [f"{name} {latitude} 8" for name, latitude in latitudes.items()]
    (tmp_path / "gps.txt").write_text("\n".join(lines))
    output = tmp_path / "pairs.txt"
    command = "pairs", "near", "--output", output, "--num_matched", 1, "--max_distance", 50
    expected = [("a.jpg", "b.jpg"), ("b.jpg", "a.jpg"), ("x/c.jpg", "b.jpg")]
    for places in (("--image_dir", tmp_path / "images"), ("--positions", tmp_path / "gps.txt")):
        featplug(*command, *places)
        assert read_pairs(output) == expected
    assert "--positions FILE" in refusal(PROGRAM, "featplug", *command)


def test_pairs_of_a_model(
    featplug: Callable[..., str],
    refusal: Callable[..., str],
    synthetic_scene: SyntheticScene,
    tmp_path: Path,
) -> None:
    model, names = tmp_path / "model", synthetic_scene.names
    model.mkdir()
    synthetic_scene.truth.write(str(model))
    for command, *more in (["covisibility"], ["poses", "--rotation_threshold", 180]):
        output = tmp_path / f"{command}.txt"
        featplug("pairs", command, "--model", model, "--output", output, "--num_matched", 2, *more)
        assert {name for name, _ in read_pairs(output)} <= set(names)
    output = tmp_path / "list.txt"
    options = ["--features", synthetic_scene.features, "--output", output]
    assert f"pairs of {len(names)} images" in featplug("pairs", "exhaustive", *options)
    assert read_pairs(output) == exhaustive(names)
    (tmp_path / "two.txt").write_text("\n".join(names[:2]))
    featplug("pairs", "exhaustive", "--ref_list", tmp_path / "two.txt", *options)
    assert read_pairs(output) == exhaustive(names, names[:2])
    featplug("pairs", "sequential", "--overlap", 1, *options)
    assert len(read_pairs(output)) == len(names) - 1

    line = refusal(PROGRAM, "featplug", "pairs", "sequential", "--output", output)
    assert "--image_list" in line
    assert "--features" in line
    gone = ["--model", tmp_path / "gone", "--output", output, "--num_matched", 2]
    assert str(tmp_path / "gone") in refusal(PROGRAM, "featplug", "pairs", "poses", *gone)
    none = ["--model", model, "--num_matched", 2, "--output", tmp_path / "none.txt"]
    none += ["--rotation_threshold", 0]
    assert "none.txt" in refusal(PROGRAM, "featplug", "pairs", "poses", *none)
    assert not (tmp_path / "none.txt").exists()


def test_a_name_of_another_tools_file_that_cannot_be_used_is_left_out_and_named(
    featplug: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for file, array in (("feats.h5", "keypoints"), ("global.h5", "global_descriptor")):
        with h5py.File(tmp_path / file, "w") as opened:
            for name in ("a.jpg", "b.jpg", "my photo.jpg"):
                opened[f"{name}/{array}"] = np.ones((4, 2))[slice(None) if file[0] == "f" else 0]
    output = ["--output", tmp_path / "pairs.txt"]
    featplug("pairs", "exhaustive", "--features", tmp_path / "feats.h5", *output)
    assert read_pairs(tmp_path / "pairs.txt") == [("a.jpg", "b.jpg")]
    retrieval = ["--descriptors", tmp_path / "global.h5", "--num_matched", 1]
    featplug("pairs", "retrieval", *retrieval, *output)
    assert read_pairs(tmp_path / "pairs.txt") == [("a.jpg", "b.jpg"), ("b.jpg", "a.jpg")]
    left_out = [record.getMessage() for record in caplog.records]
    for file in ("feats.h5", "global.h5"):
        assert any(str(tmp_path / file) in m and "'my photo.jpg'" in m for m in left_out)


@pytest.mark.parametrize("command", [["covisibility"], ["poses", "--rotation_threshold", 180]])
def test_a_name_of_a_model_that_no_list_can_carry_is_left_out(
    featplug: Callable[..., str],
    synthetic_scene: SyntheticScene,
    tmp_path: Path,
    command: list[str | int],
) -> None:
    model = pycolmap.Reconstruction(synthetic_scene.truth)
    next(iter(model.images.values())).name = "IMG 0001.jpg"
    model.write(str(tmp_path))
    output = tmp_path / "pairs.txt"
    arguments = "--model", tmp_path, "--output", output, "--num_matched", 5
    printed = featplug("pairs", *command, *arguments)
    assert "left out: The image name 'IMG 0001.jpg' has white space" in printed
    names = {name for pair in read_pairs(output) for name in pair}
    assert len(names) == model.num_images() - 1
