"""D2-Net's feature files (Dusmanu et al., CVPR 2019): NumPy archives next to the images.

``NAME.d2-net`` is an ``.npz`` archive of ``keypoints`` N×3 (x, y, scale), ``scores`` N and
``descriptors`` N×D, as the released code's ``extract_features.py`` writes it and its HPatches
evaluation and the long-term localization benchmark's scripts read it. The centre of the first
pixel is (0, 0), as here. That benchmark's scripts copy keypoints into COLMAP as they are, and so
half a pixel aside.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from featplug.io.exchange.file_sets import FileSet, replaced_together, writable_names
from featplug.io.exchange.transfer import (
    FoundImage,
    ImportFiles,
    Selection,
    Transfer,
    descriptor_rows,
    found_image,
    images_with_files,
    import_found,
    usable_names,
)
from featplug.io.feature_arrays import checked_arrays, shown
from featplug.io.image_files import IMAGE_SUFFIXES
from featplug.io.image_folder import list_images
from featplug.io.limits import read_npz
from featplug.io.parts.feature_parts import open_features
from featplug.keypoints.detection import sift_frames

SUFFIX = ".d2-net"


def export_archives(
    output: Path,
    features: Path,
    *,
    image_list: Path | None = None,
    suffix: str = SUFFIX,
    overwrite: bool = False,
) -> Transfer:
    """Write D2-Net's feature files, IMAGE.d2-net.

    Args:
        output: folder of the files, that of the images for tools that look next to them.
        features: feature file, ours or hloc's.
        image_list: text file of image names; all images in the feature file by default.
        suffix: end of a file's name, after the image's; tools take it for the method's name.
        overwrite: replace all files of that suffix in the folder.

    Raises:
        FileExistsError: the folder has such files.
        ValueError: an image has no descriptors, or the suffix is an image's or empty.
    """
    folder = Path(output)
    _check_suffix(suffix)
    transfer = Transfer(folder)
    with open_features(features) as reader:
        names = Selection(image_list).names(reader, transfer)
        archives = FileSet(folder, "", suffix, overwrite)
        names = writable_names(names, [archives], transfer.skipped)
        with replaced_together([archives]):
            for name in names:
                datasets = reader.read(name, ("keypoints", "scales", "scores", "descriptors"))
                frames = sift_frames(datasets)
                if frames.shape[1] == 2:
                    frames = np.pad(frames, ((0, 0), (0, 1)), constant_values=1)
                num = len(frames)
                arrays = {
                    "keypoints": frames,
                    "scores": datasets.get("scores", np.zeros(num)).astype(np.float32),
                    "descriptors": descriptor_rows(datasets, reader.path, name),
                }
                archives.write(name, partial(_write_archive, arrays))
                transfer.counts[name] = num
    return transfer


def import_archives(
    image_dir: Path,
    features: Path,
    archives: Path | None = None,
    *,
    suffix: str = SUFFIX,
    overwrite: bool = False,
) -> Transfer:
    """Read D2-Net's feature files, IMAGE.d2-net, into a file that hloc reads.

    Args:
        image_dir: folder of the images, whose sizes are read.
        features: feature file to write; images without a file are reported as skipped.
        archives: folder of D2-Net's files; that of the images by default.
        suffix: end of a file's name, after the image's.
        overwrite: replace the feature file.

    Raises:
        FileExistsError: the feature file exists.
        FileNotFoundError: no images exist, or no file of features at all.
        ValueError: a file is damaged, or lacks something.
    """
    image_dir = Path(image_dir)
    folder = Path(archives or image_dir)
    _check_suffix(suffix)
    transfer = Transfer(Path(features))
    names = list_images(image_dir)
    present = images_with_files(names, lambda name: folder / f"{name}{suffix}", transfer)

    def read(name: str) -> FoundImage | None:
        path = folder / f"{name}{suffix}"
        return found_image(path, read_archive(path), image_dir, name, transfer)

    return import_found(
        "d2net",
        ImportFiles(features, overwrite=overwrite),
        transfer,
        usable_names(present, transfer, image_dir),
        read,
    )


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Read one image's archive; nothing in it is unpickled.

    Returns:
        ``keypoints`` N×2, ``scales`` N where there, ``scores`` N where there and ``descriptors``
        D×N, float32.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or lacks keypoints or descriptors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        arrays = read_npz(path)
    except (ValueError, MemoryError) as error:
        raise ValueError(
            f"{path} is no NumPy archive, or damaged ({error}); copy it again."
        ) from error
    missing = [key for key in ("keypoints", "descriptors") if key not in arrays]
    if missing:
        raise ValueError(f"{path} has no {' and no '.join(missing)}; make it again.")
    keypoints = arrays["keypoints"]
    if keypoints.ndim != 2 or keypoints.shape[1] < 2:
        raise ValueError(
            f"{path}: keypoints must have x and y, and not the shape {shown(keypoints.shape)}; "
            "make it again."
        )
    features = {"keypoints": keypoints[:, :2], "descriptors": arrays["descriptors"].T}
    if keypoints.shape[1] > 2:
        features["scales"] = keypoints[:, 2]
    if "scores" in arrays:
        features["scores"] = arrays["scores"]
    try:
        checked = checked_arrays(features, len(keypoints))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; make it again.") from error
    return {key: np.ascontiguousarray(array, np.float32) for key, array in checked.items()}


def _write_archive(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    with path.open("wb") as file:  # given a path, NumPy would add .npz to it
        np.savez(file, allow_pickle=False, **arrays)


def _check_suffix(suffix: str) -> None:
    # Removing an earlier export must not remove images.
    is_image = Path(f"image{suffix}").suffix.lower() in IMAGE_SUFFIXES
    if not suffix.startswith(".") or suffix == "." or "/" in suffix or is_image:
        raise ValueError(f"The suffix must be a dot and a method's name, not {suffix!r}.")
