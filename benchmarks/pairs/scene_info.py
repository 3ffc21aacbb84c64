"""LoFTR's ``scene_info`` files of MegaDepth (Sun et al., CVPR 2021), read without unpickling them.

The files are named ``.npz``, but hold a pickled dict of NumPy arrays. A pickle can call any
function; here the steps of the pickle machine, which ``pickletools`` documents, are followed as far
as dicts, lists, plain values and arrays need them, and nothing else is called or imported.
"""

import io
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featplug.io.limits import Budget, map_file

_MAX_BYTES = 2**26
"""Largest file; the released ones have 0.3 MB."""
_MAX_STEPS = 5_000_000
_ARRAY = re.compile(r"numpy\._?core\.multiarray\._reconstruct")
_SCALAR = re.compile(r"numpy\._?core\.multiarray\.scalar")
_PLAIN = {
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class ScenePair(NamedTuple):
    """A pair of a scene."""

    index0: int
    """Index of image 0 in the scene's lists."""
    index1: int


@dataclass(frozen=True)
class SceneInfo:
    """Images and pairs of a scene; an image that no pair has may be None in all lists."""

    image_paths: list[str | None]
    """Paths of the images, relative to MegaDepth's folder."""
    intrinsics: list[np.ndarray | None]
    """K, 3×3, of images of their own size, in COLMAP's convention (the first pixel's centre is
    (0.5, 0.5))."""
    cam_from_world: list[np.ndarray | None]
    """Poses 4×4."""
    pairs: list[ScenePair]


def read_scene_info(path: Path) -> SceneInfo:
    """Read a scene; nothing in the file is run.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or needs more than arrays and plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        content = _Program().run(bytes(map_file(path)))
        return _scene_info(content)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no scene_info file of LoFTR, or damaged ({error}); download it again, or "
            "use glue-factory's megadepth1500.zip, whose lists are text."
        ) from error


def _scene_info(content: Any) -> SceneInfo:
    if not isinstance(content, dict):
        raise ValueError("it holds no dict")
    paths, intrinsics, poses, pairs = (
        [_value(item) for item in _value(content[key])]
        for key in ("image_paths", "intrinsics", "poses", "pair_infos")
    )
    if not len(paths) == len(intrinsics) == len(poses):
        raise ValueError("its lists have different lengths")
    if not all(isinstance(path, str | None) for path in paths):
        raise ValueError("a path is no text")
    for arrays, shape in ((intrinsics, (3, 3)), (poses, (4, 4))):
        if not all(array is None or np.shape(array) == shape for array in arrays):
            raise ValueError(f"a matrix is not {shape[0]}×{shape[1]}")
    return SceneInfo(paths, intrinsics, poses, [_pair(info, len(paths)) for info in pairs])


def _pair(info: Any, num_images: int) -> ScenePair:
    indices = _value(info[0])
    if np.shape(indices) != (2,) or not all(0 <= index < num_images for index in indices):
        raise ValueError("a pair has an image that it does not list")
    return ScenePair(int(indices[0]), int(indices[1]))


def _value(item: Any) -> Any:
    return item.value if isinstance(item, _Array) else item


@dataclass
class _Array:
    """An array, which is filled after it was made."""

    value: Any = None


@dataclass
class _Kind:
    """A type of numbers; None for Python objects."""

    dtype: np.dtype[Any] | None


class _Program:
    """The pickle machine, without calls."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """Follow all steps, and return what is left in the end."""
        steps = Budget(max_items=_MAX_STEPS)
        for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
            steps.take()
            self._step(opcode.name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _PLAIN:
            stack.append(_CONSTANTS.get(name, argument))
        elif name in _TUPLES:
            start = len(stack) - _TUPLES[name]
            if start < 0:
                raise ValueError("it takes from an empty stack")
            stack[start:] = [tuple(stack[start:])]
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if name == "EMPTY_LIST" else {})
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MARK":
            self._marks.append(stack)
            self._stack = []
        elif name == "GLOBAL":
            stack.append(argument.replace(" ", "."))
        elif name in _STEPS:
            _STEPS[name](self)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it has the step {name}")

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _tuple(self) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def _append(self) -> None:
        item = self._stack.pop()
        self._stack[-1].extend([item])

    def _appends(self) -> None:
        items = self._pop_mark()
        self._stack[-1].extend(items)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _set_items(self) -> None:
        self._set(self._pop_mark())

    def _set(self, items: list[Any]) -> None:
        # A nested key would be hashed once for each way through it.
        if not all(isinstance(key, str) for key in items[::2]):
            raise ValueError("a key is no text")
        self._stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(f"{module}.{name}")

    def _call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, str):
            raise ValueError("it calls something unknown")
        if _ARRAY.fullmatch(function):
            self._stack.append(_Array())
        elif function == "numpy.dtype":
            self._stack.append(_kind(arguments[0]))
        elif _SCALAR.fullmatch(function):
            self._stack.append(_numbers(arguments[0], (), arguments[1])[()])
        else:
            raise ValueError(f"it calls {function}")

    def _build(self) -> None:
        state, built = self._stack.pop(), self._stack[-1]
        if isinstance(built, _Kind):
            if built.dtype is not None and state[1] == ">":
                built.dtype = built.dtype.newbyteorder(">")
        elif isinstance(built, _Array):
            _, shape, kind, is_fortran, data = state
            if kind.dtype is None:
                if len(shape) != 1 or not isinstance(data, list) or len(data) != shape[0]:
                    raise ValueError("an array of objects is no list")
                built.value = data
            else:
                built.value = _numbers(kind, shape, data, "F" if is_fortran else "C")
        else:
            raise ValueError("it sets the state of something that has none")


def _kind(code: Any) -> _Kind:
    if not isinstance(code, str) or not re.fullmatch("O8?|b1|[iu][1248]|f[248]", code):
        raise ValueError(f"it has numbers of the type {code!r}")
    return _Kind(None if code.startswith("O") else np.dtype(code))


def _numbers(kind: Any, shape: Any, data: Any, order: Any = "C") -> np.ndarray:
    if not isinstance(kind, _Kind) or kind.dtype is None or not isinstance(data, bytes):
        raise ValueError("an array has no numbers")
    if min(shape, default=0) < 0 or math.prod(shape) * kind.dtype.itemsize != len(data):
        raise ValueError(f"an array of the shape {shape} has {len(data)} bytes")
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order)


_STEPS: dict[str, Callable[[_Program], None]] = {
    "TUPLE": _Program._tuple,
    "APPEND": _Program._append,
    "APPENDS": _Program._appends,
    "SETITEM": _Program._set_item,
    "SETITEMS": _Program._set_items,
    "STACK_GLOBAL": _Program._global,
    "REDUCE": _Program._call,
    "BUILD": _Program._build,
}
