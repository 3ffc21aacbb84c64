"""Kinds of text files that the attack on lists damages, each with two readers to compare."""

import posixpath
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pycolmap
from PIL import Image
from scipy.spatial.transform import Rotation

from benchmarks.pairs.datasets import read_pairs
from benchmarks.pairs.pair_set import read_homography
from featplug.cli.config_file import read_config
from featplug.cli.pair_commands import sequential
from featplug.colmap.nvm import read_nvm
from featplug.io.pair_lists import read_image_list
from featplug.io.positions import read_positions
from featplug.io.store import FeatureReader
from featplug.io.text_tables import read_integers
from featplug.localization.queries import read_poses, read_queries
from pipelines.datasets.inloc import read_alignment
from pipelines.datasets.true_poses import read_strecha_camera
from tests.attacks.harness import command

NAMES = ("0.jpg", "1.jpg", "a/é.jpg", "a/3-4.jpg", "b/5.jpg", "6.jpg")
BAD_NAMES = ("..", "../6.jpg", "/6.jpg", "C:/6.jpg", "a\\6.jpg", "6.jpg\0", "\x1b6.jpg", "6" * 300)
BAD_NUMBERS = ("nan", "inf", "-inf", "1e999", "x", "1_0", "٣")
ROTATION = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
Lines = list[list[str]]


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    name: str
    lines: tuple[str, ...]
    """A file without damage."""
    read: Callable[[Path], Any]
    """Read the file as commands do; what it returns is compared."""
    trusting: Callable[[Lines], Any]
    """Make the same of the words of the lines, without checks."""
    wrong: tuple[tuple[str, str], ...]
    """What is replaced by what must be rejected."""
    has_comments: bool = True
    file: str = "list.txt"


def pose_lines() -> tuple[str, ...]:
    """Return a pose file."""
    half = 0.5**0.5
    return tuple(f"{name} {half!r} 0 0 {half!r} {i}.25 -2.5 3e1" for i, name in enumerate(NAMES))


def pose(words: list[str]) -> list[list[float]]:
    """Return what the words of a line of a pose file mean."""
    values = np.array(words, float)
    rotation = Rotation.from_quat(values[[1, 2, 3, 0]]).as_matrix()
    return np.column_stack([rotation, values[4:]]).tolist()


def normal(name: str) -> str:
    """Return the normal form of a name."""
    return posixpath.normpath(name)


def queries(path: Path) -> Any:
    """Read a query list or a list of intrinsics."""
    return [
        [q.name, q.camera.model.name, q.camera.width, q.camera.height, *q.camera.params]
        for q in read_queries(path)
    ]


def trusting_queries(lines: Lines) -> Any:
    """Make of a query list what :func:`queries` does; a repeated line counts once."""
    found = {
        normal(w[0]): [normal(w[0]), w[1], int(w[2]), int(w[3]), *map(float, w[4:])] for w in lines
    }
    return list(found.values())


def nvm(path: Path) -> Any:
    """Read an NVM model of the images, all with one camera."""
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=64, height=48, params=[60, 32, 24])
    model = read_nvm(path, dict.fromkeys(NAMES, camera))
    centres = {im.name: im.projection_center().tolist() for im in model.images.values()}
    points = [[*p.xyz.tolist(), *map(int, p.color)] for _, p in sorted(model.points3D.items())]
    xy = {im.name: [p.xy.tolist() for p in im.points2D] for im in model.images.values()}
    return [centres, points, sum(map(len, xy.values()))]


def trusting_nvm(lines: Lines) -> Any:
    """Make of an NVM file what :func:`nvm` does."""
    num = int(lines[1][0])
    centres = {normal(words[0]): [float(w) for w in words[6:9]] for words in lines[2 : 2 + num]}
    points = lines[3 + num : 3 + num + int(lines[2 + num][0])]
    assert all(len(words) == 7 + 4 * int(words[6]) for words in points)
    values = [[*map(float, w[:3]), *map(int, w[3:6])] for w in points]
    return [centres, values, sum(int(words[6]) for words in points)]


def kapture(path: Path) -> Any:
    """Import the kapture folder whose list of images the file is."""
    folder, out = path.parent.parent, path.parents[2] / "imported.h5"
    command("import", "kapture", "--kapture", folder, "--features", out, "--overwrite")()
    with FeatureReader(out) as reader:
        return {name: list(reader.image_size(name)) for name in reader.names()}


def trusting_kapture(lines: Lines) -> Any:
    """Make of the list of images what :func:`kapture` does; other images have no keypoints."""
    rows = [" ".join(words).split(",") for words in lines]
    assert all(len(row) == 3 and row[1].strip() in ("cam0", "cam1") for row in rows)
    return {normal(row[2].strip()): [64, 48] for row in rows}


def alignment(lines: Lines) -> Any:
    """Return the last matrix of a file."""
    rows = [words for words in lines if len(words) == 4]
    return np.array(rows[-4:], float).tolist()


def strecha(lines: Lines) -> Any:
    """Return ``cam_from_world`` of a .camera file."""
    values = np.array([words for words in lines[:8] if len(words) == 3], float)
    return np.column_stack([values[4:7].T, -values[4:7].T @ values[7]]).tolist()


def match(path: Path) -> Any:
    """Match the pairs of a list, and list the pairs in the file."""
    folder = path.parent
    options = ("--features", folder / "feats.h5", "--matches", folder / "matches.h5")
    command("match", "--pairs", path, *options, "--quiet")()
    with h5py.File(folder / "matches.h5") as file:
        return [f"{first} {second}" for first in file for second in file[first]]


def trusting_match(lines: Lines) -> Any:
    """List the pairs of lines."""
    assert all(len(words) == 2 for words in lines)
    return [" ".join(map(normal, words)) for words in lines]


def posed_pairs(path: Path) -> Any:
    """Read pairs with intrinsics and poses; the first problem is an error."""
    for name in NAMES:
        (path.parent / name).parent.mkdir(exist_ok=True)
        Image.new("L", (64, 48)).save(path.parent / name)
    pair_set = read_pairs(path, "pairs_file")
    for problem in pair_set.problems:
        raise ValueError(problem.reason)
    return [
        [
            pair.name0,
            pair.name1,
            np.array(pair.intrinsics).tolist(),
            np.array(pair.cam1_from_cam0).tolist(),
        ]
        for pair in pair_set.pairs
    ]


def trusting_posed_pairs(lines: Lines) -> Any:
    """Make of a list what :func:`posed_pairs` does; each line is another pair."""
    found = []
    for words in lines:
        turns = words[2:4] if len(words) in (34, 38) else []
        assert {*turns} <= {*"0123"}
        values = np.array(words[2 + len(turns) :], float)
        pose = values[18:].reshape(-1, 4)[:3]
        if len(values) == 30:
            pose = np.column_stack([values[18:27].reshape(3, 3), values[27:]])
        matrices = values[:18].reshape(2, 3, 3).tolist()
        found.append([*map(normal, words[:2]), matrices, pose.tolist()])
    assert len({(name0, name1) for name0, name1, *_ in found}) == len(found)
    return found


PAIRS = tuple(f"{NAMES[i]} {NAMES[i + 1]}" for i in range(5))
K = "60.5 0 31.5 0 60.5 23.5 0 0 1"
POSED_PAIRS = tuple(
    f"{pair} 0 0 {K} {K} 0 -1 0 {i}.25 1 0 0 0 0 0 1 -3e1 0 0 0 1" for i, pair in enumerate(PAIRS)
)
CONFIG = ('command = "sequential"', "overlap = 3", 'output = "é.txt"', "quadratic = false")
CAMERA = "SIMPLE_RADIAL 640 480 500.5 320.25 240 -0.01"
IMAGES = tuple(f"{name} 0.5 1 0 0 0 {i} 2.5 -3 0 0" for i, name in enumerate(NAMES))
POINTS = tuple(f"{i} 0.5 -1 9 8 7 2 {i} 0 1.5 2 {i + 1} 0 3 4" for i in range(5))
NUMBERS = tuple(("0.5 -1 9", f"{word} -1 9") for word in BAD_NUMBERS)
KINDS = (
    Kind("pairs", PAIRS, match, trusting_match,
         (*((NAMES[0], name) for name in BAD_NAMES), ("0.jpg ", ""), ("0.jpg ", "my 0.jpg "))),
    Kind("images", NAMES, read_image_list, lambda ls: list({normal(w[0]): 0 for w in ls}),
         (*((NAMES[1], name) for name in BAD_NAMES), (NAMES[1], "my 1.jpg"))),
    Kind("queries", tuple(f"{name} {CAMERA}" for name in NAMES), queries, trusting_queries,
         (*((NAMES[1], name) for name in BAD_NAMES), *(("500.5", w) for w in BAD_NUMBERS),
          *((CAMERA, CAMERA.replace(old, new)) for old, new in [
              ("640", "-640"), ("480", "0"), ("640", "2000000"), ("640", "1.5"), ("500.5", "0"),
              ("500.5", "-3"), ("320.25", "641"), ("240", "-1"), ("-0.01", ""), ("-0.01", "1 2"),
              ("SIMPLE_RADIAL", "SIMPLE")]))),
    Kind("poses", pose_lines(), lambda p: {n: x.tolist() for n, x in read_poses(p).items()},
         lambda ls: {normal(w[0]): pose(w[1:]) for w in ls},
         (*((NAMES[1], name) for name in BAD_NAMES), *(("3e1", w) for w in BAD_NUMBERS),
          ("3e1", ""), ("3e1", "3e1 4"), ("0.7071067811865476", "0"), (NAMES[0], NAMES[1]))),
    Kind("positions", tuple(f"{name} {i}.5 1 3e1" for i, name in enumerate(NAMES)),
         lambda p: {n: list(x) for n, x in read_positions(p, "metres").metres.items()},
         lambda ls: {normal(w[0]): [*map(float, w[1:4])] for w in ls},
         (*((NAMES[1], name) for name in BAD_NAMES), *(("3.5 1 ", f"{w} 1 ") for w in BAD_NUMBERS),
          ("5.5 1 3e1", "5.5 1"), (NAMES[0], NAMES[1]))),
    Kind("posed pairs", POSED_PAIRS, posed_pairs, trusting_posed_pairs,
         (*((NAMES[1], name) for name in BAD_NAMES), *(("60.5", word) for word in BAD_NUMBERS),
          *(("-3e1", word) for word in BAD_NUMBERS), ("0.25 1 0", "0.25 1.5 0"),
          ("31.5", "320"), ("60.5", "-60.5"), ("60.5", "0.6"), ("0 0 0 1\n", "0 0 0 2\n"),
          (NAMES[2], NAMES[1]), (NAMES[2], "2.jpg"), ("0.jpg 1", "1.jpg 1"),
          (" 0 0 60", " 0 4 60"))),
    Kind("NVM", ("NVM_V3", "", "6", *IMAGES, "", "5", *POINTS, "", "0"), nvm, trusting_nvm,
         (*((NAMES[1], name) for name in BAD_NAMES), *NUMBERS, ("NVM_V3", "NVM"),
          *((" 2.5 -3", f" {word} -3") for word in BAD_NUMBERS), ("1 0 0 0", "0 0 0 0"),
          ("\n5\n", "\n4\n"), ("\n6\n", "\n9999999999\n"), ("9 8 7 2 0", "9 8 7 2 6"),
          ("9 8 7 2 0", "999 8 7 2 0"), (" 3 4", " 3")),
         has_comments=False),
    Kind("kapture", tuple(f"{i}, cam{i % 2}, {name}" for i, name in enumerate(NAMES)), kapture,
         trusting_kapture, (*((NAMES[1], name) for name in BAD_NAMES), ("cam1", "cam7"),
                            (", cam0, 0.jpg", ""), ("1.jpg", "1.jpg, 2"), ("1.jpg", "0.jpg")),
         file="kapture/sensors/records_camera.txt"),
    Kind("camera", ("900.5 0 320", "0 900.5 240", "0 0 1", "0 0 0",
                    *(" ".join(map(str, row)) for row in ROTATION), "1.25 2 3", "640 480"),
         lambda p: read_strecha_camera(p).tolist(), strecha,
         (*(("1.25", word) for word in BAD_NUMBERS), ("900.5", "-900.5"), ("0.0 -1.0", "0.5 -1.0"),
          ("1.25 2 3", "1.25 2"), ("\n0 0 0", ""))),
    Kind("homography", ("0.5 0 3", "0 0.5e0 -4.25", "0.001 0 1"),
         lambda p: read_homography(p).tolist(),
         lambda ls: (np.array(ls, float) * np.sign(float(ls[2][2]) or 1)).tolist(),
         (*(("4.25", word) for word in BAD_NUMBERS), (" 3", ""), (" 3", " 3 4"),
          ("\n0.001 0 1", ""), ("0.5 0 3", "0 0 0"))),
    Kind("alignment", ("Before general icp:", *("1 0 0 0", "0 1 0 0", "0 0 1 0", "0 0 0 1"),
                       "After general icp:", *(" ".join(map(str, (*r, 2.5))) for r in ROTATION),
                       "0 0 0 1"),
         lambda p: read_alignment(p).tolist(), alignment,
         (*((" 2.5", f" {word}") for word in BAD_NUMBERS), (" 2.5", ""), (" 2.5", " 2.5 1"),
          ("0.0 -1.0", "0.5 -1.0"))),
    Kind("patches", tuple(f"{i} {i // 2} 0 {i + 1} {i // 3} 0" for i in range(20)),
         lambda p: read_integers(p, "list").tolist(),
         lambda ls: np.array(ls, float).tolist(),
         (*(("19 9 0", f"19 {word} 0") for word in BAD_NUMBERS), ("19 9 0", "19 9"),
          ("19 9 0", "1.5 9 0"))),
    Kind("config", CONFIG, lambda p: {k: v if k != "output" else str(v) for k, v in
                                      read_config(p, "sequential", sequential).items()
                                      if isinstance(v, int | Path)},
         lambda ls: {k: v for k, v in tomllib.loads("\n".join(map(" ".join, ls))).items()
                     if k in ("overlap", "output", "quadratic")},
         (("overlap = 3", "overlap = 3.5"), ("overlap = 3", "overlap = nan"),
          ("overlap", "overlop"), ("false", "no"), ("false", "[" * 5000))),
)  # fmt: skip
