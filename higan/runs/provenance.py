"""What codes, scores and boundaries were made with: written beside them, and compared where one step meets another's.

Codes and scores of a run have the record of the run, run.json; other codes NAME.npy, and boundaries, have NAME.json
beside them. Files without a record, of other tools, are taken as they are.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higan.errors import HiganError
from higan.files import digest, read_json, write_atomic
from higan.generators.network import SPACES, per_layer
from higan.runs.run import read_run

if TYPE_CHECKING:
    from higan.generators import Generator
    from higan.predictors import Predictor

Origin = dict[str, Any]  # some of KEYS; {} where nothing is known

KEYS: dict[str, type | tuple[type, ...]] = {
    "program": str,
    "space": str,
    "model_name": str,
    "model_sha256": str,
    "truncation_psi": (int, float),
    "truncation_layers": int,
    "class_idx": (int, list),
    "noise": str,
    "translate": list,
    "rotate": (int, float),
    "predictor_name": str,
    "predictor_sha256": str,
    "run_id": str,
    "tuned": str,
}
# how pictures are drawn
DRAWING = ("truncation_psi", "truncation_layers", "class_idx", "noise", "translate", "rotate")
# settings of a run that decide its codes of z and w; those of w+ depend on DRAWING too
CODES = ("model_sha256", "latent_codes_sha256", "latent_space_type", "seed", "class_idx", "labels_sha256")


def origin_of(path: str | Path) -> Origin:
    """Return what the file of codes or scores at `path` was made with, {} if nothing says so.

    Raises HiganError if its record is damaged.
    """
    path = Path(path)
    if not path.name:  # "", which has no suffix to change
        return {}
    if (record := path.with_suffix(".json")) != path and (found := read_record(record)):
        return found
    run = read_run(path.parent)
    if not run or path.name not in run["arrays"]:
        return {}
    origin = select(run["settings"], path.parent / "run.json") | {"run_id": run_id(run)}
    if path.stem in SPACES:  # a run calls its files after them
        origin["space"] = path.stem
    return origin


def read_record(path: Path) -> Origin:
    """Return what the .json beside an array says of its making, {} if there is none; HiganError if it is damaged."""
    try:
        return select(read_json(path), path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise HiganError(f"{path} is not readable JSON ({error}); correct it or delete it") from None


def write_record(path: str | Path, origin: Mapping[str, Any]) -> None:
    """Write NAME.json beside the codes NAME.npy at `path`."""
    write_atomic(Path(path).with_suffix(".json"), json.dumps(dict(origin), indent=2) + "\n")


def select(info: Mapping[str, Any], path: str | Path) -> Origin:
    """Return what `info`, read from `path`, says under `KEYS`; raise HiganError where a value is of another type."""
    found = {key: info[key] for key in KEYS if info.get(key) not in (None, "")}
    for key, value in found.items():
        if not isinstance(value, KEYS[key]) or isinstance(value, bool):
            raise HiganError(f"{path}: {key} is {str(value)[:60]!r}; correct it or delete the file")
    return found


def run_id(run: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that are the same for runs of the same settings, whose arrays are the same."""
    known = {"settings": run["settings"], "num": run["num"]}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def describe_making(generator: Generator) -> Origin:
    """Return what is made with a generator, under `KEYS`."""
    origin: Origin = {
        "model_name": generator.name,
        "model_sha256": generator.sha256,
        "truncation_psi": generator.truncation_psi,
        "truncation_layers": generator.truncation_layers,
        "class_idx": generator.class_idx,
        "noise": generator.noise,
        "translate": generator.translate,
        "rotate": generator.rotate,
    }
    return {key: value for key, value in origin.items() if value not in (None, "")}


def drawn_alike(asked: Mapping[str, Any], origins: Mapping[str, Origin], model: str) -> dict[str, Any]:
    """Return how pictures are to be drawn, by the keys of `DRAWING`, None for the model's default.

    What is `asked` for counts first, then what all files of the model called `model` agree on, which is logged.

    Parameters
    ----------
    origins
        What each file was made with, by what it is called in words.
    """
    chosen = {key: asked.get(key) for key in DRAWING}
    files = {what: origin for what, origin in origins.items() if origin.get("model_name") == model}
    taken = {}
    for key in DRAWING:
        values = [origin[key] for origin in files.values() if key in origin]
        if chosen[key] is None and values and all(value == values[0] for value in values):
            taken[key] = values[0]
    if taken:
        words = ", ".join(f"{key} {value}" for key, value in taken.items())
        logging.getLogger("higan").info("drawn as %s: %s", join(files), words)
    return chosen | taken


def require_same_model(origins: Mapping[str, Origin], generator: Generator, force: bool = False) -> None:
    """Raise HiganError if a file was made with other weights than the generator's; log which files do not say.

    What belongs to a model belongs to the weights that were tuned from it, too.

    Parameters
    ----------
    origins
        What each file was made with, by what it is called in words.
    force
        Log it, and go on.
    """
    log = logging.getLogger("higan")
    silent = [what for what, origin in origins.items() if not origin.get("model_sha256")]
    if silent:
        log.info("%s: no record of the model; taken as %s's", join(silent), generator.name)
    others = [
        what for what, origin in origins.items() if origin.get("model_sha256", "") not in ("", *weights(generator))
    ]
    for what, origin in origins.items():
        if origin.get("tuned") and not generator.tuned_from:
            log.info("%s: %s, in its folder, draws these codes nearer to their pictures", what, origin["tuned"])
    if not others or not generator.sha256:
        return
    origin = origins[others[0]]
    message = (
        f"{join(others)}: made with another model, {origin.get('model_name', 'unnamed')} "
        f"({origin['model_sha256'][:12]}), not with {generator.name} ({generator.sha256[:12]})"
    )
    if not force:
        raise HiganError(f"{message}; --force goes on, where both have the same latent space")
    log.warning("%s", message)


def weights(generator: Generator) -> tuple[str, ...]:
    """Return the SHA-256 of a generator's weights, and of those that they were tuned from."""
    return generator.sha256, *(generator.tuned_from or ())[1:]


def compare_drawing(origins: Mapping[str, Origin], generator: Generator) -> None:
    """Log in one line which files were made with pictures that were drawn otherwise than the generator does now."""
    now = describe_making(generator)
    changes = {}
    for what, origin in origins.items():
        if origin.get("model_sha256") in weights(generator):
            changed = [key for key in DRAWING if key in origin and origin[key] != now.get(key)]
            changes[what] = ", ".join(f"{key} {origin[key]} (now {now.get(key, 'none')})" for key in changed)
    for said, names in grouped(changes):
        logging.getLogger("higan").warning("%s: made with %s", names, said)


def compare_predictor(origins: Mapping[str, Origin], name: str) -> None:
    """Log in one line which boundaries were trained on the scores of another predictor than `name`: it is suggested."""
    found = {what: origin.get("predictor_name", name) for what, origin in origins.items()}
    for other, names in grouped({what: other for what, other in found.items() if other != name}):
        logging.getLogger("higan").warning(
            "%s: trained on scores of %s, not of %s; --predictor_name=%s gives those", names, other, name, other
        )


def compare_predictor_files(origins: Mapping[str, Origin], predictor: Predictor) -> None:
    """Log in one line which boundaries were trained on the scores of a predictor of this name with other files."""
    now = predictor.sha256
    same_name = {what: origin for what, origin in origins.items() if origin.get("predictor_name") == predictor.name}
    found = {what: origin.get("predictor_sha256", now) for what, origin in same_name.items()}
    for then, names in grouped({what: then for what, then in found.items() if now and then != now}):
        logging.getLogger("higan").warning(
            "%s: trained on scores of %s, whose files were others then (SHA-256 %s; now %s)",
            *(names, predictor.name, then[:12], now[:12]),
        )


def require_same_codes(codes: str | Path, scores: str | Path, force: bool = False) -> None:
    """Raise HiganError if the scores are recorded to be of other codes; log it if nothing says what they are of.

    Scores belong to codes of the same run, of a run whose codes are the same, or of the file that their run was given.

    Parameters
    ----------
    force
        Log it, and go on.
    """
    codes, scores = Path(codes), Path(scores)
    log = logging.getLogger("higan")
    first, second = origin_of(codes), origin_of(scores)
    if not first.get("run_id") or not second.get("run_id"):
        silent = [str(path) for path, origin in ((codes, first), (scores, second)) if not origin.get("run_id")]
        log.info("%s: no record of the run; codes and scores are taken as they are, row by row", join(silent))
        return
    if first["run_id"] == second["run_id"]:
        return
    runs = [read_run(path.parent) or {} for path in (codes, scores)]
    settings = [run["settings"] for run in runs]
    keys = CODES if codes.stem in SPACES and not per_layer(codes.stem) else (*CODES, *DRAWING)
    if runs[0]["num"] == runs[1]["num"] and all(settings[0].get(key) == settings[1].get(key) for key in keys):
        return
    if settings[1].get("latent_codes_sha256") == digest(codes):
        return
    message = f"{codes} and {scores} are of two runs ({first['run_id']}, {second['run_id']})"
    if not force:
        raise HiganError(f"{message}: row i of one is not row i of the other; give those of one run (--force goes on)")
    log.warning("%s", message)


def grouped(said: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return what is said of files, given by their names, each once and with the names in words; "" says nothing."""
    return [
        (words, join(what for what in said if said[what] == words)) for words in dict.fromkeys(said.values()) if words
    ]


def join(names: Iterable[str]) -> str:
    """Return names in words, at most three of them."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
