"""The `text` predictor: how well pictures fit phrases, by a CLIP model that lies on the user's disk.

A score is the cosine between the embeddings of picture and phrase, or the log-odds of one phrase over another. CLIP's
probabilities are made of these (Radford et al. 2021, "Learning transferable visual models from natural language
supervision", section 3.1.2).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from higan.errors import CheckpointError, HiganError
from higan.files import digest, is_file, read_small
from higan.generators.zoo import folders
from higan.predictors.predictor import LONGEST, Predictor
from higan.predictors.preprocessing import Preprocessing, in_chunks, read_colors, read_resize, read_sides
from higan.predictors.weights import fill_network, read_settings, read_weights

MODELS = ("clip", "siglip", "metaclip_2")  # model types of `transformers` that embed pictures and texts apart
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
RESAMPLES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
MOST_LAYERS = 1000
PROMPT = re.compile(r"(?:(?P<name>\w[\w.-]*)\s*=)?\s*(?:(?P<against>[^|]*?)\s*\|)?\s*(?P<phrase>[^|]*?)")
USAGE = "text:a dark bedroom|a bright bedroom;wood=a wooden floor"


@dataclass(frozen=True)
class Prompt:
    """A score: the cosine to `phrase`, or the log-odds of `phrase` over `against` where there is one."""

    name: str
    phrase: str
    against: str = ""


def load_text(
    prompts: str, folder: str | Path | None = None, device: torch.device | None = None, name: str = "text"
) -> Predictor:
    """Return a predictor of phrases, one score each, in the group "attribute".

    Its scores can be differentiated: `Predictor.score` takes float images.

    Parameters
    ----------
    prompts
        Phrases, separated by `;` or lines, or "@FILE", a text file of them (a line that begins with # is left out).
        "a wooden floor" scores the cosine; "a dark bedroom|a bright bedroom" the log-odds of the second over the first;
        "NAME=phrase" names the score, which is otherwise called after its phrase.
    folder
        Of a model that `transformers` has saved (config.json, weights, tokenizer, preprocessor_config.json): a path, or
        a name in $HIGAN_MODELS or models/; default: the only one there.

    Examples
    --------
    >>> load_predictor("text=clip-vit-base-patch32:wood=a wooden floor").names
    {'attribute': ['wood']}

    Raises
    ------
    HiganError
        There is no phrase or no model, or `transformers` is missing.
    CheckpointError
        The folder's files are damaged or another model's.
    """
    asked, place = parse_prompts(prompts), find_model(folder)
    device = device or torch.device("cpu")
    model, preprocess = read_model(place), read_preprocessing(place)
    model = model.requires_grad_(False).to(device)
    phrases = list(dict.fromkeys(text for prompt in asked for text in (prompt.phrase, prompt.against) if text))
    with torch.no_grad():
        embedded = embed_phrases(model, place, phrases)  # [P, E]
    weights = torch.zeros(len(phrases), len(asked), device=device)  # of the cosines, [P, K]
    for column, prompt in enumerate(asked):
        scale = float(model.logit_scale.exp()) if prompt.against else 1.0
        weights[phrases.index(prompt.phrase), column] = scale
        if prompt.against:
            weights[phrases.index(prompt.against), column] = -scale

    def embed(images: Tensor) -> Tensor:
        return F.normalize(pooled(model.get_image_features(pixel_values=preprocess(images))), dim=1)

    def score(images: Tensor) -> dict[str, Tensor]:
        return {"attribute": in_chunks(embed, images) @ embedded.T @ weights}

    described = [path for path in sorted(place.iterdir()) if path.suffix in (".json", ".txt", ".model")]
    sha256 = f"{digest(*weight_files(place), *described)} {hashlib.sha256(repr(asked).encode()).hexdigest()}"
    return Predictor(name, {"attribute": [prompt.name for prompt in asked]}, score, device, sha256=sha256)


def parse_prompts(text: str) -> list[Prompt]:
    """Return the prompts of "a dark bedroom|a bright bedroom;wood=a wooden floor", or of the lines of "@FILE"."""
    where = f"text:{text}"[:60]
    if text.startswith("@"):
        where = text[1:].strip()
        try:
            text = read_small(where).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise HiganError(
                f"{where or 'the folder here'} cannot be read as a text file of phrases: {reason}"
            ) from None
        text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    prompts: dict[str, Prompt] = {}
    for part in re.split(r"[;\n]", text):
        if not part.strip():
            continue
        match = PROMPT.fullmatch(part.strip())
        if match is None or not match["phrase"] or match["against"] in ("", match["phrase"]):
            raise HiganError(
                f"{where}: {part.strip()[:60]!r} is no phrase; expected `phrase`, `opposite|phrase` or `NAME=phrase`"
            )
        phrase, against = match["phrase"], match["against"] or ""
        words = f"{against} to {phrase}" if against else phrase
        name = match["name"] or re.sub(r"\W+", "_", words).strip("_").lower()
        if not name or len(name) > LONGEST or name in prompts:
            wrong = f"would be the second score called {name!r}" if name in prompts else "makes no name of a file"
            raise HiganError(f"{where}: {part.strip()[:60]!r} {wrong}; give it a name: NAME=phrase")
        prompts[name] = Prompt(name, phrase, against)
    if not prompts:
        raise HiganError(f"{where} holds no phrase; expected them as in {USAGE!r}")
    return list(prompts.values())


def find_models() -> dict[str, Path]:
    """Return the folders of models in $HIGAN_MODELS and models/ by name."""
    places = [place for folder in folders() if folder.is_dir() for place in (folder, *sorted(folder.iterdir()))]
    return {place.name: place for place in reversed(places) if model_type(place) in MODELS}


def model_type(folder: Path) -> str:
    """Return the model type that a folder's config.json tells, "" if it tells none."""
    try:
        return str(read_settings(folder / "config.json").get("model_type", ""))
    except CheckpointError:
        return ""


def find_model(folder: str | Path | None) -> Path:
    """Return the folder of a model by its path or its name, or that of the only model; raise HiganError without one."""
    here = find_models()
    known = f"here: {', '.join(sorted(here))}" if here else f"none is in {' or '.join(map(str, folders()[:2]))}"
    if folder is None:
        if len(here) == 1:
            return next(iter(here.values()))
        what = "is to say which CLIP model" if here else "needs a CLIP model that transformers has saved in a folder"
        raise HiganError(f"predictor text {what} ({known}); expected text=FOLDER:phrases, FOLDER a name or a path")
    place = here.get(str(folder), Path(folder))
    if not place.is_dir():
        raise HiganError(
            f"there is no CLIP model {str(folder)!r}; {known}; expected a folder that transformers has saved"
        )
    found = model_type(place)
    if found not in MODELS:
        what = f"a model of type {found[:40]!r}" if found else "no config.json that tells a model's type"
        raise CheckpointError(f"{place} has {what}; expected one of {', '.join(MODELS)}, as transformers saves it")
    return place


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a model's weights; raise CheckpointError where they are not in the folder."""
    path = next((folder / name for name in WEIGHTS if is_file(folder / name)), None)
    if path is None:
        raise CheckpointError(f"{folder} has no weights; expected {WEIGHTS[0]} or {WEIGHTS[2]} in it")
    if path.suffix != ".json":
        return [path]
    parts = read_settings(path).get("weight_map")
    names = sorted(set(map(str, parts.values()))) if isinstance(parts, dict) else []
    if not names or any(Path(name).name != name or not is_file(folder / name) for name in names):
        raise CheckpointError(f"{path} names parts that are not beside it: {', '.join(names)[:80] or 'none'}")
    return [folder / name for name in names]


def read_model(folder: Path) -> Any:
    """Return the network of a folder, in evaluation, made of its config.json and the weights that we read.

    Neither code nor pickles of the folder are run.
    """
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError:
        raise HiganError("predictor text needs transformers: pip install 'higan[text]'") from None
    settings = read_settings(folder / "config.json")
    kind = settings.pop("model_type")
    paths = weight_files(folder)
    for part in (settings.get("text_config"), settings.get("vision_config")):
        layers = part.get("num_hidden_layers") if isinstance(part, dict) else None
        if layers is not None and not (type(layers) is int and 0 < layers <= MOST_LAYERS):
            raise CheckpointError(f"{folder}: num_hidden_layers is {str(layers)[:40]}; expected 1 to {MOST_LAYERS}")
    try:
        config = AutoConfig.for_model(kind, **{key: value for key, value in settings.items() if key != "auto_map"})
        with torch.device("meta"):
            shapes = AutoModel.from_config(config, trust_remote_code=False)
        tensors = {name: value for path in paths for name, value in read_weights(path, shapes).items()}
        tensors = {
            name: value for name, value in tensors.items() if not name.endswith("position_ids")
        }  # of older files
        fill_network(shapes, {name: value.to("meta") for name, value in tensors.items()}, str(folder))
        model = AutoModel.from_config(config, trust_remote_code=False)
    except CheckpointError:
        raise
    except Exception as error:  # the settings are the file's, the errors the library's
        reason = str(error).strip().partition("\n")[0][:200]
        raise CheckpointError(f"{folder}: config.json makes no model ({type(error).__name__}: {reason})") from None
    fill_network(model, tensors, str(folder))
    return model.float().eval()


def embed_phrases(model: Any, folder: Path, phrases: Sequence[str]) -> Tensor:
    """Return the embeddings of phrases, of length 1, [P, E], by the tokenizer of the model's folder."""
    from transformers import AutoTokenizer

    if not any(is_file(folder / name) for name in TOKENIZERS):
        raise CheckpointError(f"{folder} has no tokenizer; expected {TOKENIZERS[0]} in it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        length = model.config.text_config.max_position_embeddings
        lengths = [len(ids) for ids in tokenizer(list(phrases))["input_ids"]]
        tokens = tokenizer(list(phrases), padding="max_length", max_length=length, return_tensors="pt")
    except Exception as error:  # of the files, in a library's words
        reason = str(error).strip().partition("\n")[0][:200]
        raise CheckpointError(f"{folder}: its tokenizer cannot be used ({type(error).__name__}: {reason})") from None
    for phrase, found in zip(phrases, lengths, strict=True):
        if found > length:
            raise HiganError(f"the phrase {phrase[:60]!r} has {found} tokens; {folder.name} reads {length}: shorten it")
    if int(tokens["input_ids"].max()) >= model.config.text_config.vocab_size:
        raise CheckpointError(f"{folder}: its tokenizer knows more tokens than the model; fetch both again")
    return F.normalize(pooled(model.get_text_features(**tokens.to(model.device))), dim=1)


def pooled(output: Any) -> Tensor:
    """Return the embeddings [N, E] of what a model gives, which versions of transformers wrap."""
    return output if isinstance(output, Tensor) else output.pooler_output


def read_preprocessing(folder: Path) -> Preprocessing:
    """Return how the model's pictures are prepared, as its preprocessor_config.json says."""
    path = next((folder / name for name in PREPROCESSING if is_file(folder / name)), None)
    if path is None:
        raise CheckpointError(f"{folder} has no {PREPROCESSING[0]}, which says how pictures are resized and normalised")
    settings = read_settings(path)
    settings = settings.get("image_processor", settings)
    try:
        normalizes, size = settings.get("do_normalize", True), settings["size"]
        return Preprocessing(
            resize=read_resize(size) if settings.get("do_resize", True) else None,
            crop=read_sides(settings["crop_size"]) if settings.get("do_center_crop") else None,
            interpolation=RESAMPLES[settings.get("resample", 3)],
            mean=read_colors(settings["image_mean"]) if normalizes else (0.0, 0.0, 0.0),
            std=read_colors(settings["image_std"], 0) if normalizes else (1.0, 1.0, 1.0),
            scale=float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{path}: {reason}; expected what transformers saves of a CLIP model") from None
