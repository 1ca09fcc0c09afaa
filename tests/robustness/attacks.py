"""What a hostile user, folder or download could hand to the programs: commands, files, and the verdict."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bad_files import bad_files, call, torch_zip
from PIL import Image
from support.golden import GOLDEN

from higan.generators.stylegan2 import StyleGAN2
from higan.predictors.places import FILES, NUM_ATTRIBUTES, NUM_CATEGORIES, NUM_FEATURES, WideResNet
from higan.predictors.rooms import RoomsPredictor

Content = bytes | str | Callable[[Path], None]
NESTING = 100_000
LONG = 10_000


@dataclass(frozen=True)
class Attack:
    """One command in a folder `work` that holds what `write_workplace` writes.

    Attributes
    ----------
    name
        What is hostile about it.
    program
        A script's name, or a module as `python -m` takes it.
    arguments
        OUTSIDE stands for the path of a folder that nothing may be written to.
    files
        Written into `work` first: content by path, bytes or text, or a function that makes the path.
    says
        Stands in the line that refuses it.
    fine
        It is no mistake: the program does what it is asked for, and exits with 0.
    environment
        Variables of the process.
    models
        Folder in `work` that takes the place of models/.
    writes
        Folders in `work` that are written into.
    """

    name: str
    program: str
    arguments: tuple[str, ...]
    files: dict[str, Content] = field(default_factory=dict)
    says: str = ""
    fine: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    models: str = ""
    writes: tuple[str, ...] = ("out", "manipulation_results")


# A workplace in order


SETTINGS: dict[str, Any] = {"resolution": 8, "channels": {4: 4, 8: 4}, "z_dim": 16, "w_dim": 16, "mapping_layers": 2}
LAYERS, WIDTH, SAMPLES = 4, 16, 40
PREDICTOR = "support.model:own_predictor"  # the scores brightness and warmth


@cache
def tiny_model(label_dim: int = 0) -> bytes:
    """The weight file of a StyleGAN2 of 8x8, conditional where `label_dim` is not 0."""
    return saved_model(make_network(label_dim).state_dict())


def make_network(label_dim: int = 0) -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(**SETTINGS, **({"label_dim": label_dim, "embed_dim": 16} if label_dim else {}))


def saved_model(
    state: dict[str, torch.Tensor], settings: dict[str, Any] | None = None, family: str = "stylegan2"
) -> bytes:
    content = {"format": "higan", "version": 1, "family": family, "settings": settings or {}, "state_dict": dict(state)}
    return saved(content)


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@cache
def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def listed(name: str, space: str = "w", path: str = "boundaries/tiny/brightness_boundary.npy", rest: str = "") -> str:
    return f"({name}, {space}): {path}{rest}\n"


def write_workplace(folder: Path) -> None:
    """Write a model, codes, scores, boundaries and a list of them."""
    scores = np.zeros(SAMPLES, [("brightness", "<f4"), ("warmth", "<f4")])
    scores["brightness"], scores["warmth"] = values(SAMPLES, WIDTH)[:, 0], values(SAMPLES, WIDTH)[:, 1]
    files: dict[str, Content] = {
        "tiny.pth": tiny_model(),
        "w.npy": npy(values(SAMPLES, WIDTH)),
        "attribute.npy": npy(scores),
        "list.txt": listed("brightness"),
        "boundaries/tiny/brightness_boundary.npy": npy(values(1, WIDTH)),
        "boundaries/tiny/brightness_boundary.json": json.dumps({"space": "w", "layers": [1]}),
        "boundaries/model/brightness_boundary.npy": npy(values(1, WIDTH)),  # of the attacks' model.pkl and model.pth
        "boundaries/big/brightness_boundary.npy": npy(values(1, WIDTH)),
    }
    write_files(folder, files)


def write_files(folder: Path, files: dict[str, Content]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogateescape"))


# Commands that read one thing; FILE stands for it


OUT = ("-o", "out")
OWN = ("--predictor_name", PREDICTOR)
Command = tuple[str, tuple[str, ...]]

MODEL_READERS: dict[str, Command] = {
    "synthesize": ("synthesize", ("FILE", *OUT, "--generate_html")),
    "rescore": ("rescore", ("FILE", "list.txt", *OWN, "-N", "4", *OUT)),
    "manipulate": ("manipulate", ("FILE", "list.txt", "-N", "2", "--generate_html", *OUT)),
    "simple_manipulate": ("simple_manipulate", ("FILE", "brightness", "-N", "2")),
    "checkpoints": ("higan.checkpoints", ("FILE", "--convert", "out/new.pth")),
}
CODE_READERS: dict[str, Command] = {
    "synthesize -i": ("synthesize", ("tiny.pth", "-i", "FILE", "-s", "w", "--save_raw_synthesis", *OUT)),
    "rescore -i": ("rescore", ("tiny.pth", "list.txt", "-i", "FILE", *OWN, *OUT)),
    "manipulate -c": ("manipulate", ("tiny.pth", "list.txt", "-c", "FILE", "--latent_space_type", "w", *OUT)),
    "simple_manipulate -c": ("simple_manipulate", ("tiny.pth", "brightness", "-c", "FILE")),
    "train_boundary data": ("train_boundary", ("FILE", "attribute.npy", "--score_name", "warmth", *OUT)),
}
SCORE_READERS: dict[str, Command] = {"train_boundary scores": ("train_boundary", ("w.npy", "FILE", *OUT))}
BOUNDARY = "boundaries/tiny/brightness_boundary.npy"
DESCRIPTION = "boundaries/tiny/brightness_boundary.json"
BOUNDARY_READERS: dict[str, Command] = {
    "manipulate boundary": ("manipulate", ("tiny.pth", "list.txt", "-N", "2", "--generate_html", *OUT)),
    "rescore boundary": ("rescore", ("tiny.pth", "list.txt", "-N", "4", *OWN, *OUT)),
    "simple_manipulate boundary": ("simple_manipulate", ("tiny.pth", "brightness", "-N", "2")),
    "train_boundary --condition": (
        "train_boundary",
        ("w.npy", "attribute.npy", "--score_name", "warmth", "--condition", BOUNDARY, *OUT),
    ),
}
LIST_READERS: dict[str, Command] = {
    name: BOUNDARY_READERS[name] for name in ("manipulate boundary", "rescore boundary")
}
ROOMS_FILE = "own/rooms_predictor.pth"
ROOMS = ("tiny.pth", "--predictor_name", "rooms")
PREDICTOR_READERS: dict[str, Command] = {
    "synthesize": ("synthesize", (*ROOMS, "--generate_prediction", *OUT)),
    "rescore": ("rescore", (*ROOMS[:1], "list.txt", *ROOMS[1:], "-N", "4", *OUT)),
}
PREDICTOR_LIST: dict[str, Command] = {"predictors": ("higan.predictors", ())}
INVERT = ("--steps=10", "--starts=1", "--features=none", *OUT)
PICTURE_READERS: dict[str, Command] = {
    "inversion": ("higan.inversion", ("tiny.pth", "FILE", *INVERT)),
    "simple_manipulate": ("simple_manipulate", ("tiny.pth", "brightness", "--picture", "FILE", "--invert_steps=10")),
}


def attacks_on(
    readers: dict[str, Command], kind: str, path: str, content: Content, given: str = "", **options: Any
) -> Iterator[Attack]:
    """Yield an attack per reader: the file `path` has that content; `given` (default: `path`) stands for FILE."""
    for reader, (program, arguments) in readers.items():
        arguments = tuple((given or path) if argument == "FILE" else argument for argument in arguments)
        yield Attack(f"{kind}: {reader}", program, arguments, {path: content}, **options)


def turn(readers: dict[str, Command], number: int, count: int = 1) -> dict[str, Command]:
    """Return `count` of the readers, other ones for the next number: they share what refuses a file."""
    names = list(readers)
    return {names[(number + step) % len(names)]: readers[names[(number + step) % len(names)]] for step in range(count)}


# Files that are no files


NODES: dict[str, Content] = {
    "fifo": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
}
SYNTHESIZE: dict[str, Command] = {"synthesize": MODEL_READERS["synthesize"]}
TRAIN: dict[str, Command] = {
    "train_boundary": ("train_boundary", ("FILE", "attribute.npy", "--score_name", "warmth", *OUT))
}
ZOO_READERS: dict[str, Command] = {"generators": ("higan.generators", ()), "synthesize": MODEL_READERS["synthesize"]}
OWN_MODELS: dict[str, Any] = {"environment": {"HIGAN_MODELS": "own"}}


def node_attacks() -> Iterator[Attack]:
    for node, make in NODES.items():
        absent = node == "dangling link"
        yield from attacks_on(MODEL_READERS, f"model is a {node}", "model.pth", make)
        yield from attacks_on(CODE_READERS | SCORE_READERS, f"codes are a {node}", "given.npy", make)
        yield from attacks_on(BOUNDARY_READERS, f"boundary is a {node}", BOUNDARY, make)
        yield from attacks_on(LIST_READERS, f"list is a {node}", "list.txt", make)
        yield from attacks_on(BOUNDARY_READERS, f"description is a {node}", DESCRIPTION, make, fine=absent)
        yield from attacks_on(SYNTHESIZE, f"run.json is a {node}", "out/run.json", make, given="tiny.pth", fine=absent)
        yield from attacks_on(TRAIN, f"run.json is a {node}", "run.json", make, given="w.npy", fine=absent)
        yield from attacks_on(SYNTHESIZE, f"log is a {node}", "out/log.txt", make, given="tiny.pth", fine=absent)
        yield from attacks_on(ZOO_READERS, f"zoo is a {node}", "zoo/zoo.toml", make, given="tiny.pth", models="zoo")


# Arrays


def raw_npy(header: str | bytes, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    """An .npy file whose header is that text, or claims to be of that `length`."""
    text = header if isinstance(header, bytes) else header.encode("latin-1")
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(2 if version == 1 else 4, "little") + text + data


def shaped(shape: object, descr: object = "<f4") -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n"


def bad_arrays(shape: tuple[int, ...]) -> dict[str, bytes]:
    """Files that hold no usable floats of `shape`."""
    good = values(*shape)
    one = good.copy()
    one.flat[-1] = np.nan
    endless = good.copy()
    endless.flat[0] = -np.inf
    command = call("os", "system", "touch CANARY_FILE")
    return {
        "empty": b"",
        "magic alone": b"\x93NUMPY",
        "wrong magic": b"\x94NUMPY" + npy(good)[6:],
        "unknown version": raw_npy(shaped(shape), good.tobytes(), version=9),
        "pickled command": raw_npy(shaped((), "|O"), command),
        "pickled commands": raw_npy(shaped(shape, "|O"), command * good.size),
        "dictionary with a command": raw_npy(shaped((), "|O"), b"\x80\x04}X\x08\0\0\0boundary" + command[2:-1] + b"s."),
        "dictionary of something else": raw_npy(shaped((), "|O"), pickle.dumps({"boundary": "none", "score": 3})),
        "object that is a number": raw_npy(shaped((), "|O"), pickle.dumps(3)),
        "object cut short": raw_npy(shaped((), "|O"), pickle.dumps({"boundary": list(range(100))})[:50]),
        "petabytes": raw_npy(shaped((2**50, *shape[1:])), good.tobytes()),
        "more bytes than numbers can say": raw_npy(shaped((2**62, 2**62)), good.tobytes()),
        "rows of no end": raw_npy(shaped((10**400, *shape[1:])), good.tobytes()),
        "negative rows": raw_npy(shaped((-1, *shape[1:])), good.tobytes()),
        "half a row": raw_npy(shaped((0.5, *shape[1:])), good.tobytes()),
        "many dimensions": raw_npy(shaped((1,) * 70), good.tobytes()),
        "code in the header": raw_npy("{'descr': '<f4', 'shape': __import__('os').system('touch CANARY_FILE')}"),
        "code for a type": raw_npy(shaped(shape, "__import__('os').system('touch CANARY_FILE')"), good.tobytes()),
        "header without an end": raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (8", good.tobytes()),
        "header of brackets": raw_npy("(" * 60_000, good.tobytes()),
        "header of lists": raw_npy("[" * 2000 + "]" * 2000, good.tobytes()),
        "header of minus signs": raw_npy("-" * 60_000 + "1", good.tobytes()),
        "header of zero bytes": raw_npy(bytes(200), good.tobytes()),
        "header of another kind": raw_npy("3\n", good.tobytes()),
        "header of four gigabytes": raw_npy(shaped(shape), good.tobytes(), version=2, length=2**32 - 1),
        "header of two megabytes": raw_npy(shaped(shape).strip() + " " * 2**21 + "\n", good.tobytes(), version=2),
        "item of exabytes": raw_npy(shaped(shape, f"|V{2**60}"), good.tobytes()),
        "items of gigabytes": raw_npy(shaped(shape, "(1000000000,)f4"), good.tobytes()),
        "type that is a list": raw_npy(shaped(shape, [("a", "<f4"), ("a", "<f4")]), good.tobytes()),
        "type that is a dictionary": raw_npy(shaped(shape, {"names": 3}), good.tobytes()),
        "type that is a pair": raw_npy(shaped(shape, ("<f4",)), good.tobytes()),
        "type that is nothing": raw_npy(shaped(shape, None), good.tobytes()),
        "cut short": npy(good)[:-3],
        "no rows": npy(good[:0]),
        "no columns": npy(good[..., :0]),
        "NaN": npy(one),
        "infinity": npy(endless),
        "beyond float32": npy(good.astype(np.float64) * 1e300),
        "complex": npy(good.astype(np.complex64)),
        "text": npy(np.full(shape, "1.5")),
        "times": npy(np.full(shape, np.datetime64("2020-01-01"))),
        "records": npy(np.zeros(shape, [("a", "<f4"), ("<script>pwned</script>", "<f4")])),
        "record of arrays": npy(np.zeros(shape[0], [("a", "<f4", (16,))])),
        "a number": npy(good.flat[0]),
        "one dimension more": npy(good[..., None, None]),
    }


def good_arrays(shape: tuple[int, ...]) -> dict[str, bytes]:
    """Files that are unusual and in order."""
    good = values(*shape)
    return {
        "Fortran order": npy(np.asfortranarray(good)),
        "big-endian": npy(good.astype(">f4")),
        "half precision": npy(good.astype(np.float16)),
        "double precision": npy(good.astype(np.float64)),
        "extended precision": npy(good.astype(np.longdouble)),
        "bytes after the end": npy(good) + b"\0" * 1000,
        "header of Python 2": raw_npy(
            f"{{'descr': '<f4', 'fortran_order': False, 'shape': {long_shape(shape)}}}\n", good.tobytes()
        ),
        "version 3 header": raw_npy(shaped(shape), good.tobytes(), version=3),
        "pickle without a header": pickle.dumps(good),  # read by our interpreter, as numpy would by running it
    }


def long_shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(f"{size}L" for size in shape) + ",)"


def array_attacks() -> Iterator[Attack]:
    only_codes = {
        "integers": npy(np.ones((SAMPLES, WIDTH), np.int64)),
        "truth values": npy(np.ones((SAMPLES, WIDTH), bool)),
        "another width": npy(values(SAMPLES, WIDTH + 1)),
        "one code": npy(values(WIDTH)),
    }
    codes = bad_arrays((SAMPLES, WIDTH)) | only_codes
    readers = {name: CODE_READERS[name] for name in ("synthesize -i", "rescore -i", "manipulate -c")}
    for number, (kind, content) in enumerate(codes.items()):
        taken = kind in ("integers", "one code")
        yield from attacks_on(turn(readers, number), f"codes, {kind}", "w.npy", content, fine=taken)
        fine = kind in ("another width",)
        yield from attacks_on(TRAIN, f"codes, {kind}", "w.npy", content, fine=fine)
    for kind, content in good_arrays((SAMPLES, WIDTH)).items():
        yield from attacks_on(readers | TRAIN, f"codes, {kind}", "w.npy", content, fine=True)
    for kind, content in bad_arrays((SAMPLES,)).items():
        yield from attacks_on(SCORE_READERS, f"scores, {kind}", "scores.npy", content)
    for kind, content in good_arrays((SAMPLES,)).items():
        yield from attacks_on(SCORE_READERS, f"scores, {kind}", "scores.npy", content, fine=True)
    for number, (kind, content) in enumerate(bad_arrays((1, WIDTH)).items()):
        yield from attacks_on(turn(BOUNDARY_READERS, number), f"boundary, {kind}", BOUNDARY, content)
    for kind, content in good_arrays((1, WIDTH)).items():
        yield from attacks_on(BOUNDARY_READERS, f"boundary, {kind}", BOUNDARY, content, fine=True)
    for number, (kind, content) in enumerate(bad_wrappings((SAMPLES, WIDTH)).items()):
        yield from attacks_on(turn(readers, number), f"codes, {kind}", "w.npz", content)
    for number, (kind, content) in enumerate(bad_wrappings((1, WIDTH)).items()):
        yield from attacks_on(turn(BOUNDARY_READERS, number), f"boundary, {kind}", BOUNDARY, content)
    for number, make in enumerate((npz, lambda array: saved(torch.from_numpy(array)))):
        codes_and_directions = (
            attacks_on(
                turn(readers, number), f"codes, other file {number}", "w.npz", make(values(SAMPLES, WIDTH)), fine=True
            ),
            attacks_on(
                turn(BOUNDARY_READERS, number),
                f"boundary, other file {number}",
                BOUNDARY,
                make(values(1, WIDTH)),
                fine=True,
            ),
        )
        yield from itertools.chain(*codes_and_directions)
    for kind, make in LARGE.items():
        yield from attacks_on(BOUNDARY_READERS | SCORE_READERS, f"{kind} boundary", BOUNDARY, make, given=BOUNDARY)


def npz(array: np.ndarray, name: str = "w", compression: int = zipfile.ZIP_STORED) -> bytes:
    """An .npz with one array."""
    return zipped({f"{name}.npy": npy(array)}, compression)


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def bad_wrappings(shape: tuple[int, ...]) -> dict[str, Content]:
    """Arrays that should have `shape`, in .npz and PyTorch files that are none."""
    whole = npz(values(*shape))
    command = call("os", "system", "touch CANARY_FILE")
    return {
        "npz, cut": whole[:-40],
        "npz, another header": zipped({"w.npy": raw_npy(shaped((2**40, WIDTH)), b"few")}),
        "npz, no array": zipped({"w.npy": b"few"}),
        "npz, objects": zipped({"w.npy": raw_npy(shaped((), "|O"), command)}),
        "npz, a bomb": lambda path: path.write_bytes(npz(np.zeros(2**25, np.float32), "w", zipfile.ZIP_DEFLATED)),
        "npz, NaN": npz(np.full(shape, np.nan, np.float32)),
        "a pickled command": command,
        "tensors, none": saved({"a": 1}),
        "tensors, NaN": saved(torch.full(shape, torch.nan)),
        "tensors, another width": saved(torch.ones(*shape[:-1], shape[-1] + 1)),
    }


def sparse(start: bytes, size: int) -> Callable[[Path], None]:
    """A file that begins so and goes on with zeros, up to `size` bytes that take no room."""

    def make(path: Path) -> None:
        path.write_bytes(start)
        os.truncate(path, size)

    return make


LARGE: dict[str, Content] = {
    "eight gigabytes": sparse(raw_npy(shaped((1, 2**31))), 2**33 + 200),
    "eight gigabytes of objects": sparse(raw_npy(shaped((), "|O")), 2**33),
    "eight gigabytes of text": sparse(b"(", 2**33),
}


# Weight files


def corpus_attacks() -> Iterator[Attack]:
    """The bad weight files of tests/checkpoints, through every program that loads one."""
    for number, (name, content) in enumerate(bad_files(GOLDEN)):
        readers = turn(MODEL_READERS, number, 5 if number % 10 == 0 else 1)
        yield from attacks_on(readers, f"weights, {name}", "model.pkl", content, says="model.pkl")


def network_attacks() -> Iterator[Attack]:
    """Weight files in order whose networks are not, or whose settings are strange."""
    state = dict(make_network().state_dict())
    bad = {
        "no channels": saved_model({key: value[:0] if value.ndim else value for key, value in state.items()}),
        "no image channels": saved_model(
            {key: value[:0] if "outputs" in key else value for key, value in state.items()}
        ),
        "two image channels": saved_model(
            {
                key: value[:2] if re.fullmatch(r"outputs\.\d\.(weight|bias)", key) else value
                for key, value in state.items()
            }
        ),
        "no z": saved_model(state | {"mapping.dense.0.weight": torch.zeros(WIDTH, 0)}),
        "fused that is text": saved_model(state, {"fused": ["yes", "no"]}),
        "clamp that is NaN": saved_model(state, {"clamp": float("nan")}),
        "clamp below zero": saved_model(state, {"clamp": -1.0}),
        "multiplier without end": saved_model(state, {"mapping_multiplier": float("inf")}),
        "multiplier of a thousand digits": saved_model(state, {"mapping_multiplier": 10**300}),
        "lod of text": saved_model(state, {"lod": "1"}),
        "architecture of ten thousand letters": saved_model(state, {"architecture": "a" * LONG}),
        "architecture that is a tag": saved_model(state, {"architecture": "<script>pwned()</script>\n\x1b[31m"}),
        "family with a line break": saved_model(state, family="a\nb\x1b]0;pwned\x07"),
        "tensor called a tag": saved_model(state | {"<script>pwned()</script>\n": torch.zeros(3)}),
        "tensor called by ten thousand letters": saved_model(state | {"a" * LONG: torch.zeros(3)}),
        "weights beyond float32": saved_model({key: value.double() * 1e300 for key, value in state.items()}),
        "torch zip bomb": torch_zip({"format": "higan", "x": torch.zeros(2**24)}, compression=zipfile.ZIP_DEFLATED),
    }
    for kind, content in bad.items():
        yield from attacks_on(MODEL_READERS, f"network, {kind}", "model.pth", content)
    module = make_network().state_dict()  # with PyTorch's _metadata
    content = saved({"format": "higan", "version": 1, "family": "stylegan2", "settings": {}, "state_dict": module})
    yield from attacks_on(MODEL_READERS, "network, with metadata", "tiny.pth", content, fine=True)
    labels = {"-1": False, "3": False, str(2**70): False, "2": True, "0,2": True, "0-" + "9" * 4: False, "all": True}
    for label, fine in (labels | {"a" * LONG: False, "bad.npy": False, "bad.txt": False, ",": False}).items():
        arguments = ("conditional.pth", "--class_idx", label, *OUT)
        files = {
            "conditional.pth": tiny_model(3),
            "bad.npy": raw_npy(shaped((), "|O"), pickle.dumps(3)),
            "bad.txt": "0\n" * 3 + "\x1b[31m\n",
        }
        yield Attack(f"class {label[:20]}", "synthesize", arguments, files, fine=fine)
    config = (GOLDEN / "bigdeep_tiny32" / "config.json").read_text()
    weights = (GOLDEN / "bigdeep_tiny32" / "pytorch_model.bin").read_bytes()
    configs = BAD_JSON | {"eps of text": config.replace("0.0001", '"<script>"'), "classes": config.replace("5,", "7,")}
    for number, (kind, content) in enumerate(configs.items()):
        for reader, (program, arguments) in turn(MODEL_READERS, number).items():
            arguments = tuple("big" if argument == "FILE" else argument for argument in arguments)
            files = {"big/config.json": content, "big/pytorch_model.bin": weights}
            yield Attack(f"settings beside weights, {kind}: {reader}", program, arguments, files)


# Text files


def nested(opening: str, closing: str, depth: int = NESTING) -> str:
    return opening * depth + closing * depth


BAD_JSON: dict[str, Content] = {
    "empty": "",
    "not JSON": "space: w",
    "not text": b"\xff\xfe\xfd{}",
    "a list": "[]",
    "a number": "3",
    "nothing": "null",
    "deep": nested("[", "]"),
    "deep objects": nested('{"a":', "}").replace(":}", ":1}"),
    "number of a million digits": '{"a": ' + "9" * 10**6 + "}",
    "cut short": '{"space": "w"',
    "a pickle": call("os", "system", "touch CANARY_FILE"),
    "large": sparse(b'{"a": "', 2**33),
}
BAD_DESCRIPTIONS: dict[str, Content] = BAD_JSON | {
    "NaN": '{"space": "w", "training_accuracy": NaN}',
    "infinity": '{"space": "w", "training_accuracy": -Infinity}',
    "number beyond double": '{"space": "w", "training_accuracy": 1e999}',
    "space of a list": '{"space": ["w"]}',
    "space unknown": '{"space": "<script>pwned()</script>"}',
    "space of the other kind": '{"space": "wp"}',
    "layers of text": '{"space": "w", "layers": "6-11"}',
    "layers of truth values": '{"space": "w", "layers": [true]}',
    "layers of halves": '{"space": "w", "layers": [0.5]}',
    "layers of objects": '{"space": "w", "layers": [{}]}',
    "layers below zero": '{"space": "w", "layers": [-1]}',
    "name of a number": '{"space": "w", "name": 3}',
    "level of a list": '{"space": "w", "level": ["object"]}',
    "conditioned on a number": '{"space": "w", "conditioned_on": 3}',
    "conditioned on lists": '{"space": "w", "conditioned_on": [["a"]]}',
}
LAYERS_OUTSIDE = '{"space": "w", "layers": [99999999999999999999]}'
GOOD_DESCRIPTIONS: dict[str, Content] = {
    "rather deep": '{"space": "w", "a": ' + nested("[", "]", 100) + "}",
    "byte order mark": b"\xef\xbb\xbf" + b'{"space": "w"}',
    "UTF-16": '{"space": "w"}'.encode("utf-16"),
    "key twice": '{"space": "z", "space": "w", "layers": [1], "layers": [2]}',
    "tags": json.dumps(
        {
            "space": "w",
            "name": "<script>pwned()</script>",
            "level": '"><script>pwned()</script>',
            "conditioned_on": ["<img src=x onerror=pwned()>", "../../outside"],
            "path": "../../outside/evil.npy",
            "shape": "<script>",
            "layers_from": "rescoring",
            "rescoring": {"a": "\x1b[31m"},
            "x" * LONG: "y" * LONG,
        }
    ),
    "half a character": '{"space": "w", "name": "\\ud800", "level": "\\udfff", "conditioned_on": ["\\ud800"]}',
    "line breaks": '{"space": "w", "name": "a\\nb", "conditioned_on": ["a\\n[2020-01-01 00:00:00] fine"]}',
}
RECORD: dict[str, Any] = {
    "format": 1, "complete": False, "settings": {}, "num": 1, "block_size": 16, "arrays": {}, "versions": {}
}  # fmt: skip
BAD_RECORDS: dict[str, Content] = BAD_JSON | {
    "of the future": json.dumps(RECORD | {"format": 99}),
    "without anything": json.dumps({"format": 1}),
    "arrays of a number": json.dumps(RECORD | {"arrays": 3}),
    "arrays of a list": json.dumps(RECORD | {"arrays": ["w.npy"]}),
    "settings of text": json.dumps(RECORD | {"settings": "a"}),
    "settings of nothing": json.dumps(RECORD | {"settings": None}),
    "versions of a number": json.dumps(RECORD | {"versions": 3}),
    "complete that is text": json.dumps(RECORD | {"complete": "yes"}),
    "num that is text": json.dumps(RECORD | {"num": "1"}),
    "num that is NaN": json.dumps(RECORD | {"num": float("nan")}),
}
FOREIGN_RECORDS: dict[str, Content] = {
    "of another run": json.dumps(RECORD),
    "batch of text": json.dumps(RECORD | {"settings": {"batch_size": "8"}}),
    "batch of exabytes": json.dumps(RECORD | {"settings": {"batch_size": 10**30}}),
    "batch below zero": json.dumps(RECORD | {"settings": {"batch_size": -8}}),
    "blocks of exabytes": json.dumps(RECORD | {"num": 10**30, "block_size": 10**30}),
    "settings that are deep": json.dumps(RECORD)[:-1] + ', "settings": {"seed": ' + nested("[", "]", 900) + "}}",
    "settings with control characters": json.dumps(RECORD | {"settings": {"model_name": "\x1b]0;pwned\x07\n" * 99}}),
    "settings of ten thousand letters": json.dumps(RECORD | {"settings": {"model_name": "a" * LONG}}),
    "files outside": json.dumps(
        RECORD | {"arrays": {"../../outside/victim.npy": "", "../w.npy": "", "..": "", "": ""}}
    ),
}


def description_attacks() -> Iterator[Attack]:
    for number, (kind, content) in enumerate(BAD_DESCRIPTIONS.items()):
        yield from attacks_on(turn(BOUNDARY_READERS, number), f"description, {kind}", DESCRIPTION, content)
    for kind, content in GOOD_DESCRIPTIONS.items():
        yield from attacks_on(BOUNDARY_READERS, f"description, {kind}", DESCRIPTION, content, fine=True)
    moved = {name: BOUNDARY_READERS[name] for name in ("simple_manipulate boundary",)}
    yield from attacks_on(moved, "description, layers outside", DESCRIPTION, LAYERS_OUTSIDE)


def record_attacks() -> Iterator[Attack]:
    for kind, content in BAD_RECORDS.items():
        yield from attacks_on(
            SYNTHESIZE, f"run.json, {kind}", "out/run.json", content, given="tiny.pth", says="run.json"
        )
        yield from attacks_on(TRAIN, f"run.json, {kind}", "run.json", content, given="w.npy", says="run.json")
    for kind, content in FOREIGN_RECORDS.items():
        yield from attacks_on(SYNTHESIZE, f"run.json, {kind}", "out/run.json", content, given="tiny.pth")
    overwrite: dict[str, Command] = {"synthesize --overwrite": ("synthesize", ("FILE", "--overwrite", *OUT))}
    for kind, content in FOREIGN_RECORDS.items():
        attacks = attacks_on(overwrite, f"run.json, {kind}", "out/run.json", content, given="tiny.pth", fine=True)
        yield from (replace(attack, fine=kind != "files outside") for attack in attacks)
    unfinished = json.dumps(RECORD | {"arrays": {"w.npy": ""}})
    yield from attacks_on(TRAIN, "run.json, not finished", "run.json", unfinished, given="w.npy", says="not finished")
    strange = json.dumps(
        RECORD
        | {"complete": True, "settings": {"model_name": float("nan"), "model_sha256": {"a": [1]}, "predictor_name": 3}}
    )
    yield from attacks_on(TRAIN, "run.json, strange settings", "run.json", strange, given="w.npy", fine=True)


def list_attacks() -> Iterator[Attack]:
    bad: dict[str, Content] = {
        "empty": "",
        "comments only": "# nothing\nDISABLE(a, w): b\n",
        "not text": b"\xff\xfe(\x00",
        "a pickle": call("os", "system", "touch CANARY_FILE"),
        "no brackets": "brightness",
        "no path": "(brightness, w):",
        "NUL in a path": listed("brightness", path="a\0b.npy"),
        "path of ten thousand letters": listed("brightness", path="a" * LONG),
        "path that is no text": listed("brightness", path="\udcff\udcfe.npy"),
        "path outside that is not there": listed("brightness", path="../outside/../../nothing.npy"),
        "path of a device": listed("brightness", path="/dev/zero"),
        "home of nobody": listed("brightness", path="~nobody-has-this-name/a.npy"),
        "name with a folder": listed("../../outside/evil"),
        "absolute name": listed("/tmp/evil"),
        "name with a tag": listed("<script>pwned()</script>"),
        "name with quotes": listed('a"onerror="pwned'),
        "name with a line break": listed("a\nb"),
        "name with an escape": listed("a\x1b[31mb"),
        "name of ten thousand letters": listed("a" * LONG),
        "name that is hidden": listed(".evil"),
        "name with a NUL": listed("a\0b"),
        "space unknown": listed("brightness", "q"),
        "space of the other kind": listed("brightness", "wp"),
        "layers without end": listed("brightness", rest=" layers=0-99999999999999999999"),
        "layers of five thousand digits": listed("brightness", rest=" layers=" + "9" * 5000),
        "layers below zero": listed("brightness", rest=" layers=-1"),
        "layers of words": listed("brightness", rest=" layers=__import__('os')"),
        "layers in other digits": listed("brightness", rest=" layers=\u0661-\u0663"),
        "distance NaN": listed("brightness", rest=" distance=nan"),
        "distance infinite": listed("brightness", rest=" distance=1e999"),
        "distance of words": listed("brightness", rest=" distance=far"),
        "line of blanks": "(" + " " * 200_000,
        "line of blanks before a colon": "(a, w): b" + " " * 200_000 + "c",
        "line of brackets": "(" * 200_000,
        "line of commas": "(a" + "," * 200_000,
        "line of options": "(a, w): b" + " layers=1" * 20_000,
        "eight gigabytes": sparse(b"(", 2**33),
    }
    for number, (kind, content) in enumerate(bad.items()):
        yield from attacks_on(turn(LIST_READERS, number), f"list, {kind}", "list.txt", content)
    fine = {
        "line breaks of Windows": "\ufeff# a\r\n" + listed("brightness").replace("\n", "\r\n"),
        "line twice": listed("brightness") * 2000,
    }
    for kind, content in fine.items():
        yield from attacks_on(LIST_READERS, f"list, {kind}", "list.txt", content, fine=True)


MODEL_TABLE = """[name]
family = "stylegan2"
resolution = 8
files = ["tiny.pth"]
published = "here"
licence = "none"
"""


def zoo_attacks() -> Iterator[Attack]:
    bad: dict[str, Content] = {
        "not TOML": "models = ",
        "not text": b"\xff\xfe",
        "a number": "a = 3",
        "tables of a list": "[[name]]\nfamily = 3",
        "no files": MODEL_TABLE.replace('files = ["tiny.pth"]', ""),
        "files of text": MODEL_TABLE.replace('["tiny.pth"]', '"tiny.pth"'),
        "files of numbers": MODEL_TABLE.replace('["tiny.pth"]', "[3]"),
        "empty files": MODEL_TABLE.replace('["tiny.pth"]', "[]"),
        "files outside": MODEL_TABLE.replace("tiny.pth", "../../../etc/passwd"),
        "absolute files": MODEL_TABLE.replace("tiny.pth", "/etc/passwd"),
        "family of a number": MODEL_TABLE.replace('"stylegan2"', "3"),
        "resolution of text": MODEL_TABLE.replace("8", '"8"', 1),
        "psi of text": MODEL_TABLE + 'truncation_psi = "0.5"',
        "layers of halves": MODEL_TABLE + "truncation_layers = 0.5",
        "predictor of a list": MODEL_TABLE + "predictor = []",
        "name with a folder": MODEL_TABLE.replace("[name]", '["../../outside/evil"]'),
        "name with a tag": MODEL_TABLE.replace("[name]", '["<script>pwned()</script>"]'),
        "name with a line break": MODEL_TABLE.replace("[name]", '["a\\nb"]'),
        "no name": MODEL_TABLE.replace("[name]", '[""]'),
        "name of ten thousand letters": MODEL_TABLE.replace("name", "a" * LONG),
        "table twice": MODEL_TABLE * 2,
        "deep": "a = " + nested("[", "]"),
        "deep keys": "a." * 5000 + "a = 1",
        "number of a million digits": "a = " + "9" * 10**6,
        "eight gigabytes": sparse(b"a = '", 2**33),
    }
    for number, (kind, content) in enumerate(bad.items()):
        yield from attacks_on(
            turn(ZOO_READERS, number),
            f"zoo, {kind}",
            "zoo/zoo.toml",
            content,
            given="tiny.pth",
            models="zoo",
            says="zoo.toml",
        )
    odd = {"psi": "truncation_psi = nan", "layers": "truncation_layers = -1", "more psi": "truncation_psi = 1e400"}
    for kind, line in odd.items():
        files: dict[str, Content] = {"zoo/zoo.toml": MODEL_TABLE + line, "zoo/tiny.pth": tiny_model()}
        yield Attack(f"zoo, {kind}: synthesize", "synthesize", ("name", *OUT), files, models="zoo")
    files = {"zoo/zoo.toml": MODEL_TABLE.replace("here", "a\\u001b[31m\\nb"), "zoo/tiny.pth": tiny_model()}
    yield Attack("zoo, control characters: generators", "higan.generators", (), files, models="zoo", fine=True)


# Predictors


def rooms_file(**changed: Any) -> bytes:
    """A weight file of the predictor of rooms, small, with random weights and some entries `changed`."""
    torch.manual_seed(0)
    network = RoomsPredictor(2, 16, (2, 2, 2, 2, 2), 2)
    content: dict[str, Any] = {
        "format": "higan-predictor",
        "version": 1,
        "resolution": 16,
        "channels": [2, 2, 2, 2, 2],
        "hidden": 2,
        "names": ["brightness", "warmth"],
        "levels": {},
        "kinds": {},
        "state_dict": network.state_dict(),
    }
    return saved(content | changed)


def predictor_attacks() -> Iterator[Attack]:
    state = RoomsPredictor(2, 16, (2, 2, 2, 2, 2), 2).state_dict()
    broken = {key: torch.full_like(value, float("nan")) if "head" in key else value for key, value in state.items()}
    command = call("os", "system", "touch CANARY_FILE", protocol=2)
    bad: dict[str, Content] = {
        "empty": b"",
        "random": np.random.default_rng(0).bytes(5000),
        "cut short": rooms_file()[:2000],
        "a command": command,
        "a command in a zip": torch_zip({"a": torch.zeros(3)}, command),
        "zip bomb": torch_zip(
            {"format": "higan-predictor", "x": torch.zeros(2**28, dtype=torch.uint8)}, compression=zipfile.ZIP_DEFLATED
        ),
        "a generator": tiny_model(),
        "a list": saved([1, 2]),
        "resolution of exabytes": rooms_file(resolution=2**40),
        "resolution of gigabytes": rooms_file(resolution=2**15),
        "resolution of text": rooms_file(resolution="64"),
        "resolution below zero": rooms_file(resolution=-16),
        "no resolution": rooms_file(resolution=0),
        "channels of exabytes": rooms_file(channels=[2**40] * 5),
        "channels of gigabytes": rooms_file(channels=[2**14] * 5),
        "channels of text": rooms_file(channels="abcde"),
        "three channels": rooms_file(channels=[2, 2, 2]),
        "hidden of exabytes": rooms_file(hidden=2**60),
        "hidden below zero": rooms_file(hidden=-1),
        "names of numbers": rooms_file(names=[1, 2]),
        "names of lists": rooms_file(names=[["a"], ["b"]]),
        "names that repeat": rooms_file(names=["brightness", "brightness"]),
        "no names": rooms_file(names=[]),
        "empty names": rooms_file(names=["brightness", ""]),
        "names of ten thousand letters": rooms_file(names=["brightness", "b" * LONG]),
        "names with line breaks": rooms_file(names=["brightness", "a\nb"]),
        "names with half characters": rooms_file(names=["brightness", "\ud800"]),
        "levels of text": rooms_file(levels="attribute"),
        "levels of numbers": rooms_file(levels={"brightness": 3}),
        "level unknown": rooms_file(levels={"brightness": "<script>"}),
        "NaN weights": rooms_file(state_dict=broken),
        "no weights": rooms_file(state_dict={}),
        "weights of text": rooms_file(state_dict="none"),
        "a thousand names": rooms_file(names=[str(index) for index in range(1000)]),
    }
    for number, (kind, content) in enumerate(bad.items()):
        yield from attacks_on(turn(PREDICTOR_READERS, number), f"rooms, {kind}", ROOMS_FILE, content, **OWN_MODELS)
        yield from attacks_on(PREDICTOR_LIST, f"rooms, {kind}", ROOMS_FILE, content, fine=True, **OWN_MODELS)
    fine = {
        "with folders": rooms_file(names=["brightness", "../../outside/evil"]),
        "with tags": rooms_file(names=["brightness", "<script>pwned()</script>"]),
        "in other letters": rooms_file(names=["brightness", "明るさ é"], levels={"brightness": "object"}),
    }
    for kind, content in fine.items():
        yield from attacks_on(PREDICTOR_READERS, f"rooms, names {kind}", ROOMS_FILE, content, fine=True, **OWN_MODELS)
    yield from scene_attacks()
    yield from own_attacks()


@cache
def scene_weights() -> bytes:
    with torch.device("meta"):
        network = WideResNet()
    state = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in network.state_dict().items()}
    return saved({"state_dict": state})


def scene_attacks() -> Iterator[Attack]:
    weights, matrix, categories, attributes = FILES
    places: dict[str, Content] = {
        weights: lambda path: path.write_bytes(scene_weights()) and None,
        matrix: npy(np.zeros((NUM_ATTRIBUTES, NUM_FEATURES), np.float32)),
        categories: "".join(f"/a/{index} {index}\n" for index in range(NUM_CATEGORIES)),
        attributes: "".join(f"{index}\n" for index in range(NUM_ATTRIBUTES)),
    }
    bad: dict[str, tuple[str, Content]] = {
        "weights, a command": (weights, call("os", "system", "touch CANARY_FILE")),
        "weights, a list": (weights, saved([1])),
        "weights, another network": (weights, tiny_model()),
        "weights, one of the wrong shape": (weights, saved({"state_dict": {"fc.weight": torch.zeros(1)}})),
        "weights, a number": (weights, saved({"state_dict": 3})),
        "matrix, objects": (matrix, bad_arrays((NUM_ATTRIBUTES, NUM_FEATURES))["pickled command"]),
        "matrix, NaN": (matrix, bad_arrays((NUM_ATTRIBUTES, NUM_FEATURES))["NaN"]),
        "matrix, sixteen gigabytes": (matrix, sparse(raw_npy(shaped((2**22, 1024))), 2**34 + 200)),
        "labels, not text": (categories, b"\xff\xfe"),
        "labels, too few": (categories, "a\n"),
        "labels, a tag": (
            attributes,
            "<script>pwned()</script>\n" + "".join(f"{i}\n" for i in range(NUM_ATTRIBUTES - 1)),
        ),
        "labels, eight gigabytes": (attributes, sparse(b"a", 2**33)),
    }
    for kind, (file, content) in bad.items():
        fine = kind == "labels, a tag"
        found = places | ({} if fine else {weights: b""}) | {file: content}
        files = {f"own/{name}": made for name, made in found.items()}
        arguments = ("tiny.pth", "--predictor_name", "scene", "--generate_prediction", *OUT)
        yield Attack(
            f"scene {kind}: synthesize",
            "synthesize",
            arguments,
            files,
            says="" if fine else file,
            fine=fine,
            **OWN_MODELS,
        )


def own_predictor(names: str = "{'a': ['brightness']}", predict: str = "return None", rest: str = "") -> str:
    """Source of a predictor of the user's own."""
    lines = ("class Own:", f"    names = {names}", f"    def predict(self, images): {predict}", f"    {rest}")
    return "\n".join((*lines, "def make(device): return Own()"))


def own_attacks() -> Iterator[Attack]:
    """Predictors of the user's own that are wrong; their code is run, since the user names it."""
    unfit = "return {'a': images.float().mean((1, 2, 3))[:, None] * float('nan')}"
    sources = {
        "does not parse": "def make(:",
        "fails at import": "raise RuntimeError('a\\nb')",
        "fails when made": "def make(device): raise KeyError('x')",
        "is no function": "make = 3",
        "is nothing": "def make(device): return None",
        "names of a list": own_predictor("['a']"),
        "names of a number": own_predictor("{'a': 3}"),
        "names of numbers": own_predictor("{'a': [3]}"),
        "group with a folder": own_predictor("{'../evil': ['brightness']}"),
        "group of a number": own_predictor("{3: ['brightness']}"),
        "levels of a number": own_predictor(rest="levels = 3"),
        "levels of lists": own_predictor(rest="levels = {'brightness': []}"),
        "predict that is no function": own_predictor(rest="predict = 3"),
        "predict that fails": own_predictor(predict="raise ValueError('x')"),
        "predict that returns nothing": own_predictor(),
        "predict that returns text": own_predictor(predict="return {'a': 'b'}"),
        "predict that returns NaN": own_predictor(predict=unfit),
    }
    readers: dict[str, Command] = {
        "synthesize": ("synthesize", ("tiny.pth", "--generate_prediction", "--predictor_name", "mine:make", *OUT)),
        "rescore": ("rescore", ("tiny.pth", "list.txt", "-N", "4", "--predictor_name", "mine:make", *OUT)),
    }
    for number, (kind, source) in enumerate(sources.items()):
        yield from attacks_on(turn(readers, number), f"own predictor, {kind}", "mine.py", source)


# Names


NAMES = {
    "folder above": "../../outside/evil",
    "absolute": "OUTSIDE/evil",
    "double quote": 'a" onerror="pwned()',
    "tag": "<script>pwned()<script>",
    "line break": "a\nb\r\n[2020-01-01 00:00:00] fine",
    "ten thousand letters": "a" * LONG,
    "two hundred and fifty letters": "a" * 250,
    "not UTF-8": "\udcff\udcfe",
    "right to left": "a\u202egpj.exe",
    "escape": "\x1b]0;pwned\x07\x1b[31m",
    "device": "CON",
    "above": "..",
    "nothing": "",
    "formats": "%s%n%(message)s{0}{{7*7}}",
    "command": "$(touch CANARY_FILE);`touch CANARY_FILE`|touch CANARY_FILE",
}
# the argument of each program that is a name; in it, NAME is the name
NAMED: dict[str, Command] = {
    "synthesize model": ("synthesize", ("NAME", *OUT)),
    "rescore model": ("rescore", ("NAME", "list.txt", *OUT)),
    "manipulate model": ("manipulate", ("NAME", "list.txt", "-N", "1", *OUT)),
    "simple_manipulate model": ("simple_manipulate", ("NAME", "brightness")),
    "checkpoints file": ("higan.checkpoints", ("NAME",)),
    "simple_manipulate boundary": ("simple_manipulate", ("tiny.pth", "NAME")),
    "manipulate list": ("manipulate", ("tiny.pth", "NAME", "-N", "1", *OUT)),
    "manipulate --condition": ("manipulate", ("tiny.pth", "list.txt", "-N", "1", "--condition=NAME", *OUT)),
    "synthesize codes": ("synthesize", ("tiny.pth", "--latent_codes_path=NAME", "-s", "w", *OUT)),
    "train_boundary codes": ("train_boundary", ("NAME", "attribute.npy", *OUT)),
    "train_boundary scores": ("train_boundary", ("w.npy", "NAME", *OUT)),
    "train_boundary --score_name": ("train_boundary", ("w.npy", "attribute.npy", "--score_name=NAME", *OUT)),
    "train_boundary --condition": (
        "train_boundary", ("w.npy", "attribute.npy", "--score_name=warmth", "--condition=NAME", *OUT),
    ),
    "synthesize --predictor_name": ("synthesize", ("tiny.pth", "--predictor_name=NAME", "--generate_prediction", *OUT)),
    "synthesize --predictor_name module": (
        "synthesize", ("tiny.pth", "--predictor_name=NAME:NAME", "--generate_prediction", *OUT),
    ),
    "synthesize --device": ("synthesize", ("tiny.pth", "--device=NAME", *OUT)),
    "manipulate layers": ("manipulate", ("tiny.pth", "list.txt", "-N", "1", "--manipulate_layers=NAME", *OUT)),
    "synthesize unknown argument": ("synthesize", ("tiny.pth", "--NAME", *OUT)),
    "manipulate --video_name": (
        "manipulate", ("tiny.pth", "list.txt", "-N", "1", "--generate_video", "--video_name=NAME", *OUT),
    ),
}  # fmt: skip
# arguments that name a file to write, and the names that they refuse; in order are all others, strange as they are
FOLDERS = ("folder above", "absolute", "ten thousand letters")
LOGS = (*FOLDERS, "above", "nothing")
PAGES = (*FOLDERS, "two hundred and fifty letters", "nothing")
SAVED = (*PAGES, "double quote", "tag", "line break", "escape", "above", "formats", "command")
TRAINED = ("w.npy", "attribute.npy", "--score_name=warmth")
WRITTEN: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "synthesize --html_name": ("synthesize", ("tiny.pth", "--generate_html", "--html_name=NAME.html", *OUT), PAGES),
    "synthesize --logfile_name": ("synthesize", ("tiny.pth", "--logfile_name=NAME", *OUT), LOGS),
    "rescore --logfile_name": ("rescore", ("tiny.pth", "list.txt", "-N", "4", *OWN, "--logfile_name=NAME", *OUT), LOGS),
    "manipulate --html_name": (
        "manipulate", ("tiny.pth", "list.txt", "-N", "1", "--generate_html", "--html_name=NAME.html", *OUT), PAGES,
    ),
    "train_boundary --save_name": ("train_boundary", (*TRAINED, "--save_name=NAME", *OUT), SAVED),
    "train_boundary --logfile_name": ("train_boundary", (*TRAINED, "--logfile_name=NAME", *OUT), LOGS[:-1]),
}  # fmt: skip


def name_attacks() -> Iterator[Attack]:
    for number, (kind, name) in enumerate(NAMES.items()):
        for reader, (program, arguments) in turn(NAMED, 7 * number, 10).items():
            chosen = tuple(argument.replace("NAME", name) for argument in arguments)
            fine = not name and reader == "manipulate layers"
            yield Attack(f"name, {kind}: {reader}", program, chosen, fine=fine)
        for reader, (program, arguments, refused) in WRITTEN.items():
            chosen = tuple(argument.replace("NAME", name) for argument in arguments)
            yield Attack(f"name, {kind}: {reader}", program, chosen, fine=kind not in refused)
        if kind in (*FOLDERS, "above", "nothing", "two hundred and fifty letters"):
            continue
        stem = Path(name).stem
        files: dict[str, Content] = {
            name: tiny_model(),
            f"boundaries/{stem}/brightness_boundary.npy": npy(values(1, WIDTH)),
        }
        for reader, (program, arguments) in MODEL_READERS.items():
            chosen = tuple(f"./{name}" if argument == "FILE" else argument for argument in arguments)
            yield Attack(f"model called, {kind}: {reader}", program, chosen, files, fine=True)
    for program, name in (("synthesize", "run.json"), ("synthesize", "z.npy"), ("manipulate", "w.npy")):
        for option in ("--html_name", "--logfile_name"):
            yield Attack(f"{program} {option}={name}", program, (*BASE[program], f"{option}={name}"))


# Numbers


NUMBERS = {
    "synthesize": "num seed batch_size html_row html_col viz_size truncation_psi truncation_layers class_idx",
    "train_boundary": "chosen_num_or_ratio split_ratio invalid_value seed C jobs bootstrap",
    "rescore": "num control distance class_idx seed batch_size interval",
    "manipulate": "num step start_distance end_distance seed batch_size fps row col row_spacing border_left viz_size",
    "simple_manipulate": "num step start_distance end_distance seed",
}
VALUES = {"below zero": "-1", "70 bits": str(2**70), "a trillion": str(10**12), "NaN": "nan", "1e308": "1e308"}
LARGE_VALUES = ("70 bits", "a trillion")
IN_ORDER: dict[str, tuple[str, ...]] = {
    "--seed": LARGE_VALUES,
    "--batch_size": LARGE_VALUES,
    "--html_row": LARGE_VALUES,
    "--row_spacing": LARGE_VALUES,  # there is one row
    "--html_col": LARGE_VALUES,
    "--truncation_psi": ("below zero",),
    "--truncation_layers": LARGE_VALUES,
    "--chosen_num_or_ratio": (*LARGE_VALUES, "1e308"),
    "--invalid_value": tuple(VALUES),
    "--C": LARGE_VALUES,
    "--jobs": LARGE_VALUES,
    "--start_distance": ("below zero",),
    "--end_distance": ("below zero",),
    "--distance": ("below zero",),
}
BASE: dict[str, tuple[str, ...]] = {
    "synthesize": ("tiny.pth", "--generate_html", *OUT),
    "train_boundary": ("w.npy", "attribute.npy", "--score_name=warmth", *OUT),
    "rescore": ("tiny.pth", "list.txt", "-N", "4", *OWN, *OUT),
    "manipulate": ("tiny.pth", "list.txt", "-N", "2", "--generate_video", "--generate_html", *OUT),
    "simple_manipulate": ("tiny.pth", "brightness", "-N", "2"),
}


def number_attacks() -> Iterator[Attack]:
    for program, options in NUMBERS.items():
        for option in (f"--{name}" for name in options.split()):
            for kind, value in VALUES.items():
                fine = kind in IN_ORDER.get(option, ()) and (program, option) != ("train_boundary", "--seed")
                yield Attack(f"{program} {option}, {kind}", program, (*BASE[program], f"{option}={value}"), fine=fine)


def png(width: int, height: int) -> bytes:
    """A grey picture that says it is of this size, with the rows of one of 32 x 32."""
    content = io.BytesIO()
    Image.new("L", (32, 32), 128).save(content, "PNG")
    data = bytearray(content.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def picture_attacks() -> Iterator[Attack]:
    bad: dict[str, Content] = {
        "empty": b"",
        "random": np.random.default_rng(1).bytes(5000),
        "text": "a bedroom",
        "an array": npy(values(3, 3)),
        "cut short": png(32, 32)[:50],
        "of terabytes": png(2**20, 2**20),
        "of gigabytes": png(2**15, 2**15),
        "of no width": png(0, 32),
        "of one pixel": png(1, 1),
        "eight gigabytes": sparse(png(32, 32)[:40], 2**33),
        "a folder": lambda path: path.mkdir(),
        "a pipe": os.mkfifo,
    }
    for kind, content in bad.items():
        yield from attacks_on(PICTURE_READERS, f"picture, {kind}", "picture.png", content)
    good: dict[str, Content] = {"picture.png": png(32, 32)}
    for crop in ("", "1,2", "left", "0,0,0,0", "-1,0,16,16", "20,20,16,16", f"{'9' * 400},0,16,16", "1e3,0,16,16"):
        for reader, (program, arguments) in PICTURE_READERS.items():
            given = tuple("picture.png" if argument == "FILE" else argument for argument in arguments)
            yield Attack(f"crop {crop[:20]!r}: {reader}", program, (*given, f"--crop={crop}"), good, says="--crop")
    for option in ("steps", "starts", "seed", "batch_size", "tune_steps", "tune"):
        given = ("tiny.pth", "picture.png", *INVERT, f"--{option}=-1")
        yield Attack(f"inversion --{option}, below zero", "higan.inversion", given, good, says=f"--{option}")


def phrase_attacks() -> Iterator[Attack]:
    bad: dict[str, Content] = {
        "empty": b"",
        "random": np.random.default_rng(2).bytes(5000),
        "of another encoding": "a bed".encode("utf-16"),
        "nothing but comments": "# a\n;\n",
        "one twice": "a bed\na bed",
        "many ways": "a|" * 100_000,
        "a long one": "a" * 1_000_000,
        "eight gigabytes": sparse(b"a bed\n", 2**33),
        "a folder": lambda path: path.mkdir(),
        "a pipe": os.mkfifo,
    }
    for kind, content in bad.items():
        command = ("tiny.pth", "--generate_prediction", "--predictor_name=text:@phrases.txt", *OUT)
        yield Attack(f"phrases, {kind}", "synthesize", command, {"phrases.txt": content}, says="phrases.txt")


ATTACKS = [
    *node_attacks(),
    *array_attacks(),
    *corpus_attacks(),
    *network_attacks(),
    *description_attacks(),
    *record_attacks(),
    *list_attacks(),
    *zoo_attacks(),
    *predictor_attacks(),
    *name_attacks(),
    *number_attacks(),
    *picture_attacks(),
    *phrase_attacks(),
]
