"""COLMAP's mappers, incremental and global, and its log. Works with pycolmap 3.13 to 4.2."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pycolmap

_GLOG_FATAL = 3


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Send COLMAP's log to a file (appended) instead of the terminal."""
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
        with path.open("ab") as target:
            # The logger adds time and process to the name it was given.
            for part in sorted(path.parent.glob(f"{prefix.name}*")):
                if not part.is_symlink():
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, target)
                part.unlink()


def incremental_mapping(
    database_path: Path,
    image_dir: Path,
    output_dir: Path,
    seed: int,
    refine_intrinsics: bool = True,
    on_images: Callable[[int], Any] = lambda _: None,
) -> pycolmap.Reconstruction:
    """Reconstruct image after image.

    Args:
        database_path: a database with two-view geometries.
        image_dir: folder of the images, for the points' colours.
        output_dir: gets COLMAP's models, a numbered folder each.
        seed: of RANSAC.
        refine_intrinsics: let bundle adjustment change focal length and distortion.
        on_images: called with the number of images registered, two at first, then one by one.

    Returns:
        The largest model.

    Raises:
        ValueError: nothing was reconstructed.
    """
    pipeline = pycolmap.IncrementalPipelineOptions()
    pipeline.random_seed = seed
    pipeline.ba_refine_focal_length = refine_intrinsics
    pipeline.ba_refine_extra_params = refine_intrinsics
    pycolmap.set_random_seed(seed)
    # Small scenes would otherwise be dropped where COLMAP tries more than one model.
    pipeline.min_model_size = min(pipeline.min_model_size, 3)
    output_dir.mkdir(parents=True, exist_ok=True)
    models = pycolmap.incremental_mapping(
        str(database_path),
        str(image_dir),
        str(output_dir),
        options=pipeline,
        initial_image_pair_callback=lambda: on_images(2),
        next_image_callback=lambda: on_images(1),
    )
    return _largest(models)


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
) -> pycolmap.Reconstruction:
    """Reconstruct all images at once (GLOMAP); arguments as of :func:`incremental_mapping`.

    Raises:
        ValueError: pycolmap is too old, or nothing was reconstructed.
    """
    require_global_mapping()
    pipeline = pycolmap.GlobalPipelineOptions()
    pipeline.random_seed = seed
    pipeline.mapper.bundle_adjustment.refine_focal_length = refine_intrinsics
    pipeline.mapper.bundle_adjustment.refine_extra_params = refine_intrinsics
    pycolmap.set_random_seed(seed)
    output_dir.mkdir(parents=True, exist_ok=True)
    models = pycolmap.global_mapping(
        str(database_path), str(image_dir), str(output_dir), options=pipeline
    )
    return _largest(models)


def _largest(models: dict[int, pycolmap.Reconstruction]) -> pycolmap.Reconstruction:
    best = max(models.values(), key=lambda m: m.num_reg_images(), default=None)
    if best is None or best.num_reg_images() == 0 or best.num_points3D() == 0:
        raise ValueError(
            "COLMAP reconstructed nothing: it found no pair of images with enough matches and "
            "parallax to start from; colmap.log says more."
        )
    return best
