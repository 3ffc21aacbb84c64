"""The commands of ``featplug`` by name; nothing is imported before its command runs."""

import ast
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featplug.methods.packages import Packages
from featplug.utils.suggestions import did_you_mean


@dataclass(frozen=True)
class Command:
    """A command, or a group of them, that is imported when it is called."""

    target: str
    """Function, or mapping of names to commands, as module:name."""
    summary: str
    """Purpose, in one line."""
    reads_own_arguments: bool = False
    """Whether the function takes its command line as text, and how it is called."""
    data_set: str | None = None
    """Name of the data set whose command the target returns, where it is one of several."""

    def load(self) -> Any:
        """Import the target."""
        module, _, name = self.target.partition(":")
        target = getattr(importlib.import_module(module), name)
        return target if self.data_set is None else target(self.data_set)


Entry = Command | Callable[..., Any]


@dataclass(frozen=True)
class Group:
    """Commands that share their first word."""

    summary: str
    """Purpose, in one line."""
    sections: Mapping[str, Mapping[str, Entry]]
    """Title to commands by name, in the order in which help shows them."""
    epilog: str = ""
    """End of the help text."""
    find_more: Callable[[str], Entry | None] = lambda _: None
    """Returns a command that is not listed, or None."""

    def find(self, name: str, prog: str) -> Entry:
        """Return the command of a name; raise ValueError, with the closest name, for others."""
        commands = {name: c for named in self.sections.values() for name, c in named.items()}
        if name in commands:
            return commands[name]
        if name.startswith("-"):
            raise ValueError(f"{name} must come after a command: `{prog} COMMAND {name}`.")
        if (more := self.find_more(name)) is not None:
            return more
        suggestion = did_you_mean(name, commands)
        raise ValueError(f"{name!r} is not a command.{suggestion} `{prog} --help` lists them.")

    def help(self, prog: str) -> str:
        """Return the text of ``--help``."""
        lines = [f"usage: {prog} COMMAND [OPTIONS]", "", self.summary]
        width = 2 + max(len(name) for named in self.sections.values() for name in named)
        for title, named in self.sections.items():
            lines += ["", f"{title}:"]
            lines += [f"  {name:<{width}}{_summary(entry)}" for name, entry in named.items()]
        lines += ["", f"`{prog} COMMAND --help` shows the options of a command.", self.epilog]
        return "\n".join(lines).rstrip()


def _summary(entry: Entry) -> str:
    if isinstance(entry, Command):
        return entry.summary
    return (inspect.getdoc(entry) or "").partition("\n")[0]


def _cli(target: str, summary: str, reads_own_arguments: bool = False) -> Command:
    return Command(f"featplug.cli.{target}", summary, reads_own_arguments)


BENCHMARKS = {
    "matching": Command("benchmarks.matching.__main__:main", "Matches on pairs of known geometry."),
    "relative-pose": Command(
        "benchmarks.relative_pose.__main__:main", "Poses of image pairs, by several estimators."
    ),
    "patches": Command("benchmarks.patches.__main__:main", "Descriptors of given patches."),
    "reconstruction": Command(
        "benchmarks.reconstruction.__main__:main", "Models that COLMAP makes."
    ),
    "localization": Command("benchmarks.localization:main", "Recalls of visual localization."),
    "speed": Command("benchmarks.speed.__main__:main", "Seconds and peak memory of each stage."),
    "accept": Command("benchmarks.accept.__main__:main", "Compare with the papers on your data."),
    "published": Command("benchmarks.published.__main__:main", "List or check published numbers."),
    "run": Command("benchmarks.run.__main__:main", "The benchmarks of a suite, to one page."),
    "site": Command("benchmarks.site.__main__:main", "Make a leaderboard of static pages."),
    "submit": Command("benchmarks.submit:main", "Make one file of runs, for a leaderboard."),
}
"""The commands of ``featplug bench``."""
TRAIN = _cli("training_commands:COMMANDS", "Train a feature on a folder of photographs.")
"""The command ``featplug train``."""


def data_set_commands(pipelines: Path) -> dict[str, Command]:
    """Return the commands of the data sets: one for each file of ``datasets/`` with a pipeline.

    Args:
        pipelines: folder of the package. Where it has a file of the data set's name, that is the
            command, and its first line the summary. Files are read, and not imported.
    """
    commands = {}
    for data_set in sorted((pipelines / "datasets").glob("[!_]*.py")):
        module = ast.parse(data_set.read_text("utf-8"))
        if (path := pipelines / data_set.name).is_file():
            text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            commands[path.stem] = Command(f"pipelines.{path.stem}:main", text.partition("\n")[0])
        elif (name := _pipeline_name(module)) is not None:
            title = (ast.get_docstring(module) or name).partition("\n")[0].partition(":")[0]
            summary = f"Localize the queries of {title}."
            commands[name] = Command("pipelines.localize:data_set_command", summary, data_set=name)
    return commands


def _pipeline_name(module: ast.Module) -> str | None:
    """Return the ``pipeline`` of a class of options in the code of a data set, if it has one."""
    for node in ast.walk(module):
        match node:
            case ast.Assign(targets=[ast.Name(id="pipeline")], value=ast.Constant(value=str(name))):
                return name
    return None


_PIPELINES = {
    "sfm": Command("pipelines.sfm:main", "Reconstruct a folder of photographs."),
    "localize": Command("pipelines.localize:main", "Localize photographs in a COLMAP model."),
    "serve": _cli("serve_command:serve", "Answer photographs with their poses, by HTTP."),
}
_DATA_SETS = {
    name: command
    for name, command in data_set_commands(Path(__file__).parents[2] / "pipelines").items()
    if name not in _PIPELINES
}
_STAGES = {
    "shard": _cli("shard_commands:COMMANDS", "Cut an image set into shards, for many machines."),
    "slurm": _cli("shard_commands:SLURM", "Write scripts for Slurm that make a store's parts."),
    "status": _cli("shard_commands:status", "Show what is done of a store, and the time left."),
    "consolidate": _cli("shard_commands:consolidate_parts", "Make one file of parts, for hloc."),
    "rename": _cli("stage_commands:rename", "Rename photographs whose names files cannot carry."),
    "extract": _cli("stage_commands:extract", "Extract the features of a folder of images."),
    "pairs": _cli("pair_commands:COMMANDS", "Choose which images are matched with which."),
    "match": _cli("stage_commands:match", "Match the pairs of a list."),
    "verify": _cli("shard_commands:verify", "Verify the matches of a store."),
    "retrieve": _cli("stage_commands:retrieve", "Describe each image as a whole, for retrieval."),
}
_HLOC = "Run a module of hloc, or a script that uses it, with featplug's features."
_EXCHANGE = {
    "hloc": _cli("hloc_command:run_hloc", _HLOC, reads_own_arguments=True),
    "export": _cli("exchange_commands:EXPORTS", "Write files of COLMAP, kapture and others."),
    "import": _cli("exchange_commands:IMPORTS", "Read files of COLMAP, kapture and others."),
}
_CATALOGUE = {
    "list": _cli("catalogue_commands:list_methods", "List the features and their weights."),
    "weights": _cli("catalogue_commands:WEIGHTS", "List, fetch, verify and import weights."),
    "doctor": _cli("catalogue_commands:doctor", "Report what is installed and what works here."),
}
_STUDY = {
    "bench": _cli("program:BENCHMARKS", "Measure features; compare with published numbers."),
    "report": Command("benchmarks.report.__main__:main", "Make one page of the results of runs."),
    "train": TRAIN,
}


def data_set_of_package(name: str) -> Entry | None:
    """Return the command of a data set of an installed package, or None."""
    if name not in dict(Packages("featplug.datasets").names()):
        return None
    command: Entry = importlib.import_module("pipelines.localize").data_set_command(name)
    return command


PROGRAM = Group(
    "Local features for COLMAP and hloc: extract, match, reconstruct, localize and compare.",
    {
        "Photographs to a model or to poses, in one command": _PIPELINES,
        "Queries of data sets to poses": _DATA_SETS,
        "Step by step, with files that hloc reads": _STAGES,
        "Work with other tools": _EXCHANGE,
        "Features and weights": _CATALOGUE,
        "Compare and train": _STUDY,
    },
    """
Start with:
  featplug list                             the features, and which are ready to use here
  featplug sfm --images DIR --feature sift  photographs to a COLMAP model
  featplug localize --model outputs/sfm/DIR-sift --queries NEW
                                            new photographs to poses in that model
  featplug aachen --dataset demo            queries to poses, in a small rendered town

Each command also takes --config FILE (a run's config.toml), --quiet and --version.""",
    data_set_of_package,
)
"""The program ``featplug``."""

_MODULES = {
    "featplug ": "",
    "python -m pipelines.": "",
    "python -m benchmarks.report": "report",
    "python -m benchmarks.": "bench ",
    "python -m featplug.training ": "train ",
}


def command_name(prog: str) -> str:
    """Return a command's name in ``featplug``, however it is called."""
    for start, name in _MODULES.items():
        if prog.startswith(start):
            return name + prog.removeprefix(start)
    return prog
