"""The command ``featplug hloc``: hloc's own modules and scripts with our confs."""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from featplug.hloc import register
from featplug.hloc.runner import prepare, run, search_first
from featplug.methods.method_files import add_methods
from featplug.utils.errors import has_own_traceback, show_own_traceback

_HELP = """\
usage: {prog} [OPTIONS] MODULE [arguments]
       {prog} [OPTIONS] SCRIPT.py [arguments]

Run a module of hloc, or a script that uses hloc, with featplug's confs in hloc's tables. Exit
code, signals and arguments are those of the program:

  {prog} extract_features --conf contextdesc --image_dir IMAGES --export_dir OUT
  {prog} match_features --conf featplug-NN-mutual --pairs PAIRS.txt \\
      --features feats-featplug-hloc-contextdesc --export_dir OUT
  {prog} pipelines.Aachen_v1_1.pipeline --dataset AACHEN --outputs OUT
  {prog} my_script.py --feature contextdesc

  --also NAME     add a feature with its matcher, or a matcher, such as lisrd@mtldesc,
                  aliked-n16+lightglue or my_file.py:Class; can be repeated
  --methods FILE  add the methods of a TOML file; can be repeated
  -h, --help      show this help
"""


def run_hloc(arguments: Sequence[str], prog: str) -> None:
    """Run the command; it exits as the program does, or with code 2 if no program can be run."""
    also, files, rest = _split(arguments)
    try:
        add_methods(map(Path, files))
        if rest[:1] in ([], ["-h"], ["--help"]):
            print(_HELP.format(prog=prog) + "\n" + _tables())
            sys.exit(0 if rest else 2)
        if rest[0].startswith("-"):
            raise ValueError(f"{rest[0]} must come after the module or script; see --help.")
        program, registration = prepare(rest[0], also)
    except Exception as error:
        if has_own_traceback(error):
            show_own_traceback(error)
            sys.exit(1)
        if not isinstance(error, ImportError | OSError | ValueError):
            raise
        print(f"{prog}: {error}", file=sys.stderr)
        sys.exit(2)
    run(program, registration, rest[1:])


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Split the values of our own options from the program and its arguments."""
    rest = list(arguments)
    given: dict[str, list[str]] = {"--also": [], "--methods": []}
    while len(rest) > 1 and rest[0] in given:
        given[rest[0]].append(rest[1])
        rest = rest[2:]
    return given["--also"], given["--methods"], rest


def _tables() -> str:
    """List our confs by hloc's names, or report why hloc cannot be imported."""
    search_first(Path.cwd())
    try:
        registration = register()
    except ImportError as error:
        return str(error)
    texts = (
        f"extract_features --conf: {', '.join(registration.extractors.values())}",
        f"match_features --conf: {', '.join(registration.matchers.values())}",
    )
    wrapper = textwrap.TextWrapper(96, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(map(wrapper.fill, texts))
