"""The town and planes in the layouts of the Image Matching Benchmark, ETH3D's pairs, WxBS and EVD.

Photographs and pairs are those of :mod:`pipelines.demo.pair_layouts`; planes those of ``hpatches``.
"""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from featplug.io.images import read_image
from pipelines.demo.geometry import View
from pipelines.demo.pair_layouts import TruePair, TruePairs, intrinsics, true_pairs
from pipelines.demo.photography import write_picture
from pipelines.demo.true_models import true_model
from pipelines.demo.viewpoints import true_tracks

if TYPE_CHECKING:
    from pipelines.datasets.demo import DemoOptions

SCENE = "town"
METRES = 0.5
"""Metres for each unit of the poses of ``imc2022``: there the town is twice as large."""
SUBSETS = {5: 2, 10: 1}
"""Number of images of a subset to the number of such subsets."""
_CENTRE = 0.5
"""Coordinate of the first pixel's centre in COLMAP."""
_TURNS = 4
"""Turns of drawing points, for pairs to see as many in common as in ETH3D's scenes."""


def _views(world: TruePairs) -> list[View]:
    return [*world.by_day, *world.by_night]


def _copied(folder: Path, views: Sequence[View], images: Path, suffix: str = ".jpg") -> None:
    """Copy the photographs of the layout ``pairs``."""
    images.mkdir(parents=True)
    for view in views:
        source = folder.with_name("pairs") / view.name
        shutil.copy(source, images / f"{Path(view.name).stem}{suffix}")


def _key(pair: TruePair) -> str:
    """Return the name of a pair, whose image 0 is the one with the later name."""
    return "-".join(sorted((Path(view.name).stem for view in pair[:2]), reverse=True))


def write_phototourism(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write a scene of PhotoTourism with its subsets, from the layout of pairs."""
    world = true_pairs(options)
    scene, views = folder / SCENE / "set_100", _views(world)
    _copied(folder, views, scene / "images")
    names = [Path(view.name).stem for view in views]
    (scene / "calibration").mkdir()
    for name, view in zip(names, views, strict=True):
        with h5py.File(scene / f"calibration/calibration_{name}.h5", "w") as file:
            file["K"] = intrinsics(view.camera, _CENTRE)
            file["R"], file["T"] = view.cam_from_world[:, :3], view.cam_from_world[:, 3]
            file["imsize"] = np.array([view.camera.width, view.camera.height])
    (scene / "images.txt").write_text("".join(f"images/{name}.jpg\n" for name in names))
    (scene / "new-vis-pairs").mkdir()
    for step in range(10):
        keys = [_key(pair) for pair in world.pairs if pair.overlap >= step / 10]
        np.save(scene / f"new-vis-pairs/keys-th-{step / 10:.1f}.npy", np.array(keys, "U"))
    # Neighbours look the same way.
    in_turn = [view for turn in range(4) for view in world.by_day[turn::4]]
    _write_subsets(scene / "sub_set", [Path(view.name).stem for view in in_turn])


def _write_subsets(folder: Path, names: Sequence[str]) -> None:
    """Write lists of images that follow each other, as far as there are so many."""
    folder.mkdir()
    for size, number in SUBSETS.items():
        for k in range(number):
            chosen = names[k * size : (k + 1) * size]
            if len(chosen) == size:
                lines = "".join(f"images/{name}.jpg\n" for name in chosen)
                (folder / f"{size}bag_{k:03}.txt").write_text(lines)


def write_imc2022(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write a scene of the Image Matching Challenge 2022, from the layout of pairs."""
    world = true_pairs(options)
    scene = folder / SCENE
    _copied(folder, _views(world), scene / "images")
    cameras = []
    for view in _views(world):
        pose = view.cam_from_world
        matrices = intrinsics(view.camera, _CENTRE), pose[:, :3], pose[:, 3] / METRES
        cameras.append((Path(view.name).stem, *map(_words, matrices)))
    of_cameras = "image_id", "camera_intrinsics", "rotation_matrix", "translation_vector"
    _write_table(scene / "calibration.csv", of_cameras, cameras)
    pairs = [(_key(pair), repr(pair.overlap), _words(np.zeros(9))) for pair in world.pairs]
    hard = (_key(world.pairs[0]).replace("-", "_") + "-none", "0.05", _words(np.zeros(9)))
    of_pairs = "pair", "covisibility", "fundamental_matrix"
    _write_table(scene / "pair_covisibility.csv", of_pairs, [*pairs, hard])
    _write_table(folder / "scaling_factors.csv", ("scene", "scaling_factor"), [(SCENE, METRES)])


def _words(matrix: np.ndarray) -> str:
    return " ".join(map(repr, matrix.ravel().tolist()))


def _write_table(path: Path, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([heads, *rows])


def write_eth3d_pairs(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write a scene of ETH3D, whose model has points enough for pairs, from that of pairs."""
    world, kind = true_pairs(options), "dslr_images_undistorted"
    scene = folder / SCENE
    _copied(folder, world.by_day, scene / "images" / kind, ".JPG")
    views = [replace(v, name=f"{kind}/{Path(v.name).stem}.JPG") for v in world.by_day]
    rng = np.random.default_rng([options.seed, 43])
    drawn = (true_tracks(rng, world.scene.faces, views) for _ in range(_TURNS))
    tracks = [track for turn in drawn for track in turn]
    calibration = scene / "dslr_calibration_undistorted"
    calibration.mkdir()
    true_model(views, tracks, scene / "images").write_text(str(calibration))


def write_wxbs(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write pairs of WxBS: of other viewpoints, and of a night and a day, from that of pairs."""
    world = true_pairs(options)
    numbers = {view.name: i for i, view in enumerate(_views(world))}
    kinds = {"viewpoint": "WGBS", "night": "WGALBS"}
    for pair in world.pairs:
        i, j = (numbers[view.name] for view in pair[:2])
        both = [track for track in world.tracks if {i, j} <= set(track.views)]
        # COLMAP's coordinates to pixel centres at integers.
        points = [[t.xy[t.views.index(k)] - 0.5 for t in both] for k in (i, j)]
        place = folder / kinds[pair.part] / _key(pair)
        place.mkdir(parents=True)
        for name, view in zip(("01", "02"), pair[:2], strict=True):
            write_picture(place / f"{name}.png", read_image(folder.with_name("pairs") / view.name))
        np.savetxt(place / "corrs.txt", np.hstack(points), "%.17g")
        np.savetxt(place / "crossval_errors.txt", np.zeros(len(both)))


def write_evd(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the planes of the layout ``hpatches``, the first and the last view of each."""
    for name in ("1", "2", "h"):
        (folder / name).mkdir()
    for sequence in sorted(folder.with_name("hpatches").glob("v_*")):
        name = sequence.name.removeprefix("v_")
        for number, view in (("1", "1"), ("2", "6")):
            write_picture(folder / number / f"{name}.png", read_image(sequence / f"{view}.ppm"))
        shutil.copy(sequence / "H_1_6", folder / "h" / f"{name}.txt")


WRITERS = {
    "phototourism": write_phototourism,
    "imc2022": write_imc2022,
    "eth3d_pairs": write_eth3d_pairs,
    "wxbs": write_wxbs,
    "evd": write_evd,
}
