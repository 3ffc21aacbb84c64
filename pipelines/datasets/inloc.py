"""InLoc: phone photographs to localize in laser scans of two university buildings.

Taira et al., CVPR 2018; scans and alignments by Wijmans and Furukawa, CVPR 2017. Read as released,
below one folder::

    database/cutouts/DUC1/024/DUC_cutout_024_0_0.jpg       view of scan 024: yaw 0°, pitch 0°
    database/cutouts/DUC1/024/DUC_cutout_024_0_0.jpg.mat   XYZcut: the 3-D point of each pixel
    database/alignments/DUC1/transformations/DUC_trans_024.txt    scan 024 to the building
    query/iphone7/IMG_0801.JPG

Own sets have the same layout and may add ``ground_truth.txt`` (a pose file) and
``queries_with_intrinsics.txt`` (a query list).
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap

from featplug.io.image_folder import list_images
from featplug.io.images import read_image, read_image_size
from featplug.io.text_files import numbers, read_lines
from featplug.io.text_tables import check_rotation
from featplug.localization.evaluation import RecallRules
from featplug.localization.queries import Query, read_queries
from featplug.metrics.poses import INLOC_THRESHOLDS
from featplug.utils.parallel import map_ahead
from featplug.utils.progress import progress_bar
from featplug.weights.converters.matlab_files import mat_array_shapes, read_mat_array
from pipelines.datasets.demo import DEMO, DEMO_FOLDER, make_demo_world
from pipelines.datasets.protocol import FileProblem, ScanDataset, ScanOptions

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
_OWN_LISTS = "lists: write them for the images that exist, with names relative to the dataset"


@dataclass(frozen=True)
class InLocOptions(ScanOptions):
    """Options of localization in InLoc."""

    pipeline = "inloc"
    rules = RecallRules(INLOC_THRESHOLDS)

    dataset: Path = Path("datasets/inloc")
    """Folder of InLoc as released, or of a set in its layout; `demo` renders a room into
    datasets/demo."""
    num_loc: int = 40
    """Number of database images that each query is matched with, by retrieval."""
    queries: Path | None = None
    """Query list with intrinsics; by default the dataset's queries_with_intrinsics.txt, if it
    exists. Queries that it lacks have the benchmark's camera."""

    def open(self, progress: bool = False) -> "InLoc":
        """Return the data set; see :class:`InLoc`."""
        folder = self.dataset
        if folder == DEMO:
            folder = make_demo_world(DEMO_FOLDER, layout="inloc", progress=progress)
        return InLoc(folder, self.queries)


@dataclass(frozen=True)
class Cutout:
    """Parts of a database image's name."""

    floor: str
    building: str
    scan: str
    view: str
    """Yaw, pitch and suffix as in the name, such as ``120_-30.jpg``."""


class InLoc(ScanDataset):
    """InLoc; image names are relative to its folder, arguments as in :class:`InLocOptions`.

    Raises:
        FileNotFoundError: the folder lacks cutouts, alignments or queries.
    """

    source = f"InLoc: {_CUTOUTS_FROM}; {_ALIGNMENTS_FROM}"
    has_demo = True

    def __init__(self, root: Path, query_list: Path | None = None) -> None:
        super().__init__(root)
        parts = {CUTOUTS: _CUTOUTS_FROM, ALIGNMENTS: _ALIGNMENTS_FROM, QUERIES: _CUTOUTS_FROM}
        for part, remedy in parts.items():
            if not (self.root / part).is_dir():
                raise FileNotFoundError(
                    f"{self.root} is no InLoc dataset, it lacks {part}; get {remedy}."
                )
        own_list = self.root / "queries_with_intrinsics.txt"
        if query_list is None and own_list.is_file():
            query_list = own_list
        self._listed = [] if query_list is None else read_queries(query_list)

    def database_names(self) -> list[str]:
        """List the database images."""
        return [f"{CUTOUTS}/{name}" for name in list_images(self.root / CUTOUTS)]

    def query_names(self) -> list[str]:
        """List the query photographs."""
        return [f"{QUERIES}/{name}" for name in list_images(self.root / QUERIES)]

    def queries(self) -> dict[str, list[Query]]:
        """Return the photographs, and queries of the list without one, which then fail."""
        listed = {query.name: query for query in self._listed}
        queries = {name: listed.get(name) or self._query(name) for name in self.query_names()}
        return {"": list((queries | listed).values())}

    def _query(self, name: str) -> Query:
        size = (4032, 3024)
        with suppress(ValueError):  # a damaged photograph is reported at its extraction
            size = read_image_size(self.root / name)
        return Query(name, benchmark_camera(*size))

    def scan_path(self, name: str) -> Path:
        """Return the file of a database image's scan."""
        return self.root / f"{name}.mat"

    def read_scan(self, path: Path) -> np.ndarray:
        """Read the points of a cutout's pixels in the scanner's frame: H×W×3, metres.

        Points without an echo are NaN. Pixel (x, y) of the image is ``[y, x]``; integers are pixel
        centres here, too.
        """
        if not path.is_file():
            raise FileNotFoundError(f"There is no scan {path}.")
        scan = read_mat_array(path, _SCAN_ARRAY)
        if scan.ndim != 3 or scan.shape[2] != 3:
            raise ValueError(f"{_SCAN_ARRAY} of {path} has the shape {scan.shape}, not H×W×3.")
        return scan

    def alignment_path(self, name: str) -> Path:
        """Return the file of the alignment of a database image's scan.

        Raises:
            ValueError: the name is not that of a cutout.
        """
        cutout = parse_cutout(name)
        folder = self.root / ALIGNMENTS / cutout.floor / "transformations"
        return folder / f"{cutout.building}_trans_{cutout.scan}.txt"

    def alignment(self, name: str) -> np.ndarray:
        """Read ``world_from_scan`` of a database image's scan; see :func:`read_alignment`."""
        return read_alignment(self.alignment_path(name))

    def check(self, listed: Iterable[str] = (), progress: bool = False) -> list[FileProblem]:
        """List missing and damaged files; reads all images, and the headers of scans.

        Every scan is expected to have the same views, and every scan with an alignment to exist.
        """
        listed = {*listed, *(query.name for query in self._listed)}
        present = set(self.database_names() + self.query_names())
        cutouts: dict[str, Cutout] = {}
        problems = []
        for name in sorted(name for name in present if name.startswith(CUTOUTS)):
            try:
                cutouts[name] = parse_cutout(name)
            except ValueError as error:
                problems.append(FileProblem(str(error), _CUTOUTS_FROM))
        expected = self._expected_cutouts(cutouts.values())
        for name in sorted(listed - present - expected):
            problems.append(FileProblem(f"There is no image {self.root / name}.", _OWN_LISTS))
        alignments = {self.alignment_path(name) for name in cutouts.keys() | expected}
        for path in sorted(alignments):
            try:
                read_alignment(path)
            except (OSError, ValueError) as error:
                problems.append(FileProblem(str(error), _ALIGNMENTS_FROM))
        names = sorted(present | expected)
        checked = map_ahead(self._check_image, names, os.cpu_count() or 1)
        for reasons in progress_bar(checked, "check", len(names), "image", progress):
            problems += [FileProblem(reason, _CUTOUTS_FROM) for reason in reasons]
        return problems

    def _expected_cutouts(self, cutouts: Collection[Cutout]) -> set[str]:
        """Return the views that most scans have, for each scan with views or an alignment."""
        scans = {(cutout.floor, cutout.building, cutout.scan) for cutout in cutouts}
        num_scans = len(scans)
        views = Counter(cutout.view for cutout in cutouts)
        for floor in {floor for floor, _, _ in scans}:
            folder = self.root / ALIGNMENTS / floor / "transformations"
            for path in folder.glob("*_trans_*.txt"):
                building, _, scan = path.stem.rpartition("_trans_")
                scans.add((floor, building, scan))
        return {
            f"{CUTOUTS}/{floor}/{scan}/{building}_cutout_{scan}_{view}"
            for floor, building, scan in scans
            for view, count in views.items()
            if 2 * count > num_scans
        }

    def _check_image(self, name: str) -> list[str]:
        """Return the problems of an image, and of the scan of a database image."""
        reasons = []
        size = scan_shape = None
        try:
            size = read_image(self.root / name, grayscale=True).shape
        except (OSError, ValueError) as error:
            reasons.append(str(error))
        if name.startswith(CUTOUTS):
            path = self.scan_path(name)
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


def parse_cutout(name: str) -> Cutout:
    """Split the name of a database image into its parts.

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


def read_alignment(path: Path) -> np.ndarray:
    """Read the transformation of a scan into the building's frame.

    The files have two 4×4 matrices under a heading each, before and after the fine alignment by
    generalized ICP; the second is read. Without such headings, the last matrix is.

    Returns:
        ``world_from_scan``, 4×4 float64.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it has no such matrix.
    """
    matrices: dict[str, np.ndarray] = {}
    heading, where = "", str(path)
    rows: list[list[float]] = []
    for at, line in read_lines(path, "alignment"):
        where, words = f"{path}, line {at}", line.split()
        try:
            row = [float(word) for word in words]
        except ValueError:  # a heading
            _check_complete(rows, where)
            heading = line.lower()
            continue
        if rows or len(row) > 1:  # a single number is the scan's
            rows.append(numbers(words, where, count=4))
        if len(rows) == 4:
            matrices[heading] = np.array(rows)
            rows = []
    _check_complete(rows, where)
    after = [matrix for heading, matrix in matrices.items() if heading.startswith("after")]
    if not after and any(heading.startswith("before") for heading in matrices):
        raise ValueError(f"{path} ends before the fine alignment; get it again.")
    found = (after or list(matrices.values()) or [np.zeros((4, 4))])[-1]
    if found[3, :3].any() or found[3, 3] == 0:
        raise ValueError(f"{path} holds no alignment, a 4×4 matrix; get it again.")
    found = found / found[3, 3]
    scale = np.cbrt(np.linalg.det(found[:3, :3]))
    if scale <= 0:
        raise ValueError(f"{path}: expected an alignment that can be inverted; get it again.")
    check_rotation(found[:3, :3] / scale, str(path))
    return found


def _check_complete(rows: Sequence[Sequence[float]], where: str) -> None:
    if rows:
        raise ValueError(f"{where}: expected four rows of a matrix, got {len(rows)}; get it again.")


def benchmark_camera(width: int, height: int) -> pycolmap.Camera:
    """Return the camera that InLoc assumes for its queries.

    The phone's focal length is that of 28 mm on film 36 mm wide: 3136 px for the 4032 px of the
    released photographs, in proportion for smaller copies. The principal point is the centre.
    """
    focal = max(width, height) * 28 / 36
    params = [focal, width / 2, height / 2]
    return pycolmap.Camera(model="SIMPLE_PINHOLE", width=width, height=height, params=params)
