"""The names of methods: how they are taken apart, and the words that they become in file names.

::

    METHOD   = FEATURE [ "+" MATCHER ]       aliked-n16+lightglue: a feature and its matcher
    FEATURE  = NAME { "@" NAME }             lisrd@mtldesc: lisrd describes mtldesc's keypoints
    MATCHER  = [ "matcher:" ] NAME           lisrd+matcher:mtldesc, …+hloc/superpoint+lightglue
    NAME     = sift | colmap/sift | package.module:Class | path/my_file.py:Class

``@`` binds tighter than ``+``, and from the right: ``a@b@c`` is ``a`` at the keypoints of ``b@c``.
The path of an existing Python file may have both characters.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from featplug.io.artifact import value_hash
from featplug.methods.method_table import features, matchers, pair_matchers

_MATCHER = "matcher:"
_CLASS_OF_FILE = re.compile(r"\.py:[^\W\d]\w*(\.[^\W\d]\w*)*")
_OPERATOR = re.compile(r"[+@]")
_MAX_WORD = 100


@dataclass(frozen=True)
class MethodName:
    """A feature and the matcher that it is used with."""

    feature: str
    matcher: str | None = None
    """None is the feature's own."""

    def __str__(self) -> str:
        if self.matcher is None:
            return self.feature
        explicit = _MATCHER if features.knows(self.matcher) else ""
        return f"{self.feature}+{explicit}{self.matcher}"


def parse_method(text: str) -> MethodName:
    """Split ``A+M`` into the feature A and the matcher M; neither is looked up.

    Raises:
        ValueError: the text is not such a name; or M is (also) a feature, which until featplug 0.2
            was written so for ``A@M``. The message has both readings.
    """
    feature, *others = _split(text, "+")
    if len(others) > 1 and others[0].partition("/")[0] in matchers.prefixes:
        others = ["+".join(others)]  # such as hloc/superpoint+lightglue
    if len(others) > 1:
        raise ValueError(
            f"{text!r} has more than one +; write FEATURE+MATCHER, and A@B for A at the keypoints "
            "of B."
        )
    _check_parts(text, [feature, *others])
    if not others:
        return MethodName(feature)
    (matcher,) = others
    if matcher.startswith(_MATCHER):
        matcher = matcher.removeprefix(_MATCHER)
        _check_parts(text, [matcher])
    elif len(described := _split(matcher, "@")) > 1:
        name, *detectors = described
        raise ValueError(
            f"{text!r}: after + comes the name of a matcher; write "
            f"{'@'.join([feature, *detectors])}+{name}."
        )
    elif features.knows(matcher):
        is_matcher = matchers.knows(matcher) or pair_matchers.knows(matcher)
        readings = [f"{feature}@{matcher} for {feature} at the keypoints of {matcher}"]
        if is_matcher:
            explicit = f"{feature}+{_MATCHER}{matcher}"
            readings.append(f"{explicit} for {feature} with the matcher {matcher}")
        raise ValueError(
            f"{text!r}: {matcher} is a feature{' and a matcher' if is_matcher else ''}; write "
            f"{', or '.join(readings)}."
        )
    return MethodName(feature, matcher)


def describer_and_detector(feature: str) -> tuple[str, str | None]:
    """Split ``A@B@C`` into A and ``B@C``, which is None for a name without ``@``.

    Raises:
        ValueError: a name is missing.
    """
    parts = _split(feature, "@")
    _check_parts(feature, parts)
    return parts[0], "@".join(parts[1:]) or None


def file_word(name: str) -> str:
    """Return a name as part of a file's name, different for each name.

    ``colmap/sift`` becomes ``colmap~sift``, ``package:Class`` ``package=Class``, and the path of a
    file its stem, with some digits of a hash of the whole path. Other characters than letters,
    digits, ``_``, ``-`` and ``.`` become ``_``, and add such digits, too, as ``~`` and ``=`` do.
    """
    method = [part.removeprefix(_MATCHER) for part in _split(name, "+")]
    word = "+".join("@".join(map(_word, _split(part, "@"))) for part in method)
    return word if len(word) <= _MAX_WORD else f"{word[:_MAX_WORD]}-{_digits(word)}"


def option_word(text: str) -> str:
    """Return an option ``NAME=VALUE`` as part of a file's name, different for each option."""
    name, equals, value = text.partition("=")
    return f"{file_word(name)}{equals}{file_word(value)}"


def located(name: str, folder: Path) -> str:
    """Return a name whose relative paths of files are made those of a folder."""
    methods = (_split(method, "@", folder) for method in _split(name, "+", folder))
    return "+".join("@".join(_located(part, folder) for part in method) for method in methods)


def _located(name: str, folder: Path) -> str:
    explicit = _MATCHER if name.startswith(_MATCHER) else ""
    own = name.removeprefix(explicit)
    return f"{explicit}{folder / Path(own).expanduser()}" if ".py:" in own else name


def path_word(path: Path) -> str:
    """Return the path of a file as a word: its name, and some digits of a hash of its place."""
    return f"{_plain(path.stem)}-{_digits(str(path.resolve()))}"


def _word(name: str) -> str:
    place, colon, attribute = name.rpartition(":")
    if colon and place.endswith(".py"):
        path = Path(place).expanduser()
        return f"{_plain(path.stem)}={_plain(attribute)}-{_digits(str(path.resolve()))}"
    word = name.replace("/", "~").replace(":", "=")
    plain = _plain(word)
    is_unique = plain == word and not set(name) & set("~=")
    return word if is_unique else f"{plain}-{_digits(name)}"


def _plain(text: str) -> str:
    return re.sub(r"[^\w.,=~+@-]+", "_", text)


def _digits(text: str) -> str:
    return value_hash(text)[:6]


def _split(text: str, separator: str, folder: Path = Path()) -> list[str]:
    """Split at a separator, but not inside the path of a Python file that exists in a folder."""
    parts: list[str] = []
    start = place = 0
    while operator := _OPERATOR.search(text, max(_end_of_path(text, place, folder), place)):
        place = operator.end()
        if operator.group() == separator:
            parts.append(text[start : operator.start()])
            start = place
    return [*parts, text[start:]]


def _end_of_path(text: str, start: int, folder: Path) -> int:
    """Return where a class of an existing file ends that begins at ``start``; -1 if none does."""
    prefix = len(_MATCHER) if text.startswith(_MATCHER, start) else 0
    for found in _CLASS_OF_FILE.finditer(text, start):
        path = Path(text[start + prefix : found.start() + 3]).expanduser()
        if (folder / path).is_file():
            return found.end()
    return -1


def _check_parts(text: str, parts: list[str]) -> None:
    if not all(parts):
        raise ValueError(
            f"{text!r} is not the name of a method; write NAME, A@B for A at B's keypoints, or "
            "FEATURE+MATCHER."
        )
