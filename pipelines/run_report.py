"""The page of a run, ``report.html``, made from what the run's output folder has.

A part of the page that cannot be made is reported on it; where there can be no page at all, the log
says so, and the results stay as they are.
"""

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pycolmap

from featplug.cli.config_file import CONFIG
from featplug.colmap.database import image_ids
from featplug.colmap.geometric_verification import verified_pairs
from featplug.colmap.model_files import holds_model, read_model
from featplug.io.files import write_whole_text
from featplug.io.metric_table import find_metric, format_value
from featplug.io.pair_lists import Pair
from featplug.io.results import read_results
from featplug.io.typed_json import printable, read_json
from featplug.localization.log import LOGS
from featplug.report.inline_images import InlinePicture, inline_picture
from featplug.report.match_pictures import match_picture, quartile_pairs
from featplug.report.model_views import (
    ModelView,
    PlacedCamera,
    placed_camera,
    view_model,
    view_scene,
)
from featplug.report.pair_matrix import pair_matrix
from featplug.report.run_page import (
    Figure,
    ImageTable,
    LeftOut,
    RunPage,
    TextTable,
    render_run_page,
)
from featplug.report.stage_bars import draw_stages
from featplug.stages.map import SPARSE
from featplug.stages.pairs import natural_key
from featplug.utils.errors import described
from pipelines.localization_picture import FAILURES, PICTURE
from pipelines.run_record import PipelineRecord, method_line
from pipelines.sfm_summary import notes, setting

PAGE = "report.html"
"""Name of the page in an output folder."""
_FIRST_FIGURES = (
    *("sparse_points", "observations", "mean_track_length", "mean_reprojection_error"),
    *("verified_pairs", "median_position_error", "median_rotation_error"),
)
"""Metrics that the page begins with, after the numbers of images."""
_PICTURES = {
    PICTURE: ("Localized queries", "cameras from above, and matches of some queries"),
    FAILURES: ("Failures", "queries without a pose, or with a wrong one"),
}
"""Picture of a localization to its title and its caption."""
_MOST_CONTRADICTED = 2
"""Number of contradicted pairs that are drawn."""

_Made = TypeVar("_Made")
logger = logging.getLogger(__name__)


def write_report(folder: Path) -> bool:
    """Write the page of the run that a folder has; return whether it could be made."""
    try:
        record = read_results(folder / "results.json", PipelineRecord)
        contents = _Contents(folder, record)
        page = _of_sfm(contents) if record["pipeline"] == "sfm" else _of_localization(contents)
        write_whole_text(folder / PAGE, render_run_page(page))
    except Exception as error:  # no page is worth the results
        logger.warning("%s could not be made: %s", folder / PAGE, described(error))
        return False
    return True


def files_line(files: Sequence[str], folder: Path) -> str:
    """Return the last line of a run: where its files are, and the page to look at."""
    listed = f"{', '.join(files[:-1])} and {files[-1]} are in {folder}"
    page = folder / PAGE
    return f"{listed}; look at {page}" if page.is_file() else listed


@dataclass
class _Contents:
    """A run, and what its page cannot show."""

    folder: Path
    record: PipelineRecord
    failed: list[LeftOut] = field(default_factory=list)

    def attempt(self, subject: str, make: Callable[..., _Made], *arguments: Any) -> _Made | None:
        """Make a part of the page; a part that fails is reported instead."""
        try:
            return make(*arguments)
        except Exception as error:  # of damaged files, and of images that have gone
            self.failed.append(LeftOut(subject, f"not shown: {described(error)}"))
            return None

    def page(self, **parts: Any) -> RunPage:
        """Return the page, with the parts that all runs have."""
        record, data = self.record, self.record["data"]
        config = self.folder / CONFIG
        command = shlex.join(["featplug", record["pipeline"], "--config", str(config)])
        costs = record["stages"]
        return RunPage(
            title=printable(_data_name(record)),
            method=printable(method_line(record)),
            metrics=[
                (name.replace("_", " "), _shown(name, entry["value"]), entry["unit"])
                for name, entry in record["metrics"].items()
            ],
            facts={
                "command": command if config.is_file() else "",
                "environment": record["environment"],
                "data": data.get("images") or data.get("dataset"),
                "fingerprint": data["fingerprint"],
                "weights": record["weights"],
                "options": record["options"],
            },
            stages=draw_stages(
                {"": {stage: cost.get("seconds", 0.0) for stage, cost in costs.items()}},
                {"": _with_key(costs, "peak_memory_mib")},
                {"": [stage for stage, number in record.get("reused", {}).items() if number]},
            ),
            left_out=[
                *(LeftOut(printable(n), printable(why)) for n, why in _left_out(data).items()),
                *self.failed,
            ],
            **parts,
        )


def _of_sfm(contents: _Contents) -> RunPage:
    folder, record = contents.folder, contents.record
    metrics, database = record["metrics"], folder / "database.db"
    parts: dict[str, Any] = {"view": contents.attempt("model", view_model, folder / SPARSE)}
    if names := contents.attempt("pairs", _ordered_names, database):
        inliers = contents.attempt("pairs", verified_pairs, database) or {}
        models = record.get("models", [])
        registered = models[0]["images"] if models else []
        parts |= {
            "matrix": contents.attempt("pairs", pair_matrix, names, inliers, registered),
            "images": contents.attempt("images", _image_table, contents, names, inliers),
            "pictures": _match_pictures(contents, database, inliers),
        }
    return contents.page(
        kind="Reconstruction",
        figures=[
            _ratio(metrics, "registered_images", "images", "images in the model"),
            *_figures(metrics, _FIRST_FIGURES),
        ],
        notes=[_sentence(note) for note in contents.attempt("notes", notes, record) or []],
        remarks=contents.attempt("cameras", setting, record) or [],
        pairs_by_inliers=record.get("verified_pairs_by_inliers", {}),
        **parts,
    )


def _image_table(
    contents: _Contents, names: Sequence[str], inliers: Mapping[Pair, int]
) -> ImageTable:
    """Return the images of a reconstruction, those in no model first."""
    model = read_model(contents.folder / SPARSE)
    num_points = {
        image.name: image.num_points3D for image in model.images.values() if image.has_pose
    }
    best = dict.fromkeys(names, 0)
    num_pairs = dict.fromkeys(names, 0)
    for pair, count in inliers.items():
        for name in pair:
            num_pairs[name] += 1
            best[name] = max(best[name], count)
    reasons = contents.record["data"].get("reasons_not_registered", {})
    rows = [
        (
            printable(name),
            num_points.get(name),
            num_pairs[name],
            best[name],
            "" if name in num_points else reasons.get(name, "is in another model"),
        )
        for name in sorted(names, key=lambda name: name in num_points)
    ]
    heads = ["image", "#points seen", "#verified pairs", "#most inliers"]
    if len(num_points) == len(names):
        return ImageTable(heads, [row[:-1] for row in rows])
    return ImageTable([*heads, "why it is not in the model"], rows)


def _match_pictures(
    contents: _Contents, database: Path, inliers: Mapping[Pair, int]
) -> dict[str, list[InlinePicture]]:
    """Draw an easy and a hard pair, and the strongest of those that contradict the model."""
    record = contents.record
    image_dir = Path(record["data"].get("images", ""))
    reading = record["options"].get("extraction", {})
    is_upright = reading.get("orientation", "exif") == "exif"
    contradicted = [tuple(pair["images"]) for pair in record.get("contradicted_pairs", [])]
    pictures: dict[str, list[InlinePicture]] = {}
    for title, pairs in (
        ("A pair with many verified matches, and one with few", quartile_pairs(inliers)),
        ("Pairs that the model contradicts", contradicted[:_MOST_CONTRADICTED]),
    ):
        for pair in pairs:
            subject, arguments = " and ".join(pair), (database, image_dir, pair, is_upright)
            if (picture := contents.attempt(subject, match_picture, *arguments)) is not None:
                pictures.setdefault(title, []).append(picture)
    return pictures


def _of_localization(contents: _Contents) -> RunPage:
    folder, record = contents.folder, contents.record
    log = contents.attempt("queries", _query_logs, folder / LOGS) or {}
    queries = contents.attempt("queries", _placed_queries, log) or {}
    conditions = record["data"].get("conditions", [])
    metrics = record["metrics"]
    return contents.page(
        kind="Localization",
        figures=_query_figures(metrics, conditions, len(log), len(queries)),
        conditions=_condition_table(metrics, conditions),
        view=contents.attempt("model", _localization_view, folder, queries),
        images=_query_table(log),
        images_title="Queries",
        pictures=_pictures_of_folder(contents),
    )


def _localization_view(folder: Path, queries: Mapping[str, PlacedCamera]) -> ModelView:
    """Return the reference model with the queries, or the queries alone where scans are it."""
    for model in (folder / "sfm" / "model", folder / SPARSE):
        if holds_model(model):
            return view_model(model, queries=queries)
    return view_scene(queries)


def _query_logs(path: Path) -> dict[str, Any]:
    logs: dict[str, Any] = read_json(path)["loc"]
    return logs


def _placed_queries(log: Mapping[str, Any]) -> dict[str, PlacedCamera]:
    placed = {}
    for name, entry in log.items():
        if entry.get("cam_from_world") is not None and entry.get("reason") is None:
            values = entry["camera"]
            camera = pycolmap.Camera(
                model=values["model"],
                width=values["width"],
                height=values["height"],
                params=values["params"],
            )
            placed[name] = placed_camera(camera, np.array(entry["cam_from_world"], float))
    return placed


def _query_table(log: Mapping[str, Any]) -> ImageTable:
    """Return the queries, those without a pose first."""
    has_confidence = any("confidence" in entry for entry in log.values())
    rows = []
    for name, entry in sorted(log.items(), key=lambda item: item[1].get("reason") is None):
        attempts = entry.get("attempts") or [{}]
        best = attempts[min(entry.get("best_attempt") or 0, len(attempts) - 1)]
        confidence = [entry.get("confidence")] if has_confidence else []
        rows.append(
            (
                printable(name),
                *confidence,
                entry.get("num_inliers"),
                best.get("num_matches"),
                printable(entry.get("reason") or ""),
            )
        )
    heads = ["query", *(["#confidence"] if has_confidence else []), "#inliers", "#matches"]
    digits = {"confidence": 2}
    if not any(row[-1] for row in rows):
        return ImageTable(heads, [row[:-1] for row in rows], digits)
    return ImageTable([*heads, "why it is not localized"], rows, digits)


def _query_figures(
    metrics: Mapping[str, Any], conditions: Sequence[str], num_queries: int, num_localized: int
) -> list[Figure]:
    figures = [Figure(f"{num_localized:,} of {num_queries:,}", "queries localized")]
    if not conditions:
        recalls = [name for name in metrics if name.startswith("recall_")]
        figures += _figures(metrics, [*recalls, "median_position_error", "median_rotation_error"])
    return figures + _figures(metrics, ("database_images", "sparse_points", "scans_used"))


def _condition_table(metrics: Mapping[str, Any], conditions: Sequence[str]) -> TextTable | None:
    """Return the metrics of each condition, one column each."""
    if not conditions:
        return None
    names = dict.fromkeys(
        name.removeprefix(f"{condition}_")
        for condition in conditions
        for name in metrics
        if name.startswith(f"{condition}_")
    )
    rows = []
    for condition in conditions:
        entries = [metrics.get(f"{condition}_{name}") for name in names]
        shown = [
            "–" if entry is None else _shown(name, entry["value"])
            for name, entry in zip(names, entries, strict=True)
        ]
        rows.append([condition, *shown])
    return TextTable(["condition", *(_title(name, metrics, conditions) for name in names)], rows)


def _title(name: str, metrics: Mapping[str, Any], conditions: Sequence[str]) -> str:
    entry = next(metrics[f"{c}_{name}"] for c in conditions if f"{c}_{name}" in metrics)
    return _labelled(name, entry["unit"])


def _pictures_of_folder(contents: _Contents) -> dict[str, list[InlinePicture]]:
    pictures = {}
    for name, (title, caption) in _PICTURES.items():
        path = contents.folder / name
        if path.is_file():
            picture = contents.attempt(name, inline_picture, path, caption)
            if picture is not None:
                pictures[title] = [picture]
    return pictures


def _ordered_names(database: Path) -> list[str]:
    if not database.is_file():  # else an empty one is made
        raise FileNotFoundError(f"There is no database {database}.")
    return sorted(image_ids(database), key=natural_key)


def _data_name(record: PipelineRecord) -> str:
    path = Path(record["data"].get("images") or record["data"].get("dataset") or "")
    return path.parent.name if path.name == "images" else path.name


def _figures(metrics: Mapping[str, Any], names: Sequence[str]) -> list[Figure]:
    return [
        Figure(_shown(name, metrics[name]["value"]), _labelled(name, metrics[name]["unit"]))
        for name in names
        if name in metrics
    ]


def _ratio(metrics: Mapping[str, Any], name: str, of: str, label: str) -> Figure:
    part, whole = (metrics[each]["value"] for each in (name, of))
    return Figure(f"{part:,.0f} of {whole:,.0f}", label)


def _shown(name: str, value: float) -> str:
    metric = find_metric(name)
    return format_value(value, 3 if metric is None else metric.digits)


def _labelled(name: str, unit: str) -> str:
    """Return the title of a metric, with its unit where the title does not say it."""
    metric = find_metric(name)
    title = name.replace("_", " ") if metric is None else metric.title
    is_counted = unit in title.split() or unit in (
        "images",
        "points",
        "pairs",
        "observations",
        "scans",
    )
    return title if is_counted or " per " in unit else f"{title}, {unit}"


def _sentence(note: str) -> str:
    return printable(f"{note[:1].upper()}{note[1:].rstrip('.')}.")


def _left_out(data: Mapping[str, Any]) -> dict[str, str]:
    """Return what a run has left out, and why."""
    reasons = dict(data.get("skipped", {}))
    reasons |= {n: f"it {why}" for n, why in data.get("reasons_not_registered", {}).items()}
    reasons |= data.get("not_localized", {})
    return reasons | {n: f"not drawn: {why}" for n, why in data.get("not_drawn", {}).items()}


def _with_key(costs: Mapping[str, Mapping[str, float]], key: str) -> dict[str, float]:
    return {stage: cost[key] for stage, cost in costs.items() if key in cost}
