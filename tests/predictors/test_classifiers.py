"""The predictors `torchvision` and `timm`: the loading code, with a stand-in for either package.

The stand-in has the signatures of the real functions (torchvision 0.14 and later, timm 0.9 and later) and one small
architecture: what the real networks compute is not tested here.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from higan import available_predictors, load_predictor
from higan.errors import CheckpointError, HiganError
from higan.predictors import names_code
from higan.predictors.classifiers import KEYS

NETWORK = """
import torch
from torch import nn

class Small(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Dropout(), nn.Linear(4, num_classes))
"""
STAND_INS = {
    "torchvision/__init__.py": "",
    "torchvision/models/__init__.py": NETWORK
    + """
def list_models(module=None, include=None, exclude=None):
    assert module.__name__ == "torchvision.models"
    return ["resnet18", "vit_b_16"]

def get_model(name, **config):
    assert config.pop("weights") is None
    return Small(**config)
""",
    "timm/__init__.py": NETWORK
    + """
def list_models(filter="", module="", pretrained=False, exclude_filters="", name_matches_cfg=False, include_tags=None):
    return ["resnet18", "vit_base_patch16_224"]

def create_model(model_name, pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, checkpoint_path="",
                 cache_dir=None, scriptable=None, exportable=None, no_jit=None, **kwargs):
    assert not pretrained
    if "." in model_name and not model_name.endswith(".a1_in1k"):
        raise RuntimeError(f"Invalid pretrained tag in {model_name}.")
    return Small(**kwargs)
""",
}
NAMES = ["indoor", "outdoor", "beach"]


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for file, text in STAND_INS.items():
        path = tmp_path / "packages" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.chdir(tmp_path)
    real = forget_packages()
    importlib.invalidate_caches()
    yield
    forget_packages()
    sys.modules.update(real)


def forget_packages() -> dict[str, ModuleType]:
    """Take what is imported of both packages out of `sys.modules`, and return it."""
    names = [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "timm")]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture
def state(packages: None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = importlib.import_module("timm").create_model("resnet18", num_classes=3)
    network(torch.randn(4, 3, 16, 16))  # statistics of the normalisation that are not 0 and 1
    return network.state_dict()


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (20, 24, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def describe(**settings: Any) -> None:
    Path("scenes.json").write_text(json.dumps({"names": NAMES, "size": 24} | settings))


def expected(state: dict[str, Tensor], images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    network: nn.Module = importlib.import_module("timm").create_model("resnet18", num_classes=3).eval()
    network.load_state_dict(state)
    with torch.no_grad():
        return network((images / 255 - torch.tensor(mean)).div(torch.tensor(std)).permute(0, 3, 1, 2))


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_scores_are_those_of_the_network(library: str, state: dict[str, Tensor], images: Tensor) -> None:
    torch.save(state, "scenes.pth")
    describe(levels={"indoor": "layout"})
    predictor = load_predictor(f"{library}:resnet18=scenes.pth", device="cpu")
    assert predictor.names == {"attribute": NAMES} and predictor.levels == {"indoor": "layout"}
    assert predictor.name == f"{library}:resnet18=scenes.pth" and len(predictor.sha256) == 64
    logits = expected(state, images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(predictor.predict(images)["attribute"].clone(), logits)
    floats = images.float().requires_grad_(True)
    scores = predictor.score(floats)["attribute"]
    torch.testing.assert_close(scores.detach(), logits)
    (gradient,) = torch.autograd.grad(scores.sum(), floats)
    assert gradient.abs().sum() > 0
    assert {"torchvision:ARCH=FILE", "timm:ARCH=FILE"} <= set(available_predictors())


@pytest.mark.parametrize(
    ("scores", "function"), [("softmax", lambda x: x.softmax(1)), ("sigmoid", torch.sigmoid), ("logits", lambda x: x)]
)
def test_the_description_beside_the_weights(
    scores: str, function: Any, state: dict[str, Tensor], images: Tensor
) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, "scenes.pth")
    describe(scores=scores, mean=[0.5, 0.4, 0.3], std=[0.5, 0.6, 0.7], interpolation="bicubic", resize=24)
    found = load_predictor("timm:resnet18.a1_in1k=scenes.pth", device="cpu").predict(images)["attribute"].clone()
    torch.testing.assert_close(found, function(expected(state, images, [0.5, 0.4, 0.3], [0.5, 0.6, 0.7])))


@pytest.mark.parametrize("wrapping", ["state_dict_ema", "model", "model_state_dict", "module", "safetensors"])
def test_files_of_training_programs(wrapping: str, state: dict[str, Tensor], tmp_path: Path, images: Tensor) -> None:
    describe()
    logits = expected(state, images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    file = "scenes.safetensors" if wrapping == "safetensors" else "scenes.pth"
    if wrapping == "safetensors":
        save_file(kept, file)
    elif wrapping == "module":
        network = importlib.import_module("timm").create_model("resnet18", num_classes=3)
        network.load_state_dict(state)
        torch.save(network, file)
    else:
        other = {key: torch.zeros_like(value) for key, value in state.items()}
        torch.save({"epoch": 2, **({"state_dict": other} if wrapping.endswith("ema") else {}), wrapping: kept}, file)
    found = load_predictor(f"timm:resnet18={tmp_path / file}", device="cpu").predict(images)["attribute"].clone()
    torch.testing.assert_close(found, logits)


def test_weights_in_the_folder_of_models(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    torch.save(state, tmp_path / "mine" / "scenes.pth")
    (tmp_path / "mine" / "scenes.json").write_text(json.dumps({"names": NAMES}))
    monkeypatch.setenv("HIGAN_MODELS", str(tmp_path / "mine"))
    assert load_predictor("timm:resnet18=scenes.pth", device="cpu").names["attribute"] == NAMES


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit itself
def test_programs_are_refused(state: dict[str, Tensor]) -> None:
    describe()
    network = nn.Linear(2, 2)
    torch.jit.save(torch.jit.script(network), "scenes.pt")
    torch.export.save(torch.export.export(network, (torch.zeros(1, 2),)), "scenes.pt2")
    for file, kind in (("scenes.pt", "a TorchScript program"), ("scenes.pt2", "an exported program")):
        with pytest.raises(CheckpointError, match=rf"{file}: {kind}.*--predictor_name module:callable"):
            load_predictor(f"timm:resnet18={file}", device="cpu")


def test_what_does_not_fit_is_named(state: dict[str, Tensor]) -> None:
    def check(name: str, words: str) -> None:
        with pytest.raises(HiganError) as error:
            load_predictor(name, device="cpu")
        assert words in str(error.value) and "\n" not in str(error.value)

    for name in ("timm", "timm:", "timm:resnet18", "torchvision:=scenes.pth", "timm:resnet18="):
        check(name, "is not complete; expected ")
    check("timm=folder:resnet18=scenes.pth", "unknown predictor 'timm=folder:resnet18=scenes.pth'")
    check("timm:resnet18=scenes.pth", "there is no weight file scenes.pth; expected a path, or a file in")
    torch.save(state, "scenes.pth")
    check("timm:resnet18=scenes.pth", 'there is no scenes.json beside scenes.pth; expected {"names": [...]}')
    Path("scenes.json").write_text("{")
    check("timm:resnet18=scenes.pth", "scenes.json is no JSON file")
    Path("scenes.json").write_text("[" * 100_000)
    check("timm:resnet18=scenes.pth", "scenes.json is no JSON file")
    Path("scenes.json").write_text("[]")
    check("timm:resnet18=scenes.pth", "scenes.json is no JSON file of settings (it holds a list; expected an object")
    for settings, words in (
        ({"names": []}, "names is []; expected a list of them, one per output"),
        ({"names": "indoor"}, "names is indoor; expected a list"),
        ({"names": ["a", "a", "b"]}, "repeats the name 'a'"),
        ({"names": [1, 2, 3]}, "has a score called '1'"),
        ({"standard": 3}, f"unknown 'standard'; expected {', '.join(KEYS)}"),
        ({"size": 0}, "a size of 0; expected 1 to 4096"),
        ({"size": {"width": 3}}, "a size of None; expected 1 to 4096"),
        ({"resize": [1, 2, 3]}, "a size of [1, 2, 3]; expected height and width"),
        ({"std": [0, 1, 1]}, "expected three numbers"),
        ({"mean": 0.5}, "expected three numbers"),
        ({"scores": "probability"}, "'probability' is none of logits, softmax, sigmoid"),
        ({"interpolation": ["nearest"]}, "is none of bilinear, bicubic"),
        ({"levels": {"indoor": "room"}}, "level 'room' of 'indoor' is not one of"),
        ({"names": ["indoor", "outdoor"]}, "6.weight is [3, 4]; expected [2, 4]"),
    ):
        describe(**settings)
        check("timm:resnet18=scenes.pth", words)
    describe()
    check("torchvision:resnet81=scenes.pth", "torchvision has no classifier 'resnet81'; close: resnet18")
    check("torchvision:resnet18.tag=scenes.pth", "torchvision has no classifier 'resnet18.tag'")
    check(
        "timm:resnet18.tag=scenes.pth", "timm makes no resnet18.tag of 3 outputs (RuntimeError: Invalid pretrained tag"
    )
    for address in ("hf-hub:someone/resnet18", "local-dir:/tmp", "?"):
        check(f"timm:{address}=scenes.pth", "timm has no classifier")
    torch.save({"epoch": 2}, "scenes.pth")
    check("timm:resnet18=scenes.pth", "it holds no tensors; expected the state dict of a network")
    Path("scenes.pth").unlink()
    Path("scenes.pth").mkdir()
    check("timm:resnet18=scenes.pth", "there is no weight file")


def test_a_weight_file_that_cannot_be_read(state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    import higan.predictors.weights

    def fail(path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    describe()
    torch.save(state, "scenes.pth")
    monkeypatch.setattr(higan.predictors.weights, "read_objects", fail)
    with pytest.raises(CheckpointError, match=r"scenes.pth cannot be read: Permission denied"):
        load_predictor("timm:resnet18=scenes.pth", device="cpu")
    monkeypatch.setattr(higan.predictors.weights, "read_json", fail)
    with pytest.raises(CheckpointError, match=r"scenes.json cannot be read: Permission denied"):
        load_predictor("timm:resnet18=scenes.pth", device="cpu")


def test_reserved_names_win_over_modules(state: dict[str, Tensor]) -> None:
    for module in ("text", "timm"):
        Path(f"{module}.py").write_text("def load(device): raise SystemExit('the module was called')")
    for name in ("text:load", "timm:load"):
        with pytest.raises(HiganError, match=r"CLIP model|is not complete"):
            load_predictor(name, device="cpu")
        assert not names_code(name)
    assert names_code("my_module:load") and not names_code("text=folder:a bed") and not names_code("rooms")


def test_a_package_that_is_missing_is_named(state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state, "scenes.pth")
    describe()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(HiganError, match=r"predictor timm needs the package of that name: pip install 'higan\[class"):
        load_predictor("timm:resnet18=scenes.pth", device="cpu")
