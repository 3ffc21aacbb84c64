"""Damaged and crafted text files: is every line used as it stands, or the file rejected by name?

``python -m tests.attacks.lists --trials 300 --seed 0``. A trial rewrites a file in a way that must
change nothing (byte-order mark, UTF-16, ends of lines, comments, ``./``), in one that must be
rejected (NUL, other encodings, folders and pipes, impossible names and numbers), or at random.
Besides crashes, it fails if what was read is not what a reader without any checks finds in the
lines and no message names it, if a rejection does not name the file, or if it changes earlier
matches.
"""

import gzip
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from featplug.cli.command_line import run_command
from featplug.stages.match import match_features
from tests.attacks.harness import Outcome, Tally, attempt, command, flip_bit
from tests.attacks.list_kinds import BAD_NAMES, BAD_NUMBERS, KINDS, NAMES, Kind, Lines
from tests.io.exchange.conftest import random_features, write_feature_file

HOSTILE = (*BAD_NAMES, *BAD_NUMBERS, "-1", "0", "1e300", "9" * 30, "#", "=", ",",
           "\u2028", "\ufeff", "e\u0301.jpg", "a/./0.jpg", "0.jpg/", "A.JPG", "[", "\x85",
           "\u00a0", "''", "%s", "{}")  # fmt: skip


def same(kind: Kind, rng: np.random.Generator) -> bytes:
    """Write the file in another way that means the same."""
    lines = list(kind.lines)
    ways = rng.random(5) < 0.5
    if ways[0] and kind.has_comments:
        lines = [text for line in lines for text in (line, "# é \u2028 5 6", "")]
    if ways[1] and kind.name != "config":
        lines = [f" \t{line} \t" for line in lines]
    text = "\n".join(lines)
    if ways[2]:
        text = text.replace("0.jpg", "./0.jpg").replace("a/", ".//a/./")
    text += "\n" * int(ways[3])
    text = text.replace("\n", ("\n", "\r\n", "\r")[rng.integers(3)])
    encoding = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be")[rng.integers(4)]
    return (b"\xfe\xff" if encoding == "utf-16-be" else b"") + text.encode(encoding)


def wrong(kind: Kind, rng: np.random.Generator, path: Path) -> str:
    """Write a file that must be rejected, and return how."""
    text = "\n".join(kind.lines) + "\n"
    at = int(rng.integers(len(text) - 1))
    way = int(rng.integers(12 + len(kind.wrong)))
    path.unlink()
    if way >= 12:
        old, new = kind.wrong[way - 12]
        assert old in text, (kind.name, old)
        path.write_text(text.replace(old, new, 1), "utf-8")
        return f"{old!r} to {new[:40]!r}"
    special = (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path.name),
               lambda: path.symlink_to("/dev/zero"), lambda: None)  # fmt: skip
    contents = (
        b"\xff" if kind.name == "config" else b"",  # no option is a configuration, too
        text.encode("utf-16-le"),
        gzip.compress(text.encode(), mtime=0),
        f"{text[:at]}\0{text[at:]}".encode(),
        f"{text[:at]}\x1b[0m{text[at:]}".encode(),
        f"{text}é.jpg".encode("latin-1", "replace"),
        b"",
    )
    if way < 5:
        special[way]()
    else:
        path.write_bytes(contents[way - 5])
    if way == 11:  # a terabyte of NUL
        os.truncate(path, 2**40)
    return f"way {way}"


def damaged(kind: Kind, rng: np.random.Generator, path: Path) -> str:
    """Damage the file at random, and return how."""
    words = [re.split("( )", line) for line in kind.lines]
    way = int(rng.integers(9))
    i, j = (int(n) for n in rng.integers(len(words), size=2))
    a, b = (int(rng.integers(len(words[n]))) for n in (i, j))
    hostile = HOSTILE[rng.integers(len(HOSTILE))]
    if way == 0:
        words[i][a], words[j][b] = words[j][b], words[i][a]
    elif way == 1:
        words[i], words[j] = words[j], words[i]
    elif way == 2:
        del words[i]
    elif way == 3:
        words.insert(j, words[i])
    elif way == 4:
        words[i][a] = hostile
    content = "\n".join(map("".join, words)).encode("utf-8") + b"\n"
    at = int(rng.integers(len(content)))
    if way == 5:
        content = content[:at]
    elif way == 6:
        content = (
            content[:at]
            + (rng.bytes(5), bytes(9), hostile.encode())[rng.integers(3)]
            + content[at:]
        )
    path.write_bytes(content)
    for bit in rng.integers(8 * len(content), size=rng.integers(1, 4) if way > 6 else 0):
        flip_bit(path, int(bit))
    return f"way {way}, line {i}, {hostile[:20]!r}"


def words_of(path: Path, kind: Kind) -> Lines:
    """Return the words of a file's lines as any reader finds them."""
    content = path.read_bytes()
    marks = (b"\xff\xfe", b"\xfe\xff")
    text = content.decode("utf-16" if content.startswith(marks) else "utf-8-sig")
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text)
    stripped = (line.strip("\ufeff").strip() for line in re.split("\r\n|\r|\n", text))
    return [
        line.split() for line in stripped if line and not (kind.has_comments and line[0] == "#")
    ]


def alike(found: Any, expected: Any) -> bool:
    """Compare what JSON holds, numbers but for rounding."""
    if isinstance(expected, float | int) and isinstance(found, float | int):
        return bool(np.isclose(found, expected, rtol=1e-9, atol=1e-9))
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(alike(found[k], expected[k]) for k in found)
    return bool(found == expected)


def is_named(entry: str, output: str) -> bool:
    """Return whether a message has a name of an entry, or counts it as a pair with itself."""
    names = [word[:90] for word in entry.split()]  # messages cut longer ones
    return any(n in output or repr(n) in output for n in names) or (
        len({*names}) == 1 and "itself" in output
    )


def fault_of(kind: Kind, path: Path, result: Path, outcome: Outcome) -> str | None:
    """Compare what was read with what the lines say."""
    if outcome.exit_code != 0:
        text = outcome.output.strip()
        if outcome.exit_code != 2 or str(result.parent) not in text or "\n" in text:
            return f"exit {outcome.exit_code} without one line that names a file"
        return None
    found = json.loads(result.read_text())
    try:
        expected = kind.trusting(words_of(path, kind))
    except Exception as error:
        return f"read in spite of {error!r}"
    if kind.name == "pairs":
        keys = {key: key.replace("/", "-") for key in expected}
        turned = {key: " ".join(reversed(value.split())) for key, value in keys.items()}
        lost = [key for key in expected if not {keys[key], turned[key]} & {*found}]
        more = {*found} - {*keys.values(), *turned.values()}
    elif kind.name == "kapture":
        lost, more = (
            [key for key in expected if found.get(key) != expected[key]],
            found.keys() - expected,
        )
    else:
        return None if alike(found, expected) else f"read {found} for {expected}"
    unnamed = [key for key in lost if not is_named(key, outcome.output)]
    return f"lost {unnamed}, made {more}" if unnamed or more else None


def write_world(root: Path) -> None:
    """Write features of the images, and a kapture folder of them."""
    features = {name: random_features(30, i, dimensions=8) for i, name in enumerate(NAMES)}
    write_feature_file(root / "feats.h5", features)
    command("export", "kapture", "--output", root / "kapture", "--features", root / "feats.h5")()
    sensors = "".join(f"cam{i}, , camera, UNKNOWN_CAMERA, 64, 48\n" for i in range(2))
    (root / "kapture/sensors/sensors.txt").write_text(sensors)


def reading(kind: Kind, path: Path, result: Path) -> Callable[[], None]:
    """Return a trial that reads a file as a command would."""

    def read() -> None:
        result.write_text(json.dumps(kind.read(path), default=str))

    return lambda: run_command(read, prog="read", arguments=[])


def main(trials: int = 300, seed: int = 0) -> None:
    """Attack the readers of text files.

    Args:
        trials: number of files.
        seed: seed of all of them.
    """
    tally = Tally("lists", seed)
    with tempfile.TemporaryDirectory() as temporary:
        world = Path(temporary) / "world"
        world.mkdir()
        write_world(world)
        for trial in range(trials):
            rng = np.random.default_rng([seed, trial])
            kind, way = KINDS[trial % len(KINDS)], trial // len(KINDS) % 3
            root = Path(temporary) / "trial"
            shutil.copytree(world, root)
            path, result = root / kind.file, root / "result.json"
            path.write_text("\n".join(kind.lines) + "\n", "utf-8")
            fault, how, kept = None, "same", None
            if way == 0:
                path.write_bytes(same(kind, rng))
            elif way == 1:
                if kind.name == "pairs":
                    match_features(
                        "NN-mutual", path, root / "feats.h5", matches=root / "matches.h5"
                    )
                    kept = (root / "matches.h5").read_bytes()
                how = wrong(kind, rng, path)
            else:
                how = damaged(kind, rng, path)
            outcome = attempt(reading(kind, path, result))
            fault = fault_of(kind, path, result, outcome)
            if way == 0 and outcome.exit_code:
                fault = "rejected"
            elif way == 1 and not outcome.exit_code and "left out" not in outcome.output:
                fault = "not rejected"
            elif kept is not None and (root / "matches.h5").read_bytes() != kept:
                fault = "the earlier matches changed"
            tally.add(f"{trial} ({kind.name}, {how})", outcome, fault)
            shutil.rmtree(root)
    tally.finish()


if __name__ == "__main__":
    tyro.cli(main)
