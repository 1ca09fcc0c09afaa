"""Single style channels as moves of w+."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden import case_checkpoint, read_case
from support.model import COLOURS, make_generator, make_predictor, write_smaller_model

from higan.commands.scripts import run_script
from higan.directions import __main__ as command
from higan.directions.channels import find_channels
from higan.directions.gradient import gradient_slopes
from higan.directions.move import manipulate
from higan.directions.slopes import Slopes
from higan.errors import HiganError
from higan.generators import build_network
from higan.generators.generator import Generator


def test_a_move_changes_one_channel_alone_and_raises_its_score() -> None:
    generator, predictor = make_generator(), make_predictor()
    wp = generator.to_wp(generator.sample(32, 0), "z")
    slopes = gradient_slopes(generator, predictor, wp, "wp", COLOURS, per_layer=True)
    found = find_channels(generator, slopes, wp, COLOURS, 2)
    assert [boundary.target for boundary in found] == ["brightness"] * 2 + ["red"] * 2 + ["warmth"] * 2
    before = predictor.predict(generator.synthesize(wp))["attribute"]
    for boundary in found:
        layer, channel = boundary.info["layer"], boundary.info["channel"]
        assert boundary.name == f"{boundary.target}_{layer:02d}_{channel:03d}" and boundary.layers == (layer,)
        moved = manipulate(wp, boundary, [1.0])[:, 0]
        change = [after - start for after, start in zip(generator.styles(moved), generator.styles(wp), strict=True)]
        expected = [torch.zeros_like(part) for part in change]
        expected[layer][:, channel] = boundary.info["style_per_distance"]
        for part, wanted in zip(change, expected, strict=True):
            assert part.numpy() == pytest.approx(wanted.numpy(), abs=1e-4)
        rise = (predictor.predict(generator.synthesize(moved))["attribute"] - before).mean(dim=0)
        assert float(rise[COLOURS.index(str(boundary.target))]) > 0


def test_what_has_no_channels() -> None:
    generator = make_generator()
    wp = generator.to_wp(generator.sample(8, 0), "z")
    flat = Slopes(["red"], np.ones((1, 64)), np.ones(1), np.eye(64), [{}], {})
    with pytest.raises(HiganError, match="slopes are not per layer"):
        find_channels(generator, flat, wp, ["red"])
    pggan = Generator(build_network(case_checkpoint(read_case("pggan_tiny16")[0])), "pggan")
    with pytest.raises(HiganError, match="has no styles"):
        find_channels(pggan, flat, wp, ["red"])
    with pytest.raises(HiganError, match="channels need a StyleGAN"):
        command.channels(Namespace(), pggan)
    layered = Slopes(["red"], np.ones((1, 4, 64)), np.ones(1), np.eye(64), [{}], {})
    with pytest.raises(HiganError, match="the predictor has no score 'blue'"):
        find_channels(generator, layered, wp, ["blue"])
    generator.network.styles = lambda codes: [codes[:, 0] @ torch.ones(64, 2)] * 4  # two channels that go together
    with pytest.raises(HiganError, match="no channel of tiny can be moved alone"):
        find_channels(generator, layered, wp, ["red"])


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = write_smaller_model(tmp_path / "tiny.pth"), tmp_path / "out"
    line = ["higan.directions", "--score_name", "red", str(model), "--method", "channels", "-K", "2", "-o", str(out)]
    line += ["--predictor_name", "support.model:make_predictor", "--probes", "8", "--samples", "50"]
    monkeypatch.setattr("sys.argv", line)
    run_script(command.main)
    files = sorted(path.name for path in out.glob("red_*_boundary.json"))
    assert len(files) == 2
    assert json.loads((out / files[0]).read_text())["target"] == "red"
    assert "red_" in (out / "boundary_list.txt").read_text()
    assert f"python rescore.py {model} " in capsys.readouterr().out
