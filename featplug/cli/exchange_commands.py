"""The commands ``featplug export`` and ``featplug import``, made from the functions themselves."""

from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from featplug.cli.command_line import Unprefixed, print_reasons, typed_parameters, with_signature
from featplug.colmap.rerun_recording import RecordingOptions, export_recording
from featplug.colmap.scene_exports import SceneKind, export_scene
from featplug.io.exchange import colmap, d2net, kapture, schoenberger
from featplug.io.exchange.transfer import Transfer
from featplug.io.images import MAX_MEGAPIXELS


def _command(function: Callable[..., Transfer]) -> Callable[..., None]:
    """Return the command that calls a function and prints what was transferred."""

    def run(**arguments: Any) -> None:
        _report(function(**arguments))

    unprefixed: Any = Unprefixed
    parameters = [
        parameter.replace(annotation=unprefixed[parameter.annotation])
        if is_dataclass(parameter.annotation)
        else parameter
        for parameter in typed_parameters(function)
    ]
    return with_signature(run, function, parameters)


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
    print_reasons(transfer.skipped, "left out: ")


def _scene_command(kind: SceneKind, summary: str) -> Callable[..., None]:
    """Return the command that exports a model and its photographs."""

    def run(
        model: Path,
        output: Path,
        image_dir: Path | None = None,
        overwrite: bool = False,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        done = export_scene(
            kind, model, output, image_dir, overwrite, max_megapixels, progress=True
        )
        print(f"{done.path}: {done.num_images} images, {done.num_points} points")

    run.__doc__ = f"""{summary}

    Args:
        model: output folder of `featplug sfm`, or folder of a COLMAP model.
        output: folder to write.
        image_dir: folder of the photographs; by default the folder images next to the model.
        overwrite: replace a folder that exists.
        max_megapixels: limit of decoding images.
    """
    return run


def _record(options: Unprefixed[RecordingOptions], reference: Path | None = None) -> None:
    """Write a recording of a model for Rerun's viewer: points, cameras and photographs.

    Args:
        options: what to record.
        reference: folder of the true poses, a COLMAP model or Strecha's .camera files, to show
            next to the model's.
    """
    from pipelines.datasets.true_poses import read_reference_poses

    poses = {} if reference is None else read_reference_poses(reference)
    done = export_recording(options, poses, progress=True)
    counts = f"{done.num_images} cameras, {done.num_photographs} photographs"
    counts += f", {done.num_points} points"
    if reference is not None:
        counts += f", {done.num_true_poses} true poses"
    print(f"{done.path}: {counts}")
    print_reasons(done.skipped, "left out: ")


EXPORTS = {
    "colmap": _command(colmap.export_database),
    "kapture": _command(kapture.export_kapture),
    "schoenberger": _command(schoenberger.export_dataset),
    "d2net": _command(d2net.export_archives),
    "nerfstudio": _scene_command(
        "nerfstudio", "Write transforms.json, photographs and points for nerfstudio."
    ),
    "gsplat": _scene_command(
        "gsplat", "Write undistorted images and sparse/0 for gsplat and 3D Gaussian Splatting."
    ),
    "undistorted": _scene_command(
        "undistorted", "Write undistorted images and their model, as COLMAP does."
    ),
    "rerun": _record,
}
"""The commands of ``featplug export``."""
IMPORTS = {
    "colmap": _command(colmap.import_database),
    "kapture": _command(kapture.import_kapture),
    "schoenberger": _command(schoenberger.import_dataset),
    "d2net": _command(d2net.import_archives),
}
"""The commands of ``featplug import``."""
