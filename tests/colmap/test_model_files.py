"""Binary COLMAP models that are cut short."""

from __future__ import annotations

from pathlib import Path

import pycolmap
import pytest

from featplug.colmap.model_files import incomplete_file, read_model


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_points3D = 20
    pycolmap.synthesize_dataset(options).write(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_a_file_cut_short_anywhere_is_named(model_dir: Path, name: str) -> None:
    """COLMAP itself reads on, and fills the memory or makes up points."""
    path = model_dir / name
    content = path.read_bytes()
    assert incomplete_file(model_dir) is None
    for size in {0, 7, 8, len(content) // 2, len(content) - 1}:
        path.write_bytes(content[:size])
        assert incomplete_file(model_dir) == path
    with pytest.raises(ValueError, match=f"{model_dir} cannot be read: {name} ends too early"):
        read_model(model_dir)
    path.write_bytes(content)
    assert len(read_model(model_dir).points3D) == 20


def test_a_camera_model_that_colmap_does_not_have(model_dir: Path) -> None:
    path = model_dir / "cameras.bin"
    content = bytearray(path.read_bytes())
    content[12:16] = (999).to_bytes(4, "little")
    path.write_bytes(content)
    assert incomplete_file(model_dir) == path
