"""The page's server answers its own page, on this machine, and nobody else."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaekit
from tiny import dataset
from vaekit.data import Dataset, Split
from vaekit.evaluation.model_with_data import ModelWithData
from vaekit.explorer.page_content import page_content
from vaekit.explorer.server import HOST, Server
from vaekit.model import LatentVariableModel

SIZES = {"model": {"latent_size": 3, "condition": "class"}, "encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}}


@pytest.fixture(scope="module")
def model() -> LatentVariableModel:
    torch.manual_seed(0)
    return vaekit.build("vae", event_shape=(1, 8, 8), num_classes=3, **SIZES)


def test_the_kind_of_a_subject_is_that_of_its_data() -> None:
    images, rows = torch.rand(6, 1, 8, 8), torch.rand(6, 3)
    of_images = vaekit.build("vae", event_shape=(1, 8, 8), encoder={"hidden": [8]}, decoder={"hidden": [8]})
    of_rows = vaekit.build("vae", event_shape=3, encoder={"hidden": [8]}, decoder={"hidden": [8]})
    for data, model, kind in (
        (images, of_images, "image"),
        (Split(rows), of_rows, "row"),
        (dataset(), of_images, "image"),
    ):
        assert ModelWithData.of_model(model, data, 4).row_word == kind
    split = Split(images)
    signals = Dataset("eeg", split, split, split, ("all",), "", kind="vector")
    assert ModelWithData.of_model(of_images, signals, 4).row_word == "row"


@pytest.fixture(scope="module")
def server(model: LatentVariableModel) -> Iterator[Server]:
    subject = ModelWithData.of_model(model, dataset(), 16)
    found = Server(subject, page_content(subject, images=8))
    yield found
    found.close()


def ask(server: Server, path: str | None = None, request: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    """Status, content and headers, as the page would ask, with some headers changed; "" leaves one out."""
    base = server.address.removesuffix(server.path)
    given = {"Origin": base, "Content-Type": "application/json"} if request is not None else {}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    url = base + (server.path if path is None else path)
    data = None if request is None else request if isinstance(request, bytes) else json.dumps(request).encode()
    made = urllib.request.Request(url, data, {name: value for name, value in given.items() if value})
    try:
        with urllib.request.urlopen(made, timeout=20) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def floats(content: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(content, "<f4").copy())


def test_the_page_decodes_encodes_and_samples(server: Server, model: LatentVariableModel) -> None:
    z = torch.randn(5, 3)
    status, content, headers = ask(server, server.path + "decode", {"z": z.tolist(), "c": 2})
    assert status == 200 and headers["Content-Type"] == "application/octet-stream"
    assert torch.allclose(floats(content), model.decode(z, 2).flatten(), atol=1e-6)
    x = dataset().test.x[:1] / 255
    found = floats(ask(server, server.path + "encode", {"x": x.flatten().tolist(), "c": 0})[1])
    assert torch.allclose(found[:3], model.encode(x, 0)[0], atol=1e-5)
    assert found[3] >= 0 and found[4] > 0
    draws = [ask(server, server.path + "sample", {"c": 1})[1] for _ in range(2)]
    assert len(floats(draws[0])) == 3 and draws[0] != draws[1]


def test_the_page_itself_loads_nothing_from_elsewhere(server: Server) -> None:
    status, content, headers = ask(server)
    text = content.decode()
    assert status == 200 and headers["X-Frame-Options"] == "DENY" and headers["Cache-Control"] == "no-store"
    assert not re.search(r"""(src|href)\s*=\s*["']?https?:|@import|url\(""", text)
    assert "http://" not in text and "https://" not in text


STRANGE_HOSTS = ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost", "[::1]", "127.0.0.1:1"]


@pytest.mark.parametrize("host", STRANGE_HOSTS)
def test_another_host_is_refused(server: Server, host: str) -> None:
    assert ask(server, Host=host)[0] == 403
    assert ask(server, server.path + "decode", {"z": [[0, 0, 0]], "c": 0}, Host=host)[0] == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", "http://localhost:1", ""])
def test_another_sites_page_cannot_post(server: Server, origin: str) -> None:
    assert ask(server, server.path + "decode", {"z": [[0, 0, 0]], "c": 0}, Origin=origin)[0] == 403


def test_another_sites_page_cannot_read(server: Server) -> None:
    assert ask(server, Origin="https://evil.example")[0] == 403
    assert ask(server, Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(server, Sec_Fetch_Site="same-site")[0] == 403
    assert ask(server)[2].get("Access-Control-Allow-Origin") is None


def test_a_form_of_another_site_cannot_post(server: Server) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        status, *_ = ask(server, server.path + "decode", {"z": [[0, 0, 0]], "c": 0}, Content_Type=kind)
        assert status == 415


@pytest.mark.parametrize(
    "path",
    ["/", "/decode", "/x/", "/../etc/passwd", "{0}../config.toml", "{0}config.toml", "{0}%2e%2e/", "{0}decode/", "{0}?", "{0}decode"],
)  # fmt: skip
def test_no_path_leads_anywhere_else(server: Server, path: str) -> None:
    assert ask(server, path.format(server.path))[0] in (404, 405, 501)


def test_who_does_not_know_the_path_gets_nothing(server: Server) -> None:
    wrong = "/" + "A" * (len(server.path) - 2) + "/"
    assert len(server.path) > 20
    assert ask(server, wrong)[0] == 404
    assert ask(server, wrong + "decode", {"z": [[0, 0, 0]], "c": 0})[0] == 404


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("decode", {}),
        ("decode", {"z": [[0, 0]], "c": 0}),
        ("decode", {"z": [[0, 0, 0]]}),
        ("decode", {"z": [[0, 0, 0]], "c": 3}),
        ("decode", {"z": [[0, 0, 0]], "c": True}),
        ("decode", {"z": [[0, 0, float("nan")]], "c": 0}),
        ("decode", {"z": [["a", 0, 0]], "c": 0}),
        ("decode", {"z": [[10**400, 0, 0]], "c": 0}),
        ("decode", {"z": [[0, 0, 0]] * 5000, "c": 0}),
        ("encode", {"x": [2.0] * 64, "c": 0}),
        ("encode", {"x": [[[]]], "c": 0}),
        ("decode", [1]),
        ("decode", b"{"),
        ("decode", b"\xff"),
        ("decode", b"[" * 100_000),
    ],
)
def test_a_request_that_does_not_fit_is_refused_in_words(server: Server, name: str, request_: Any) -> None:
    status, content, _ = ask(server, server.path + name, request_)
    assert status == 400 and content and b"Traceback" not in content
    assert ask(server)[0] == 200


def test_a_request_that_is_too_long_is_not_read(server: Server) -> None:
    status, *_ = ask(server, server.path + "decode", {"z": []}, Content_Length=str(1 << 40))
    assert status == 413


def test_it_listens_on_this_machine_only_and_two_do_not_collide(server: Server) -> None:
    assert HOST == "127.0.0.1" and server.http.server_address[0] == "127.0.0.1"
    other = Server(server.answers.subject, page_content(server.answers.subject, images=0))
    try:
        assert other.address != server.address and ask(other)[0] == ask(server)[0] == 200
        assert ask(server, other.path)[0] == 404
        with pytest.raises(OSError, match="in use"):
            Server(server.answers.subject, page_content(server.answers.subject, images=0), port=other.http.server_port)
    finally:
        other.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    small = ["--set", "encoder.hidden=[8]", "--set", "decoder.hidden=[8]", "--set", "data.validation=59000"]
    command = [sys.executable, "-m", "vaekit", "train", "cvae", "--epochs", "1", *small, "--name", "tiny"]
    subprocess.run([*command, "--runs", str(root)], check=True, capture_output=True)
    return root


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C as a signal is for Unix")
def test_the_command_serves_until_ctrl_c(runs: Path) -> None:
    command = [sys.executable, "-m", "vaekit", "explore", "tiny", "--no-browser", "--images", "20", "--runs", str(runs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", address), process.communicate()[1]
        with urllib.request.urlopen(address, timeout=20) as response:
            assert b"tiny" in response.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0 and out == "" and err.strip().splitlines()[-1] == "vae: ended"
    time.sleep(0.05)
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, int(address.split(":")[2].split("/")[0]))) != 0


def test_a_port_that_is_taken_is_one_line(command, runs: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        found = command("explore", "tiny", "--no-browser", "--port", taken.getsockname()[1], "--runs", runs)
    assert found.status == 2 and re.search(r"--port \d+: .*in use", found.err)


def test_options_of_a_served_page_are_refused_for_a_file(command, runs: Path, tmp_path: Path) -> None:
    for option in (("--port", 8000), ("--no-browser",)):
        found = command("explore", "tiny", "-o", tmp_path / "page.html", *option, "--runs", runs)
        assert found.status == 2 and "are for a page that is served" in found.err
    assert not (tmp_path / "page.html").exists()


def test_one_file_says_what_it_embeds(command, runs: Path, tmp_path: Path) -> None:
    found = command("explore", "tiny", "-o", tmp_path / "page.html", "--images", 5, "--runs", runs)
    assert found.status == 0 and "5 images of mnist test" in found.err and "the decoder" in found.err
    text = (tmp_path / "page.html").read_text()
    assert "5 images of mnist test" in text and "http://" not in text and "https://" not in text
    assert "connect-src &#x27;none&#x27;" in text
    none = command("explore", "tiny", "-o", tmp_path / "none.html", "--images", 0, "--runs", runs)
    assert none.status == 0 and "no image and no latent of one" in none.err
    told = json.loads(re.search(r'id="scene">(.*?)</script>', (tmp_path / "none.html").read_text(), re.DOTALL)[1])
    assert told["points"] == {"count": 0, "labels": [], "numbers": [], "z": ""}
    refused = command("explore", "tiny", "-o", tmp_path / "page.txt", "--runs", runs)
    assert refused.status == 2 and "as .html" in refused.err
