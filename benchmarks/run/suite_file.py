"""Suites: TOML files that say which methods are measured by which benchmarks on which data.

Keys at the top are options of all blocks that have them; a block ``[BENCHMARK.NAME]`` has options
of its own::

    title = "SIFT and a ratio test"
    methods = ["sift+NN-mutual", "sift+NN-ratio"]
    max_keypoints = 2048

    [matching.oxford]
    dataset = "oxford"

Data are looked up next to the file and in the folder ``$FEATPLUG_DATA``.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

import tyro

from benchmarks.choices import BenchmarkOptions
from benchmarks.run.suite_data import DataPlaces
from benchmarks.run.suite_methods import as_list, beside, method_options
from featplug.cli.config_file import from_table
from featplug.cli.program import BENCHMARKS
from featplug.io.text_files import read_text
from featplug.utils.suggestions import unknown_name, unknown_option

_FOLDER = files("benchmarks") / "suites"
_OWN = ("title", "methods", "method_files")
"""Keys that are no options of the benchmarks."""
_INSTEAD = {"feature": "methods", "feature_dir": "--outputs", "outputs": "--outputs"}
"""Options that a suite sets, and what to use instead."""
_SEEDS = {"seeds", "num_seeds"}
_NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class Block:
    """One benchmark of a suite."""

    benchmark: str
    """Name of the command, such as relative-pose."""
    own_name: str
    options: Any
    """Options of the benchmark, a :class:`~benchmarks.choices.BenchmarkOptions`; the output folder
    is not set."""

    @property
    def name(self) -> str:
        """Name in messages, as in the suite."""
        return f"{self.benchmark}.{self.own_name}"

    @property
    def word(self) -> str:
        """Name of the folder of the results."""
        return f"{self.benchmark}-{self.own_name}"

    def is_meant(self, name: str) -> bool:
        """Return whether a name that a user gave is that of this block, or of its benchmark."""
        return name in (self.name, self.own_name, self.benchmark)


@dataclass(frozen=True)
class Suite:
    """What a suite's file says."""

    path: Path
    title: str
    blocks: list[Block]
    missing: list[str]
    """Data that were not found."""


def read_suite(
    name: str, data: Mapping[str, Path] | None = None, more_methods: Sequence[str] = ()
) -> Suite:
    """Read a suite of featplug by its name, or one of a file.

    Args:
        name: name or path.
        data: name of a data set in the suite to its folder.
        more_methods: methods to measure in addition to those that all blocks share.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no such suite exists, the file is no suite, or it does not use a name of
            ``data``.
    """
    path = _suite_path(name)
    try:
        table = tomllib.loads(read_text(path, "suite"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a suite: {error}; correct it. [BENCHMARK.NAME] needs a NAME of its own."
        ) from error
    reader = _BlockReader(path, table, more_methods)
    blocks = list(reader.read())
    if not blocks:
        raise ValueError(
            f'{path} has no benchmark; add one, such as [matching.oxford] with dataset = "oxford".'
        )
    known = [*_OWN, *(entry.name for block in blocks for entry in fields(block.options))]
    for key in reader.shared:
        if key not in known:
            raise unknown_option(str(path), key, dict.fromkeys(known))
    words = [block.word.casefold() for block in blocks]  # some disks know no upper case
    for block, word in zip(blocks, words, strict=True):
        if words.count(word) > 1:
            raise ValueError(f"{path}: {block.name} is the name of two blocks; rename one.")
    title = table.get("title", "Local features")
    if not isinstance(title, str):
        raise ValueError(f"{path}: title must be a text, not {title!r}.")
    places = DataPlaces(path.parent, dict(data or {}))
    blocks = [replace(block, options=places.resolve(block.options)) for block in blocks]
    places.check_used(path)
    return Suite(path, title, blocks, list(places.missing))


def chosen_blocks(suite: Suite, names: Sequence[str]) -> list[Block]:
    """Return the blocks of the given names, or all.

    Raises:
        ValueError: no block has the name.
    """
    for name in names:
        if not any(block.is_meant(name) for block in suite.blocks):
            raise unknown_name("block", name, [block.name for block in suite.blocks])
    return [b for b in suite.blocks if not names or any(b.is_meant(name) for name in names)]


def _suite_path(name: str) -> Path:
    if Path(name).suffix == ".toml" or Path(name).is_file():
        return Path(name)
    known = sorted(Path(entry.name).stem for entry in _FOLDER.iterdir())
    if name not in known:
        raise unknown_name("suite", name, known)
    return Path(str(_FOLDER / f"{name}.toml"))


@cache
def _options_of(benchmark: str) -> type[BenchmarkOptions] | None:
    """Return the class of a benchmark's options; None for another command of ``featplug bench``."""
    if benchmark not in BENCHMARKS or BENCHMARKS[benchmark].reads_own_arguments:
        return None
    kind = get_type_hints(BENCHMARKS[benchmark].load()).get("options")
    is_benchmark = isinstance(kind, type) and issubclass(kind, BenchmarkOptions)
    return kind if is_benchmark else None


@dataclass(frozen=True)
class _BlockReader:
    """The blocks of a suite's table."""

    path: Path
    table: Mapping[str, Any]
    more_methods: Sequence[str]

    @property
    def shared(self) -> dict[str, Any]:
        """Options of all blocks that have them."""
        return {key: value for key, value in self.table.items() if not isinstance(value, dict)}

    def read(self) -> Iterator[Block]:
        for benchmark, blocks in self.table.items():
            if not isinstance(blocks, dict):
                continue
            kind = _options_of(benchmark)
            if kind is None:
                known = [name for name in BENCHMARKS if _options_of(name) is not None]
                raise ValueError(f"{self.path}: {unknown_name('benchmark', benchmark, known)}")
            for own_name, own in blocks.items():
                if not isinstance(own, dict):
                    raise ValueError(
                        f"{self.path}, [{benchmark}]: {own_name} is in no block; write "
                        f"[{benchmark}.NAME] above it, with a name of yours."
                    )
                where = f"{self.path}, [{benchmark}.{own_name}]"
                if not _NAME.fullmatch(own_name):
                    raise ValueError(f"{where}: use letters, digits, and - + . in the name only.")
                yield Block(benchmark, own_name, self._options(benchmark, kind, own, where))

    def _options(
        self, benchmark: str, kind: type[BenchmarkOptions], own: Mapping[str, Any], where: str
    ) -> Any:
        known = {*_OWN, *(entry.name for entry in fields(kind))}
        shared = {key: value for key, value in self.shared.items() if key in known}
        if _SEEDS & own.keys():
            shared = {key: value for key, value in shared.items() if key not in _SEEDS}
        more = () if "methods" in own else self.more_methods
        table = {**shared, **own}
        table.pop("title", None)
        for key, instead in _INSTEAD.items():
            if key in table:
                raise ValueError(f"{where}: {key} is set by the suite; use {instead} instead.")
        folder = self.path.parent
        options = method_options(table.pop("methods", []), folder, where, more)
        for key in options.keys() & table.keys():
            raise ValueError(f"{where}: {key} is that of a method; write it in methods.")
        method_files = as_list(table.pop("method_files", []), "method_files", where)
        if method_files:
            table["methods"] = [beside(folder, file) for file in method_files]
        try:
            made = from_table(BENCHMARKS[benchmark].load(), {**table, **options}, where)["options"]
        except (ValueError, OSError) as error:
            text = str(error)
            raise ValueError(text if text.startswith(where) else f"{where}: {text}") from error
        shared_only = [name for name in made.without_effect if name in shared and name not in own]
        defaults = {entry.name: entry.default for entry in fields(made)}
        made = replace(made, **{name: defaults[name] for name in shared_only})
        for entry in fields(made):
            if getattr(made, entry.name) is tyro.MISSING:
                raise ValueError(f"{where} has no {entry.name}; add it.")
        return made
