"""COLMAP's mappers and its log. Works with pycolmap 3.13 to 4.2."""

import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pycolmap

from featplug.colmap.colours import colour_points
from featplug.colmap.database_rows import open_database, sqlite_reason
from featplug.colmap.model_files import write_model
from featplug.colmap.model_tables import check_camera_values
from featplug.colmap.partitioned_mapping import ClusterOptions, MappedCluster, map_clusters
from featplug.colmap.rigs import Rigs
from featplug.io.files import not_written, remove
from featplug.io.images import MAX_MEGAPIXELS
from featplug.utils.errors import first_line

Mapper = Literal["incremental", "global", "hierarchical", "partitioned"]
"""COLMAP's mappers: image after image; all images at once (GLOMAP, the fastest); or clusters of
images in parallel, which are merged, for thousands of images. And clusters one by one, each kept
when it is finished, for more images than memory holds the matches of; see
:mod:`featplug.colmap.partitioned_mapping`."""
_FIRST_VERSION = {"incremental": "3.13", "global": "4.0", "hierarchical": "4.2"}
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


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """How a model is made."""

    mapper: Mapper = "incremental"
    """COLMAP's mapper."""
    refine_intrinsics: bool = True
    """Let bundle adjustment change focal length and distortion."""
    known_cameras: Collection[int] = ()
    """Numbers of the cameras in the database whose intrinsics never change."""
    rigs: Rigs | None = None
    """Rigs of the images."""
    refine_rigs: bool = True
    """Let bundle adjustment change the poses of cameras in their rigs."""
    use_positions: bool = False
    """Let the incremental mapper adjust poses to the positions in the database, too."""
    seed: int = 0
    """Seed of RANSAC."""
    num_threads: int = -1
    """Number of threads of COLMAP; -1 for all cores. With one, a model is the same each time."""
    cluster_images: int = 500
    """Largest number of images of a cluster of the hierarchical and partitioned mappers, without
    those of its neighbours."""
    cluster_overlap: int = 50
    """Number of images that two neighbouring clusters share."""
    clusters: Path | None = None
    """Folder in which the partitioned mapper keeps and finds the models of clusters."""
    max_megapixels: float = MAX_MEGAPIXELS
    """Limit of decoding images for the points' colours; JPEGs above it are reduced."""


def require_mapper(mapper: Mapper) -> None:
    """Check that this pycolmap has a mapper.

    Raises:
        ValueError: it is too old.
    """
    if mapper != "partitioned" and not hasattr(pycolmap, f"{mapper}_mapping"):
        raise ValueError(
            f"{mapper.capitalize()} mapping needs pycolmap {_FIRST_VERSION[mapper]} or newer, this "
            f"is {pycolmap.__version__}; upgrade it or use the incremental mapper."
        )


def check_clusters(mapper: Mapper, max_images: int, overlap: int) -> None:
    """Raise ValueError if options of clusters have no effect, or do not fit."""
    default = MapOptions()
    if mapper not in ("hierarchical", "partitioned"):
        if (max_images, overlap) != (default.cluster_images, default.cluster_overlap):
            raise ValueError(
                f"The {mapper} mapper makes no clusters; leave out --cluster-images and "
                "--cluster-overlap, or use --mapper partitioned."
            )
    elif not 2 <= overlap < max_images:
        raise ValueError(
            f"Clusters of up to {max_images} images cannot share {overlap}; set --cluster-overlap "
            "to 2 or more, and --cluster-images to more than that."
        )


def reconstruct_database(
    database_path: Path,
    image_dir: Path,
    output_dir: Path,
    options: MapOptions,
    on_images: Callable[[int], Any] = lambda _: None,
    on_clusters: Callable[[list[MappedCluster]], Any] = lambda _: None,
) -> dict[int, pycolmap.Reconstruction]:
    """Make models of the images of a database.

    Args:
        database_path: a database with two-view geometries.
        image_dir: folder of the images, for the points' colours.
        output_dir: gets COLMAP's models, a numbered folder each.
        options: how.
        on_images: called by the incremental mapper with the number of images registered, two at
            first, then one by one; by the partitioned one with the number of images of a cluster.
        on_clusters: called by the partitioned mapper with what became of the clusters.

    Returns:
        All models by the numbers of their folders, the one with most images first.

    Raises:
        ValueError: pycolmap is too old, nothing was reconstructed, or the disk is full.
    """
    require_mapper(options.mapper)
    pycolmap.set_random_seed(options.seed)
    output_dir.mkdir(parents=True, exist_ok=True)
    paths = str(database_path), str(image_dir), str(output_dir)
    with _explained(database_path):
        with open_database(database_path) as database:
            known = {number: database.read_camera(number) for number in options.known_cameras}
        if options.mapper == "incremental":
            models = pycolmap.incremental_mapping(
                *paths,
                options=_incremental_options(options, known),
                initial_image_pair_callback=lambda: on_images(2),
                next_image_callback=lambda: on_images(1),
            )
        elif options.mapper == "partitioned":
            models, clusters = _partitioned_mapping(paths, options, known, on_images)
            on_clusters(clusters)
        elif options.mapper == "global":
            models = _global_mapping(paths, options, known)
        else:
            models = _hierarchical_mapping(paths, options, known)
    return _finished(models, image_dir, output_dir, options.max_megapixels)


def _incremental_options(
    options: MapOptions, known: Mapping[int, pycolmap.Camera]
) -> pycolmap.IncrementalPipelineOptions:
    pipeline = pycolmap.IncrementalPipelineOptions()
    pipeline.random_seed = options.seed
    pipeline.num_threads = options.num_threads
    pipeline.ba_refine_focal_length = options.refine_intrinsics
    pipeline.ba_refine_extra_params = options.refine_intrinsics
    pipeline.ba_refine_sensor_from_rig = options.refine_rigs
    pipeline.use_prior_position = options.use_positions
    pipeline.use_robust_loss_on_prior_position = options.use_positions
    pipeline.constant_cameras = set(known)
    # COLMAP drops images whose distortion is larger than fitted ones should be.
    extra = [c.params[i] for c in known.values() for i in c.extra_params_idxs()]
    pipeline.max_extra_param = max([pipeline.max_extra_param, *(1.01 * abs(p) for p in extra)])
    # Small scenes would otherwise be dropped where COLMAP tries more than one model.
    pipeline.min_model_size = min(pipeline.min_model_size, 3)
    pipeline.extract_colors = False  # of formats that COLMAP cannot read
    return pipeline


def _global_mapping(
    paths: tuple[str, str, str], options: MapOptions, known: Mapping[int, pycolmap.Camera]
) -> dict[int, pycolmap.Reconstruction]:
    """Reconstruct all images at once (GLOMAP)."""
    pipeline = pycolmap.GlobalPipelineOptions()
    pipeline.random_seed = options.seed
    pipeline.num_threads = options.num_threads
    pipeline.mapper.bundle_adjustment.refine_focal_length = options.refine_intrinsics
    pipeline.mapper.bundle_adjustment.refine_extra_params = options.refine_intrinsics
    pipeline.mapper.bundle_adjustment.refine_sensor_from_rig = options.refine_rigs
    models = pycolmap.global_mapping(*paths, options=pipeline)
    if options.refine_intrinsics and known:  # it refines all cameras or none
        for model in models.values():
            for number in set(known) & set(model.cameras):
                model.cameras[number].params = known[number].params.tolist()
            _adjust(model, options)
    return models


def _hierarchical_mapping(
    paths: tuple[str, str, str], options: MapOptions, known: Mapping[int, pycolmap.Camera]
) -> dict[int, pycolmap.Reconstruction]:
    """Reconstruct clusters of images that overlap, then merge and adjust them."""
    pipeline = pycolmap.HierarchicalPipelineOptions()
    pipeline.incremental_options = _cluster_options(options, known)
    pipeline.num_threads = options.num_threads
    pipeline.clustering_options.leaf_max_num_images = options.cluster_images
    pipeline.clustering_options.image_overlap = options.cluster_overlap
    models = pycolmap.hierarchical_mapping(*paths, options=pipeline)
    for model in models.values():
        _adjust(model, options)  # which COLMAP leaves to its user
    return models


def _cluster_options(
    options: MapOptions, known: Mapping[int, pycolmap.Camera]
) -> pycolmap.IncrementalPipelineOptions:
    pipeline = _incremental_options(options, known)
    pipeline.ba_refine_sensor_from_rig = False  # clusters with other rigs would not merge
    return pipeline


def _partitioned_mapping(
    paths: tuple[str, str, str],
    options: MapOptions,
    known: Mapping[int, pycolmap.Camera],
    on_images: Callable[[int], Any],
) -> tuple[dict[int, pycolmap.Reconstruction], list[MappedCluster]]:
    """Reconstruct clusters of images one by one, then merge and adjust them."""
    database_path, image_dir, _ = paths
    pipeline = _cluster_options(options, known)

    def map_cluster(database: Path, folder: Path) -> None:
        pycolmap.incremental_mapping(str(database), image_dir, str(folder), options=pipeline)

    return map_clusters(
        Path(database_path),
        ClusterOptions(options.cluster_images, options.cluster_overlap, options.clusters),
        {
            "refine_intrinsics": options.refine_intrinsics,
            "known_cameras": sorted(options.known_cameras),
            "seed": options.seed,
        },
        map_cluster,
        lambda model, is_robust: _adjust(model, options, is_robust),
        on_images,
    )


def _adjust(model: pycolmap.Reconstruction, options: MapOptions, is_robust: bool = False) -> None:
    """Adjust all poses and points of a model, and the intrinsics that are not known."""
    adjustment = pycolmap.BundleAdjustmentOptions()
    if is_robust:
        # The option moved in pycolmap 4.
        solver: Any = getattr(adjustment, "ceres", adjustment)
        solver.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    adjustment.refine_focal_length = options.refine_intrinsics
    adjustment.refine_extra_params = options.refine_intrinsics
    adjustment.refine_sensor_from_rig = options.refine_rigs
    config = pycolmap.BundleAdjustmentConfig()
    for number in model.reg_image_ids():
        config.add_image(number)
    for number in set(options.known_cameras) & set(model.cameras):
        config.set_constant_cam_intrinsics(number)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(adjustment, config, model).solve()
    model.update_point_3d_errors()


def _finished(
    models: dict[int, pycolmap.Reconstruction],
    image_dir: Path,
    output_dir: Path,
    max_megapixels: float,
) -> dict[int, pycolmap.Reconstruction]:
    """Colour the models, write them again, checked, and sort them.

    Models with a camera that no camera is, such as one of a negative focal length, are removed.
    """
    broken = {number: why for number, model in models.items() if (why := _broken_camera(model))}
    for number, why in broken.items():
        num_images = len(models[number].images)
        _logger.warning("model %d of %d images is left out: %s", number, num_images, why)
        remove(output_dir / str(number))
    models = {number: model for number, model in models.items() if number not in broken}
    if broken and not models:
        raise ValueError(
            f"COLMAP's model cannot be used: {next(iter(broken.values()))}; set intrinsics that "
            "are known, or one camera for all images, or use more images."
        )
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


def _broken_camera(model: pycolmap.Reconstruction) -> str | None:
    """Return what is wrong with the first camera that cannot be written, or None."""
    for image in model.images.values():
        camera = model.cameras[image.camera_id]
        size = camera.width, camera.height
        problem = check_camera_values(camera.model.value, size, camera.params)
        if problem is not None:
            return f"the camera of {image.name} {problem}"
    return None


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
