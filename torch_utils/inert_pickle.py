"""Reads pickles without being able to run anything: what they would import or call is only noted by its name.

A pickle is a program for a small stack machine, and Python's unpickler imports and calls what the program names. The
machine here has no such instructions: a global is a `Global` with a name, a call or a new object is a `Record` of the
name and the arguments, and names that the caller does not expect end the reading. The stream is parsed by the
standard library's pickletools. Sizes are bounded by the file's, and no depth of nesting recurses.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from dnnlib.errors import UserError

MAX_OPCODES = 5_000_000  # a network of hundreds of layers takes some ten thousand
DICTS = ("collections.OrderedDict", "dnnlib.util.EasyDict")  # made empty, they are plain dicts here
DICT_STATE = {"_metadata"}  # attributes that a state dict has, and that nobody here needs
PERSISTENT = "persistent id"  # the name of records of what a storage's pickle refers to

_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("INT", "LONG", "LONG4", "FLOAT", "UNICODE"),  # what protocols 0 and 1 have for them
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),  # Python 2's bytes: text of Latin-1 here
}
_LITERALS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# Sets and frozen sets are lists here: nothing is hashed but the text and numbers that dicts have for keys.
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME", "STOP"}


@dataclass(eq=False, repr=False)
class Global:
    """Something that the pickle would import."""

    name: str


@dataclass(eq=False, repr=False)
class Record:
    """Something that the pickle would make by calling `name` with `args`, and fill with `state`."""

    name: str
    args: tuple
    state: Any = None


class Refused(Exception):
    """The pickle asks for what it may not, or is none; the text ends a sentence that begins with the file."""


def read(
    stream: BinaryIO, where: str, allowed: Callable[[str], bool], persistent: bool = False, of: str = "a network"
) -> Any:
    """The object of the pickle at the stream's position, and the stream behind it.

    allowed: whether a global of this dotted name may occur. persistent: whether persistent ids may. of: what the pickle
    should be, for messages.
    The result is made of None, bool, int, float, str, bytes, bytearray, list, tuple, dict (with keys that are text or
    integers), Global and Record. The same object may occur at several places, and within itself.
    Raises UserError, starting with `where`: names what is not allowed; truncated; no pickle.
    """
    machine = _Machine(allowed, persistent, of)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MAX_OPCODES:
                raise Refused(f"a pickle of more objects than {of} has; refused")
            machine.step(opcode.name, argument)
        (result,) = machine.stack
    except Refused as refusal:
        raise UserError(f"{where}: {refusal}") from refusal
    except (ValueError, TypeError, LookupError, EOFError, OverflowError, MemoryError, RecursionError) as error:
        raise UserError(f"{where}: truncated or not a pickle; fetch or copy it again") from error
    return result


class _Machine:
    def __init__(self, allowed: Callable[[str], bool], persistent: bool, of: str) -> None:
        self.allowed, self.persistent, self.of = allowed, persistent, of
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Carries out one instruction; wrong operands raise ValueError, TypeError or LookupError."""
        stack = self.stack
        if opcode in _VALUES:
            stack.append(argument)
        elif opcode in _LITERALS:
            stack.append(_LITERALS[opcode])
        elif opcode in _EMPTY:
            stack.append(_EMPTY[opcode]())
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            if len(stack) < count:
                raise ValueError("stack underflow")
            stack[-count:] = [tuple(stack[-count:])]
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode == "MARK":
            self.marked.append(stack)
            self.stack = []
        elif not self._fill(opcode) and not self._make(opcode, argument) and opcode not in _IGNORED:
            raise Refused(f"uses the pickle instruction {opcode}, which {self.of} does not need; refused")

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def _fill(self, opcode: str) -> bool:
        """Containers take what lies above them on the stack."""
        if opcode in ("TUPLE", "FROZENSET", "LIST"):
            items = self._since_mark()
            self.stack.append(items if opcode == "LIST" else tuple(items))
        elif opcode in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [self.stack.pop()] if opcode == "APPEND" else self._since_mark()
            _expect(self.stack[-1], list).extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            if opcode == "SETITEM":
                value, key = self.stack.pop(), self.stack.pop()
                items = [key, value]
            else:
                items = self._since_mark()
            target = _expect(self.stack[-1], dict)
            for key, value in zip(items[::2], items[1::2], strict=True):
                if not isinstance(key, (str, int)):
                    raise Refused("holds a dict whose keys are neither text nor integers; refused")
                target[key] = value
        else:
            return False
        return True

    def _make(self, opcode: str, argument: Any) -> bool:
        """What would import or call, noted."""
        stack = self.stack
        if opcode == "GLOBAL":
            stack.append(self._global(*argument.split(" ", 1)))
        elif opcode == "STACK_GLOBAL":
            name, module = _expect(stack.pop(), str), _expect(stack.pop(), str)
            stack.append(self._global(module, name))
        elif opcode in ("REDUCE", "NEWOBJ"):
            arguments, function = _expect(stack.pop(), tuple), stack.pop()
            if not isinstance(function, Global):
                raise Refused(f"calls a {type(function).__name__}; refused")
            stack.append({} if function.name in DICTS and not arguments else Record(function.name, arguments))
        elif opcode == "BUILD":
            state, target = stack.pop(), stack[-1]
            if isinstance(target, Record) and target.state is None:
                target.state = state
            elif not isinstance(target, dict) or not isinstance(state, dict) or not state.keys() <= DICT_STATE:
                raise Refused(f"gives a state to a {type(target).__name__}; refused")
        elif opcode == "BINPERSID" and self.persistent:
            stack.append(Record(PERSISTENT, _expect(stack.pop(), tuple)))
        else:
            return False
        return True

    def _global(self, module: str, name: str) -> Global:
        dotted = f"{module}.{name}"
        if not self.allowed(dotted):
            raise Refused(f"holds {ascii(dotted)[1:-1][:100]}, which is not part of {self.of}; refused")
        return Global(dotted)


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} is needed")
    return value
