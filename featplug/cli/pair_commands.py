"""The commands ``featplug pairs``, with hloc's argument names."""

from __future__ import annotations

from pathlib import Path

import tyro

pairs_app = tyro.extras.SubcommandApp()
"""The commands of ``featplug pairs``."""


@pairs_app.command(name="exhaustive")
def pairs_exhaustive(
    output: Path,
    image_list: Path | None = None,
    features: Path | None = None,
    ref_list: Path | None = None,
    ref_features: Path | None = None,
) -> None:
    """Pair every image with every other, or with every one of a second list.

    Args:
        output: the pair list.
        image_list: text file of image names; give this or --features.
        features: feature file whose images to pair.
        ref_list: text file of the images to pair them with.
        ref_features: feature file of the images to pair them with.
    """
    from featplug.stages.pairs import exhaustive

    names = _names(image_list, features)
    references = None
    if ref_list is not None or ref_features is not None:
        references = _names(ref_list, ref_features)
    _write_pairs(output, exhaustive(names, references))


@pairs_app.command(name="sequential")
def pairs_sequential(
    output: Path,
    image_list: Path | None = None,
    features: Path | None = None,
    overlap: int = 10,
    quadratic: bool = True,
) -> None:
    """Pair every image with those that follow it.

    Args:
        output: the pair list.
        image_list: text file of image names in the order of capture; give this or --features.
        features: feature file whose images to pair, in the order of their names.
        overlap: with how many following images.
        quadratic: also with the 1st, 2nd, 4th, 8th … following one.
    """
    from featplug.stages.pairs import sequential

    _write_pairs(output, sequential(_names(image_list, features), overlap, quadratic))


@pairs_app.command(name="covisibility")
def pairs_covisibility(model: Path, output: Path, num_matched: int) -> None:
    """Pair every image of a COLMAP model with those that share most 3-D points with it.

    Args:
        model: folder of the model.
        output: the pair list.
        num_matched: with how many images.
    """
    from featplug.colmap.model_files import read_model
    from featplug.stages.pairs import covisible

    _write_pairs(output, covisible(read_model(model), num_matched))


@pairs_app.command(name="poses")
def pairs_poses(
    model: Path, output: Path, num_matched: int, rotation_threshold: float = 30.0
) -> None:
    """Pair every image of a COLMAP model with the nearest ones that look the same way.

    Args:
        model: folder of the model.
        output: the pair list.
        num_matched: with how many images.
        rotation_threshold: largest angle between the optical axes, in degrees.
    """
    from featplug.colmap.model_files import read_model
    from featplug.metrics.poses import model_poses
    from featplug.stages.pairs import from_poses

    poses = model_poses(read_model(model))
    _write_pairs(output, from_poses(poses, num_matched, rotation_threshold))


@pairs_app.command(name="retrieval")
def pairs_retrieval(
    descriptors: Path,
    output: Path,
    num_matched: int,
    query_prefix: tuple[str, ...] = (),
    query_list: Path | None = None,
    db_prefix: tuple[str, ...] = (),
    db_list: Path | None = None,
    db_model: Path | None = None,
    db_descriptors: tuple[Path, ...] = (),
    min_score: float | None = None,
) -> None:
    """Pair every query with the images of a database that look most like it.

    Args:
        descriptors: file of the queries' global descriptors, of `featplug retrieve` or hloc.
        output: the pair list.
        num_matched: with how many images.
        query_prefix: queries are the images whose names start so.
        query_list: text file of the queries.
        db_prefix: the database is the images whose names start so.
        db_list: text file of the database's images.
        db_model: the database is the images of this COLMAP model.
        db_descriptors: files of the database's global descriptors; --descriptors by default.
        min_score: least similarity of a pair; hloc asks for 0.
    """
    from featplug.colmap.model_files import read_model
    from featplug.metrics.poses import model_poses
    from featplug.stages.retrieve import described_images, pairs_from_retrieval, select_images

    queries = select_images(described_images(descriptors), query_prefix, query_list)
    files = db_descriptors or (descriptors,)
    if db_model is not None:
        database = sorted(model_poses(read_model(db_model)))
    else:
        database = select_images(described_images(*files), db_prefix, db_list)
    chosen = pairs_from_retrieval(descriptors, num_matched, queries, database, files, min_score)
    _write_pairs(output, chosen)


def _names(image_list: Path | None, features: Path | None) -> list[str]:
    from featplug.io.images import read_image_list
    from featplug.io.store import FeatureReader

    if image_list is not None:
        return read_image_list(image_list)
    if features is None:
        raise ValueError("Give a list of images or a feature file.")
    with FeatureReader(features) as reader:
        return reader.names()


def _write_pairs(output: Path, chosen: list[tuple[str, str]]) -> None:
    from featplug.io.pair_lists import write_pairs

    if not chosen:
        raise ValueError("There is no pair of images like that, so no pair list is written.")
    write_pairs(output, chosen)
    print(f"{output}: {len(chosen)} pairs of {len({p[0] for p in chosen})} images")
