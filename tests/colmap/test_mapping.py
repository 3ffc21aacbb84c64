"""COLMAP's mappers: known intrinsics stay, clusters are merged, errors are explained."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn, get_args

import numpy as np
import pycolmap
import pytest

from featplug.colmap.cameras import CameraOptions
from featplug.colmap.mapping import MapOptions, Mapper, reconstruct_database, require_mapper
from featplug.metrics.poses import aligned_pose_errors, model_poses, reconstruction_statistics
from featplug.stages.pairs import exhaustive
from featplug.stages.verify import VerifiedPairs, VerifyOptions, verify_pairs
from tests.scenes.synthetic import SyntheticScene, write_synthetic_scene

NUM_KNOWN = 7


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    return write_synthetic_scene(tmp_path_factory.mktemp("mapped") / "scene", num_images=14)


@pytest.fixture(scope="module")
def verified(
    scene: SyntheticScene, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, VerifiedPairs]:
    """A database in which half of the images have known intrinsics."""
    folder = tmp_path_factory.mktemp("database")
    camera = scene.truth.cameras[1]
    words = f"SIMPLE_RADIAL {camera.width} {camera.height} {' '.join(map(str, camera.params))}"
    known = "".join(f"{name} {words}\n" for name in scene.names[:NUM_KNOWN])
    (folder / "cameras.list").write_text(known)
    options = VerifyOptions(camera=CameraOptions(file=folder / "cameras.list"))
    files = scene.images, scene.names, scene.features, scene.matches, exhaustive(scene.names)
    return folder / "x.db", verify_pairs(folder / "x.db", *files, options)


@pytest.mark.parametrize("mapper", get_args(Mapper))
def test_known_intrinsics_stay_and_others_are_refined(
    scene: SyntheticScene,
    verified: tuple[Path, VerifiedPairs],
    tmp_path: Path,
    mapper: Mapper,
) -> None:
    if mapper != "partitioned" and not hasattr(pycolmap, f"{mapper}_mapping"):
        pytest.skip(f"this pycolmap has no {mapper} mapper")
    database, pairs = verified
    assert pairs.cameras.known == {1}
    options = MapOptions(
        mapper=mapper, known_cameras=pairs.cameras.known, cluster_images=8, cluster_overlap=6
    )
    (model,) = reconstruct_database(database, scene.images, tmp_path, options).values()
    truth = scene.truth.cameras[1].params
    np.testing.assert_array_equal(model.cameras[1].params, truth)
    assert model.cameras[2].params[0] != pytest.approx(1.2 * 1024)
    np.testing.assert_allclose(model.cameras[2].params, truth, rtol=1e-3)
    statistics = reconstruction_statistics(model)
    assert statistics.num_registered == len(scene.names)
    assert statistics.num_points > 250
    assert statistics.mean_reprojection_error < 0.01
    errors = aligned_pose_errors(model_poses(model), model_poses(scene.truth))
    assert errors.position.max() < 1e-3
    # What was written is what was returned.
    written = pycolmap.Reconstruction(str(tmp_path / "0"))
    np.testing.assert_array_equal(written.cameras[1].params, truth)


@pytest.mark.parametrize("mapper", ["global", "hierarchical"])
def test_a_mapper_that_pycolmap_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, mapper: Mapper
) -> None:
    monkeypatch.delattr(pycolmap, f"{mapper}_mapping", raising=False)
    with pytest.raises(ValueError, match=rf"{mapper.capitalize()} mapping needs pycolmap 4\.\d"):
        require_mapper(mapper)
    require_mapper("incremental")


def test_verification_shows_its_progress(
    scene: SyntheticScene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = scene.names[:3]
    files = scene.images, names, scene.features, scene.matches, exhaustive(names)
    verify_pairs(tmp_path / "x.db", *files, VerifyOptions(), progress=True)
    assert "verify: 100%" in capsys.readouterr().err
    verify_pairs(tmp_path / "x.db", *files, VerifyOptions())
    assert "verify:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[sfm.cc:7] Check failed: a < b\nstack", r"Check failed: a < b\); .*report it"),
        ("[database.cc:7] SQLite error: disk I/O error", r"disk I/O error\): .*free some space"),
    ],
)
def test_an_error_within_colmap_is_shown_with_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, shown: str
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(text)

    monkeypatch.setattr(pycolmap, "incremental_mapping", fail)
    database = tmp_path / "database.db"
    with pytest.raises(ValueError, match=f"{database}.*{shown}"):
        reconstruct_database(database, tmp_path, tmp_path / "models", MapOptions())


@pytest.mark.parametrize("num_broken", [1, 2])
def test_a_model_with_a_camera_that_none_is_leaves_the_others(
    scene: SyntheticScene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    num_broken: int,
) -> None:
    def made(database: str, images: str, folder: str, **_: object) -> object:
        models = {}
        for number in range(2):
            models[number] = pycolmap.Reconstruction(scene.truth)
            if number < num_broken:  # as COLMAP estimates of few images
                models[number].cameras[1].params = [-448.0, 160.0, 120.0, 0.7]
            (Path(folder) / str(number)).mkdir(parents=True)
            models[number].write(f"{folder}/{number}")
        return models

    monkeypatch.setattr(pycolmap, "incremental_mapping", made)
    arguments = tmp_path / "database.db", scene.images, tmp_path / "models", MapOptions()
    if num_broken == 2:
        with pytest.raises(ValueError, match=r"camera of .*-448.*set intrinsics"):
            reconstruct_database(*arguments)
        return
    assert list(reconstruct_database(*arguments)) == [1]
    assert "-448" in caplog.text
    assert not (tmp_path / "models" / "0").exists()
    assert pycolmap.Reconstruction(str(tmp_path / "models" / "1")).num_reg_images() == 14
