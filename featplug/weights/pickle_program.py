"""A check of the pickle in a PyTorch checkpoint, which follows its steps without taking them.

``torch.load(weights_only=True)`` runs no code of a file, but takes its sizes on trust: a storage
that announces gigabytes is allocated, and a tensor may have any shape that its strides allow. Here
the steps of the pickle machine (documented in ``pickletools``) move stand-ins around, so that all
sizes are known, and counted against a budget, before anything is built.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import torch

from featplug.io.limits import Budget

_MAX_STEPS = 500_000
_MAX_CALLS = 200_000
"""Largest number of objects that a pickle may build by a call."""
_ITEM_SIZES = {
    "torch.DoubleStorage": 8,
    "torch.FloatStorage": 4,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.LongStorage": 8,
    "torch.IntStorage": 4,
    "torch.ShortStorage": 2,
    "torch.CharStorage": 1,
    "torch.ByteStorage": 1,
    "torch.BoolStorage": 1,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PLAIN = (str, bytes, int, float, type(None))


class RejectedError(Exception):
    """A pickle needs something that is not allowed; the message is the end of a sentence."""


@dataclass(frozen=True)
class Storage:
    """A block of numbers that the file announces."""

    key: str
    numel: int
    item_size: int

    @property
    def num_bytes(self) -> int:
        """Size of the block."""
        return self.numel * self.item_size


@dataclass(frozen=True)
class _Global:
    """A function or class by its name."""

    name: str


class _Built:
    """Anything whose content does not matter: a dict, a tensor, a number of numpy."""


_BUILT = _Built()


@dataclass
class PickleProgram:
    """The state of the machine, and the storages that were announced."""

    budget: Budget
    """Bytes for the tensors, each counted as large as its shape is."""
    storages: dict[str, Storage] = field(default_factory=dict)
    _stack: list[Any] = field(default_factory=list)
    _marks: list[list[Any]] = field(default_factory=list)
    _memo: dict[int, Any] = field(default_factory=dict)

    def follow(self, file: IO[bytes]) -> None:
        """Follow one pickle to its end, where the file is left.

        Raises:
            RejectedError: it needs something other than dense tensors and plain values.
            LimitError: its tensors are larger, or its steps more, than they may be.
            LookupError, TypeError, ValueError: it is damaged.
        """
        self._stack, self._marks, self._memo = [], [], {}
        steps = Budget(max_items=_MAX_STEPS)
        calls = Budget(max_items=_MAX_CALLS)
        for opcode, argument, _ in pickletools.genops(file):
            steps.take()
            if opcode.name in ("REDUCE", "NEWOBJ", "GLOBAL"):
                calls.take()
            self._step(opcode.name, argument)

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            start = len(stack) - _TUPLES[name]
            if start < 0:
                raise ValueError("its pickle takes from an empty stack")
            stack[start:] = [tuple(stack[start:])]
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"its pickle has the step {name}, which torch.save does not write")

    def _mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _tuple(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def _append(self, _: Any) -> None:
        item = self._stack.pop()
        self._extend([item])

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("its pickle appends to something other than a list")
        self._stack[-1].extend(items)

    def _set_item(self, _: Any) -> None:
        self._stack.pop()
        _check_keys([self._stack.pop()])

    def _set_items(self, _: Any) -> None:
        _check_keys(self._pop_mark()[::2])

    def _global(self, argument: str) -> None:
        name = argument.replace("__builtin__", "builtins").replace(" ", ".")
        module, _, attribute = name.rpartition(".")
        is_dtype = module == "torch" and isinstance(getattr(torch, attribute, None), torch.dtype)
        if not is_dtype and name not in _ITEM_SIZES and name not in _CALLS:
            raise RejectedError(f"needs {name}")
        self._stack.append(_Global(name))

    def _persistent(self, _: Any) -> None:
        """Announce a storage, by the tuple that torch.save keeps in place of it."""
        tag, kind, key, _location, numel, *views = self._stack.pop()
        if tag != "storage" or not isinstance(kind, _Global) or any(views):
            raise ValueError("its pickle refers to something other than a whole storage")
        storage = Storage(str(key), _whole(numel), _ITEM_SIZES[kind.name])
        storage = self.storages.setdefault(storage.key, storage)
        self._stack.append(storage)

    def _call(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Global) or function.name not in _CALLS:
            raise RejectedError(f"needs {getattr(function, 'name', 'something unknown')}")
        if not isinstance(arguments, tuple):
            raise ValueError("its pickle makes a call without arguments")
        check = _CALLS[function.name]
        if check is not None:
            check(self, *arguments)
        self._stack.append(_BUILT)

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        _check_keys([state if isinstance(state, tuple) else (state,)])
        if self._stack[-1] is not _BUILT:
            raise ValueError("its pickle sets the state of something that has none")

    def _rebuild_tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        """Check that a tensor lies inside its storage, and count it as large as its shape."""
        if not isinstance(storage, Storage) or len(size) != len(stride):
            raise ValueError("a tensor has no storage, or other axes than strides")
        sizes, strides = [_whole(n) for n in size], [_whole(n) for n in stride]
        self.budget.take(math.prod(sizes) * storage.item_size, items=0)
        last = _whole(offset) + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if all(sizes) and last >= storage.numel:
            shape = "×".join(map(str, sizes)) or "a scalar"
            raise ValueError(f"a tensor of {shape} has {storage.numel} numbers")


def _whole(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError("a size is not a whole number")
    return number


def _check_keys(keys: Any) -> None:
    """Reject keys that are nested, as a tuple is hashed once for each way through it."""
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, (*_PLAIN, _Built)) for part in parts):
            raise RejectedError("has a dict with nested keys")


def _check_pairs(_: PickleProgram, pairs: Any = ()) -> None:
    _check_keys(key for key, _value in ([] if isinstance(pairs, _Built) else pairs))


def _check_elements(_: PickleProgram, elements: Any = ()) -> None:
    _check_keys([] if isinstance(elements, _Built) else elements)


def _check_encoding(_: PickleProgram, text: Any, encoding: Any) -> None:
    if not isinstance(text, str) or encoding != "latin1":
        raise RejectedError(f"needs _codecs.encode(…, {encoding!r})")


_CALLS: dict[str, Callable[..., None] | None] = {
    "torch._utils._rebuild_tensor": PickleProgram._rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": PickleProgram._rebuild_tensor,
    "torch._utils._rebuild_parameter": None,
    "torch._utils._rebuild_parameter_with_state": None,
    "torch.Size": None,
    "torch.device": None,
    "collections.OrderedDict": _check_pairs,
    "collections.Counter": _check_elements,
    "builtins.set": _check_elements,
    "_codecs.encode": _check_encoding,
    "argparse.Namespace": None,
    "numpy.dtype": None,
    "numpy.core.multiarray.scalar": None,
    "numpy._core.multiarray.scalar": None,
}
"""What may be called, with the check of its arguments."""

_STEPS: dict[str, Callable[[PickleProgram, Any], None]] = {
    "MARK": PickleProgram._mark,
    "TUPLE": PickleProgram._tuple,
    "EMPTY_LIST": lambda program, _: program._stack.append([]),
    "EMPTY_DICT": lambda program, _: program._stack.append(_BUILT),
    "APPEND": PickleProgram._append,
    "APPENDS": PickleProgram._appends,
    "SETITEM": PickleProgram._set_item,
    "SETITEMS": PickleProgram._set_items,
    "BINPUT": PickleProgram._put,
    "LONG_BINPUT": PickleProgram._put,
    "BINGET": PickleProgram._get,
    "LONG_BINGET": PickleProgram._get,
    "GLOBAL": PickleProgram._global,
    "BINPERSID": PickleProgram._persistent,
    "REDUCE": PickleProgram._call,
    "NEWOBJ": PickleProgram._call,
    "BUILD": PickleProgram._build,
}
