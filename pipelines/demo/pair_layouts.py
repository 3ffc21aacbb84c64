"""Pairs of the town's photographs with true poses, in the layouts of relative-pose benchmarks.

The photographs are those of ``pairs``, by day and at night. Pairs are chosen by the points that
both images see: by day, of other viewpoints; and of a night and a day.
"""

import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from featplug.utils.progress import progress_bar
from pipelines.demo.builder import Scene
from pipelines.demo.geometry import Camera, View
from pipelines.demo.photography import LOOKS, Photographer, Shot, write_jpeg
from pipelines.demo.town import WALK, build_town
from pipelines.demo.viewpoints import Track, along_walk, near_others, true_tracks

if TYPE_CHECKING:
    from pipelines.datasets.demo import DemoOptions

_FOCALS = (0.8, 0.95)
"""Focal lengths of two cameras, in widths of their images."""
_LEAST_OVERLAP, _MOST_OVERLAP = 0.1, 0.7
"""Fractions of the points of the image with fewer of them that both images see."""
_MOST_PAIRS = 2
"""Number of pairs of an image with later ones."""
_FRAME, _RESIZED = np.array([1296, 968]), np.array([640, 480])
"""(width, height) of ScanNet's frames, and of the ones that LoFTR's intrinsics are for."""
PARTS = ("viewpoint", "night")
"""Pairs of the day, and of a night and a day."""


class TruePair(NamedTuple):
    """Two views, and what is true of them."""

    view0: View
    view1: View
    part: str
    """One of :data:`PARTS`."""
    overlap: float
    """Fraction of the points of the image with fewer of them that both images see."""

    @property
    def intrinsics(self) -> tuple[np.ndarray, np.ndarray]:
        """K of both, with pixel centres at integers."""
        return intrinsics(self.view0.camera), intrinsics(self.view1.camera)

    @property
    def cam1_from_cam0(self) -> np.ndarray:
        """Pose 4×4."""
        pose0, pose1 = (np.vstack([v.cam_from_world, [0, 0, 0, 1]]) for v in self[:2])
        return pose1 @ np.linalg.inv(pose0)


class TruePairs(NamedTuple):
    """The town's views, and their pairs."""

    scene: Scene
    by_day: list[View]
    by_night: list[View]
    tracks: list[Track]
    """Points, with indices of the views by day, then by night."""
    pairs: list[TruePair]


def intrinsics(camera: Camera, first_centre: float = 0.0) -> np.ndarray:
    """Return K, given the coordinate of the first pixel's centre."""
    x, y = np.array(camera.centre) - 0.5 + first_centre
    return np.array([[camera.focal, 0, x], [0, camera.focal, y], [0, 0, 1]])


def true_pairs(options: "DemoOptions") -> TruePairs:
    """Choose views and pairs; the same for the same options."""
    scene, rng = build_town(options.seed), np.random.default_rng([options.seed, 41])
    width, height = options.image_size, options.image_size * 3 // 4
    centre = (width / 2 + 0.004 * width, height / 2 - 0.003 * width)
    cameras = [Camera(width, height, focal * width, centre) for focal in _FOCALS]
    num_day, num_night = options.num_database, options.num_queries
    days = {f"images/day{i:03}.jpg": cameras[i // 4 % 2] for i in range(num_day)}
    nights = {f"images/night{i:03}.jpg": cameras[i % 2] for i in range(num_night)}
    by_day = along_walk(rng, scene.faces, WALK[-1:], days)
    by_night = near_others(rng, scene.faces, by_day, nights)
    views = [*by_day, *by_night]
    tracks = true_tracks(rng, scene.faces, views)
    pairs = []
    overlaps = _overlaps(tracks, len(views))
    for i in range(num_day):
        pairs += _pairs(views, overlaps, i, range(i + 1, num_day), "viewpoint")
    for i in range(num_day, len(views)):
        pairs += _pairs(views, overlaps, i, range(num_day), "night")
    return TruePairs(scene, by_day, by_night, tracks, pairs)


def _overlaps(tracks: Sequence[Track], num_views: int) -> np.ndarray:
    """Return the fraction of common points for each two views, N×N."""
    seen = np.zeros((len(tracks), num_views))
    for row, track in zip(seen, tracks, strict=True):
        row[track.views] = 1
    num = seen.sum(0)
    return seen.T @ seen / np.maximum(np.minimum(num[:, None], num), 1)


def _pairs(
    views: Sequence[View], overlaps: np.ndarray, i: int, others: Sequence[int], part: str
) -> list[TruePair]:
    """Pair a view with a few others, of overlaps all over the range."""
    able = [j for j in others if _LEAST_OVERLAP <= overlaps[i, j] <= _MOST_OVERLAP]
    able.sort(key=lambda j: overlaps[i, j])
    chosen = {able[k * (len(able) - 1) // (_MOST_PAIRS - 1)] for k in range(_MOST_PAIRS) if able}
    return [TruePair(views[i], views[j], part, float(overlaps[i, j])) for j in sorted(chosen)]


def write_pairs(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the photographs, and a list of each part: SuperGlue's form, and glue-factory's."""
    world = true_pairs(options)
    shots = [Shot("day", view, 90_000 + i) for i, view in enumerate(world.by_day)]
    shots += [Shot("night", view, 95_000 + i) for i, view in enumerate(world.by_night)]
    photographer = Photographer(world.scene, options.seed)
    for shot in progress_bar(shots, "photograph the town", len(shots), "image", progress):
        picture = photographer.take(shot)
        write_jpeg(folder / shot.view.name, picture, LOOKS[shot.look].quality)
    for part, turns in (("viewpoint", ("0", "0")), ("night", ())):
        pairs = [pair for pair in world.pairs if pair.part == part]
        _write_list(folder / f"{part}_pairs_with_gt.txt", pairs, turns=turns)


def _write_list(
    path: Path,
    pairs: Sequence[TruePair],
    name_of: Callable[[TruePair, View], str] = lambda _, view: view.name,
    k_of: Callable[[Camera], np.ndarray] = intrinsics,
    turns: Sequence[str] = (),
    has_matrix: bool = True,
) -> None:
    """Write a list; poses are matrices 4×4, or rotations and translations."""
    lines = []
    for pair in pairs:
        names = [name_of(pair, view) for view in pair[:2]]
        pose = pair.cam1_from_cam0
        values = [k_of(view.camera) for view in pair[:2]]
        values += [pose] if has_matrix else [pose[:3, :3], pose[:3, 3]]
        numbers = [repr(value) for matrix in values for value in matrix.ravel().tolist()]
        lines.append(" ".join([*names, *turns, *numbers]))
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _scene(pair: TruePair) -> str:
    """Return the scene of MegaDepth-1500 that a pair stands for."""
    return ("0015", "0022")[PARTS.index(pair.part)]


def _copy(folder: Path, names: dict[str, str]) -> None:
    """Copy photographs of the layout ``pairs``, given by their new names."""
    for name, source in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder.with_name("pairs") / source, folder / name)


def write_megadepth1500(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write MegaDepth-1500 as glue-factory releases it, from the layout of pairs."""
    pairs = true_pairs(options).pairs

    def name_of(pair: TruePair, view: View) -> str:
        return f"{_scene(pair)}/{Path(view.name).name}"

    _copy(folder, {f"images/{name_of(p, v)}": v.name for p in pairs for v in p[:2]})
    _write_list(
        folder / "pairs_calibrated.txt",
        pairs,
        name_of,
        lambda camera: intrinsics(camera, 0.5),
        has_matrix=False,
    )
    views = {name_of(p, v): v for p in pairs for v in p[:2]}
    _write_views(folder / "views.txt", views)
    listed = [f"{name_of(p, p.view0)} {name_of(p, p.view1)}\n" for p in pairs]
    (folder / "pairs.txt").write_text("".join(listed), "utf-8")


def _write_views(path: Path, views: dict[str, View]) -> None:
    """Write glue-factory's list of posed images, with cameras in COLMAP's form."""
    lines = []
    for name, view in views.items():
        pose, camera = view.cam_from_world, view.camera
        numbers = [*pose[:, :3].ravel().tolist(), *pose[:, 3].tolist()]
        focal, (x, y) = camera.focal, camera.centre
        size = f"PINHOLE {camera.width} {camera.height}"
        lines.append(" ".join([name, *map(repr, numbers), size, *map(repr, (focal, focal, x, y))]))
    path.write_text("\n".join(lines) + "\n", "utf-8")


def write_megadepth1500_loftr(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write MegaDepth-1500 as LoFTR releases it, from the layout of pairs."""
    world = true_pairs(options)
    ranges = ((0.1, 0.3), (0.3, 0.5), (0.5, 0.7))
    infos = folder / "megadepth_test_1500_scene_info"
    infos.mkdir(parents=True)
    names = []
    for part in PARTS:
        pairs = [pair for pair in world.pairs if pair.part == part]
        scene = _scene(pairs[0])
        views = [*world.by_day, *world.by_night]
        of_view = {view.name: i for i, view in enumerate(views)}
        paths = [f"Undistorted_SfM/{scene}/images/{Path(view.name).name}" for view in views]
        used = {view.name for pair in pairs for view in pair[:2]}
        _copy(folder, {paths[of_view[name]]: name for name in used})
        for least, most in ranges:
            rows = []
            for pair in pairs:
                if least <= pair.overlap < most or pair.overlap == most == _MOST_OVERLAP:
                    indices = np.array([of_view[view.name] for view in pair[:2]])
                    rows.append((indices, np.float64(pair.overlap), np.zeros(4)))
            content = {
                "image_paths": _objects(
                    [p if v.name in used else None for p, v in zip(paths, views, strict=True)]
                ),
                "depth_paths": _objects([None] * len(views)),
                "intrinsics": _objects([intrinsics(view.camera, 0.5) for view in views]),
                "poses": _objects([np.vstack([v.cam_from_world, [0, 0, 0, 1]]) for v in views]),
                "pair_infos": rows,
            }
            names.append(f"{scene}_{least}_{most}")
            (infos / f"{names[-1]}.npz").write_bytes(pickle.dumps(content, protocol=4))
    (infos / "megadepth_test_1500.txt").write_text("\n".join(names) + "\n")


def _objects(values: Sequence[object]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


class _Frame(NamedTuple):
    """A photograph as a frame of ScanNet; a scene has one camera."""

    scan: int
    number: int

    @property
    def scene(self) -> str:
        return f"scene0{self.scan}_00"

    @property
    def name(self) -> str:
        return f"{self.scene}/color/{self.number}.jpg"

    @property
    def superglue_name(self) -> str:
        return f"scans_test/{self.scene}/sens/frame-{self.number:06}.color.jpg"


def _frames(options: "DemoOptions") -> tuple[list[TruePair], dict[str, _Frame]]:
    """Return pairs of one camera, and the frames by the names of their photographs."""
    world = true_pairs(options)
    views = [*world.by_day, *world.by_night]
    cameras = list(dict.fromkeys(view.camera for view in views))
    frames = {v.name: _Frame(707 + cameras.index(v.camera), 15 * i) for i, v in enumerate(views)}
    return [p for p in world.pairs if p.view0.camera == p.view1.camera], frames


def _frame_intrinsics(camera: Camera) -> np.ndarray:
    """Return K for frames of 1296×968; see :mod:`benchmarks.pairs.datasets.scannet1500`."""
    scale = _FRAME / (camera.width, camera.height)
    resizing = np.diag([*scale, 1])
    resizing[:2, 2] = (scale - 1) / 2
    return resizing @ intrinsics(camera)


def write_scannet1500(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write ScanNet-1500 as glue-factory releases it, from the layout of pairs."""
    pairs, frames = _frames(options)
    _copy(folder, {frames[v.name].name: v.name for p in pairs for v in p[:2]})
    _write_list(
        folder / "pairs_calibrated.txt",
        pairs,
        lambda _, view: frames[view.name].name,
        _frame_intrinsics,
    )


def write_scannet1500_superglue(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write ScanNet-1500 as SuperGlue releases it, from the layout of pairs."""
    pairs, frames = _frames(options)
    _copy(folder, {frames[v.name].superglue_name: v.name for p in pairs for v in p[:2]})
    _write_list(
        folder / "scannet_test_pairs_with_gt.txt",
        pairs,
        lambda _, view: frames[view.name].superglue_name,
        _frame_intrinsics,
        turns=("0", "0"),
    )


def write_scannet1500_loftr(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write ScanNet-1500 as LoFTR releases it, from the layout of pairs."""
    pairs, frames = _frames(options)
    views = {view.name: view for pair in pairs for view in pair[:2]}
    _copy(folder, {frames[name].name: name for name in views})
    matrices = {}
    for name, view in views.items():
        frame, pose = frames[name], np.vstack([view.cam_from_world, [0, 0, 0, 1]])
        path = folder / frame.scene / "pose" / f"{frame.number}.txt"
        path.parent.mkdir(exist_ok=True)
        np.savetxt(path, np.linalg.inv(pose), "%.17g")
        matrices[frame.scene] = np.diag([*(_RESIZED / _FRAME), 1]) @ _frame_intrinsics(view.camera)
    rows = [
        (frames[p.view0.name].scan, 0, frames[p.view0.name].number, frames[p.view1.name].number)
        for p in pairs
    ]
    poses = [pair.cam1_from_cam0[:3].ravel().round(5) for pair in pairs]
    np.savez(
        folder / "test.npz", name=np.array(rows, np.uint16), rel_pose=np.array(poses, np.float32)
    )
    np.savez(folder / "intrinsics.npz", allow_pickle=False, **matrices)


WRITERS = {
    "pairs": write_pairs,
    "megadepth1500": write_megadepth1500,
    "megadepth1500_loftr": write_megadepth1500_loftr,
    "scannet1500": write_scannet1500,
    "scannet1500_superglue": write_scannet1500_superglue,
    "scannet1500_loftr": write_scannet1500_loftr,
}
