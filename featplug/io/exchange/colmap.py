"""COLMAP's database from feature and match files, and back (COLMAP's ``doc/database.rst``).

Keypoints get COLMAP's origin, and scale and orientation where the features have both. Descriptors
stay out unless asked for, since COLMAP needs none once it has the matches. Writes with pycolmap
3.13 to 4.2, of which 4.0 brought descriptors a type, and reads without it.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pycolmap

from featplug.colmap.camera_groups import CameraMode
from featplug.colmap.cameras import CameraOptions
from featplug.colmap.database import (
    create_database,
    from_colmap_keypoints,
    import_features,
    import_matches,
)
from featplug.colmap.database_files import (
    INLIERS,
    JOURNALS,
    DatabaseImage,
    DatabaseReader,
    check_database,
    settle_database,
)
from featplug.colmap.database_rows import check_rows, open_database
from featplug.colmap.geometric_verification import verify_matches
from featplug.colmap.mapping import log_to_file
from featplug.io.exchange.transfer import (
    ALL,
    FoundImage,
    FoundMatches,
    ImportFiles,
    Selection,
    Transfer,
    check_replaceable,
    descriptor_rows,
    import_found,
    usable_names,
)
from featplug.io.files import write_whole
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.match_parts import open_matches
from featplug.io.store import FeatureReader

_SIFT_SIZE = 128
_SIFT_TYPE = 0
"""pycolmap's FeatureExtractorType.SIFT."""
_SIFT_FACTOR = 512
"""COLMAP stores a SIFT descriptor of unit length times 512, rounded and cut at 255."""


@dataclass(frozen=True)
class DatabaseOptions:
    """Cameras, descriptors and verification of a database."""

    camera_mode: CameraMode = "auto"
    """Which images share a camera; auto: those of one size with the same camera and focal length in
    EXIF, or with none."""
    camera_model: str = "SIMPLE_RADIAL"
    """COLMAP camera model."""
    camera_params: str | None = None
    """Known intrinsics, comma-separated in the order of COLMAP's model."""
    camera_file: Path | None = None
    """Known intrinsics of some images: a list with lines `NAME-OR-PATTERN MODEL width height p0 p1
    …`, COLMAP's cameras.txt, or the folder of a COLMAP model."""
    camera_scale: bool = False
    """Scale intrinsics of the file that are of another resolution than the photographs."""
    descriptors: Literal["none", "sift", "float"] = "none"
    """none; sift: 128 bytes, as COLMAP's own SIFT, which COLMAP can match; float: of any feature,
    which only featplug reads back."""
    verify: bool = True
    """Verify the matches geometrically; COLMAP's mapper uses only verified matches."""
    max_error: float = 4.0
    """Largest error of an inlier in verification, in pixels."""
    seed: int = 0
    """Seed of verification."""


def export_database(
    database: Path,
    features: Path,
    image_dir: Path,
    matches: Path | None = None,
    selection: Selection = ALL,
    options: DatabaseOptions = DatabaseOptions(),
    overwrite: bool = False,
) -> Transfer:
    """Make a COLMAP database, for its mapper, its graphical interface or other tools.

    Args:
        database: database to write; appears when it is whole.
        features: feature file, ours or hloc's.
        image_dir: folder of the images, whose sizes and EXIF data are read.
        matches: match file, ours or hloc's; no matches by default.
        selection: which images and pairs.
        options: cameras, descriptors and verification.
        overwrite: replace a COLMAP database.

    Raises:
        FileExistsError: the database exists.
        FileNotFoundError: an image or a file does not exist.
        ValueError: the features do not fit the images or the matches, the descriptors do not fit
            the form, or no pair could be verified.
    """
    database, image_dir = Path(database), Path(image_dir)
    check_replaceable(database, overwrite)
    if database.exists():
        settle_database(database)
    if options.descriptors == "float" and not hasattr(pycolmap, "FeatureDescriptors"):
        raise ValueError(
            f"pycolmap {pycolmap.__version__} stores SIFT's descriptors only; upgrade it to 4.0 or "
            "newer, or leave the descriptors out."
        )
    camera = CameraOptions(
        options.camera_mode,
        options.camera_model,
        options.camera_params,
        options.camera_file,
        options.camera_scale,
    )
    transfer = Transfer(database)
    with open_features(features) as reader:
        names = selection.names(reader, transfer)
        missing = [name for name in names if not (image_dir / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(names)} images with features are not in {image_dir}, the "
                f"first is {missing[0]!r}."
            )

        def write(part: Path) -> None:
            create_database(part, image_dir, names, camera)
            import_features(part, reader)
            _write_descriptors(part, reader, options.descriptors)
            if matches is not None:
                with open_matches(matches) as match_reader:
                    match_reader.check_features(reader)
                    pairs = selection.matched_pairs(match_reader, names, transfer)
                    transfer.num_pairs = import_matches(part, pairs, match_reader)
                if options.verify:
                    transfer.verification = verify_matches(
                        part, pairs, options.seed, options.max_error
                    )
            with open_database(part) as opened:
                transfer.counts = {
                    image.name: opened.num_keypoints_for_image(image.image_id)
                    for image in opened.read_all_images()
                }
                transfer.num_matches = opened.num_matches()

        def check(part: Path) -> None:
            check_database(part)
            if database.exists():  # with what another process has written in the meantime
                settle_database(database)

        with _quiet():
            write_whole(database, write, check)
        for end in JOURNALS:  # of the old database, which are empty
            database.with_name(f"{database.name}{end}").unlink(missing_ok=True)
    return transfer


def import_database(
    database: Path, files: ImportFiles, *, inliers: bool = False, descriptors: bool = True
) -> Transfer:
    """Read a COLMAP database, which stays as it is, into files that hloc reads.

    Args:
        database: the database.
        files: files to write.
        inliers: read only the matches that COLMAP has verified.
        descriptors: read descriptors, too; SIFT's bytes become float32 of unit length.

    Raises:
        FileExistsError: one of the files exists.
        FileNotFoundError: the database does not exist.
        ValueError: it is no database of COLMAP or has no keypoints, or its descriptors are of an
            unknown kind.
    """
    transfer = Transfer(Path(files.features))
    tables = ["descriptors"] * descriptors
    if files.matches is not None:
        tables.append(INLIERS if inliers else "matches")
    with DatabaseReader(database, tables) as reader:
        if not reader.num_keypoints():
            raise ValueError(f"{database} has no keypoints; extract features with COLMAP first.")
        stored = reader.images()
        by_name = {image.name: image for image in stored}
        by_id = {image.image_id: image.name for image in stored}

        def read(name: str) -> FoundImage | None:
            image = by_name[name]
            keypoints = reader.keypoints(image.image_id)
            if keypoints is None:
                transfer.skipped[name] = f"{name!r} has no keypoints in {database}"
                return None
            found = {"keypoints": np.zeros((0, 2), np.float32)}
            if len(keypoints):
                found = from_colmap_keypoints(keypoints)
            if descriptors:
                found |= _read_descriptors(reader, image)
            return FoundImage(database, found, image.size)

        def found_matches() -> Iterator[FoundMatches]:
            for id0, id1, indices in reader.matches(inliers=inliers):
                if id0 in by_id and id1 in by_id:
                    yield (by_id[id0], by_id[id1]), indices.astype(np.int64), None, database
                else:
                    key = f"{by_id.get(id0, id0)} {by_id.get(id1, id1)}"
                    transfer.skipped[key] = f"{database}: the pair {key}, of an image it lacks"

        names = usable_names(by_name, transfer, database)
        return import_found("colmap", files, transfer, names, read, found_matches())


@contextmanager
def _quiet() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, log_to_file(Path(folder) / "colmap.log"):
        yield


def _write_descriptors(database: Path, features: FeatureReader, form: str) -> None:
    if form == "none":
        return
    num_images = num_descriptors = 0
    with open_database(database) as opened:
        for image in opened.read_all_images():
            rows = descriptor_rows(
                features.read(image.name, ["descriptors"]), features.path, image.name
            )
            if form == "sift":
                data = _sift_bytes(rows, features.path, image.name)
            else:
                data = rows.view(np.uint8).reshape(len(rows), -1)
            opened.write_descriptors(image.image_id, _typed(data, form))
            num_images += 1
            num_descriptors += len(data)
    check_rows(database, "descriptors", num_images, num_descriptors)


def _typed(data: np.ndarray, form: str) -> Any:
    """Return bytes as this pycolmap's ``write_descriptors`` takes them."""
    if not hasattr(pycolmap, "FeatureDescriptors"):
        return data
    kinds = pycolmap.FeatureExtractorType
    kind = kinds.SIFT if form == "sift" else kinds.UNDEFINED
    return pycolmap.FeatureDescriptors(type=kind, data=data)


def _sift_bytes(rows: np.ndarray, path: Path, name: str) -> np.ndarray:
    if rows.shape[1] != _SIFT_SIZE or (rows < 0).any():
        raise ValueError(
            f"The descriptors of {name!r} in {path} are not SIFT's, which have {_SIFT_SIZE} values "
            "and none below 0; leave them out, or store them as float."
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return np.minimum(np.round(unit * _SIFT_FACTOR), 255).astype(np.uint8)


def _read_descriptors(reader: DatabaseReader, image: DatabaseImage) -> dict[str, np.ndarray]:
    """Read descriptors D×N float32, if there are some.

    A database older than pycolmap 4.0 has no types, and its rows count as SIFT's.
    """
    stored = reader.descriptors(image.image_id)
    if stored is None:
        return {}
    data, kind = stored
    is_sift = kind in (None, _SIFT_TYPE)
    if is_sift and data.shape[1] in (0, _SIFT_SIZE):
        rows = data.astype(np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
        return {"descriptors": rows.T.reshape(_SIFT_SIZE, -1)}
    if is_sift or data.shape[1] % np.dtype(np.float32).itemsize:
        raise ValueError(
            f"The descriptors of {image.name!r} in {reader.path} have {data.shape[1]} bytes each "
            "and are of an unknown kind; leave them out (--no-descriptors)."
        )
    return {"descriptors": np.ascontiguousarray(data).view(np.float32).T}
