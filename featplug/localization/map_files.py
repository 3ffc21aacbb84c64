"""A map to localize in: a COLMAP model, the features of its images, and how they were made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from featplug.colmap.model_files import holds_model
from featplug.io.orientation import Orientation
from featplug.io.typed_json import as_type, read_json
from featplug.methods.method_table import STRONGEST

RESULTS = "results.json"
_MODELS = "model", "sfm/model", "sparse/0"
"""Folders of the model in the output folders of a reconstruction and of a localization."""


class _Conf(TypedDict):
    output: str
    model: dict[str, Any]


class _Extraction(TypedDict):
    features: NotRequired[str | None]
    precision: NotRequired[str]
    orientation: NotRequired[str]


class _Options(TypedDict):
    extraction: Annotated[dict[str, Any], _Extraction]
    strongest: NotRequired[int]
    retrieval: NotRequired[str]


class _Data(TypedDict):
    images: NotRequired[str]


class _Run(TypedDict):
    """Record of a pipeline: the keys of ``results.json`` that a map needs."""

    options: Annotated[dict[str, Any], _Options]
    feature: str
    feature_conf: Annotated[dict[str, Any], _Conf] | None
    matcher: str
    matcher_conf: Annotated[dict[str, Any], _Conf] | None
    data: Annotated[dict[str, Any], _Data]


@dataclass(frozen=True)
class MapFiles:
    """Files of a map, and the methods that made them."""

    model: Path
    """Folder of the COLMAP model, whose keypoints are those of the features."""
    features: Path | None = None
    """Feature file of its images; None if it is not known."""
    images: Path | None = None
    """Folder of its images; None if it is not known."""
    feature: Mapping[str, Any] | None = None
    """Conf of the feature; None if it is not known."""
    matcher: Mapping[str, Any] | None = None
    """Conf of the matcher; None if it is not known."""
    precision: str = "fp32"
    """Floating-point type that the feature's network computed in."""
    orientation: Orientation = "exif"
    """Which way up photographs were looked at."""
    strongest: int = STRONGEST
    """Number of keypoints that are matched first, see :mod:`featplug.matchers.guided`."""
    retrieval: str = "vlad"
    """Name of the retrieval method."""


def find_map(folder: Path) -> MapFiles:
    """Find the files of a map.

    Args:
        folder: the output folder of ``featplug sfm`` or ``featplug localize``, or the folder of a
            COLMAP model.

    Raises:
        FileNotFoundError: the folder has no model.
        ValueError: the record in the folder is damaged, or of a method without keypoints.
    """
    folder = Path(folder)
    record = folder / RESULTS
    if not record.is_file():
        if not holds_model(folder) and holds_model(folder / "sparse" / "0"):
            folder = folder / "sparse" / "0"
        if not holds_model(folder):
            raise FileNotFoundError(
                f"{folder} has neither {RESULTS} nor cameras, images and points3D; give the output "
                "folder of featplug sfm or featplug localize, or that of a COLMAP model."
            )
        return MapFiles(folder)
    run = as_type(read_json(record), _Run, record)
    model = next((folder / name for name in _MODELS if holds_model(folder / name)), None)
    if model is None:
        raise FileNotFoundError(
            f"{folder} has no COLMAP model in {' or '.join(_MODELS)}; run featplug sfm again."
        )
    options, conf = run["options"], run["feature_conf"]
    extraction = options["extraction"]
    given = extraction.get("features")
    if conf is None and given is None:
        raise ValueError(
            f"{folder} was made by {run['feature']}, which matches two images without features of "
            "each; make the model with a feature."
        )
    linked = folder / "images"
    images = run["data"].get("images") or (linked if linked.is_dir() else None)
    return MapFiles(
        model,
        Path(given) if conf is None else folder / f"{conf['output']}.h5",
        None if images is None else Path(images),
        conf,
        run["matcher_conf"],
        extraction.get("precision", "fp32"),
        "stored" if extraction.get("orientation") == "stored" else "exif",
        options.get("strongest", STRONGEST),
        options.get("retrieval", "vlad"),
    )
