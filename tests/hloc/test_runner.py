"""``featplug hloc``: programs run as Python runs them, with our confs in their tables."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pycolmap
import pytest

from featplug.__main__ import main
from featplug.utils.versions import needs_configurations
from tests.hloc.conftest import STANDIN

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = ("-m", "featplug.hloc")

# So little that a process with it starts at once.
HLOC = {
    "__init__.py": "__version__ = '1.5'",
    "extractors/__init__.py": "",
    "matchers/__init__.py": "",
    "utils/base_model.py": "dynamic_load = None",
    "triangulation.py": (STANDIN / "hloc" / "triangulation.py").read_text(),
    "extract_features.py": """\
'''Extraction.'''
from __future__ import annotations
import argparse
import sys
from . import extractors

confs: dict = {'sift': {'output': 'feats-sift', 'model': {'name': 'dog'}}}
class ImageDataset:
    default_conf = {'resize_force': False}
def f(unknown: NotEvaluated): ...
if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--conf', choices=list(confs))
    conf = confs[parser.parse_args().conf]
    print(__doc__, __package__, __spec__.name, sys.modules['__main__'].confs is confs)
    print(conf['output'], conf['model']['name'], conf['matcher'])
""",
    "match_features.py": """\
confs = {'NN-mutual': {'output': 'matches-NN-mutual', 'model': {'name': 'nearest_neighbor'}}}
print(list(confs)) if __name__ == '__main__' else None
confs['late'] = {}
""",
    "pipelines/__init__.py": "",
    "pipelines/4Town/__init__.py": "",
    "pipelines/4Town/pipeline.py": """\
from ... import extract_features, match_features
print(extract_features.confs['mtldesc']['output'], 'lisrd' in match_features.confs)
""",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("site")
    for name, text in HLOC.items():
        (folder / "hloc" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "hloc" / name).write_text(text)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)])}


Finished = subprocess.CompletedProcess[str]


def python(environment: dict[str, str], folder: Path, *arguments: str) -> Finished:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def assert_as_python(environment: dict[str, str], folder: Path, *arguments: str) -> Finished:
    """Run a script both ways and compare all that can be seen from outside."""
    ours = python(environment, folder, *COMMAND, *arguments)
    theirs = python(environment, folder, *arguments)
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        theirs.returncode,
        theirs.stdout,
        theirs.stderr,
    )
    return ours


def test_a_script_sees_what_it_sees_without_us(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/beside.py").write_text("VALUE = 7")
    (tmp_path / "sub/script.py").write_text(
        "'''Mine.'''\nimport pickle, sys, beside\n"
        "class Own: pass\n"
        "print(sys.argv, __name__, __file__, __doc__, __spec__, __package__, sys.path[0])\n"
        "print(pickle.loads(pickle.dumps(Own())).__class__ is Own, sys.modules['__main__'].Own)\n"
        "sys.exit(3)\n"
    )
    ended = assert_as_python(environment, tmp_path, "sub/script.py", "--conf", "x", "--help", "-h")
    assert ended.returncode == 3
    assert "'--help'" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "def inner():\n    raise KeyError('mine')\ninner()",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('x') from error",
        "x = (1,\n",
        "import sys\nsys.excepthook = lambda kind, value, trace: print(kind, trace.tb_lineno)\n1/0",
        "raise SystemExit('said at the end')",
    ],
    ids=["exception", "chain", "syntax", "own-hook", "message"],
)
def test_an_exception_has_its_own_traceback(
    environment: dict[str, str], tmp_path: Path, text: str
) -> None:
    (tmp_path / "script.py").write_text(text)
    assert assert_as_python(environment, tmp_path, "script.py").returncode == 1


def test_an_interrupt_ends_the_process_as_without_us(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(
        "import atexit, os, signal\natexit.register(print, 'cleaned up')\n"
        # A shell that starts the tests in the background has it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    ended = assert_as_python(environment, tmp_path, "script.py")
    assert ended.returncode == -signal.SIGINT
    assert ended.stdout == "cleaned up\n"


@pytest.mark.slow
def test_a_module_with_a_table_of_its_own_has_our_confs(
    environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("extract_features", "hloc.extract_features"):
        ended = python(environment, tmp_path, *COMMAND, name, "--conf", "contextdesc")
        assert ended.stderr == ""
        assert ended.stdout.splitlines() == [
            "Extraction. hloc hloc.extract_features True",
            "feats-featplug-hloc-contextdesc featplug_contextdesc NN-ratio",
        ]
    ended = python(
        environment, tmp_path, *COMMAND, "--also", "doap@d2net", "extract_features", "--help"
    )
    assert ended.returncode == 0
    assert all(name in ended.stdout for name in ("sift,", "featplug-sift", "lisrd", "doap@d2net"))
    ended = python(environment, tmp_path, *COMMAND, "match_features")
    assert "'featplug-NN-mutual'" in ended.stdout
    ended = python(environment, tmp_path, *COMMAND, "pipelines.4Town.pipeline")
    assert ended.stdout == "feats-featplug-hloc-mtldesc True\n"


def test_the_command_line_of_hlocs_triangulation_is_completed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    arguments = ["--reference_sfm_model", "model", "--skip_geometric_verification"]
    alone = python(environment, tmp_path, "-m", "hloc.triangulation", *arguments)
    assert "KeyError: 'mapper_options'" in alone.stderr
    config = "CALIBRATED" if needs_configurations(pycolmap.__version__) else "UNDEFINED"
    for more, options in ((["--mapper_options", "a=1", "b=2"], {"a": "1", "b": "2"}), ([], {})):
        ended = python(environment, tmp_path, *COMMAND, "triangulation", *arguments, *more)
        assert ended.stdout == f"{config} model True {options}\n"
        assert ended.returncode == 0
        assert ended.stderr.count("\n") == (config == "CALIBRATED")


@pytest.mark.slow
def test_the_help_lists_the_confs_by_hlocs_names(
    environment: dict[str, str], tmp_path: Path
) -> None:
    ended = python(environment, tmp_path, *COMMAND, "--help")
    assert ended.returncode == 0
    assert "extract_features --conf: featplug-sift, sift-opencv, d2net" in ended.stdout
    assert "match_features --conf: featplug-NN-mutual, NN-ratio" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gone.py"], "There is no script gone.py."),
        (["extract"], "neither a module of hloc, .* nor a script 'extract'; hloc has .*match_f"),
        (["gone.module"], "neither a module"),
        (["pipelines.Town"], r"hloc\.pipelines\.Town is a package; .*modules: pipeline\."),
        (["--conf", "sift"], "--conf must come after the module or script"),
        (["--also", "lisrd@surf", "extract_features"], "'surf'"),
    ],
)
def test_nothing_to_run_is_told_in_one_line(
    standin: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # the first is replaced, as Python's
    monkeypatch.setattr("pycolmap.__version__", "4.1.1")
    monkeypatch.setattr(sys, "argv", ["featplug", "hloc", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.match(f"featplug hloc: .*{sentence}", lines[0])


def test_hloc_absent_is_told_in_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('not reached')")
    alone = {**environment, "PYTHONPATH": str(REPOSITORY)}
    probe = python(alone, tmp_path, "-c", "import hloc")
    if probe.returncode == 0:
        pytest.skip("hloc is installed here")
    ended = python(alone, tmp_path, *COMMAND, "script.py")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("python -m featplug.hloc: There is no hloc here")
    assert ended.stderr.count("\n") == 1
    assert python(alone, tmp_path, *COMMAND, "--help").returncode == 0
