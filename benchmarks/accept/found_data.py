"""The data sets of a folder, recognised by their layouts, and the authors' checkpoints in it."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from benchmarks.choices import problem_of
from benchmarks.matching.protocols import PROTOCOLS
from benchmarks.pairs.datasets import layouts, read_pairs
from benchmarks.patches.__main__ import PatchOptions, open_set
from benchmarks.patches.hpatches import HPatches
from benchmarks.patches.phototour import PhotoTour
from benchmarks.patches.romepatches import RomePatches
from benchmarks.published.published_numbers import canonical_dataset, load_published
from benchmarks.record import Problem, counted
from benchmarks.relative_pose.pose_protocols import PROTOCOLS as POSE_PROTOCOLS
from benchmarks.scene_names import scene_folder
from featplug.io.image_folder import list_images
from featplug.weights.importing import import_weights
from featplug.weights.registry import read_registry
from pipelines.datasets.pipeline_names import find_options
from pipelines.datasets.protocol import LocalizationDataset
from pipelines.run_options import FeatureOptions

_DEPTH = 3
"""Number of levels of folders that are searched."""
_OF_WEIGHTS = ".safetensors"
_PAIR_BENCHMARKS = {
    **{protocol.layout: "relative-pose" for protocol in POSE_PROTOCOLS.values()},
    **{protocol.layout: "matching" for protocol in PROTOCOLS.values()},
}
"""Layout of pairs to its benchmark."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundData:
    """One data set."""

    benchmark: str
    """Benchmark that measures on it."""
    name: str
    """Name in published numbers."""
    folder: Path
    contents: str
    """Its size in words."""
    num_images: int = 0
    """Number of images to extract from; 0 for patches."""
    num_pairs: int = 0
    """Number of pairs to match, as far as it is known before."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the benchmark that the data set decides."""


@dataclass(frozen=True)
class Found:
    """What a folder has."""

    data: list[FoundData]
    checkpoints: list[Path]
    problems: list[Problem]
    """Data that cannot be used, and why."""


def find(root: Path, left_out: Path | None = None) -> Found:
    """Look for data sets and checkpoints in a folder and the folders in it.

    Args:
        root: the folder.
        left_out: folder that is not searched, such as that of the results.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"There is no folder {root}; name one with data sets as they are released."
        )
    found = Found([], [], [])
    known = {source.file for entry in read_registry().values() for source in entry.sources}
    _search(root, _DEPTH, None if left_out is None else left_out.resolve(), known, found)
    names: dict[str, FoundData] = {}
    for data in found.data:
        first = names.setdefault(data.name, data)
        if first is not data:
            reason = f"{data.name} is in {first.folder}, too, which is measured"
            found.problems.append(Problem(str(data.folder), reason))
    return Found(list(names.values()), found.checkpoints, found.problems)


def _search(folder: Path, depth: int, left_out: Path | None, known: set[str], found: Found) -> None:
    if folder.name.startswith(".") or folder.resolve() == left_out:
        return
    data = [entry for recognise in _RECOGNISERS for entry in _tried(recognise, folder, found)]
    found.data.extend(data)
    if data:
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:  # such as of another user
        found.problems.append(problem_of(str(folder), error))
        return
    found.checkpoints.extend(
        path
        for path in entries
        if path.is_file() and (path.name in known or path.suffix == _OF_WEIGHTS)
    )
    if depth > 0:
        for path in entries:
            if path.is_dir():
                _search(path, depth - 1, left_out, known, found)


_Recogniser = Callable[[Path], Iterator[FoundData]]


def _tried(recognise: _Recogniser, folder: Path, found: Found) -> list[FoundData]:
    try:
        return list(recognise(folder))
    except (ValueError, OSError) as error:
        found.problems.append(problem_of(str(folder), error))
        return []


def _pairs(folder: Path) -> Iterator[FoundData]:
    published = {number.dataset for number in load_published()}
    for name, layout in layouts().items():
        benchmark = _PAIR_BENCHMARKS.get(name)
        if (
            benchmark is not None
            and name in published
            and any(any(folder.glob(mark)) for mark in layout.MARKS)
        ):
            pair_set = read_pairs(folder, name)
            num_pairs, num_images = len(pair_set.pairs), len(pair_set.names)
            contents = f"{counted(num_pairs, 'pair')} of {counted(num_images, 'image')}"
            yield FoundData(
                *(benchmark, pair_set.name, folder, contents, num_images, num_pairs),
                options={"layout": name},
            )


def _patches(folder: Path) -> Iterator[FoundData]:
    marks = ("info.txt", "patch_retrieval_Rome_*.mat", "*/ref.png")
    if any(any(folder.glob(mark)) for mark in marks):
        patch_set = open_set(folder, PatchOptions((folder,)))
        yield FoundData(
            *(
                "patches",
                patch_set.name,
                folder,
                counted(patch_set.num_patches(), "patch", "patches"),
            )
        )


def _queries(folder: Path) -> Iterator[FoundData]:
    pipelines = {
        number.protocol.removesuffix("-local-features")
        for number in load_published()
        if number.benchmark == "localization"
    }
    for pipeline in sorted(pipelines):
        data_set = _opened(pipeline, folder)
        if data_set is not None:
            num_queries = sum(map(len, data_set.queries().values()))
            num_images = len(list_images(data_set.image_dir))
            contents = f"{counted(num_queries, 'query', 'queries')}, {counted(num_images, 'image')}"
            version = data_set.version or ""
            yield FoundData(
                "localization",
                pipeline if version in ("", "v1") else f"{pipeline}-{version}",
                folder,
                contents,
                num_images,
                options={"pipeline": pipeline},
            )


def _opened(pipeline: str, folder: Path) -> LocalizationDataset | None:
    """Open a data set of a pipeline; return None for any other folder."""
    try:
        options: Any = find_options(pipeline)
        return options(dataset=folder, extraction=FeatureOptions("sift")).open()
    except (ValueError, OSError):
        return None


def _scene(folder: Path) -> Iterator[FoundData]:
    """Find a scene, which is nothing but photographs, by its name."""
    scenes = {
        canonical_dataset(number.dataset): number.dataset
        for number in load_published()
        if number.benchmark == "reconstruction"
    }
    name = scenes.get(canonical_dataset(scene_folder(folder).name))
    images = folder / "images" if (folder / "images").is_dir() else folder
    if name is not None and (num_images := len(list_images(images))):
        num_pairs = num_images * (num_images - 1) // 2
        contents = counted(num_images, "photograph")
        yield FoundData("reconstruction", name, folder, contents, num_images, num_pairs)


_RECOGNISERS: tuple[_Recogniser, ...] = (_pairs, _patches, _queries, _scene)


def sources() -> dict[str, str]:
    """Return where data sets with published numbers are to be had, by their names.

    Data sets whose address is not known are left out.
    """
    known: dict[str, str] = {layout: module.SOURCE for layout, module in layouts().items()}
    for patch_set in (HPatches, PhotoTour, RomePatches):
        known[patch_set.name] = patch_set.source
    for number in load_published():
        if number.benchmark == "localization" and number.dataset not in known:
            pipeline = number.protocol.removesuffix("-local-features")
            with suppress(ValueError):
                data_set = get_type_hints(find_options(pipeline).open)["return"]
                known[number.dataset] = f"{data_set.source}."
    return known


def import_checkpoints(files: list[Path], folder: Path) -> list[Problem]:
    """Import authors' checkpoints into a folder; return those that cannot be used, and why."""
    problems = []
    for file in files:
        try:
            import_weights(file, destination=folder)
        except (ValueError, OSError) as error:
            problems.append(problem_of(str(file), error))
    return problems
