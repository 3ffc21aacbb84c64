"""The folder of a map that users name: a COLMAP model, a workspace with one, or a run's output."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from featplug.colmap.model_files import holds_model
from featplug.io.image_files import IMAGE_SUFFIXES
from featplug.io.run_folder import complete
from featplug.io.typed_json import as_type, read_json

_MODELS = "sparse/0", "model", "sfm/model", "sparse", "0"
"""Folders of a model below the one that users name."""
_IMAGES = "images"
_NUM_PARENTS = 3
"""Number of folders above the given one that photographs are looked for in."""


class _Data(TypedDict):
    images: NotRequired[str]


class _Run(TypedDict):
    data: NotRequired[Annotated[dict[str, Any], _Data]]
    options: NotRequired[dict[str, Any]]
    feature_conf: NotRequired[dict[str, Any] | None]


@dataclass(frozen=True)
class MapFolder:
    """A map on disk."""

    model: Path
    """Folder of the COLMAP model."""
    run: Path | None = None
    """Output folder of the run that made the model, where one did."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """Contents of that run's ``results.json``."""

    @property
    def place(self) -> Path:
        """Folder of the whole: of the run, of the workspace with ``sparse/0``, or of the model."""
        model = self.model.absolute()
        parts = model.parts[-2:]
        return self.run or (model.parents[1] if parts == ("sparse", "0") else model)

    @property
    def images(self) -> Path | None:
        """Folder of the photographs, or None.

        It is ``images`` of the run, which has those that were added, too, the folder that the run
        read, or ``images`` near the model.
        """
        recorded = self.record.get("data", {}).get("images")
        near = [folder / _IMAGES for folder in (self.model, *self.model.absolute().parents[:3])]
        places = [self.place / _IMAGES, *([Path(recorded)] if recorded else []), *near]
        return next((place for place in places if place.is_dir()), None)

    @property
    def features(self) -> Path | None:
        """Feature file of the run, or None."""
        conf = self.record.get("feature_conf")
        if self.run is None or not conf:
            return None
        path = self.run / f"{conf['output']}.h5"
        return path if path.is_file() else None


def find_map_folder(folder: Path) -> MapFolder:
    """Find the model in a folder that a user names.

    Args:
        folder: the folder of a COLMAP model, one with ``sparse/0``, or the output folder of
            ``featplug sfm``.

    Raises:
        FileNotFoundError: there is no such folder, or no model in it.
        ValueError: the record of the run is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {folder}; give the folder of a COLMAP model by --model."
        )
    complete(folder)
    places = [folder, *(folder / name for name in _MODELS)]
    model = next((place for place in places if holds_model(place)), None)
    if model is None:
        looked = ", ".join(str(place) for place in places[1:])
        raise FileNotFoundError(
            f"{folder} has no COLMAP model: neither images.bin nor images.txt is in it, nor in "
            f"{looked}; give the folder of a model by --model."
        )
    for run in (folder, *model.absolute().parents[:2]):
        if (run / "results.json").is_file():
            record = as_type(read_json(run / "results.json"), _Run, run / "results.json")
            return MapFolder(model, run, record)
    return MapFolder(model)


def require_images(names: Sequence[str], images: Path) -> list[str]:
    """Return the names of a model's photographs that are in a folder.

    Raises:
        FileNotFoundError: there is no such folder, or none of the photographs is in it; the
            message says where they are, as far as that can be found.
    """
    if not images.is_dir():
        raise FileNotFoundError(
            f"There is no folder {images}; give that of the photographs of the model by --images."
        )
    present = [name for name in names if (images / name).is_file()]
    if present or not names:
        return present
    start = (
        f"None of the {len(names)} photographs of the model is in {images}: for example "
        f"{names[0]!r} is not"
    )
    root, num = _root_of(names, images)
    if num:
        raise FileNotFoundError(
            f"{start}; {num} of them {'are' if num > 1 else 'is'} in {root}, so give --images "
            f"{root}."
        )
    base_names = {name.rsplit("/", 1)[-1] for name in names}
    similar = [place for place in _photographs(images) if place.name in base_names]
    if similar:
        raise FileNotFoundError(
            f"{start}. {len(similar)} photographs have the same base names, such as {similar[0]}: "
            "arrange the photographs in folders as the model names them, or give the folder that "
            "its names start from by --images."
        )
    raise FileNotFoundError(
        f"{start}, and no photograph below has its base name; give the folder that the names of "
        "the model start from by --images."
    )


def _root_of(names: Sequence[str], images: Path) -> tuple[Path, int]:
    """Return the folder near ``images`` that has most photographs of the names, and how many."""
    num_below: Counter[Path] = Counter()
    for folder in images.absolute().parents[:_NUM_PARENTS]:
        num_below[folder] = sum((folder / name).is_file() for name in names)
    by_base_name: dict[str, list[tuple[str, ...]]] = {}
    for name in names:
        parts = Path(name).parts
        by_base_name.setdefault(parts[-1], []).append(parts)
    for place in _photographs(images):
        for parts in by_base_name.get(place.name, ()):
            if place.parts[-len(parts) :] == parts:
                num_below[place.parents[len(parts) - 1]] += 1
    return max(num_below.items(), key=lambda item: item[1], default=(images, 0))


def _photographs(images: Path) -> list[Path]:
    """List the photographs below a folder."""
    found = []
    for folder, _, files in os.walk(images):
        found += [Path(folder, name) for name in sorted(files)]
    return [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES]
