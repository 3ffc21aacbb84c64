"""Manifests: images keep their shards while a folder changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from featplug.colmap.cameras import CameraOptions, make_cameras
from featplug.io.artifact import file_hash
from featplug.io.exif import EXIF_IFD, FOCAL_LENGTH, MAKE, MODEL, ORIENTATION
from featplug.io.image_files import read_image_header
from featplug.io.parts.manifest import MANIFEST, Manifest, make_manifest

_FOCAL_LENGTH_IN_35MM_FILM = 0xA405


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "b").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("0.png", "1.png", "b/2.png", "b/3.png", "b/4.png"):
        Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).save(folder / name)
    return folder


def shards(manifest: Manifest) -> list[list[str]]:
    return [manifest.names(shard) for shard in range(manifest.num_shards)]


def test_images_are_cut_into_shards_that_any_program_reads(images: Path, tmp_path: Path) -> None:
    manifest = make_manifest(images, tmp_path / "store", 2)
    assert shards(manifest) == [["0.png", "1.png"], ["b/2.png", "b/3.png"], ["b/4.png"]]
    assert manifest.num_images == 5
    assert manifest.image_dir == images
    assert manifest.shard_of["b/3.png"] == 1
    (image,) = manifest.images(2)
    assert (image.width, image.height) == (8, 6)
    assert image.sha256 == file_hash(images / "b/4.png")
    table = pq.read_table(tmp_path / "store" / MANIFEST)
    assert table["name"].to_pylist() == manifest.all_names()
    assert table["num_bytes"].to_pylist()[0] == (images / "0.png").stat().st_size


def test_images_keep_their_shards_and_only_changed_shards_change(
    images: Path, tmp_path: Path
) -> None:
    before = make_manifest(images, tmp_path / "store", 2)
    identities = [before.identity(shard) for shard in range(3)]
    (images / "1.png").unlink()
    for name in ("00.png", "c.png", "d.png"):
        (images / name).write_bytes((images / "0.png").read_bytes())
    after = make_manifest(images, tmp_path / "store", 2)
    later = [["b/4.png", "00.png"], ["c.png", "d.png"]]
    assert shards(after) == [["0.png"], ["b/2.png", "b/3.png"], *later]
    assert after.identity(0) != identities[0]
    assert after.identity(1) == identities[1]
    (images / "b/2.png").unlink()
    (images / "b/3.png").unlink()
    emptied = make_manifest(images, tmp_path / "store", 2)
    assert shards(emptied) == [["0.png"], [], *later]
    assert emptied.images(1) == []
    with pytest.raises(ValueError, match="--size 2"):
        make_manifest(images, tmp_path / "store", 3)
    assert shards(Manifest(tmp_path / "store")) == shards(emptied)


def test_cameras_are_those_of_the_photographs(images: Path, tmp_path: Path) -> None:
    """Verification makes cameras without the photographs."""
    exif = Image.Exif()
    exif[MAKE], exif[MODEL] = "Canon", "EOS 5D"
    exif[EXIF_IFD] = {FOCAL_LENGTH: IFDRational(24), _FOCAL_LENGTH_IN_35MM_FILM: 24}
    exif[ORIENTATION] = 6
    Image.new("RGB", (16, 12)).save(images / "2.jpg", exif=exif)
    (images / "3.jpg").write_bytes(b"none")
    headers = make_manifest(images, tmp_path / "store", 2).headers()
    names = ["0.png", "1.png", "2.jpg", "b/2.png", "b/3.png", "b/4.png"]
    assert sorted(headers) == names
    read = {name: read_image_header(images / name) for name in names}
    assert headers["2.jpg"].camera == read["2.jpg"].camera
    assert headers["2.jpg"].orientation == 6
    found, expected = (make_cameras(CameraOptions(), each) for each in (headers, read))
    assert found.camera_ids == expected.camera_ids
    assert list(map(str, found.cameras)) == list(map(str, expected.cameras))
    assert any(camera.has_prior_focal_length for camera in found.cameras)


def test_what_is_no_image_has_no_size(images: Path, tmp_path: Path) -> None:
    (images / "0.png").write_bytes(b"none")
    image = make_manifest(images, tmp_path / "store", 2).images(0)[0]
    assert (image.name, image.width, image.height, image.num_bytes) == ("0.png", 0, 0, 4)


def test_a_missing_or_damaged_manifest_is_named_with_its_remedy(
    images: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with pytest.raises(FileNotFoundError, match="featplug shard make"):
        Manifest(store)
    make_manifest(images, store, 2)
    content = (store / MANIFEST).read_bytes()
    (store / MANIFEST).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"manifest\.parquet is damaged"):
        Manifest(store)
    with pytest.raises(ValueError, match="1 to 100,000"):
        make_manifest(images, tmp_path / "other", 0)
