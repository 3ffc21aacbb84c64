"""The head of ``results.json`` of a pipeline, and what its figures look like as text."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, NotRequired, TypedDict

from featplug.io.results import SCHEMA_VERSION, Metrics, StageCosts, WeightsFiles, environment
from featplug.io.typed_json import NonNegative
from featplug.methods import retrieval_conf
from featplug.methods.method_sources import source_records
from featplug.stages.extract import weights_files
from pipelines.given_files import Features
from pipelines.run import Stages
from pipelines.run_options import PipelineOptions, plain


class _RecordedOptions(TypedDict):
    seed: NotRequired[int | None]


class _DataRecord(TypedDict):
    fingerprint: str
    images: NotRequired[str]
    dataset: NotRequired[str]
    conditions: NotRequired[list[str]]
    skipped: NotRequired[dict[str, str]]
    not_registered: NotRequired[list[str]]
    not_localized: NotRequired[dict[str, str]]
    not_drawn: NotRequired[dict[str, str]]
    notes: NotRequired[dict[str, str]]


class _RecordedModel(TypedDict):
    points: Annotated[int, NonNegative]
    images: list[str]


class _RecordedPair(TypedDict):
    images: list[str]


class PipelineRecord(TypedDict):
    """Record of a pipeline: the keys of ``results.json`` that are read again (docs/results.md)."""

    pipeline: str
    options: Annotated[dict[str, Any], _RecordedOptions]
    feature: str
    matcher: str
    methods: NotRequired[list[dict[str, str]]]
    weights: WeightsFiles
    environment: dict[str, Any]
    data: Annotated[dict[str, Any], _DataRecord]
    stages: StageCosts
    reused: NotRequired[dict[str, Annotated[int, NonNegative]]]
    metrics: Metrics
    models: NotRequired[list[Annotated[dict[str, Any], _RecordedModel]]]
    verified_pairs_by_inliers: NotRequired[dict[str, Annotated[int, NonNegative]]]
    contradicted_pairs: NotRequired[list[Annotated[dict[str, Any], _RecordedPair]]]


def run_record(stages: Stages, options: PipelineOptions, features: Features) -> dict[str, Any]:
    """Return the head of ``results.json``: options, feature, matcher, weights and machine."""
    retrieval, extraction = stages.retrieval, options.extraction
    feature, matcher, pairs = stages.feature, stages.feature_matcher, stages.detector_free
    named = extraction.method.feature if feature else str(extraction.features)
    loaded = [feature and feature.extractor, matcher and matcher.matcher, pairs and pairs.method]
    return {
        "schema_version": SCHEMA_VERSION,
        "pipeline": options.pipeline,
        "options": plain(asdict(options)),
        "feature": stages.matcher if pairs else named,
        "feature_conf": feature.conf if feature else None,
        "matcher": stages.matcher if matcher or pairs else str(options.matches),
        "matcher_conf": matcher.conf if matcher else pairs.matcher.conf if pairs else None,
        "methods": [record for method in loaded if method for record in source_records(method)],
        "retrieval_conf": retrieval_conf(options.retrieval) if retrieval else None,
        "weights": [
            *features.weights,
            *(weights_files(matcher.matcher) if matcher else []),
            *(retrieval.weights if retrieval else []),
        ],
        "environment": environment(),
    }


def method_line(results: Mapping[str, Any]) -> str:
    """Return the feature and the matcher of a run as text."""
    return " + ".join(dict.fromkeys([results["feature"], results["matcher"]]))


def metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return metrics as lines of text."""
    lines = []
    for name, entry in metrics.items():
        value = entry["value"]
        shown = f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.4g}"
        lines.append(f"  {name.replace('_', ' '):<28}{shown:>12} {entry['unit']}")
    return lines


_KINDS = {"notes": "note", "not_localized": "not localized", "not_drawn": "not drawn"}


def outcome_lines(results: Mapping[str, Any]) -> list[str]:
    """Return the cost of a run's stages, and what could not be used, as lines of text."""
    lines, data = [], results["data"]
    for name, stage in results["stages"].items():
        line = f"  {name:<28}{stage['seconds']:>12.1f} s, peak {stage['peak_memory_mib']:.0f} MiB"
        reused = results["reused"].get(name, 0)
        lines.append(line + (f" ({reused} reused)" if reused else ""))
    lines += [f"  skipped: {reason}" for reason in data["skipped"].values()]
    for kind in ("notes", "not_localized", "not_drawn"):
        failed = data.get(kind, {}).items()
        lines += [f"  {_KINDS[kind]}: {name}: {reason}" for name, reason in failed]
    return lines
