"""Frames of videos: the sharpest of each interval, upright, kept from run to run."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from featplug.io.image_folder import list_images
from featplug.io.images import read_image
from featplug.io.video import extract_frames
from tests.scenes.pictures import textured_image
from tests.scenes.videos import turn_video, write_video

SHARP = {2, 6, 13, 19}
"""Frames that are not blurred, of 20 at 10 a second: one for each half second."""


def frames(num: int = 20) -> list[np.ndarray]:
    made = []
    for number in range(num):
        grey = textured_image(number // 5, width=96, height=64)
        if number not in SHARP:
            grey = cv2.GaussianBlur(grey, (0, 0), 2.0)
        made.append(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    return made


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
def test_the_sharpest_frame_of_each_interval_is_written(tmp_path: Path, suffix: str) -> None:
    video, folder = tmp_path / f"x.{suffix}", tmp_path / "frames"
    made = frames()
    write_video(video, made)
    assert extract_frames(video, folder, fps=2)
    names = list_images(folder)
    assert names == [f"frame_{number:06d}.jpg" for number in sorted(SHARP)]
    for name in names:
        picture = read_image(folder / name, grayscale=True).astype(int)
        expected = made[int(name[6:12])][..., 0]
        assert np.abs(picture - expected).mean() < 6


def test_frames_are_made_again_only_for_another_video_or_rate(tmp_path: Path) -> None:
    video, folder = tmp_path / "x.avi", tmp_path / "frames"
    write_video(video, frames())
    assert extract_frames(video, folder, fps=2)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert not extract_frames(video, folder, fps=2)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert extract_frames(video, folder, fps=1)
    assert len(list_images(folder)) == 2
    assert extract_frames(video, folder, fps=1000)
    assert len(list_images(folder)) == 20  # never more than there are
    write_video(video, frames(10))
    assert extract_frames(video, folder, fps=1000)
    assert len(list_images(folder)) == 10
    (folder / "frame_000003.jpg").unlink()
    assert extract_frames(video, folder, fps=1000)


def test_a_phones_video_is_upright(tmp_path: Path) -> None:
    video = tmp_path / "x.mp4"
    picture = textured_image(1, width=96, height=64)
    write_video(video, [cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)] * 3)
    turn_video(video)
    extract_frames(video, tmp_path / "frames", fps=1)
    (name,) = list_images(tmp_path / "frames")
    upright = read_image(tmp_path / "frames" / name, grayscale=True)
    assert np.abs(upright.astype(int) - np.rot90(picture, -1)).mean() < 6


@pytest.mark.parametrize("content", [b"", b"no video", "header"])
def test_what_is_no_video_gets_the_command_that_converts_it(
    tmp_path: Path, content: bytes | str, capfd: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "my film.avi"
    if isinstance(content, str):
        write_video(video, frames())
        content = video.read_bytes()[:600]
    video.write_bytes(content)
    with pytest.raises(ValueError, match=r"my film.avi.*ffmpeg -i '.*my film.avi'") as error:
        extract_frames(video, tmp_path / "frames", fps=2)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "frames").exists()
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        extract_frames(tmp_path / "none.mp4", tmp_path / "frames", fps=2)


def test_a_cut_video_gives_what_it_has_and_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video = tmp_path / "x.avi"
    write_video(video, frames())
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        extract_frames(video, tmp_path / "frames", fps=1000)
    assert 0 < len(list_images(tmp_path / "frames")) < 20
    assert "x.avi" in caplog.text
