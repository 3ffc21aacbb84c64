"""A COLMAP model and its photographs for splats, radiance fields and multi-view stereo.

============== =================================================================================
kind           contents of the folder
============== =================================================================================
nerfstudio     ``transforms.json``, ``images/`` and ``sparse_pc.ply``, photographs as they are
gsplat         undistorted ``images/`` and ``sparse/0``, as the loaders of gsplat and of 3D Gaussian
               Splatting (Kerbl et al. 2023) have it: pinhole cameras, all images in one folder
undistorted    the same as COLMAP writes it, ready for its ``patch_match_stereo``
============== =================================================================================

All images have their pixels as stored, and no EXIF data that would turn them.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Literal, get_args

import pycolmap

from featplug.colmap.mapping import log_to_file
from featplug.colmap.model_files import export_ply, holds_model, read_model, write_model
from featplug.colmap.nerfstudio import nerfstudio_camera_model, write_transforms
from featplug.colmap.plain_images import plain_names, write_plain_images
from featplug.io.files import remove, write_whole
from featplug.io.image_files import read_image_header
from featplug.io.images import MAX_MEGAPIXELS
from featplug.utils.errors import first_line
from featplug.utils.progress import progress_bar

SceneKind = Literal["nerfstudio", "gsplat", "undistorted"]
_SPARSE = Path("sparse", "0")
_LOOKS_PER_SECOND = 2


@dataclass(frozen=True)
class SceneExport:
    """An exported scene."""

    path: Path
    num_images: int
    num_points: int


def export_scene(
    kind: SceneKind,
    model: Path,
    output: Path,
    image_dir: Path | None = None,
    overwrite: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: bool = False,
) -> SceneExport:
    """Write a model and its photographs for another program.

    Args:
        kind: the program.
        model: folder of a COLMAP model, or the output folder of ``featplug sfm``.
        output: the folder to write.
        image_dir: folder of the photographs; by default the folder ``images`` next to the model.
        overwrite: replace a folder that exists.
        max_megapixels: limit of decoding images.
        progress: show a bar.

    Raises:
        FileNotFoundError: there is no model, or photographs are missing.
        ValueError: the model is damaged, its photographs have other sizes, a camera cannot be
            exported, the output exists, or the disk is full.
    """
    model_dir, found = scene_folders(Path(model))
    image_dir = Path(image_dir) if image_dir is not None else found
    output = Path(output)
    if output.exists() and not overwrite:
        raise ValueError(f"{output} exists; choose another --output, or replace it by --overwrite.")
    reconstruction = read_model(model_dir)
    names = _registered_names(reconstruction)
    check_cameras(kind, reconstruction.cameras.values(), str(model_dir))
    if image_dir is None:
        raise FileNotFoundError(
            f"There is no folder images next to the model {model_dir}; name the folder of its "
            "photographs by --image_dir."
        )
    _check_images(reconstruction, names, image_dir)
    plain = plain_names(names, image_dir, is_flat=kind == "gsplat")
    for image in reconstruction.images.values():
        image.name = plain.get(image.name, image.name)

    def write(part: Path) -> None:
        part.mkdir()
        images = part / ("images" if kind == "nerfstudio" else "source")
        write_plain_images(plain, image_dir, images, max_megapixels)
        if kind == "nerfstudio":
            write_transforms(reconstruction, part)
            export_ply(reconstruction, part / "sparse_pc.ply")
            return
        with _counted_files(part / "images", len(names), progress):
            _undistort(reconstruction, part)
        if kind == "gsplat":
            _as_gsplat(part)

    write_whole(output, write)
    return SceneExport(output, len(names), reconstruction.num_points3D())


def scene_folders(path: Path) -> tuple[Path, Path | None]:
    """Return the folders of a model and of its photographs, None where these are not found.

    Args:
        path: the output folder of ``featplug sfm``, another COLMAP workspace, or a model.

    Raises:
        FileNotFoundError: there is no model.
    """
    candidates = [path / _SPARSE, path / "sparse", path / "model", path]
    model = next((folder for folder in candidates if holds_model(folder)), None)
    if model is None:
        raise FileNotFoundError(
            f"There is no COLMAP model in {path}, nor in {_SPARSE} there; give the folder of a "
            "model, or the output folder of `featplug sfm`."
        )
    places = [path, *model.absolute().parents[:2]]
    images = (place / "images" for place in places)
    return model, next((folder for folder in images if folder.is_dir()), None)


def check_cameras(kind: SceneKind, cameras: Iterable[pycolmap.Camera], source: str) -> None:
    """Raise ValueError if cameras cannot be exported.

    Args:
        kind: the program to export to.
        cameras: the cameras.
        source: file or option that they come from, for the message.
    """
    if kind not in get_args(SceneKind):
        raise ValueError(f"{kind!r} is none of {', '.join(get_args(SceneKind))}.")
    cameras = list(cameras)
    for camera in cameras:
        try:
            pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"{source} has a camera of the model {camera.model.name}, which is no perspective "
                f"camera and cannot be exported to {kind}; cut its images into perspective views "
                "first, as COLMAP's panorama_sfm example does."
            ) from error
    if kind == "nerfstudio":
        nerfstudio_camera_model(cameras, source)


def _registered_names(model: pycolmap.Reconstruction) -> list[str]:
    names = [model.images[image_id].name for image_id in model.reg_image_ids()]
    if not names:
        raise ValueError("The model has no images with a pose, so there is nothing to export.")
    for name in names:
        if name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
            raise ValueError(
                f"The model's image {name!r} would be written outside of the export; rename it in "
                "the model."
            )
    return names


def _check_images(model: pycolmap.Reconstruction, names: Iterable[str], image_dir: Path) -> None:
    """Check that all photographs exist, and have the sizes of their cameras."""
    cameras = {image.name: image.camera for image in model.images.values()}
    missing = [name for name in names if not (image_dir / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{image_dir} lacks {len(missing)} photographs of the model, the first is "
            f"{missing[0]}; name the folder that they are in by --image_dir."
        )
    for name in names:
        size, camera = read_image_header(image_dir / name).size, cameras[name]
        if size != (camera.width, camera.height):
            raise ValueError(
                f"{image_dir / name} has {size[0]}×{size[1]} pixels, its camera in the model "
                f"{camera.width}×{camera.height}; name the folder of the photographs that the "
                "model was made of by --image_dir."
            )


@contextmanager
def _counted_files(folder: Path, number: int, progress: bool) -> Iterator[None]:
    """Show how many files a folder has got, which COLMAP writes without Python's lock."""
    ended = Event()

    def count() -> None:
        while not ended.wait(1 / _LOOKS_PER_SECOND):
            bar.update(sum(path.is_file() for path in folder.rglob("*")) - bar.n)

    with progress_bar(None, "undistort", number, "image", progress) as bar:
        thread = Thread(target=count, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        bar.update(number - bar.n)


def _undistort(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Let COLMAP undistort the images in ``source``, which is removed."""
    write_model(model, folder / "distorted")
    arguments = (str(folder), str(folder / "distorted"), str(folder / "source"))
    try:
        with log_to_file(folder / "colmap.log"):
            pycolmap.undistort_images(*arguments)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"COLMAP could not undistort the images: {first_line(error)}; free some space on the "
            "disk, or report it to COLMAP."
        ) from error
    for name in ("source", "distorted", "colmap.log"):
        remove(folder / name)
    undistorted = read_model(folder / "sparse")
    _check_images(undistorted, _registered_names(undistorted), folder / "images")


def _as_gsplat(folder: Path) -> None:
    """Turn COLMAP's layout of undistorted images into that of the loaders of splats."""
    shutil.move(folder / "sparse", folder / "0")
    (folder / "sparse").mkdir()
    shutil.move(folder / "0", folder / _SPARSE)
    remove(folder / "stereo")
    for path in folder.glob("run-colmap-*.sh"):
        path.unlink()
