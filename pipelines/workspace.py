"""The output folder of a reconstruction as a COLMAP workspace: ``sparse/0`` and ``images``.

``colmap gui --import_path sparse/0 --image_path images``, nerfstudio and gsplat read it as it is.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from featplug.io.links import has_only_links, link_files, link_folder
from featplug.io.run_folder import RECORD, complete

IMAGES = "images"
"""Name of the link to the photographs."""
_OF_COLMAP = ("sparse", "database.db")

logger = logging.getLogger(__name__)


def reject_workspace_of_others(outputs: Path) -> None:
    """Raise ValueError if a folder has a model or a database that no run has made.

    A run replaces those of the run before.
    """
    complete(outputs)
    if any((outputs / name).exists() for name in ("results.json", RECORD)):
        return
    for name in _OF_COLMAP:
        if os.path.lexists(outputs / name):
            raise ValueError(
                f"{outputs / name} is not of a run and would be replaced; choose another folder by "
                "--outputs."
            )


def reject_extended_model(outputs: Path) -> None:
    """Raise ValueError if photographs were added to the model that a run would replace."""
    earlier = next((outputs / "sparse").glob("0-before-*"), None)
    if earlier is not None:
        raise ValueError(
            f"{outputs / 'sparse' / '0'} has photographs that `featplug localize --add` added, and "
            f"{earlier.name} is the model before; a new model would replace both: choose another "
            "folder by --outputs, or add --overwrite."
        )


def link_images(
    working: Path, outputs: Path, image_dir: Path, names: Sequence[str], is_selection: bool = False
) -> None:
    """Add ``images`` to the results: a link to the photographs, or a folder of links to them.

    A folder of that name that the user has in the output folder stays as it is. Where there can be
    no links, the log says so.

    Args:
        working: the working folder of the run.
        outputs: its output folder.
        image_dir: folder of the photographs.
        names: their names.
        is_selection: whether the folder has more photographs, that are not used.
    """
    place, source, folder = outputs / IMAGES, image_dir.resolve(), outputs.resolve()
    # Links are not followed: photographs of the folder itself stay in their place.
    given, own = (Path(os.path.normpath(path.absolute())) for path in (image_dir, place))
    if given.is_relative_to(own) or folder == source:
        return
    if os.path.lexists(place) and not has_only_links(place):
        return
    if is_selection or folder.is_relative_to(source):  # a link to a folder above is endless
        done = link_files(working / IMAGES, {name: source / name for name in names})
    else:
        is_inside = source.is_relative_to(folder)
        done = link_folder(working / IMAGES, source.relative_to(folder) if is_inside else source)
    if not done:
        logger.warning(
            "%s: there can be no links here, so model is a copy of sparse/0, and the folder images "
            "is missing; name %s to programs that ask for the images.",
            *(outputs, image_dir),
        )
