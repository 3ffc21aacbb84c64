"""A database with verified pairs to a model, by COLMAP's mappers."""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pycolmap

from featplug.colmap.database import image_ids
from featplug.colmap.mapping import MapOptions, log_to_file, reconstruct_database
from featplug.colmap.model_files import export_ply, write_model
from featplug.colmap.partitioned_mapping import MappedCluster
from featplug.colmap.rigs import apply_rigs, remove_rigs
from featplug.io.files import write_whole
from featplug.io.links import link_folder
from featplug.metrics.poses import model_poses
from featplug.utils.progress import progress_bar

MODELS = "colmap_models"
"""Folder of all models that COLMAP made, in the output folder."""
SPARSE = Path("sparse", "0")
"""Folder of the model with most images, where COLMAP's projects have it."""


@dataclass(frozen=True)
class MappedModel:
    """One of the models that COLMAP made."""

    path: str
    """Folder of the model in the output folder."""
    images: list[str]
    """Names of the registered images."""
    num_points: int


@dataclass(frozen=True)
class Mapping:
    """What COLMAP made of a database."""

    model: pycolmap.Reconstruction
    """The model with most images."""
    models: list[MappedModel]
    """All models, the one with most images first."""
    without_rigs: str | None = None
    """Reason for which the models do not have the rigs of the options."""
    clusters: list[MappedCluster] = field(default_factory=list)
    """What became of the clusters of the partitioned mapper."""

    def not_registered(self, names: Iterable[str]) -> list[str]:
        """Return those of the images that no model has."""
        return sorted(set(names).difference(*(model.images for model in self.models)))


def map_images(
    database: Path,
    image_dir: Path,
    output_dir: Path,
    options: MapOptions,
    progress: bool = False,
    place: Callable[[pycolmap.Reconstruction], bool] | None = None,
) -> Mapping:
    """Reconstruct the images of a database.

    Args:
        database: a database with two-view geometries.
        image_dir: folder of the images, for the points' colours.
        output_dir: gets the files of :func:`write_mapped`, ``colmap.log`` and, in
            ``colmap_models``, all models that COLMAP made.
        options: how.
        progress: show a bar.
        place: moves a model to its place in the world, and returns whether it did; called with the
            largest one first.

    Raises:
        ValueError: nothing could be reconstructed, or the disk is full. Earlier models are still
            there.
    """
    models: dict[int, pycolmap.Reconstruction] = {}
    clusters: list[MappedCluster] = []

    def reconstruct(folder: Path) -> None:
        num_images = len(image_ids(database))
        is_counted = options.mapper in ("incremental", "partitioned")
        with progress_bar(None, "map", num_images, "image", progress and is_counted) as bar:
            made = reconstruct_database(
                database, image_dir, folder, options, bar.update, clusters.extend
            )
        models.update(made)
        for number, model in made.items():
            if place is not None and place(model):
                write_model(model, folder / str(number))

    with log_to_file(output_dir / "colmap.log"):
        without_rigs = _configure_rigs(database, image_dir, output_dir, options)
        write_whole(output_dir / MODELS, reconstruct)
    model = next(iter(models.values()))
    write_mapped(model, output_dir)
    return Mapping(
        model,
        [
            MappedModel(f"{MODELS}/{number}", sorted(model_poses(made)), made.num_points3D())
            for number, made in models.items()
        ],
        without_rigs,
        clusters,
    )


def _configure_rigs(
    database: Path, image_dir: Path, output_dir: Path, options: MapOptions
) -> str | None:
    """Write the rigs into the database; return why that is not possible, or None.

    Poses of cameras in their rigs that are not known come from a first model without rigs, as in
    COLMAP, but for the global mapper, which estimates them.
    """
    if options.rigs is None:
        return None
    if options.rigs.has_poses or options.mapper == "global":
        apply_rigs(database, options.rigs)
        return None
    first = options
    if options.clusters is not None:  # those with rigs are others
        first = replace(options, clusters=options.clusters / "without_rigs")
    with tempfile.TemporaryDirectory(dir=output_dir) as folder:
        made = reconstruct_database(database, image_dir, Path(folder) / MODELS, first)
    if not (unknown := apply_rigs(database, options.rigs, next(iter(made.values())))):
        return None
    remove_rigs(database)
    return (
        f"{options.rigs.path}: the pose in its rig of {', '.join(unknown)} is not known, and the "
        "first model has no frame of it; match more pairs, or give cam_from_rig"
    )


def write_mapped(model: pycolmap.Reconstruction, output_dir: Path) -> None:
    """Write a model as ``sparse/0``, ``model``, which is a link to it, and ``points.ply``.

    Where the system or the disk has no links, ``model`` is a copy.

    Raises:
        ValueError: the disk is full.
    """
    write_model(model, output_dir / SPARSE)
    if not link_folder(output_dir / "model", SPARSE):
        write_model(model, output_dir / "model")
    export_ply(model, output_dir / "points.ply")
