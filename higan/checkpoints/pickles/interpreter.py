"""An interpreter of pickles that knows the few operations weight files use, and no way to an import.

A global is looked up in a table of (module, name) pairs; each pair stands for a function of the project's. Any other
global, and whatever a file makes of it, becomes a `Record`, never imported and never called: a name with the arguments
and the state that the file gives. So a file is judged by the network that is asked of it, not by what lies beside it.
Bytes stay where they are in the mapped file, and every count is bounded: a hostile file costs neither time nor memory.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from higan.checkpoints.pickles.stored import Damaged, Dtype, Record, StoredTensor, array
from higan.errors import CheckpointError

MAX_OPCODES = 500_000  # networks have some 20,000; a snapshot with optimisers and feature networks has 300,000
MAX_TEXT = 2**26  # the largest array of PGGAN's, as text in protocol 2
MAX_NAME = 512  # letters of a global
MAX_KEY = 8  # parts of a tuple that is a key
PLAIN = (str, int, float, bool, type(None))

# What is named only to run something where a file is opened by its own program. Here it would stay a name, but the
# user should know. This is a warning, not the guard: the guard is that nothing in a file is called.
RUNS_CODE = re.compile(
    r"(os|posix|nt|subprocess|commands|popen2|pty|runpy|importlib|imp|ctypes|_ctypes|webbrowser|socket|shutil|sys|code|"
    r"codeop|pickle|_pickle|cPickle|marshal|pdb|bdb|timeit|profile|cProfile|urllib|http|ftplib|requests|pip|tempfile)\..*"
    r"|types\.(CodeType|FunctionType)|pathlib\..*\..*"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|file|input|breakpoint|__import__)"
    r"|.*\.(loads?|run_?string|import_module|system|popen|exec|eval)"
)

DICTIONARIES = ("dnnlib.util.EasyDict", "dnnlib.EasyDict", "collections.OrderedDict")

# What each global stands for, by (module, name): called with the Unpickler that meets it and the arguments in the file
Table = Mapping[tuple[str, str], Callable[..., Any]]


@dataclass(eq=False)
class Marker:
    """Stands for a global; what calls it in the file calls `build` here, or makes a `Record` where there is none."""

    name: str
    build: Callable[..., Any] | None = None


class Limits:
    """What the reading of one file may still use up, embedded streams included."""

    def __init__(self, size: int) -> None:
        self.opcodes = MAX_OPCODES
        self.bytes = 2 * size + 2**16

    def opcode(self, count: int = 1) -> None:
        """Count operations."""
        self.opcodes -= count
        if self.opcodes < 0:
            raise CheckpointError(f"more than {MAX_OPCODES} pickle operations; no weight file needs so many")

    def allocate(self, count: int) -> None:
        """Count `count` bytes of memory."""
        self.bytes -= count
        if self.bytes < 0:
            raise CheckpointError("its objects would take more memory than the file's size allows")


class Unpickler:
    """Interpreter of one pickle that starts at `position` of `data`.

    Parameters
    ----------
    table
        The globals that have a meaning here.
    persistent
        Makes an object of a persistent id; without it persistent ids are refused.

    Raises
    ------
    CheckpointError
        `load`: something is not allowed, the bytes are no pickle (`Damaged`), or a limit is reached.
    """

    def __init__(
        self,
        data: memoryview,
        limits: Limits,
        table: Table,
        position: int = 0,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self.data, self.limits, self.table = data, limits, table
        self.position, self.persistent = position, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return the object; `position` is then behind the pickle."""
        while True:
            self.limits.opcode()
            code = self.byte()
            if code == ord("."):
                return self.pop()
            operation = OPCODES.get(code)
            if operation is None:
                raise Damaged(
                    f"pickle operation {chr(code)!r} at byte {self.position - 1} is none that weight files use"
                )
            operation(self)

    # bytes

    def take(self, count: int) -> memoryview:
        """Return the next `count` bytes, as they lie in the file."""
        start, self.position = self.position, self.position + count
        if count < 0 or self.position > len(self.data):
            raise Damaged(f"the file ends too early: {count} bytes wanted at byte {start} of {len(self.data)}")
        return self.data[start : self.position]

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def number(self, layout: str) -> Any:
        """Return the number that comes next, in a `layout` of struct."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, count: int, encoding: str = "utf-8") -> str:
        """Return the next `count` bytes as text."""
        if count > MAX_TEXT:
            raise Damaged(f"a text of {count} bytes; no weight file needs one")
        return str(self.take(count), encoding)

    def line(self) -> str:
        """Return the text up to the next line break, which ends it."""
        end = bytes(self.data[self.position : self.position + 256]).find(b"\n")
        if end < 0:
            raise Damaged("the name of a global does not end")
        text = self.text(end)
        self.position += 1
        return text

    # stack

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the last value since the mark off the stack."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Damaged("a pickle operation finds nothing on its stack")
        return self.stack.pop()

    def top(self) -> Any:
        """Return the last value since the mark."""
        value = self.pop()
        self.stack.append(value)
        return value

    def since_mark(self) -> list[Any]:
        """Take all values since the mark, and the mark, off the stack."""
        if not self.marks:
            raise Damaged("a pickle operation finds no mark on its stack")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def recall(self, index: int) -> None:
        """Put a remembered value on the stack."""
        if index not in self.memo:
            raise Damaged(f"the pickle refers to object {index}, which is not there")
        self.push(self.memo[index])

    # compound operations

    def mark(self) -> None:
        """Mark the end of the stack."""
        self.marks.append(len(self.stack))

    def put(self, index: int) -> None:
        """Remember the last value."""
        self.memo[index] = self.top()

    def make_tuple(self, count: int) -> None:
        """Put the last `count` values together."""
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def append(self, values: list[Any]) -> None:
        """Add values to a list."""
        target = self.top()
        if type(target) is list:
            target.extend(values)
        elif not isinstance(target, Record):  # some other program's kind of list
            raise Damaged(f"items are appended to a {type(target).__name__}")

    def add(self, values: list[Any]) -> None:
        """Add values to a set."""
        target = self.top()
        if type(target) is not set or not all(map(is_key, values)):
            raise Damaged("a set is made of something else than texts and numbers")
        target.update(values)

    def make_frozenset(self) -> None:
        """Put the values since the mark into a set."""
        values = self.since_mark()
        self.push(set())
        self.add(values)

    def set_items(self, values: list[Any]) -> None:
        """Add keys and values, in turns, to a dictionary."""
        target = self.top()
        target = target.entries if isinstance(target, Record) else target
        keys = values[::2]
        if type(target) is not dict or len(values) % 2 or not all(map(is_key, keys)):
            raise Damaged("a dictionary is filled with something else than pairs whose keys are texts or numbers")
        target.update(zip(keys, values[1::2], strict=True))

    def find(self, module: Any, name: Any) -> None:
        """Put what stands for a global on the stack."""
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > MAX_NAME:
            raise Damaged("a global whose name is no text, or one that no program has")
        if RUNS_CODE.fullmatch(f"{module}.{name}"):
            raise CheckpointError(
                f"the pickle asks for {module}.{name}, which runs programs or code and is in no weights: whoever made "
                "the file may mean harm; nothing was run"
            )
        self.push(Marker(f"{module}.{name}", self.table.get((module, name))))

    def stack_global(self) -> None:
        """Put the global whose module and name are on the stack there."""
        name = self.pop()
        self.find(self.pop(), name)

    def reduce(self) -> None:
        """Call what a global stands for; make a record of a call of anything else."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Marker | Record) or type(arguments) is not tuple:
            raise Damaged("the pickle calls something that is no function, or without arguments")
        if isinstance(function, Record) or function.build is None:
            self.push(Record(name_of(function), arguments=arguments))
            return
        try:
            self.push(function.build(self, *arguments))
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise Damaged(f"the pickle calls {function.name} with arguments that do not fit ({error})") from None

    def new_object(self) -> None:
        """Make an object: a dictionary, or a record."""
        arguments, kind = self.pop(), self.pop()
        if not isinstance(kind, Marker | Record) or type(arguments) is not tuple:
            raise Damaged("the pickle makes an object of something that is no class, or without arguments")
        name = name_of(kind)
        self.push({} if name in DICTIONARIES else Record(name, arguments=arguments))

    def new_object_by_names(self) -> None:
        """Make an object whose class takes arguments by name; these are left out."""
        self.pop()
        self.new_object()

    def build(self) -> None:
        """Set the state of an object, a type or an array."""
        state, target = self.pop(), self.top()
        if isinstance(target, Record):
            slots = type(state) is tuple and len(state) == 2 and type(state[0]) is dict
            target.state = state[0] if slots else state if type(state) is dict else {}
        elif isinstance(target, Dtype) and type(state) is tuple:
            if len(state) < 2 or state[1] not in ("<", "|", "="):
                raise CheckpointError("an array of big-endian numbers; convert the file on the machine that wrote it")
        elif isinstance(target, StoredTensor) and type(state) is tuple and len(state) == 5:
            filled = array(*state[1:3], state[4], bool(state[3]))
            vars(target).update(vars(filled))
        elif not (type(target) is dict and (state is None or type(state) is dict)):  # PyTorch's _metadata is not used
            raise Damaged("the pickle sets the state of something that has none")

    def persistent_id(self) -> None:
        """Put the object of a persistent id on the stack."""
        if self.persistent is None:
            raise Damaged("the pickle refers to something outside of it")
        self.push(self.persistent(self.pop()))


def name_of(value: Marker | Record) -> str:
    """Return the name of the class or function that a value stands for."""
    return value.name if isinstance(value, Marker) else value.kind


def is_key(value: Any) -> bool:
    """Whether a value can be a key or an item of a set: a plain one, a stand-in, a few bytes, or a tuple of these."""
    if type(value) is tuple:
        return len(value) <= MAX_KEY and all(type(part) is not tuple and is_key(part) for part in value)
    if isinstance(value, memoryview):
        return len(value) <= MAX_NAME
    return type(value) in PLAIN or isinstance(value, Marker | Record)


OPCODES: dict[int, Callable[[Unpickler], None]] = {
    ord(code): operation
    for code, operation in {
        "\x80": lambda p: p.byte(),
        "\x95": lambda p: p.take(8),  # the length of a frame
        "(": Unpickler.mark,
        "0": Unpickler.pop,
        "1": Unpickler.since_mark,
        "N": lambda p: p.push(None),
        "\x88": lambda p: p.push(True),
        "\x89": lambda p: p.push(False),
        "J": lambda p: p.push(p.number("<i")),
        "K": lambda p: p.push(p.byte()),
        "M": lambda p: p.push(p.number("<H")),
        "\x8a": lambda p: p.push(int.from_bytes(p.take(p.byte()), "little", signed=True)),
        "G": lambda p: p.push(p.number(">d")),
        "X": lambda p: p.push(p.text(p.number("<I"))),
        "\x8c": lambda p: p.push(p.text(p.byte())),
        "\x8d": lambda p: p.push(p.text(p.number("<Q"))),
        "T": lambda p: p.push(p.text(p.number("<i"), "latin-1")),
        "U": lambda p: p.push(p.text(p.byte(), "latin-1")),
        "B": lambda p: p.push(p.take(p.number("<I"))),
        "C": lambda p: p.push(p.take(p.byte())),
        "\x8e": lambda p: p.push(p.take(p.number("<Q"))),
        "\x96": lambda p: p.push(p.take(p.number("<Q"))),
        ")": lambda p: p.push(()),
        "t": lambda p: p.push(tuple(p.since_mark())),
        "\x85": lambda p: p.make_tuple(1),
        "\x86": lambda p: p.make_tuple(2),
        "\x87": lambda p: p.make_tuple(3),
        "]": lambda p: p.push([]),
        "a": lambda p: p.append([p.pop()]),
        "e": lambda p: p.append(p.since_mark()),
        "}": lambda p: p.push({}),
        "s": lambda p: p.set_items([p.pop(), p.pop()][::-1]),
        "u": lambda p: p.set_items(p.since_mark()),
        "\x8f": lambda p: p.push(set()),
        "\x90": lambda p: p.add(p.since_mark()),
        "\x91": Unpickler.make_frozenset,
        "q": lambda p: p.put(p.byte()),
        "r": lambda p: p.put(p.number("<I")),
        "\x94": lambda p: p.put(len(p.memo)),
        "h": lambda p: p.recall(p.byte()),
        "j": lambda p: p.recall(p.number("<I")),
        "c": lambda p: p.find(p.line(), p.line()),
        "\x93": Unpickler.stack_global,
        "R": Unpickler.reduce,
        "\x81": Unpickler.new_object,
        "\x92": Unpickler.new_object_by_names,
        "b": Unpickler.build,
        "Q": Unpickler.persistent_id,
    }.items()
}
