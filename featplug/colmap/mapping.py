"""COLMAP's mappers, incremental and global, and its log. Works with pycolmap 3.13 to 4.2."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pycolmap

from featplug.colmap.colours import colour_points
from featplug.colmap.database_rows import sqlite_reason
from featplug.colmap.model_files import write_model
from featplug.io.files import not_written
from featplug.io.images import MAX_MEGAPIXELS
from featplug.utils.errors import first_line

_GLOG_FATAL = 3
_logger = logging.getLogger(__name__)


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Send COLMAP's log to a file (appended) instead of the terminal; none on a full disk."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = pycolmap.logging
    before = log.logtostderr, log.alsologtostderr, log.stderrthreshold
    prefix = path.with_name(f".{path.name}.part.")
    log.logtostderr, log.alsologtostderr, log.stderrthreshold = False, False, _GLOG_FATAL
    for level in (log.WARNING, log.ERROR):
        log.set_log_destination(level, "")  # INFO's file has all of them
    log.set_log_destination(log.INFO, str(prefix))
    try:
        yield
    finally:
        log.set_log_destination(log.INFO, "")  # closes and flushes the file
        log.logtostderr, log.alsologtostderr, log.stderrthreshold = before
        # The logger adds time and process to the name it was given.
        parts = sorted(path.parent.glob(f"{prefix.name}*"))
        try:
            with path.open("ab") as target:
                for part in parts:
                    if not part.is_symlink():
                        with part.open("rb") as source:
                            shutil.copyfileobj(source, target)
        except OSError as error:  # a log that cannot be kept is no reason to fail
            _logger.warning("%s is incomplete: %s.", path, error.strerror)
        finally:
            for part in parts:
                part.unlink()


def incremental_mapping(
    database_path: Path,
    image_dir: Path,
    output_dir: Path,
    seed: int,
    refine_intrinsics: bool = True,
    max_megapixels: float = MAX_MEGAPIXELS,
    on_images: Callable[[int], Any] = lambda _: None,
) -> dict[int, pycolmap.Reconstruction]:
    """Reconstruct image after image.

    Args:
        database_path: a database with two-view geometries.
        image_dir: folder of the images, for the points' colours.
        output_dir: gets COLMAP's models, a numbered folder each.
        seed: of RANSAC.
        refine_intrinsics: let bundle adjustment change focal length and distortion.
        max_megapixels: limit of decoding images, see :func:`colour_points`.
        on_images: called with the number of images registered, two at first, then one by one.

    Returns:
        All models by the numbers of their folders, the one with most images first.

    Raises:
        ValueError: nothing was reconstructed, or the disk is full.
    """
    pipeline = pycolmap.IncrementalPipelineOptions()
    pipeline.random_seed = seed
    pipeline.ba_refine_focal_length = refine_intrinsics
    pipeline.ba_refine_extra_params = refine_intrinsics
    pycolmap.set_random_seed(seed)
    # Small scenes would otherwise be dropped where COLMAP tries more than one model.
    pipeline.min_model_size = min(pipeline.min_model_size, 3)
    pipeline.extract_colors = False  # of formats that COLMAP cannot read
    output_dir.mkdir(parents=True, exist_ok=True)
    with _explained(database_path):
        models = pycolmap.incremental_mapping(
            str(database_path),
            str(image_dir),
            str(output_dir),
            options=pipeline,
            initial_image_pair_callback=lambda: on_images(2),
            next_image_callback=lambda: on_images(1),
        )
    return _finished(models, image_dir, output_dir, max_megapixels)


def require_global_mapping() -> None:
    """Check that this pycolmap can reconstruct globally.

    Raises:
        ValueError: it is older than 4.0.
    """
    if not hasattr(pycolmap, "global_mapping"):
        raise ValueError(
            f"Global mapping needs pycolmap 4.0 or newer, this is {pycolmap.__version__}; "
            "upgrade it or use the incremental mapper."
        )


def global_mapping(
    database_path: Path,
    image_dir: Path,
    output_dir: Path,
    seed: int,
    refine_intrinsics: bool = True,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> dict[int, pycolmap.Reconstruction]:
    """Reconstruct all images at once (GLOMAP), as :func:`incremental_mapping` does one by one.

    Raises:
        ValueError: pycolmap is too old, nothing was reconstructed, or the disk is full.
    """
    require_global_mapping()
    pipeline = pycolmap.GlobalPipelineOptions()
    pipeline.random_seed = seed
    pipeline.mapper.bundle_adjustment.refine_focal_length = refine_intrinsics
    pipeline.mapper.bundle_adjustment.refine_extra_params = refine_intrinsics
    pycolmap.set_random_seed(seed)
    output_dir.mkdir(parents=True, exist_ok=True)
    with _explained(database_path):
        models = pycolmap.global_mapping(
            str(database_path), str(image_dir), str(output_dir), options=pipeline
        )
    return _finished(models, image_dir, output_dir, max_megapixels)


def _finished(
    models: dict[int, pycolmap.Reconstruction],
    image_dir: Path,
    output_dir: Path,
    max_megapixels: float,
) -> dict[int, pycolmap.Reconstruction]:
    """Colour the models, write them again, checked, and sort them."""
    sizes = {number: (m.num_reg_images(), m.num_points3D()) for number, m in models.items()}
    if not any(images and points for images, points in sizes.values()):
        raise ValueError(
            "COLMAP reconstructed nothing: it found no pair of images with enough matches and "
            "parallax to start from; match more pairs, or take photographs that overlap more."
        )
    for number, model in models.items():
        colour_points(model, image_dir, max_megapixels)
        write_model(model, output_dir / str(number))
    return {number: models[number] for number in sorted(models, key=lambda n: -sizes[n][0])}


@contextmanager
def _explained(database_path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise colmap_error(database_path, error) from error


def colmap_error(database_path: Path, error: Exception) -> ValueError:
    """Return the error for one within COLMAP that ended its work on a database."""
    reason = sqlite_reason(error)
    if reason is not None:
        return not_written(database_path, reason)
    return ValueError(
        f"{database_path}: COLMAP stopped with an error ({first_line(error)}); try another seed, "
        "or report it to COLMAP with its log."
    )
