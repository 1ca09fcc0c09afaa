"""Files that must be refused: damaged ones, ones of something else, and pickles that would run code elsewhere."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

# (module, name, argument); a file CANARY_FILE in the working folder would show that one of them ran
GADGETS = [
    ("os", "system", "touch CANARY_FILE"),
    ("posix", "system", "touch CANARY_FILE"),
    ("nt", "system", "touch CANARY_FILE"),
    ("os", "popen", "touch CANARY_FILE"),
    ("os", "execv", "touch CANARY_FILE"),
    ("subprocess", "Popen", "touch CANARY_FILE"),
    ("subprocess", "call", "touch CANARY_FILE"),
    ("subprocess", "check_output", "touch CANARY_FILE"),
    ("builtins", "eval", "open('CANARY_FILE', 'w')"),
    ("builtins", "exec", "open('CANARY_FILE', 'w')"),
    ("builtins", "compile", "open('CANARY_FILE', 'w')"),
    ("builtins", "open", "CANARY_FILE"),
    ("builtins", "getattr", "CANARY_FILE"),
    ("builtins", "__import__", "os"),
    ("builtins", "bytearray", "CANARY_FILE"),
    ("__builtin__", "eval", "open('CANARY_FILE', 'w')"),
    ("runpy", "run_path", "CANARY_FILE"),
    ("runpy", "_run_code", "CANARY_FILE"),
    ("pty", "spawn", "touch CANARY_FILE"),
    ("importlib", "import_module", "os"),
    ("pickle", "loads", "CANARY_FILE"),
    ("_pickle", "loads", "CANARY_FILE"),
    ("torch", "load", "CANARY_FILE"),
    ("torch.serialization", "load", "CANARY_FILE"),
    ("torch.hub", "load", "CANARY_FILE"),
    ("torch.storage", "_load_from_bytes_", "CANARY_FILE"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__", "CANARY_FILE"),
    ("numpy", "load", "CANARY_FILE"),
    ("numpy", "dtype.__init__", "CANARY_FILE"),
    ("numpy.testing._private.utils", "runstring", "open('CANARY_FILE', 'w')"),
    ("collections", "OrderedDict.fromkeys", "CANARY_FILE"),
    ("dnnlib.util", "call_func_by_name", "os.system"),
    ("dnnlib.tflib.network", "import_module", "os"),
    ("torch_utils.persistence", "_src_to_module", "open('CANARY_FILE', 'w')"),
    ("webbrowser", "open", "CANARY_FILE"),
    ("pathlib", "Path.touch", "CANARY_FILE"),
    ("urllib.request", "urlopen", "http://localhost/CANARY_FILE"),
    ("types", "CodeType", "CANARY_FILE"),
    ("ctypes", "CDLL", "CANARY_FILE"),
    ("higan.commands.scripts", "run_script", "CANARY_FILE"),
]


PARTS = ("layer", "output")  # of PGGAN's networks


def call(module: str, name: str, argument: str, protocol: int = 4) -> bytes:
    """A pickle that calls module.name(argument)."""
    text = argument.encode()
    push = b"X" + struct.pack("<I", len(text)) + text
    if protocol < 4:
        return bytes([0x80, protocol]) + f"c{module}\n{name}\n".encode() + push + b"\x85R."
    names = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
    return b"\x80\x04" + names + b"\x93" + push + b"\x85R."


def beside(state_dict: object, operations: bytes) -> bytes:
    """A PyTorch file of {x: what the operations make, G_ema: state_dict}."""
    file = io.BytesIO(saved(state_dict))
    with zipfile.ZipFile(file) as archive:
        pickled = archive.read("archive/data.pkl")
    return torch_zip(state_dict, b"\x80\x02}U\1x" + operations + b"sU\5G_ema" + pickled[2:-1] + b"s.")


def load(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """What a PyTorch file of plain tensors holds."""
    return torch.load(path, weights_only=True)


def safetensors(tensors: dict[str, torch.Tensor], apart: int | None = None) -> bytes:
    """A safetensors file; with `apart` every tensor's numbers begin that many bytes after those of the one before."""
    header, place, data = {}, 0, b""
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [place, place + tensor.nbytes]}
        data, place = data + tensor.contiguous().numpy().tobytes(), place + (apart or tensor.nbytes)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (data if apart is None else data[: place + tensors[name].nbytes])


def torch_zip(content: object, pickled: bytes | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A PyTorch file, its pickle replaced or its parts compressed."""
    original, result = io.BytesIO(), io.BytesIO()
    torch.save(content, original)
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(result, "w", compression) as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(entry.filename, pickled if pickled and entry.filename.endswith("data.pkl") else data)
    return result.getvalue()


def torch_stream(content: object) -> bytes:
    """A PyTorch file of the older format."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def stored(content: object) -> bytes:
    return pickle.dumps(content, protocol=4)


def bytes_call(module: str, name: str, data: bytes) -> bytes:
    """A pickle that calls module.name(data)."""
    names = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
    return b"\x80\x04" + names + b"\x93B" + struct.pack("<I", len(data)) + data + b"\x85R."


def network_pickle(state: bytes) -> bytes:
    """A pickle whose top is a persistent object with the pickled `state`, and source code that leaves a trace."""
    source = b"open('CANARY_FILE', 'w')"
    items = b"\x8c\x04type\x8c\x05class\x8c\x07versionK\x06\x8c\nmodule_srcX" + struct.pack("<I", len(source)) + source
    items += b"\x8c\nclass_name\x8c\tGenerator\x8c\x05state" + state
    names = b"\x8c\x17torch_utils.persistence\x8c\x1b_reconstruct_persistent_obj\x93"
    return b"\x80\x04" + names + b"}(" + items + b"u\x85R."


def bad_files(golden: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents."""
    new = (golden / "stylegan2_tiny16.pth").read_bytes()
    old = (golden / "pggan_tiny16_oldformat.pth").read_bytes()
    tensorflow = (golden / "tf_stylegan_tiny16.pkl").read_bytes()
    nvlabs = (golden / "sg2ada_synthetic.pkl").read_bytes()
    state_dict = torch.load(golden / "stylegan2_tiny16.pth", weights_only=True)

    yield "empty", b""
    yield "one byte", b"\x80"
    yield "zeros", bytes(5000)
    yield "random", np.random.default_rng(0).bytes(5000)
    yield "random after a pickle's start", b"\x80\x04" + np.random.default_rng(1).bytes(5000)
    yield "web page", b"<!DOCTYPE html><html>quota exceeded</html>"
    yield "git lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    yield "numpy array", b"\x93NUMPY\x01\x00" + bytes(200)
    yield "gzip", b"\x1f\x8b\x08" + bytes(200)
    yield "text protocol", b"(dp0\nS'a'\nI1\ns."
    yield "unknown protocol", b"\x80\x07}."

    rosinality = {key: value.clone() for key, value in load(golden / "rosinality_tiny32.pt")["g_ema"].items()}
    packed = safetensors(state_dict)
    files = {"new": new, "old": old, "tensorflow": tensorflow, "nvlabs": nvlabs, "safetensors": packed}
    files["biggan"] = (golden / "biggan_aj_tiny32.pth").read_bytes()
    files["encoder"] = (golden / "psp_tiny16.pt").read_bytes()
    files["snapshot"] = (golden / "rosinality_snapshot16.pt").read_bytes()
    files["stylegan3 program"] = (golden / "sg3sg2_r16.pkl").read_bytes()
    for name, data in files.items():
        for part in (0.01, 0.5, 0.999):
            yield f"{name} cut at {part}", data[: int(len(data) * part)]
    middle = len(new) // 2
    yield "new with a changed byte", new[:middle] + bytes([new[middle] ^ 255]) + new[middle + 1 :]

    for module, name, argument in GADGETS:
        yield f"{module}.{name}", call(module, name, argument)
    yield "os.system beside a network", beside(state_dict, call("os", "system", "touch CANARY_FILE", protocol=2)[2:-1])
    yield "os.system, protocol 2", call("os", "system", "touch CANARY_FILE", protocol=2)
    yield "os.system in a zip", torch_zip(state_dict, call("os", "system", "touch CANARY_FILE", protocol=2))
    yield "os.system in a network's state", network_pickle(call("os", "system", "touch CANARY_FILE")[2:-1])
    inner = call("os", "system", "touch CANARY_FILE")
    yield "pickle in the bytes of a storage", bytes_call("torch.storage", "_load_from_bytes", inner)
    stream = torch_stream(torch.zeros(3))
    at = stream.index(b"ctorch._utils\n_rebuild_tensor_v2\n")
    yield "os.system in a torch stream", stream[:at] + call("os", "system", "touch CANARY_FILE", protocol=2)[2:]
    yield (
        "os.system in an embedded stream",
        bytes_call(
            "torch.storage", "_load_from_bytes", stream[:at] + call("os", "system", "touch CANARY_FILE", protocol=2)[2:]
        ),
    )
    yield "old operations INST", b"\x80\x02(X\x02\x00\x00\x00lsios\nsystem\n."
    yield "old operations OBJ", b"\x80\x02(cos\nsystem\nX\x02\x00\x00\x00lso."
    yield "extension registry", b"\x80\x02\x82\x01."
    yield "source code of a module that runs", network_pickle(b"}")

    yield "memo index of four billion", b"\x80\x02}r\xff\xff\xff\xff."
    yield "bytes of an exabyte", b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"."
    yield "text of an exabyte", b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"."
    yield "bytearray of an exabyte", b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"."
    yield "deeply nested tuples", b"\x80\x02)" + b"\x85" * 190_000 + b"."
    record = b"h\0" * 30_000 + b")R" + b"\x85R" * 29_999
    yield "records in one another", b"\x80\x02cmake\nrecord\nq\0" + record + b"."
    yield "states of states", b"\x80\x02cmake\nrecord\nq\0" + b"h\0)R" * 20_000 + b"}(K\1" * 1 + b"K\2ub" + b"."
    yield "a record that holds itself", b"\x80\x02cmake\nrecord\n)Rq\0}U\1ah\0sb."
    pairs = b"(" + b"h\1" * 100_000 + b"e"
    yield (
        "a dictionary of a list again and again",
        (
            b"\x80\x02ccollections\nOrderedDict\nq\0]K\1K\2\x86q\1"
            + b"0"
            + b"]q\2"
            + pairs
            + b"0("
            + b"h\0h\2\x85R" * 60_000
            + b"t."
        ),
    )
    yield "endless operations", b"\x80\x02" + b"]" * 500_100 + b"."
    yield "unhashable key", b"\x80\x04}]K\x01s."
    yield "nested tuple as a key", b"\x80\x04})" + b"\x85" * 100_000 + b"K\x01s."
    yield "recursive list", b"\x80\x04]\x94h\x00a."
    yield "recursive modules", network_pickle(b"}\x94\x8c\x08_modules}\x8c\x01ah\x00ss")
    pairs = [b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94" for i in range(200)]
    yield "doubling tuples", b"\x80\x04]\x94" + b"".join(pairs) + b"."
    encode = b"\x80\x02X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\x00"
    encode += b"c_codecs\nencode\nq\x01" + b"h\x01h\x00X\x06\x00\x00\x00latin1\x86R" * 5000 + b"."
    yield "one text encoded five thousand times", encode
    array = b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00O8\x85RC\x08aaaaaaaa\x86R."
    yield "array of objects", array
    row = torch.zeros(4096)
    overlapping = {f"{part}{i}.conv.weight": row.as_strided((64, 64), (1, 1)) for i in range(5) for part in PARTS}
    yield "tensors that overlap", saved(overlapping)
    huge = pickle.dumps(0)
    yield "a number", huge

    compressed = torch_zip({"a": torch.zeros(10**7)}, compression=zipfile.ZIP_DEFLATED)
    yield "compressed zip", compressed
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    yield "zip bomb", bomb.getvalue()
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("letter.txt", "dear reader")
    yield "zip of something else", other.getvalue()

    for name, value in (("NaN", float("nan")), ("infinity", float("inf"))):
        broken = rosinality["style.2.bias"].index_fill(0, torch.tensor([3]), value)
        yield f"rosinality with {name}", saved({"g_ema": rosinality | {"style.2.bias": broken}})
    wide = torch.zeros(1).expand(2**20)
    yield "rosinality, an average of another width", saved({"g_ema": rosinality, "latent_avg": torch.zeros(25)})
    yield "rosinality, an average of a million layers", saved({"g_ema": rosinality, "latent_avg": wide[:, None]})
    yield "rosinality, an average that is a number", saved({"g_ema": rosinality, "latent_avg": torch.tensor(1.0)})
    yield "rosinality, a weight too wide", saved({"g_ema": rosinality | {"input.input": torch.zeros(1, 13, 4, 4)}})
    yield "rosinality, a layer missing", saved({k: v for k, v in rosinality.items() if not k.startswith("convs.3.")})
    yield "rosinality, the discriminator alone", saved({"d": rosinality})
    biggan = torch.load(golden / "biggan_aj_tiny32.pth", weights_only=True)
    for name, value in (("NaN", float("nan")), ("infinity", float("inf"))):
        yield f"biggan with {name}", saved(biggan | {"linear.bias": torch.full((384,), value)})
    yield "biggan, a hundred blocks", saved(biggan | {f"blocks.{n}.0.conv1.bias": torch.zeros(24) for n in range(100)})
    yield "biggan, a weight too wide", saved(biggan | {"shared.weight": torch.zeros(4, 11)})
    yield "biggan, a singular vector of nothing", saved(biggan | {"linear.u0": torch.zeros(1, 384)})
    yield "biggan, weights without numbers", saved(biggan | {"blocks.0.0.conv1.weight": wide[:0].reshape(0, 24, 3, 3)})
    yield "biggan-deep without its settings", saved(load(golden / "bigdeep_tiny32" / "pytorch_model.bin"))
    zoo = {
        "layer0.weight": torch.zeros(4, 4, 4, 4),
        "layer0.bias": torch.zeros(4),
        "output0.weight": torch.zeros(3, 4, 1, 1),
    }
    lucidrains = {f"GE.{name}": torch.zeros(1, 4, 4, 4) for name in ("initial_block", "blocks.0.to_style1.weight")}
    yield "lucidrains", saved({"GAN": lucidrains, "version": "1.9.0"})
    yield "zoo of one layer", saved({"generator_smooth": zoo})
    yield "zoo with labels", saved({"synthesis.layer0.style.weight": torch.zeros(4, 4), "mapping.label_weight": wide})
    yield (
        "safetensors with overlapping tensors",
        safetensors({f"{part}0.conv.weight": torch.zeros(99) for part in PARTS}, 1),
    )
    yield "safetensors, changed header", packed[:9] + bytes([packed[9] ^ 255]) + packed[10:]
    yield "optimiser", saved(torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))]).state_dict())
    yield "object checkpoint", stored(Exception("a module"))
    yield "list", saved([torch.zeros(3)])
    yield "empty dictionary", saved({})
    yield "training checkpoint of a discriminator", saved({"step": 3, "discriminator": state_dict})
    yield "discriminator", saved({"input0.conv.weight": torch.zeros(3, 3, 1, 1), "layer0.conv.bias": torch.zeros(3)})
    yield "classifier", saved({"conv1.weight": torch.zeros(4, 3, 7, 7), "fc.bias": torch.zeros(10)})
    yield "StyleGAN3", saved({"synthesis.input.freqs": torch.zeros(4, 2), "mapping.w_avg": torch.zeros(4)})
    for name, value in (("NaN", float("nan")), ("infinity", float("inf"))):
        broken = {key: tensor.clone() for key, tensor in state_dict.items()}
        broken["synthesis.layer2.bias"][1] = value
        yield f"weights with {name}", saved(broken)
    yield "tensor missing", saved({k: v for k, v in state_dict.items() if k != "synthesis.layer2.bias"})
    yield "style missing", saved({k: v for k, v in state_dict.items() if k != "synthesis.layer2.style.fc.weight"})
    yield "tensor too many", saved(state_dict | {"synthesis.layer9.extra": torch.zeros(3)})
    yield "wrong shape", saved(state_dict | {"synthesis.layer2.bias": torch.zeros(5)})
    yield "wrong dimensions", saved(state_dict | {"synthesis.layer2.weight": torch.zeros(5)})
    yield "layer number of a galaxy", saved(state_dict | {"synthesis.layer999999999.bias": torch.zeros(5)})
    growing = torch.load(golden / "pggan_tiny16_oldformat.pth", weights_only=True)
    for lod in (0.5, 9.0, -1.0, float("nan")):
        yield f"lod {lod}", saved(growing | {"lod": torch.tensor(lod)})
    own = {"format": "higan", "version": 1, "family": "stylegan2", "settings": {}, "state_dict": {}}
    yield "own format, empty", saved(own)
    yield "own format of the future", saved(own | {"version": 2})
    yield "own format, unknown family", saved(own | {"family": "diffusion"})
    yield "own format, wrong settings", saved(own | {"settings": {"fused": 3}})
    yield "own format, no tensors", saved(own | {"state_dict": {"const": 3}})
