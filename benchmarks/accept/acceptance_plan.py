"""The plan of an acceptance: which methods are measured on which data, by the papers' protocols."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import tomli_w

from benchmarks.accept.found_data import Found, FoundData, sources
from benchmarks.choices import BenchmarkOptions
from benchmarks.localization import LocalizationBenchmark
from benchmarks.matching.__main__ import MatchingOptions
from benchmarks.matching.protocols import PROTOCOLS
from benchmarks.measured_method import find_method
from benchmarks.pairs.pair_protocol import PairProtocol
from benchmarks.patches.__main__ import PatchOptions
from benchmarks.published.check_numbers import is_measured, is_method
from benchmarks.published.published_numbers import Published, canonical_dataset, load_published
from benchmarks.reconstruction.options import ReconstructionOptions
from benchmarks.record import counted
from benchmarks.relative_pose.__main__ import RelativePoseOptions
from benchmarks.relative_pose.pose_protocols import PROTOCOLS as POSE_PROTOCOLS
from featplug.methods import is_pair_matcher, retrieval_conf
from featplug.utils.suggestions import unknown_name
from featplug.weights.catalogue import weights_of
from featplug.weights.loading import require_weights
from featplug.weights.registry import get_entry, preferred_entries

_OPTIONS: dict[str, type[BenchmarkOptions]] = {
    "matching": MatchingOptions,
    "patches": PatchOptions,
    "reconstruction": ReconstructionOptions,
    "relative-pose": RelativePoseOptions,
    "localization": LocalizationBenchmark,
}
_PAIR_PROTOCOLS: dict[str, PairProtocol] = {**PROTOCOLS, **POSE_PROTOCOLS}
_SECONDS_OF_IMAGE, _SECONDS_OF_PAIR = 4.0, 0.5
"""Rough times of a network and a matcher on two cores of a CPU."""
_SPLIT = "hpatches-patches-"


@dataclass(frozen=True)
class Task:
    """One benchmark on one data set with the same options, and its methods."""

    data: FoundData
    protocol: str | None
    """Protocol of the published numbers; None where there are none."""
    methods: tuple[str, ...]
    numbers: tuple[Published, ...] = ()
    """Published numbers of the methods."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the benchmark, as in a suite."""

    @property
    def block(self) -> tuple[str, str]:
        """Benchmark, and name of the block in a suite."""
        words = [self.data.name, self.protocol or "own"]
        words += [f"{name}-{value}" for name, value in self.options.items() if name in _LIMITS]
        return self.data.benchmark, "-".join(words).replace("_", "-")

    @property
    def rules(self) -> str:
        """Protocol and options in words."""
        limits = [f"{name} {v}" for name, v in self.options.items() if name in _LIMITS]
        return ", ".join([self.protocol or "its first protocol", *limits])

    @property
    def seconds(self) -> float | None:
        """Rough time on two cores of a CPU; None where it is not known."""
        data = self.data
        if not data.num_images:
            return None
        of_method = data.num_images * _SECONDS_OF_IMAGE + data.num_pairs * _SECONDS_OF_PAIR
        return len(self.methods) * of_method


_LIMITS = ("max_keypoints", "resize_max", "num_loc", "retrieval", "threshold")
"""Options that tell two tasks of one protocol apart."""


@dataclass(frozen=True)
class Plan:
    """What can be measured, and what is missing."""

    tasks: list[Task]
    without_weights: dict[str, str]
    """Method to how to get its weights."""
    missing: dict[str, str]
    """Data set that was not found to where it is to be had."""
    without_numbers: list[FoundData]
    """Data sets on which no method here has a published number."""


def make_plan(found: Found, requested: Sequence[str] = (), names: Sequence[str] = ()) -> Plan:
    """Plan what can be measured.

    Args:
        found: what a folder has.
        requested: methods to measure, also with other weights than the authors'; by default all
            that have published numbers, with the authors' weights.
        names: data sets to measure on; by default all.

    Raises:
        ValueError: a requested method or data set does not exist.
        FileNotFoundError: the file of a class does not exist.
    """
    for name in requested:
        find_method(name)
    present = [data.name for data in found.data]
    for name in names:
        if name not in present:
            raise unknown_name("data set", name, present)
    without_weights: dict[str, str] = {}
    tasks, without_numbers = [], []
    for data in (data for data in found.data if not names or data.name in names):
        groups = _groups(data, requested)
        if not groups:
            without_numbers.append(data)
        for (protocol, options), (methods, numbers) in groups.items():
            retrieval = dict(options).get("retrieval")
            if retrieval is not None and (reason := _lacks_retrieval(retrieval)):
                without_weights[retrieval] = reason
                continue
            for method in methods:
                if method not in without_weights and (reason := _lacks(method, bool(requested))):
                    without_weights[method] = reason
            usable = tuple(method for method in methods if method not in without_weights)
            if usable:
                of_usable = tuple(number for number in numbers if number.feature in usable)
                options_of_task = {**data.options, **dict(options)}
                tasks.append(Task(data, protocol, usable, of_usable, options_of_task))
    published = {canonical_dataset(n.dataset) for n in load_published() if is_method(n.feature)}
    here = set(map(canonical_dataset, present))
    missing = {
        name: source
        for name, source in sources().items()
        if _is_among(name, published) and not _is_among(name, here)
    }
    return Plan(tasks, without_weights, missing, without_numbers)


def _is_among(name: str, names: set[str]) -> bool:
    """Return whether a data set, or one of its sets such as phototour-liberty, is among names."""
    plain = canonical_dataset(name)
    return plain in names or any(other.startswith(plain) for other in names)


_Options = tuple[tuple[str, Any], ...]
_Group = tuple[list[str], list[Published]]
"""Methods, and their published numbers."""


def _groups(data: FoundData, requested: Sequence[str]) -> dict[tuple[str | None, _Options], _Group]:
    """Return what is measured on a data set, by protocol and options.

    Requested methods without published numbers are measured by the first protocol.
    """
    groups: dict[tuple[str | None, _Options], _Group] = {}
    others = dict.fromkeys(requested)
    for number in load_published():
        if not _is_of(number, data) or (requested and number.feature not in requested):
            continue
        options = _options(number)
        if options is not None:
            others.pop(number.feature, None)
            methods, numbers = groups.setdefault((number.protocol, options), ([], []))
            numbers.append(number)
            if number.feature not in methods:
                methods.append(number.feature)
    if others:
        groups[None, ()] = list(others), []
    return groups


def _is_of(number: Published, data: FoundData) -> bool:
    return (
        number.benchmark == data.benchmark
        and canonical_dataset(number.dataset) == canonical_dataset(data.name)
        and is_measured(number.protocol)
        and is_method(number.feature)
        and (number.weights is not None or not number.variant)  # else of a network not here
    )


def _options(number: Published) -> _Options | None:
    """Return the options of a benchmark, as in a suite, that a published number needs.

    None where it needs another limit of keypoints, which the protocol has for all methods.
    """
    known = {entry.name for entry in fields(_OPTIONS[number.benchmark])}
    options = {name: value for name, value in number.settings.items() if name in known}
    base, _, estimator = number.protocol.partition("+")
    protocol = _PAIR_PROTOCOLS.get(base)
    limit = options.pop("max_keypoints", None)
    own = None if protocol is None or is_pair_matcher(number.feature) else protocol.max_keypoints
    if limit != own and "max_keypoints" in number.settings:
        if protocol is None or not protocol.leaves_settings:
            return None
        options["max_keypoints"] = -1 if limit is None else limit
    if protocol is not None:
        options["protocol"] = (base,)
        if options.get("resize_max", protocol.resize_max) == protocol.resize_max:
            options.pop("resize_max", None)
        elif options["resize_max"] is None:
            options["resize_max"] = -1
    elif base.startswith(_SPLIT):
        options["split"] = base.removeprefix(_SPLIT)
    elif base.endswith("-local-features"):
        options["protocol"] = "local-features"
    if estimator:
        options["estimator"] = (estimator,)
        if isinstance(number.threshold, float | int):
            options["threshold"] = number.threshold
    return tuple(sorted((name, v) for name, v in options.items() if v is not None))


def _lacks(method: str, is_requested: bool) -> str | None:
    """Return how to get the authors' weights of a method; None where all are here.

    A requested method may have other weights, such as featplug's.
    """
    found = find_method(method)
    models = [found.conf["model"]] if found.conf else []
    if not found.matches_images:
        models.append(found.matcher_conf()["model"])
    for model in models:
        try:
            require_weights(model)
        except (ValueError, OSError) as error:
            return str(error)
        if not is_requested and (reason := _explain_others(model)):
            return reason
    return None


def _lacks_retrieval(name: str) -> str | None:
    try:
        require_weights(retrieval_conf(name)["model"])
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _explain_others(model: Mapping[str, Any]) -> str | None:
    """Return how to get the authors' weights of a model that would use others."""
    for checkpoint, status in weights_of(model).items():
        if status is not None and get_entry(status.entry).origin != "official":
            return preferred_entries(checkpoint)[0].explain_missing()
    return None


def suite_text(tasks: Iterable[Task], title: str) -> str:
    """Return the suite of tasks, as TOML."""
    table: dict[str, Any] = {"title": title}
    for task in tasks:
        benchmark, name = task.block
        folder = str(task.data.folder.resolve())
        data = {"patches": {"dataset": [folder]}, "reconstruction": {"scenes": [folder]}}
        block = {
            "methods": list(task.methods),
            **data.get(benchmark, {"dataset": folder}),
            **{k: list(v) if isinstance(v, tuple) else v for k, v in task.options.items()},
        }
        table.setdefault(benchmark, {})[name] = block
    return tomli_w.dumps(table)


def plan_lines(found: Found, plan: Plan) -> list[str]:
    """Return the plan as lines of text: what is measured, for how long, and what is missing."""
    lines = [
        f"{task.data.name} ({task.data.contents}) by {task.rules}: {', '.join(task.methods)}"
        f"{_time(task.seconds)}"
        for task in plan.tasks
    ]
    total = sum(task.seconds or 0 for task in plan.tasks)
    if len(plan.tasks) > 1:
        lines.append(f"{counted(len(plan.tasks), 'benchmark')}{_time(total)}")
    lines += [f"no published number: {d.name} ({d.contents})" for d in plan.without_numbers]
    lines += [f"cannot be used: {p.subject}: {p.reason}" for p in found.problems]
    lines += [f"no weights: {name}: {how}" for name, how in plan.without_weights.items()]
    lines += [f"not found: {source}" for source in dict.fromkeys(plan.missing.values())]
    return lines


def _time(seconds: float | None) -> str:
    if not seconds:
        return ""
    if seconds < 5400:
        return f", about {max(1, round(seconds / 60))} min on a CPU"
    return f", about {round(seconds / 3600)} h on a CPU"
