"""InLoc: phone photographs to be localized in laser scans of two university buildings.

Taira et al., CVPR 2018; scans and alignments by Wijmans and Furukawa, CVPR 2017. Read as released,
below one folder::

    database/cutouts/DUC1/024/DUC_cutout_024_0_0.jpg       view of scan 024: yaw 0°, pitch 0°
    database/cutouts/DUC1/024/DUC_cutout_024_0_0.jpg.mat   XYZcut: the 3-D point of each pixel
    database/alignments/DUC1/transformations/DUC_trans_024.txt    scan 024 to the building
    query/iphone7/IMG_0801.JPG

Sets of one's own have the same layout and may add ``ground_truth.txt`` (a pose file) and
``queries_with_intrinsics.txt`` (a query list).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap

from featplug.io.images import list_images, read_image
from featplug.localization.queries import Query, read_queries
from featplug.utils.parallel import map_ahead
from featplug.utils.progress import progress_bar
from featplug.weights.converters.matlab_files import mat_array_shapes, read_mat_array
from pipelines.datasets.problem import Problem

CUTOUTS = "database/cutouts"
ALIGNMENTS = "database/alignments"
QUERIES = "query"

_SCAN_ARRAY = "XYZcut"
_CUTOUTS_FROM = (
    "cutouts with their .mat files, and queries: "
    "https://data.ciirc.cvut.cz/public/projects/2020VisualLocalization/InLoc/ (the archive "
    "DUC2.tar.bz2 that was mirrored on Dropbox is damaged, 711 cutouts are lost with it)"
)
_ALIGNMENTS_FROM = (
    "alignments: https://cvpr17.wijmans.xyz/data/, each floor's archive unpacked into "
    f"{ALIGNMENTS}/FLOOR"
)
_OWN_LISTS = "lists: write them for the images that are there, with names relative to the dataset"


@dataclass(frozen=True)
class Cutout:
    """What the name of a database image says."""

    floor: str
    building: str
    scan: str
    view: str
    """Yaw, pitch and suffix as they stand in the name, such as ``120_-30.jpg``."""


class InLoc:
    """An InLoc tree; image names are relative to its folder.

    Raises:
        FileNotFoundError: the folder or one of its parts is not there; says where to get it.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"There is no dataset {self.root}. InLoc is to be had as {_CUTOUTS_FROM}; "
                f"{_ALIGNMENTS_FROM}. `--dataset demo` needs no download."
            )
        parts = {CUTOUTS: _CUTOUTS_FROM, ALIGNMENTS: _ALIGNMENTS_FROM, QUERIES: _CUTOUTS_FROM}
        for part, remedy in parts.items():
            if not (self.root / part).is_dir():
                raise FileNotFoundError(
                    f"{self.root} is no InLoc dataset, it lacks {part}; get {remedy}."
                )

    @property
    def ground_truth(self) -> Path:
        """Pose file of the queries; the benchmark's own is not public."""
        return self.root / "ground_truth.txt"

    @property
    def query_list(self) -> Path:
        """Query list with intrinsics; the benchmark has none."""
        return self.root / "queries_with_intrinsics.txt"

    def database_names(self) -> list[str]:
        """List the database images that are there."""
        return [f"{CUTOUTS}/{name}" for name in list_images(self.root / CUTOUTS)]

    def query_names(self) -> list[str]:
        """List the query photographs that are there."""
        return [f"{QUERIES}/{name}" for name in list_images(self.root / QUERIES)]

    def queries(self, query_list: Path | None = None) -> tuple[list[str], dict[str, Query]]:
        """Give the names of all queries, and those with known intrinsics.

        All are the photographs that are there and, so that they are missed, those of the list.

        Args:
            query_list: with intrinsics, also of some queries only; by default the dataset's own,
                where it has one.
        """
        if query_list is None and self.query_list.is_file():
            query_list = self.query_list
        listed = [] if query_list is None else read_queries(query_list)
        queries = {query.name: query for query in listed}
        return list(dict.fromkeys([*self.query_names(), *queries])), queries

    def scan_path(self, name: str) -> Path:
        """Where the scan of a database image is."""
        return self.root / f"{name}.mat"

    def alignment_path(self, name: str) -> Path:
        """Where the alignment of a database image's scan is.

        Raises:
            ValueError: the name is not that of a cutout.
        """
        cutout = parse_cutout(name)
        folder = self.root / ALIGNMENTS / cutout.floor / "transformations"
        return folder / f"{cutout.building}_trans_{cutout.scan}.txt"


def parse_cutout(name: str) -> Cutout:
    """Take the name of a database image apart.

    Raises:
        ValueError: it does not end as in ``DUC1/024/DUC_cutout_024_0_0.jpg``.
    """
    parts = PurePosixPath(name).parts
    found = re.fullmatch(r"(.+)_cutout_([^_]+)_(-?\d+_-?\d+\.\w+)", parts[-1] if parts else "")
    if len(parts) < 3 or found is None or found[2] != parts[-2]:
        raise ValueError(
            f"The database image {name!r} is not named as InLoc's, such as "
            f"{CUTOUTS}/DUC1/024/DUC_cutout_024_0_0.jpg, so that its scan is not known."
        )
    return Cutout(parts[-3], found[1], found[2], found[3])


def read_scan(path: Path) -> np.ndarray:
    """Read the points of a cutout's pixels.

    Returns:
        H×W×3 in the scanner's frame, metres; NaN where the laser did not come back. Pixel (x, y) of
        the image is ``[y, x]``, so that integers are pixel centres here too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or holds no scan.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no scan {path}.")
    scan = read_mat_array(path, _SCAN_ARRAY)
    if scan.ndim != 3 or scan.shape[2] != 3:
        raise ValueError(f"{_SCAN_ARRAY} of {path} has the shape {scan.shape}, not H×W×3.")
    return scan


def read_alignment(path: Path) -> np.ndarray:
    """Read the transformation of a scan into the building's frame.

    The files have two 4×4 matrices under a heading each, before and after the fine alignment by
    generalized ICP; the second is taken. Where there is no such heading, it is the last matrix.

    Returns:
        ``world_from_scan``, 4×4 float64.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no such matrix.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no alignment {path}.")
    heading = ""
    rows: list[list[float]] = []
    matrices: list[tuple[str, np.ndarray]] = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            numbers = [float(word) for word in line.split()]
        except ValueError:
            heading, rows = line.strip().lower(), []
            continue
        if len(numbers) == 4:
            rows.append(numbers)
        elif numbers:  # such as the scan's number
            rows = []
        if len(rows) == 4:
            matrices.append((heading, np.array(rows)))
            rows = []
    after = [matrix for heading, matrix in matrices if heading.startswith("after")]
    found = (after or [matrix for _, matrix in matrices] or [np.zeros((4, 4))])[-1]
    if not np.isfinite(found).all() or found[3, :3].any() or found[3, 3] == 0:
        raise ValueError(f"{path} holds no alignment, a 4×4 matrix; get it again.")
    return found / found[3, 3]


def read_alignments(
    dataset: InLoc, names: Iterable[str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the alignments of database images; of the others, say why there is none."""
    alignments, skipped = {}, {}
    for name in names:
        try:
            alignments[name] = read_alignment(dataset.alignment_path(name))
        except (OSError, ValueError) as error:
            skipped[name] = str(error)
    return alignments, skipped


def benchmark_camera(width: int, height: int) -> pycolmap.Camera:
    """Give the camera that InLoc assumes for its queries.

    The phone's lens has 28 mm on film 36 mm wide, which is f = 3136 px for the 4032 px of the
    photographs as released; of smaller copies in proportion. The principal point is the centre.
    """
    focal = max(width, height) * 28 / 36
    params = [focal, width / 2, height / 2]
    return pycolmap.Camera(model="SIMPLE_PINHOLE", width=width, height=height, params=params)


def check_dataset(
    dataset: InLoc, listed: Iterable[str] = (), progress: bool = False
) -> list[Problem]:
    """Look for missing and damaged files; reads all images, and of scans what tells their size.

    Every scan is expected to have the same views, and every scan with an alignment to be there.

    Args:
        dataset: what to check.
        listed: names of images that must be there, such as those of a pair list.
        progress: show a progress bar.
    """
    present = set(dataset.database_names() + dataset.query_names())
    cutouts: dict[str, Cutout] = {}
    problems = []
    for name in sorted(present):
        if name.startswith(CUTOUTS):
            try:
                cutouts[name] = parse_cutout(name)
            except ValueError as error:
                problems.append(Problem(str(error), _CUTOUTS_FROM))
    expected = _expected_cutouts(dataset, cutouts.values())
    for name in sorted(set(listed) - present - expected):
        problems.append(Problem(f"There is no image {dataset.root / name}.", _OWN_LISTS))
    alignments = {dataset.alignment_path(name) for name in cutouts.keys() | expected}
    for path in sorted(alignments):
        try:
            read_alignment(path)
        except (OSError, ValueError) as error:
            problems.append(Problem(str(error), _ALIGNMENTS_FROM))
    names = sorted(present | expected)
    found = map_ahead(lambda name: _check_image(dataset, name), names, os.cpu_count() or 1)
    for reasons in progress_bar(found, "check", len(names), "image", progress):
        problems += [Problem(reason, _CUTOUTS_FROM) for reason in reasons]
    return problems


def _expected_cutouts(dataset: InLoc, cutouts: Collection[Cutout]) -> set[str]:
    """Name the cutouts that the others let expect.

    These are the views that most scans have, of each scan that has views or an alignment.
    """
    scans = {(cutout.floor, cutout.building, cutout.scan) for cutout in cutouts}
    num_scans = len(scans)
    views = Counter(cutout.view for cutout in cutouts)
    for floor in {floor for floor, _, _ in scans}:
        for path in (dataset.root / ALIGNMENTS / floor / "transformations").glob("*_trans_*.txt"):
            building, _, scan = path.stem.rpartition("_trans_")
            scans.add((floor, building, scan))
    return {
        f"{CUTOUTS}/{floor}/{scan}/{building}_cutout_{scan}_{view}"
        for floor, building, scan in scans
        for view, count in views.items()
        if 2 * count > num_scans
    }


def _check_image(dataset: InLoc, name: str) -> list[str]:
    """Say what is wrong with an image, and with its scan where it is of the database."""
    reasons = []
    size = scan_shape = None
    try:
        size = read_image(dataset.root / name, grayscale=True).shape
    except (OSError, ValueError) as error:
        reasons.append(str(error))
    if name.startswith(CUTOUTS):
        path = dataset.scan_path(name)
        try:
            scan_shape = mat_array_shapes(path).get(_SCAN_ARRAY)
            if scan_shape is None:
                reasons.append(f"{path} has no array {_SCAN_ARRAY}.")
        except FileNotFoundError:
            reasons.append(f"There is no scan {path}.")
        except (OSError, ValueError) as error:
            reasons.append(str(error))
    if size and scan_shape and scan_shape != (*size, 3):
        reasons.append(f"{path} has the shape {scan_shape}, its image {size}.")
    return reasons
