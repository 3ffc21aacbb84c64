"""The photographs of a reconstruction: a folder, a list, a video; a phone's set; masks."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug.io.images import read_image
from featplug.io.store import FeatureReader
from pipelines.photographs import PhotographOptions
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions, main, reconstruct
from tests.scenes.room_corner import write_room_corner
from tests.scenes.turned import write_turned
from tests.scenes.videos import write_video


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six photographs of a room's corner."""
    folder = tmp_path_factory.mktemp("corner")
    write_room_corner(folder, num_images=6, width=320)
    return folder / "images"


def test_a_phones_set_is_registered_whole(corner: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(corner.iterdir())):
        upright = read_image(path)
        write_turned(tmp_path / "images" / path.name, upright, (1, 6, 3, 8)[number % 4])
    outputs = tmp_path / "run"
    results = reconstruct(SfmOptions(tmp_path / "images", outputs=outputs))
    assert results["metrics"]["registered_images"]["value"] == 6
    model = pycolmap.Reconstruction(outputs / "sparse" / "0")
    for image in model.images.values():
        with Image.open(tmp_path / "images" / image.name) as stored:
            camera = model.cameras[image.camera_id]
            assert (camera.width, camera.height) == stored.size
    assert model.compute_mean_reprojection_error() < 1.0


def test_only_listed_photographs_are_used(
    corner: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = sorted(path.name for path in corner.iterdir())
    image_list = tmp_path / "list.txt"
    image_list.write_text("\n".join([*names[:4], names[0]]))
    options = SfmOptions(corner, image_list=image_list, outputs=tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        results = reconstruct(options)
    assert results["metrics"]["images"]["value"] == 4
    assert names[0] in caplog.text
    assert "list.txt" in caplog.text
    assert sorted(path.name for path in (tmp_path / "run" / "images").iterdir()) == names[:4]


def test_contradictory_requests_are_one_sentence(
    corner: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    image_list = tmp_path / "list.txt"

    def refused(*arguments: object) -> str:
        return refusal(main, "sfm", "--outputs", tmp_path / "run", *arguments)

    first = sorted(path.name for path in corner.iterdir())[0]
    image_list.write_text(f"{first}\n{first.upper()}\nnone.png\n")
    line = refused("--images", corner, "--image-list", image_list)
    for part in ("list.txt", "2 of 3", "none.png", first.upper(), f"Did you mean {first!r}"):
        assert part in line
    image_list.write_text("../x.png\n")
    assert "list.txt, line 1" in refused("--images", corner, "--image-list", image_list)
    assert "--images DIR" in refused("--feature", "sift")
    assert "--video FILE" in refused("--images", corner, "--video", image_list)
    assert "leave it out" in refused("--video", image_list, "--image-list", image_list)
    assert "--fps" in refused("--video", image_list, "--fps", "0")
    assert "none.mp4" in refused("--video", tmp_path / "none.mp4")
    assert "ffmpeg" in refused("--video", image_list)
    assert not (tmp_path / "run").exists()


def test_a_video_becomes_a_model_of_one_camera(corner: Path, tmp_path: Path) -> None:
    video = tmp_path / "walk.avi"
    frames = [cv2.imread(str(path)) for path in sorted(corner.iterdir())]
    write_video(video, [frame for frame in frames for _ in range(3)], rate=6.0)
    options = SfmOptions(video=video, fps=2.0, outputs=tmp_path / "run")
    assert dataclasses.replace(options, outputs=None).output_dir.name == "walk-sift"
    results = reconstruct(options)
    assert results["metrics"]["registered_images"]["value"] == 6
    frames_of_run = (tmp_path / "run" / "images").resolve()
    assert results["data"]["images"] == str(frames_of_run)
    assert frames_of_run.parent == (tmp_path / "run").resolve()
    assert re.fullmatch(r"frames-walk-\w+-2fps", frames_of_run.name)
    assert (tmp_path / "run" / "pairs-sequential.txt").is_file()
    model = pycolmap.Reconstruction(tmp_path / "run" / "sparse" / "0")
    assert len(model.cameras) == 1
    again = reconstruct(options)
    assert again["reused"]["extract"] == 6
    assert json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    # A request that is rejected after its frames are extracted leaves those of the model.
    with pytest.raises(ValueError, match="EXIF"):
        reconstruct(dataclasses.replace(options, fps=1.0, georeference="exif"))
    assert len(list(frames_of_run.iterdir())) == 6
    assert (tmp_path / "run" / "images").resolve() == frames_of_run


def test_masks_apply_in_a_reconstruction(corner: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in corner.iterdir())
    height, width = read_image(corner / names[0]).shape[:2]
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((height, width), np.uint8)
    Image.fromarray(mask).save(masks / f"{names[0]}.png")
    mask[:, : width - 60] = 255
    Image.fromarray(mask).save(masks / f"{names[1]}.png")
    extraction = FeatureOptions(masks=masks)
    results = reconstruct(SfmOptions(corner, extraction=extraction, outputs=tmp_path / "run"))
    assert results["data"]["not_registered"] == [names[0]]
    with FeatureReader(tmp_path / "run" / "feats-featplug-sift.h5") as reader:
        assert len(reader.keypoints(names[0])) == 0
        assert reader.keypoints(names[1])[:, 0].max() < width - 60.5


def test_a_scene_is_named_after_its_source() -> None:
    assert PhotographOptions(Path("/data/house/images")).scene_name == "house"
    assert PhotographOptions(Path("/data/house")).scene_name == "house"
    assert PhotographOptions(video=Path("/data/walk.mp4")).scene_name == "walk"
