"""The live page: what it shows, what it refuses, several people at once, and how it works in a real browser."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image
from support.model import direction, make_predictor, write_model
from support.processes import free_port, start_child
from support.scripts import run

import higan
from higan.commands import explorer as program
from higan.commands import manipulate
from higan.commands.scripts import run_script
from higan.directions.boundaries import Boundary
from higan.editing import inversion as optimisation
from higan.errors import HiganError
from higan.explorer import server
from higan.explorer import session as sessions
from higan.explorer.server import make_app, serve
from higan.explorer.session import Session, Shift, View

TOKEN = "secret"
LAYERS = 6
NAN_CODE = base64.b64encode(np.full(LAYERS * 16, np.nan, "<f4").tobytes()).decode()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    generator = higan.load_generator(write_model(tmp_path_factory.mktemp("model")))
    boundaries = [
        Boundary("lights", direction("lights"), "w", (2, 3), {"level": "attribute"}),
        Boundary("deep", direction("deep"), "z"),
        Boundary("view", direction("view", (1, LAYERS, 16)), "wp"),
    ]
    return Session(generator, boundaries, make_predictor())


@pytest.fixture(scope="module")
def address(session: Session) -> Iterator[str]:
    """The address of a running explorer."""
    config = uvicorn.Config(make_app(session, TOKEN), port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/{TOKEN}/"
    server.should_exit = True
    thread.join(10)


def ask(url: str, content: bytes | None = None, host: str = "") -> tuple[int, bytes]:
    """Return status and body of a request."""
    request = urllib.request.Request(url, data=content, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def picture_of(address: str, view: dict[str, Any]) -> dict[str, Any]:
    status, body = ask(f"{address}show", json.dumps(view).encode())
    assert status == 200, body
    return json.loads(body)


def test_the_picture_is_that_of_a_whole_synthesis(session: Session) -> None:
    generator = session.generator
    wp = generator.to_wp(generator.sample(1, 4, 7), "z")
    moved = higan.manipulate(wp, session.boundaries["lights"], [1.5], "2-3", generator.psi())[:, 0]
    moved = moved + higan.manipulate(wp, session.boundaries["view"], [-2.0], "4-5")[:, 0] - wp
    shifts = {"lights": Shift(1.5), "view": Shift(-2.0, (4, 5))}
    expected = generator.synthesize(moved)
    for active in ("", "lights", "view", "view"):  # the last time from what was kept of the layers below
        assert torch.equal(session.picture(View(4, 7, None, shifts, active)), expected)
    assert len(session.states) <= sessions.KEPT
    deep = session.picture(View(shifts={"deep": Shift(2.0)}))
    z = generator.sample(1, 0)
    assert torch.equal(deep, generator.synthesize(z + 2 * torch.from_numpy(direction("deep")), "z"))


def test_scores_are_in_standard_deviations(session: Session) -> None:
    images = session.generator.synthesize(session.generator.sample(sessions.SCORED, 0), "z")
    scores = np.array([session.scores(image[None]) for image in images])
    assert np.abs(scores.mean(axis=0)).max() < 1e-2 and np.allclose(scores.std(axis=0), 1, atol=1e-2)


def test_the_server_answers(address: str, session: Session) -> None:
    status, html = ask(address)
    assert status == 200 and b"lights" in html and b"http" not in html.split(b"<body")[0].replace(b"http-equiv", b"")
    origin = picture_of(address, {"number": 3})
    shifts = {"lights": {"distance": 3, "layers": "0-5"}}
    moved = picture_of(address, {"number": 3, "shifts": shifts, "active": "lights"})
    assert origin["image"].startswith("data:image/jpeg;base64,") and origin != moved
    assert len(origin["scores"]) == len(session.score_names())
    status, code = ask(f"{address}save", json.dumps({"shifts": {"lights": {"distance": 1}}}).encode())
    assert status == 200 and np.load(io.BytesIO(code)).shape == (1, LAYERS, 16)
    assert ask(address.replace("127.0.0.1", "localhost"))[0] == 200


def test_the_command_makes_the_same_edit(
    address: str, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path)
    path = higan.write_boundary(session.boundaries["lights"], tmp_path)
    monkeypatch.setitem(session.boundaries["lights"].info, "path", path.name)
    monkeypatch.setattr(session, "model", "tiny.pth")
    view = {"number": 2, "shifts": {"lights": {"distance": 1.5, "layers": "1-2"}}}
    status, text = ask(f"{address}command", json.dumps(view).encode())
    assert status == 200
    lines = text.decode().splitlines()
    Path("explorer.txt").write_text("\n".join(lines[1:-2]) + "\n")
    python, script, *arguments = shlex.split(lines[-1])
    assert (python, script) == ("python", "manipulate.py") and run("manipulate", *arguments) == 0
    status, code = ask(f"{address}save", json.dumps(view).encode())
    np.testing.assert_allclose(
        np.load("explorer/combined_manipulated_wp.npy")[:, -1], np.load(io.BytesIO(code)), atol=1e-5
    )
    assert session.command(View()).startswith("python synthesize.py tiny.pth --seed=0 --num=1 ")
    own = View(code=torch.ones(1, LAYERS, 16))
    Path("code.npy").write_bytes(session.save(own))
    _, script, *arguments = shlex.split(session.command(own).splitlines()[-1])
    assert script == "synthesize.py" and run("synthesize", *arguments, "-o", "own") == 0
    np.testing.assert_array_equal(np.load("own/wp.npy"), np.load("code.npy"))
    own.shifts["lights"] = Shift(1.0)
    Path("explorer.txt").write_text("\n".join(session.command(own).splitlines()[2:-2]) + "\n")
    _, _, *arguments = shlex.split(session.command(own).splitlines()[-1])
    assert run("manipulate", *arguments, "--force") == 0
    moved = np.load("explorer/combined_manipulated_wp.npy")
    np.testing.assert_allclose(moved[:, -1], np.load(io.BytesIO(session.save(own))), atol=1e-5)
    monkeypatch.setitem(session.boundaries["lights"].info, "path", "$(touch run)`touch run`.npy")
    *lines, _ = session.command(View(shifts={"lights": Shift(1.0)})).splitlines()
    subprocess.run(["bash", "-c", "\n".join(lines)], check=True)
    assert "$(touch run)" in Path("explorer.txt").read_text() and not Path("run").exists(), "a shell runs nothing of it"


def test_a_picture_is_inverted(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "INVERT_STEPS", 12)
    content = io.BytesIO()
    Image.new("RGB", (40, 30), "orange").save(content, "PNG")
    status, body = ask(f"{address}invert", content.getvalue())
    answer = json.loads(body)
    assert status == 200 and "dB" in answer["remark"]
    assert picture_of(address, {"code": answer["code"]}) != picture_of(address, {})
    status, body = ask(f"{address}invert", b"no picture")
    assert status == 400 and b"no picture that can be read" in body
    monkeypatch.setattr("higan.explorer.server.MOST_BYTES", 1000)
    status, body = ask(f"{address}invert", b"x" * 2000)
    assert status == 400 and b"more than 1000 bytes" in body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", b"no JSON"),
        (b"[" * 5000, b"no JSON"),
        (b"[]", b"no object"),
        (b'{"seed": -1}', b"an integer from 0"),
        (b'{"seed": true}', b"an integer from 0"),
        (b'{"number": 1e99}', b"an integer from 0"),
        (b'{"shifts": []}', b"no object of boundaries"),
        (b'{"shifts": {"nothing": {"distance": 1}}}', b"there is no boundary 'nothing'"),
        (b'{"shifts": {"lights": 1}}', b"expected a number"),
        (b'{"shifts": {"lights": {"distance": NaN}}}', b"expected a number"),
        (b'{"shifts": {"lights": {"distance": 1e9}}}', b"expected a number"),
        (b'{"shifts": {"lights": {"distance": 1' + b"0" * 400 + b"}}}", b"expected a number"),
        (b'{"shifts": {"lights": {"distance": true}}}', b"expected a number"),
        (b'{"shifts": {"lights": {"distance": 1, "layers": "9"}}}', b"layer"),
        (b'{"shifts": {"lights": {"distance": 1, "layers": 3}}}', b"expected layers"),
        (b'{"active": "nothing"}', b"there is no boundary"),
        (b'{"code": "?"}', b"base64"),
        (b'{"code": 1}', b"no text"),
        (b'{"code": "AAAA"}', b"base64|numbers"),
        (json.dumps({"code": NAN_CODE}).encode(), b"none"),
    ],
)
def test_a_wild_request_is_one_line(address: str, content: bytes, message: bytes) -> None:
    for what in ("show", "save", "command"):
        status, body = ask(f"{address}{what}", content)
        assert status == 400 and re.search(message, body) and b"\n" not in body, body


def test_a_hundred_wild_requests_change_nothing(address: str) -> None:
    generator = random.Random(0)
    before = picture_of(address, {"number": 1})
    for _ in range(100):
        content = bytes(generator.randrange(256) for _ in range(generator.randrange(200)))
        assert ask(f"{address}{generator.choice(['show', 'save', 'command', 'nothing'])}", content)[0] in (400, 404)
    assert picture_of(address, {"number": 1}) == before


def test_strangers_are_kept_out(address: str) -> None:
    base = address.removesuffix(f"{TOKEN}/")
    for url in (f"{base}wrong/", f"{base}%C3%A4/"):
        status, body = ask(url)
        assert status == 403 and b"token" in body
    assert ask(f"{base}wrong/show", b"{}")[0] == 403
    assert ask(address, host="evil.example:80")[0] == 403  # another name for this machine
    assert ask(base)[0] == 404


def test_a_fault_of_ours_ends_nothing(
    address: str, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(session, "show", lambda view: 1 / 0)
    assert ask(f"{address}show", b"{}")[0] == 500
    monkeypatch.undo()
    assert ask(f"{address}show", b"{}")[0] == 200


def test_a_model_without_a_predictor_or_layers() -> None:
    from higan.generators import Generator
    from higan.generators.pggan import PGGAN

    torch.manual_seed(0)
    generator = Generator(PGGAN(16, {4: 8, 8: 8, 16: 8}, 16), "plain")
    session = Session(generator, [Boundary("deep", direction("deep"), "z")], None)
    answer = session.show(session.read_view({"shifts": {"deep": {"distance": 2}}, "active": "deep"}))
    assert answer["scores"] == [] and session.about()["layers"] == 0
    with pytest.raises(HiganError, match="layers"):
        session.read_view({"shifts": {"deep": {"distance": 2, "layers": "1"}}})


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `python -m higan.explorer` in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["explorer", *arguments])
    try:
        run_script(program.main)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_starts_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path)
    (tmp_path / "boundaries" / "tiny").mkdir(parents=True)
    np.save("boundaries/tiny/lights_boundary.npy", direction("lights"))
    started: list[str] = []

    def stop(self: uvicorn.Server, sockets: list[Any]) -> None:
        started.append(str(sockets[0].getsockname()))
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", stop)
    assert command(monkeypatch, "tiny.pth", "--predictor_name", "support.model:own_predictor") == 130
    assert started and re.search(r"open http://127\.0\.0\.1:\d+/[\w-]{20,}/", capsys.readouterr().out)
    assert command(monkeypatch, "tiny.pth", "--port", "99999") == 2
    monkeypatch.setitem(sys.modules, "higan.explorer.server", None)
    assert command(monkeypatch, "tiny.pth") == 2
    assert "pip install -e '.[explorer]'" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    Path("tiny.pth").rename("other.pth")
    assert command(monkeypatch, "other.pth") == 2
    assert "there is no boundary in boundaries/other; train some" in capsys.readouterr().err


def test_boundaries_of_one_name_are_told_apart(session: Session) -> None:
    lights = [Boundary("lights", direction(str(index)), space) for index, space in enumerate(("w", "z", "w"))]
    found = program.tell_apart([*lights, session.boundaries["view"]])
    assert [boundary.name for boundary in found] == ["lights_w", "lights_z", "view"]
    assert found[0].direction is lights[0].direction and found[1].space == "z"


def test_the_command_draws_as_the_explorer_does(monkeypatch: pytest.MonkeyPatch, session: Session) -> None:
    line = ["explorer", "my model.pth", "--class_idx", "3-7", "9", "--translate=0.1,0", "--rotate", "5"]
    monkeypatch.setattr(sys, "argv", line)
    words = program.model_words(program.parse_args())
    assert words == ["my model.pth", "--class_idx=3-7,9", "--translate=0.1,0.0", "--rotate=5.0"]
    other = Session(session.generator, list(session.boundaries.values()), None, words)
    command = other.command(View(shifts={"lights": Shift(1.0)})).splitlines()[-1]
    monkeypatch.setattr(sys, "argv", shlex.split(command)[1:])
    args = manipulate.parse_args()
    assert (args.model_name, args.boundary_list_path, args.class_idx) == ("my model.pth", "explorer.txt", ["3-7,9"])


def explore(folder: Path, port: int, patience: int) -> None:
    """Start the explorer in a process of its own; `begun` appears once a request is being worked at."""
    os.chdir(folder)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests behind
    torch.set_num_threads(1)

    def marked(work: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            Path("begun").touch()
            time.sleep(seconds)
            return work(*arguments, **named)

        return call

    sessions.INVERT_STEPS = 10**6
    optimisation.STATISTICS = 20
    server.SECONDS_TO_END = patience
    sessions.invert = marked(sessions.invert, 0)
    Session.picture = marked(Session.picture, 0.5)  # type: ignore[method-assign]
    sys.argv = ["explorer", "tiny.pth", "--port", str(port)]
    run_script(program.main)


@pytest.mark.parametrize(
    ("what", "number", "patience", "answers"),
    [
        ("show", signal.SIGINT, 1, (200, 500)),  # finished or, on a slow machine, cut off with the upload that stalls
        ("invert", signal.SIGTERM, 60, (400,)),
    ],
)
def test_a_signal_ends_it_in_the_middle_of_its_work(
    what: str,
    number: signal.Signals,
    patience: int,
    answers: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path)
    (tmp_path / "boundaries" / "tiny").mkdir(parents=True)
    np.save("boundaries/tiny/lights_boundary.npy", direction("lights"))
    before = sorted(tmp_path.rglob("*"))
    port = free_port()
    process = start_child(explore, tmp_path, port, patience)

    def wait_for(condition: Callable[[], Any]) -> Any:
        for _ in range(6000):
            if found := condition():
                return found
            assert process.is_alive(), Path("said.txt").read_text()
            time.sleep(0.01)
        raise TimeoutError

    said = Path("said.txt")
    address = wait_for(lambda: said.exists() and re.search(r"open (\S+/)\n", said.read_text()))[1]
    content = io.BytesIO(b"{}")
    if what == "invert":
        Image.new("RGB", (40, 30), "orange").save(content, "PNG")
    found: list[tuple[int, bytes]] = []
    asking = threading.Thread(target=lambda: found.append(ask(f"{address}{what}", content.getvalue())))
    asking.start()
    wait_for(Path("begun").exists)
    assert command(monkeypatch, "tiny.pth", "--port", str(port)) == 2
    error = capsys.readouterr().err
    assert f"port {port} cannot be had (Address already in use); choose another" in error and error.count("\n") == 1
    with socket.create_connection(("127.0.0.1", port)) as stalled:
        if what == "show":  # an upload that never ends
            stalled.sendall(f"POST {address.partition(str(port))[2]}invert HTTP/1.1\r\nHost: localhost\r\n".encode())
            stalled.sendall(b"Content-Length: 1000\r\n\r\n.")
            time.sleep(0.1)
        os.kill(process.pid, number)
        process.join(60)
    asking.join(60)
    assert process.exitcode == 128 + number
    assert found[0][0] in answers and (what == "show" or found[0][1] == b"the explorer was closed"), found
    assert f"stopped by {number.name}" in said.read_text().splitlines()[-1], said.read_text()
    assert "Traceback" not in said.read_text()
    socket.create_server(("127.0.0.1", port)).close()
    said.unlink()
    Path("begun").unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_signal_ends_long_work(session: Session) -> None:
    other = Session(session.generator, [], None)
    running = server.Server(uvicorn.Config(make_app(other, TOKEN)), other)
    steps = other.until_closed(range(3))
    assert next(steps) == 0
    running.handle_exit(signal.SIGTERM, None)
    assert running.should_exit
    with pytest.raises(HiganError, match="was closed"):
        next(steps)


def test_a_port_that_is_taken(session: Session) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(HiganError, match="choose another with --port"):
            serve(session, TOKEN, other.getsockname()[1], lambda address: None)


# in a browser


@pytest.fixture
def page(visit: Callable[..., Any], address: str) -> Any:
    return loaded(visit(address))


def loaded(page: Any) -> Any:
    page.wait_for_selector("#picture[data-state]")
    return page


def wait_for_distance(page: Any, name: str, distance: float) -> None:
    """Wait until the picture is that of a distance."""
    state = "JSON.parse(document.querySelector('#picture').dataset.state)"
    code = f"([name, distance]) => {state}.shifts[name]?.distance === distance"
    page.wait_for_function(code, arg=[name, distance])


def test_keys_and_drags_move_the_picture(page: Any) -> None:
    first = page.locator("#picture").get_attribute("src")
    slider = page.locator('.direction[data-name="lights"] .slider')
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    wait_for_distance(page, "lights", 1)
    moved = page.locator("#picture").get_attribute("src")
    assert moved != first
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.625, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    wait_for_distance(page, "lights", 4)
    page.locator("#compare").focus()
    page.keyboard.down("Enter")
    page.wait_for_function("first => document.querySelector('#picture').src === first", arg=first)
    page.keyboard.up("Enter")
    wait_for_distance(page, "lights", 4)
    page.locator("#reset").click()
    page.wait_for_function("first => document.querySelector('#picture').src === first", arg=first)


def test_samples_are_kept_and_come_back(page: Any) -> None:
    first = page.locator("#picture").get_attribute("src")
    page.locator("#star").click()
    page.locator("#next").click()
    page.wait_for_function("first => document.querySelector('#picture').src !== first", arg=first)
    assert page.locator("#name").text_content() == "Sample 1"
    loaded(page).reload()
    loaded(page).locator("#next").click()
    page.wait_for_function("first => document.querySelector('#picture').src !== first", arg=first)
    page.locator("#kept button").click()
    page.wait_for_function("first => document.querySelector('#picture').src === first", arg=first)
    with page.expect_download() as download:
        page.locator("#save").click()
    assert np.load(download.value.path()).shape == (1, LAYERS, 16)
    assert download.value.suggested_filename == "code.npy"


def test_the_command_is_copied(page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.wait_for_function("() => document.querySelector('#command').textContent")
    page.locator("#copy").click()
    page.wait_for_function("() => document.querySelector('#say').textContent === 'Copied.'")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#command").text_content()


def test_sliders_move_while_a_picture_is_inverted(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    def slow(*_: Any, **__: Any) -> None:
        assert not session.lock.locked()
        shown.append(session.show(View()))
        raise HiganError("enough")

    content = io.BytesIO()
    Image.new("RGB", (40, 30), "orange").save(content, "PNG")
    for work in ("sample_statistics", "invert"):  # of which the first is done for the first picture alone
        monkeypatch.setattr(session, "statistics", None)
        monkeypatch.setattr(sessions, work, slow)
        with pytest.raises(HiganError, match="enough"):
            session.invert(content.getvalue())
        monkeypatch.undo()
    assert len(shown) == 2


def test_a_picture_is_uploaded(page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "INVERT_STEPS", 12)
    Image.new("RGB", (40, 30), "orange").save(tmp_path / "mine.png")
    page.locator("#upload").set_input_files(tmp_path / "mine.png")
    page.wait_for_function("() => document.querySelector('#name').textContent === 'Your picture'")
    assert "mine.png" in page.locator("#say").text_content()


def test_two_people_do_not_mix(visit: Callable[..., Any], address: str) -> None:
    one, two = loaded(visit(address)), loaded(visit(address))
    before = two.locator("#picture").get_attribute("src")
    slider = one.locator('.direction[data-name="view"] .slider')
    slider.focus()
    one.keyboard.press("End")
    wait_for_distance(one, "view", 4)
    two.locator("#reset").click()
    two.wait_for_timeout(300)
    assert two.locator("#picture").get_attribute("src") == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(visit: Callable[..., Any], address: str, scheme: str) -> None:
    page = loaded(visit(address, width=390, height=844, color_scheme=scheme, quiet=True))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator('.direction[data-name="view"]').scroll_into_view_if_needed()
    box = page.locator(".screen").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 844  # the picture stays in sight
    page.locator('.direction[data-name="lights"] .slider').press("End")
    page.locator('.direction[data-name="lights"] .layers').fill("99")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#say').dataset.wrong")
    box = page.locator("#say").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 844  # so does what was wrong


def test_a_closed_server_is_said_to_be_closed(visit: Callable[..., Any], address: str) -> None:
    page = loaded(visit(address, quiet=True))
    page.route("**/show", lambda route: route.abort())
    page.locator("#next").click()
    page.locator("#say[data-wrong]").wait_for()
    assert "closed" in page.locator("#say").text_content()


def test_few_states_are_kept(session: Session) -> None:
    for number in range(sessions.KEPT + 2):
        session.picture(View(number=number, shifts={"lights": Shift(1.0)}, active="lights"))
    assert len(session.states) == sessions.KEPT
