"""The commands of single stages, with hloc's argument names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader
from featplug.stages.pairs import exhaustive
from tests.scenes.pictures import write_textured_images


def test_extract_and_match_with_hlocs_names(featplug: Callable[..., str], tmp_path: Path) -> None:
    names = write_textured_images(tmp_path / "images", 3)
    (tmp_path / "images" / "bad.jpg").write_bytes(b"\xff\xd8")
    options = ["--image_dir", tmp_path / "images", "--export_dir", tmp_path, "--no-as_half"]
    *_, done, reason = featplug("extract", "--conf", "sift", *options).strip().splitlines()
    assert "3 images extracted" in done
    assert done.endswith("1 skipped:")
    assert "bad.jpg" in reason
    with FeatureReader(tmp_path / "feats-featplug-sift.h5") as features:
        assert features.names() == names
        assert features.read(names[0])["descriptors"].dtype == "float32"

    write_pairs(tmp_path / "pairs.txt", exhaustive(names))
    options = ["--conf", "NN-ratio", "--pairs", tmp_path / "pairs.txt"]
    options += ["--features", "feats-featplug-sift", "--export-dir", tmp_path]
    printed = featplug("match", *options)
    assert "3 pairs matched" in printed
    assert "nothing skipped" in printed
    again = featplug("match", *options)
    assert "0 pairs matched" in again
    assert "3 present before" in again


def test_photographs_are_renamed_with_their_masks(
    featplug: Callable[..., str], refusal: Callable[..., str], tmp_path: Path
) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    (first, second) = write_textured_images(images, 2)
    (images / first).rename(images / "IMG 1.png")
    masks.mkdir()
    (masks / "IMG 1.png.png").touch()
    options = ["--image_dir", images, "--export_dir", tmp_path]
    line = refusal(PROGRAM, "featplug", "extract", *options)
    assert "IMG 1.png" in line
    assert f"featplug rename --images {images}" in line
    folders = ["--images", images, "--masks", masks]
    assert "would be renamed" in featplug("rename", *folders, "--dry-run")
    assert (images / "IMG 1.png").exists()
    printed = featplug("rename", *folders)
    assert f"{images / 'IMG 1.png'} -> IMG_1.png" in printed
    assert (masks / "IMG_1.png.png").exists()
    assert "2 images extracted" in featplug("extract", *options)
    (images / "a b.png").write_bytes((images / second).read_bytes())
    (images / "a_b.png").touch()
    assert "rename one" in refusal(PROGRAM, "featplug", "rename", "--images", images)


FIXED = """
import torch
from featplug.base import PairMatcher

class Fixed(PairMatcher):
    preprocessing = {"grayscale": True, "resize_max": 64}
    default_conf = {"num": 30}

    def match_images(self, image0, image1):
        points = torch.rand(self.conf["num"], 2, generator=torch.Generator().manual_seed(0)) * 40
        return {"keypoints0": points, "keypoints1": points + 1, "scores": points[:, 0] / 40}
"""


def test_a_method_without_keypoints_matches_images(
    featplug: Callable[..., str], refusal: Callable[..., str], tmp_path: Path
) -> None:
    names = write_textured_images(tmp_path / "images", 3)
    write_pairs(tmp_path / "pairs.txt", exhaustive(names))
    (tmp_path / "fixed.py").write_text(FIXED)
    options = ["--conf", f"{tmp_path / 'fixed.py'}:Fixed", "--pairs", tmp_path / "pairs.txt"]
    line = refusal(PROGRAM, "featplug", "match", *options)
    assert "--image-dir" in line
    options += ["--image_dir", tmp_path / "images", "--export_dir", tmp_path / "out"]
    options += ["--features", tmp_path / "mine.h5", "--cell-size", "1", "--max-keypoints", "20"]
    printed = featplug("match", *options, "--matcher-option", "num=25")
    assert "3 pairs matched" in printed
    assert "nothing skipped" in printed
    with FeatureReader(tmp_path / "mine.h5") as features:
        assert [len(features.keypoints(name)) for name in names] == [20, 20, 20]
    assert "3 present before" in featplug("match", *options, "--matcher-option", "num=25")
    line = refusal(PROGRAM, "featplug", "match", *options, "--matcher-option", "number=25")
    assert "num" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "--image_dir", "/nowhere", "--export_dir", "x"], "/nowhere"),
        (["extract", "--conf", "sfit", "--image_dir", ".", "--export_dir", "x"], "'sift'?"),
        (["match", "--pairs", "gone.txt", "--features", "x.h5"], "gone.txt"),
        (["match", "--pairs", "gone.txt"], "--features"),
        (["extract", "--conf", "loftr", "--image_dir", ".", "--export_dir", "x"], "match"),
        (["match", "--conf", "NN-mutal", "--pairs", "p", "--features", "x.h5"], "'NN-mutual'?"),
        (["retrieve", "--features", "gone.h5", "--export_dir", "x"], "gone.h5"),
    ],
)
def test_bad_input_is_one_line(
    refusal: Callable[..., str], arguments: list[str], message: str
) -> None:
    assert message in refusal(PROGRAM, "featplug", *arguments)


def test_missing_weights_name_the_place_and_the_command(
    refusal: Callable[..., str], no_weights: None, tmp_path: Path
) -> None:
    write_textured_images(tmp_path / "images", 1)
    folders = ["--image_dir", tmp_path / "images", "--export_dir", tmp_path]
    line = refusal(PROGRAM, "featplug", "extract", "--conf", "d2net-ots", *folders)
    assert "https://dusmanu.com/files/d2-net/d2_ots.pth" in line
    assert "featplug weights fetch d2_ots" in line


@pytest.mark.parametrize("command", ["retrieve", "sfm"])
def test_help_says_where_retrieval_methods_are_listed(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_command(PROGRAM, "featplug", [command, "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert re.search(r"[Nn]ame of (a|the) retrieval method[^.]*; `featplug list` shows", words)
