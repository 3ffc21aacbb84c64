"""Titles of benchmarks, data sets and protocols, labels of metrics, and the format of numbers."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from featplug.io.metric_table import METRICS, Metric, find_metric, generic_name, numbers
from featplug.io.names import natural_key

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


_BENCHMARKS = {
    "reconstruction": "Reconstruction",
    "matching": "Matching",
    "relative-pose": "Relative pose",
    "patches": "Patches",
    "localization": "Localization",
    "speed": "Speed",
}

_DATASETS = {
    "hpatches": "HPatches",
    "oxford": "Oxford affine",
    "rdnim": "RDNIM",
    "wxbs": "WxBS",
    "megadepth1500": "MegaDepth-1500",
    "scannet1500": "ScanNet-1500",
    "hpatches-patches": "HPatches patches",
    "rome-patches": "RomePatches",
    "demo-town": "Demo town",
    "demo-room": "Demo room",
    "aachen": "Aachen Day-Night",
    "aachen_v1.1": "Aachen Day-Night v1.1",
    "inloc": "InLoc",
}

_PROTOCOLS = {
    "local-feature-evaluation": "local feature evaluation (Schönberger et al. 2017)",
    "mma-d2net": "MMA on D2-Net's 108 sequences",
    "mma-116": "MMA on all 116 sequences",
    "recall-contextdesc": "ContextDesc's recall at 2.5 px",
    "lisrd-480x640": "LISRD's homographies at 480×640",
    "mtldesc-hpatches": "MTLDesc's scores and homographies",
    "oxford-mma": "MMA of image 1 with the others",
    "oxford-ap": "DOAP's average precision",
    "rdnim": "day and night homographies",
    "wxbs": "wide baselines",
    "evd": "planes from extreme views",
    "megadepth-1500": "relative poses outdoors",
    "scannet-1500": "relative poses indoors",
    "pairs": "relative poses",
    "phototourism-stereo": "relative poses on the 9 test scenes",
    "phototourism-stereo-val": "relative poses on the 3 validation scenes",
    "phototourism-multiview": "relative poses in models of few images",
    "imc-2022": "relative poses in metres, training scenes",
    "eth3d-pairs": "relative poses of covisible pairs",
    "phototour-fpr95": "false positives at 95 % recall",
    "hpatches-patches-a": "HPatches' three tasks, split a",
    "rome-patches": "patch retrieval",
    "aachen": "visual localization benchmark",
    "aachen-local-features": "local features challenge",
    "inloc": "indoor visual localization",
    "speed": "time and memory",
    "pipelines.sfm": "as run by pipelines.sfm",
    "pipelines.aachen": "as run by pipelines.aachen",
    "pipelines.inloc": "as run by pipelines.inloc",
}

_SHOWN_UNITS = {
    **{unit: unit for unit in ("%", "MiB", "m", "px", "reference units", "s")},
    **{"deg": "°", "megapixels/s": "MP/s", "x": "×"},
}
"""Unit to its short form in tables; others are clear from the metric's name."""
_LONGEST_UNIT = 14
_FOLDER_OF_FILE = re.compile(r"[^+@]*/(?=[^/+@]+\.py:)")
_OF_MODELS = {"sparse_points", "observations", "mean_track_length", "mean_reprojection_error"}

MAIN_PARTS = ("all", "illumination", "viewpoint", "easy", "hard", "tough", "day", "night")
"""Parts in the first table of data sets with many parts."""


def metric_label(name: str, unit: str = "", benchmark: str = "") -> Metric:
    """Return the label of a metric, from its name and the unit of its record.

    Unknown metrics keep their names. Figures of the model are details in localization.
    """
    label = find_metric(name)
    if label is None:
        short = unit if len(unit) <= _LONGEST_UNIT else ""  # longer ones explain the metric
        return Metric(short, "", digits=3, role="main", title=name.replace("_", " "))
    if benchmark == "localization" and name in _OF_MODELS:
        label = replace(label, role="detail")
    shown = "images" if name == "registered_images" else _SHOWN_UNITS.get(unit or label.unit, "")
    return replace(label, unit=shown)


def metric_order(names: Iterable[str]) -> list[str]:
    """Sort metrics in the order of tables; unknown ones come last, in their own order."""
    order = list(METRICS)

    def place(name: str) -> tuple[int, list[float]]:
        generic = generic_name(name)
        if generic not in METRICS:
            return len(order), []
        return order.index(generic), [float(number) for number in numbers(name)]

    return sorted(names, key=place)


def method_titles(names: Iterable[str]) -> dict[str, str]:
    """Return methods by name with their titles: classes of files without the files' folders.

    Those that would have the same title keep their names.
    """
    titles = {name: _FOLDER_OF_FILE.sub("", name) for name in names}
    counts = Counter(titles.values())
    return {name: title if counts[title] == 1 else name for name, title in titles.items()}


def benchmark_title(name: str) -> str:
    """Return the title of a benchmark."""
    return _BENCHMARKS.get(name, name)


def benchmark_order(name: str) -> int:
    """Return the place of a benchmark on the page."""
    return list(_BENCHMARKS).index(name) if name in _BENCHMARKS else len(_BENCHMARKS)


def dataset_title(name: str) -> str:
    """Return the title of a data set; a scene has the name of its folder."""
    if name.startswith("phototour-"):
        return f"PhotoTour {name.removeprefix('phototour-').capitalize()}"
    if name.startswith("demo-town-"):
        return f"Demo town {name.removeprefix('demo-town-')}"
    if name.startswith("demo-pairs-"):
        return f"Demo town {name.removeprefix('demo-pairs-')}, pairs"
    return _DATASETS.get(name, name)


def protocol_title(name: str) -> str:
    """Return the description of a protocol, with the estimator that ``+`` joins to it."""
    rules, _, estimator = name.partition("+")
    title = _PROTOCOLS.get(rules, rules)
    return f"{title}, {estimator}" if estimator else title


def part_order(part: str) -> tuple[int, tuple[tuple[str, int, str], ...]]:
    """Return the place of a part in a table: the main parts first, then others by name.

    ``5 images`` comes before ``10 images``.
    """
    place = MAIN_PARTS.index(part) if part in MAIN_PARTS else len(MAIN_PARTS)
    return place, natural_key(part)
