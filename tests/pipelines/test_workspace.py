"""The output folder of a reconstruction, as COLMAP, nerfstudio and gsplat read it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pycolmap
import pytest

from featplug.colmap.model_files import read_model
from featplug.io.image_folder import list_images
from featplug.io.run_folder import replace_results, run_folder
from pipelines.sfm import SfmOptions, reconstruct
from pipelines.workspace import link_images


@pytest.fixture(scope="module")
def run(room_corner: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of photographs that has the output folder, too, and the output folder."""
    images = tmp_path_factory.mktemp("project") / "photographs"
    shutil.copytree(room_corner / "images", images)
    reconstruct(SfmOptions(images, outputs=images / "out"))
    return images, images / "out"


def test_the_model_and_the_images_are_where_other_programs_look(run: tuple[Path, Path]) -> None:
    images, outputs = run
    model = pycolmap.Reconstruction(str(outputs / "sparse" / "0"))
    assert (outputs / "model").readlink() == Path("sparse/0")
    for image in model.images.values():
        path = outputs / "images" / image.name
        assert path.read_bytes() == (images / image.name).read_bytes()
    assert read_model(outputs / "model").num_points3D() == model.num_points3D() > 0


def test_what_a_run_links_is_no_further_photograph_of_the_next(run: tuple[Path, Path]) -> None:
    assert list_images(run[0]) == [f"{number:02}.png" for number in range(6)]


def test_a_run_replaces_the_layout_of_earlier_versions(
    run: tuple[Path, Path], tmp_path: Path
) -> None:
    images, outputs = run
    copy = Path(shutil.copytree(outputs, tmp_path / "copy"))  # which makes copies of links
    shutil.rmtree(copy / "sparse")
    shutil.rmtree(copy / "images")
    assert not (copy / "model").is_symlink()
    reconstruct(SfmOptions(images, outputs=copy))
    assert (copy / "model").is_symlink()
    assert read_model(copy / "model").num_reg_images() == 6
    assert (copy / "images" / "00.png").is_file()


@pytest.mark.parametrize("name", ["sparse", "database.db"])
def test_files_of_other_programs_are_not_replaced(
    run: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").write_text("mine")
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"{name} .*--outputs"):
            reconstruct(SfmOptions(run[0], outputs=tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == [name, "mine"]


@pytest.mark.parametrize("kind", ["folder", "links", "link"])
def test_the_users_own_folder_images_in_the_output_folder_stays(
    room_corner: Path, tmp_path: Path, kind: str
) -> None:
    source, mine = room_corner / "images", tmp_path / "project" / "images"
    mine.parent.mkdir()
    if kind == "link":
        mine.symlink_to(source)
    else:
        mine.mkdir()
        for path in source.iterdir():
            (mine / path.name).symlink_to(path)
            if kind == "folder":
                (mine / path.name).unlink()
                shutil.copy(path, mine)
    before = list_images(mine)
    for _ in range(2):
        with run_folder(mine.parent) as working:
            link_images(working, mine.parent, mine, before[:2], is_selection=True)
            (working / "results.json").write_text("{}")
            replace_results(mine.parent)
    assert list_images(mine) == before
    assert mine.is_symlink() == (kind == "link")


def test_selected_photographs_have_a_folder_of_links(room_corner: Path, tmp_path: Path) -> None:
    source, outputs = room_corner / "images", tmp_path / "out"
    for selected in (["00.png"], None, ["01.png", "03.png"]):
        with run_folder(outputs) as working:
            names = selected or list_images(source)
            link_images(working, outputs, source, names, is_selection=selected is not None)
            replace_results(outputs)
        assert list_images(outputs / "images") == (selected or list_images(source))
    assert len(list_images(source)) == 6


def test_frames_in_the_output_folder_are_linked_relatively(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "000001.jpg").write_text("frame")
    with run_folder(tmp_path) as working:
        link_images(working, tmp_path, tmp_path / "frames", ["000001.jpg"])
        replace_results(tmp_path)
    assert (tmp_path / "images").readlink() == Path("frames")
    assert (tmp_path / "images" / "000001.jpg").read_text() == "frame"


def test_without_links_the_model_is_a_copy_and_the_log_says_what_is_missing(
    room_corner: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", fail)
    with caplog.at_level(logging.WARNING):
        reconstruct(SfmOptions(room_corner / "images", outputs=tmp_path))
    (line,) = [text for text in caplog.messages if "link" in text]
    assert str(tmp_path) in line
    assert str(room_corner / "images") in line
    assert not (tmp_path / "images").exists()
    assert read_model(tmp_path / "model").num_reg_images() == 6
    assert read_model(tmp_path / "sparse" / "0").num_reg_images() == 6
