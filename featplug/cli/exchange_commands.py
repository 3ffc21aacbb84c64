"""The commands ``featplug export`` and ``featplug import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from featplug.io.exchange.transfer import Transfer
    from featplug.io.pair_lists import Pair

export_app = tyro.extras.SubcommandApp()
"""The commands of ``featplug export``."""
import_app = tyro.extras.SubcommandApp()
"""The commands of ``featplug import``."""


@export_app.command(name="colmap")
def export_colmap(
    features: Path,
    image_dir: Path,
    database: Path,
    matches: Path | None = None,
    pairs: Path | None = None,
    image_list: Path | None = None,
    camera_mode: Literal["auto", "single", "per-folder", "per-image"] = "auto",
    camera_model: str = "SIMPLE_RADIAL",
    camera_params: str | None = None,
    descriptors: Literal["none", "sift", "float"] = "none",
    verify: bool = True,
    max_error: float = 4.0,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Make a COLMAP database, for its mapper, its graphical interface or other tools.

    Args:
        features: feature file, ours or hloc's.
        image_dir: folder of the images.
        database: the database.
        matches: match file, ours or hloc's.
        pairs: pair list, in place of all pairs in the match file.
        image_list: text file of image names, in place of all images in the feature file.
        camera_mode: which images share a camera.
        camera_model: COLMAP camera model.
        camera_params: known intrinsics, comma-separated as COLMAP's model orders them.
        descriptors: sift: as COLMAP's own SIFT, which it can match; float: of any feature, for
            reading back only.
        verify: verify the matches geometrically; COLMAP's mapper uses no others.
        max_error: of an inlier in verification, in pixels.
        seed: of verification.
        overwrite: replace a database.
    """
    from featplug.colmap.cameras import CameraOptions
    from featplug.io.exchange.colmap import export_database

    _report(
        export_database(
            database,
            features,
            image_dir,
            matches,
            names=_names(image_list),
            pairs=_pairs(pairs),
            camera=CameraOptions(camera_mode, camera_model, camera_params),
            descriptors=descriptors,
            verify=verify,
            seed=seed,
            max_error=max_error,
            overwrite=overwrite,
        )
    )


@export_app.command(name="kapture")
def export_kapture(
    features: Path,
    output: Path,
    matches: Path | None = None,
    pairs: Path | None = None,
    image_list: Path | None = None,
    image_dir: Path | None = None,
    feature_type: str = "featplug",
    descriptors: bool = True,
    overwrite: bool = False,
) -> None:
    """Write keypoints, descriptors and matches into a kapture folder, new or with images already.

    Args:
        features: feature file, ours or hloc's.
        output: the kapture folder.
        matches: match file, ours or hloc's.
        pairs: pair list, in place of all pairs in the match file.
        image_list: text file of image names, in place of all images in the feature file.
        image_dir: folder of the images, linked into a new kapture folder.
        feature_type: kapture's name for these features.
        descriptors: write them, too.
        overwrite: replace the features of that name.
    """
    from featplug.io.exchange import kapture

    _report(
        kapture.export_kapture(
            output,
            features,
            matches,
            feature_type=feature_type,
            image_dir=image_dir,
            names=_names(image_list),
            pairs=_pairs(pairs),
            descriptors=descriptors,
            overwrite=overwrite,
        )
    )


@export_app.command(name="schoenberger")
def export_schoenberger(
    features: Path,
    output: Path,
    matches: Path | None = None,
    pairs: Path | None = None,
    image_list: Path | None = None,
    descriptors: bool = True,
    overwrite: bool = False,
) -> None:
    """Write the .bin files of the local feature evaluation benchmark (Schönberger et al. 2017).

    Args:
        features: feature file, ours or hloc's.
        output: the dataset's folder; gets keypoints, descriptors and matches.
        matches: match file, ours or hloc's.
        pairs: pair list, in place of all pairs in the match file.
        image_list: text file of image names, in place of all images in the feature file.
        descriptors: write them, too.
        overwrite: replace all .bin files there.
    """
    from featplug.io.exchange.schoenberger import export_dataset

    _report(
        export_dataset(
            output,
            features,
            matches,
            names=_names(image_list),
            pairs=_pairs(pairs),
            descriptors=descriptors,
            overwrite=overwrite,
        )
    )


@export_app.command(name="d2net")
def export_d2net(
    features: Path,
    output: Path,
    suffix: str = ".d2-net",
    image_list: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write D2-Net's feature files, IMAGE.d2-net.

    Args:
        features: feature file, ours or hloc's.
        output: where they go, usually the image folder.
        suffix: what their names have after the images'.
        image_list: text file of image names, in place of all images in the feature file.
        overwrite: replace all files of that suffix there.
    """
    from featplug.io.exchange.d2net import export_archives

    names = _names(image_list)
    _report(export_archives(output, features, suffix=suffix, names=names, overwrite=overwrite))


@import_app.command(name="colmap")
def import_colmap(
    database: Path,
    features: Path,
    matches: Path | None = None,
    inliers: bool = False,
    descriptors: bool = True,
    overwrite: bool = False,
) -> None:
    """Read a COLMAP database into files that hloc reads.

    Args:
        database: the database.
        features: the feature file to write.
        matches: the match file to write.
        inliers: only the matches that COLMAP has verified.
        descriptors: read them, too, where there are some.
        overwrite: replace the files.
    """
    from featplug.io.exchange.colmap import import_database

    _report(
        import_database(
            database,
            features,
            matches,
            inliers=inliers,
            descriptors=descriptors,
            overwrite=overwrite,
        )
    )


@import_app.command(name="kapture")
def import_kapture(
    kapture: Path,
    features: Path,
    matches: Path | None = None,
    feature_type: str | None = None,
    overwrite: bool = False,
) -> None:
    """Read a kapture folder into files that hloc reads.

    Args:
        kapture: the folder.
        features: the feature file to write.
        matches: the match file to write.
        feature_type: kapture's name for the features, where it has several.
        overwrite: replace the files.
    """
    from featplug.io.exchange import kapture as format_

    _report(
        format_.import_kapture(
            kapture, features, matches, feature_type=feature_type, overwrite=overwrite
        )
    )


@import_app.command(name="schoenberger")
def import_schoenberger(
    dataset: Path, features: Path, matches: Path | None = None, overwrite: bool = False
) -> None:
    """Read the .bin files of the local feature evaluation benchmark into files that hloc reads.

    Args:
        dataset: its folder, with images, keypoints and the others.
        features: the feature file to write.
        matches: the match file to write.
        overwrite: replace the files.
    """
    from featplug.io.exchange.schoenberger import import_dataset

    _report(import_dataset(dataset, features, matches, overwrite=overwrite))


@import_app.command(name="d2net")
def import_d2net(
    image_dir: Path,
    features: Path,
    archives: Path | None = None,
    suffix: str = ".d2-net",
    overwrite: bool = False,
) -> None:
    """Read D2-Net's feature files, IMAGE.d2-net, into a file that hloc reads.

    Args:
        image_dir: folder of the images.
        features: the feature file to write.
        archives: where D2-Net's files are; beside the images by default.
        suffix: what their names have after the images'.
        overwrite: replace the file.
    """
    from featplug.io.exchange.d2net import import_archives

    folder = archives or image_dir
    _report(import_archives(folder, image_dir, features, suffix=suffix, overwrite=overwrite))


def _names(image_list: Path | None) -> list[str] | None:
    from featplug.io.images import read_image_list

    return None if image_list is None else read_image_list(image_list)


def _pairs(pairs: Path | None) -> list[Pair] | None:
    from featplug.io.pair_lists import read_pairs, unique_pairs

    return None if pairs is None else unique_pairs(read_pairs(pairs))


def _report(transfer: Transfer) -> None:
    counts = f"{transfer.num_images} images ({transfer.num_keypoints} keypoints)"
    if transfer.num_pairs:
        counts += f", {transfer.num_pairs} pairs ({transfer.num_matches} matches)"
    if (verified := transfer.verification) is not None:
        counts += (
            f", {verified.num_verified_pairs} pairs verified "
            f"({verified.num_inlier_matches} inlier matches)"
        )
    print(f"{transfer.path}: {counts}")
    reasons = list(transfer.skipped.values())
    for reason in reasons[:10]:
        print(f"  left out: {reason}")
    if len(reasons) > 10:
        print(f"  and {len(reasons) - 10} more")
