"""A report is one page without script that says what the run says, and nothing that a hostile run makes it say."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from browser import browser, errors, resize
from test_explorer_page import AXE, HOSTILE, VIOLATIONS
from vaekit.errors import DataError, RunError
from vaekit.explorer import charts
from vaekit.explorer.run_page import PICTURES, report
from vaekit.store import Run

SMALL = ["--set", "encoder.hidden=[8]", "--set", "decoder.hidden=[8]", "--set", "data.validation=59000"]
EVALUATION = {
    "format": 1,
    "protocol": {"data": "mnist", "split": "test", "rows": 100, "samples": 10, "seed": 0},
    "values": [
        {"name": "nll", "value": 99.5, "standard_error": 0.5, "unit": "nats", "kind": "upper bound", "noise": None},
        {
            "name": "active units",
            "value": 7.0,
            "standard_error": None,
            "unit": "of 15",
            "kind": "estimate",
            "noise": None,
        },
    ],
    "warnings": ["one dimension is idle"],
    "details": {"kl by dimension": [2.0, 0.5, 0.001], "classes": {"0": {"share": 10.0, "recognised": None}}},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for preset in ("cvae", "vae"):
        command = [sys.executable, "-m", "vaekit", "train", preset, "--epochs", "2", *SMALL, "--name", preset]
        subprocess.run([*command, "--runs", str(folder)], check=True, capture_output=True)
    (folder / "cvae" / "evaluation.json").write_text(json.dumps(EVALUATION))
    return folder


class Tags(HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_says_what_the_run_says(root: Path) -> None:
    found = Tags(report([Run.open(root / "cvae")]))
    said = (
        "99.50 ± 0.50",
        "upper bound",
        "one dimension is idle",
        "7 of 15",
        "active units",
        "vae repeat cvae",
        "[decoder]",
    )
    for words in (*said, "New images, drawn from the prior", "A row for each class", "device_name", "mlp encoder"):
        assert words in found.text, words
    pictures = [attributes for tag, attributes in found.tags if tag == "img"]
    there = {path.stem for path in (root / "cvae" / "samples").glob("*.png")}
    assert len(pictures) == len(there & PICTURES.keys()) >= 5
    assert all(str(one["src"]).startswith("data:image/png;base64,") and one["alt"] for one in pictures)
    labels = [
        str(attributes["aria-label"]) for tag, attributes in found.tags if tag == "svg" and "aria-label" in attributes
    ]
    assert len(labels) >= 4 and any(label.startswith("KL by latent, nats. z1 2, z2 0.5, z3 0.001") for label in labels)
    record = Run.open(root / "cvae").metrics()[-1]
    assert any(f"to {record['rate']:.4g}" in label for label in labels)


def test_it_loads_and_runs_nothing(root: Path) -> None:
    text = report([Run.open(root / "cvae")])
    tags = Tags(text).tags
    assert not {"script", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in tags}
    assert "http://" not in text and "https://" not in text
    policy = next(a["content"] for tag, a in tags if tag == "meta" and a.get("http-equiv"))
    assert str(policy).startswith("default-src 'none'; style-src 'sha256-") and "script" not in str(policy)


def test_several_runs_stand_side_by_side(root: Path) -> None:
    text = report([Run.open(root / "cvae"), Run.open(root / "vae")])
    found = Tags(text)
    assert "cvae · vae" in found.text and "model.condition" in found.text
    assert re.search(r"<tr><th scope=row>nll</th><td>99.50 ± 0.50 nats</td><td>—</td></tr>", text)
    assert "cvae, validation" in found.text and "vae, training" in found.text


def test_runs_of_one_name_are_told_apart_by_their_paths(root: Path, tmp_path: Path) -> None:
    other = shutil.copytree(root / "vae", tmp_path / "vae")
    found = Tags(report([Run.open(root / "vae"), Run.open(other)]))
    for path in (root / "vae", other):
        assert f"{path}, training" in found.text


def test_runs_of_different_protocols_are_not_compared_in_silence(root: Path, tmp_path: Path) -> None:
    other = shutil.copytree(root / "cvae", tmp_path / "other")
    protocol = {**EVALUATION["protocol"], "samples": 5000}
    (other / "evaluation.json").write_text(json.dumps({**EVALUATION, "protocol": protocol}))
    text = report([Run.open(root / "cvae"), Run.open(other)])
    assert "the protocols differ in samples" in text


def test_a_run_that_was_killed_early_has_a_report_too(root: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(root / "vae", tmp_path / "bare")
    shutil.rmtree(bare / "samples")
    (bare / "metrics.jsonl").write_text("")
    (bare / "test.json").unlink()
    (bare / "status.json").unlink()
    text = report([Run.open(bare)])
    assert "Not evaluated" in text and "interrupted" in text


def hostile(root: Path, tmp_path: Path) -> Run:
    """A run whose every text is an attack."""
    path = shutil.copytree(root / "cvae", tmp_path / "hostile")
    environment = json.loads((path / "environment.json").read_text())
    environment |= {"preset": HOSTILE[0], "command": HOSTILE, "device_name": HOSTILE[1], HOSTILE[0]: HOSTILE[1]}
    environment["data"] |= {"name": HOSTILE[1], "classes": HOSTILE}
    (path / "environment.json").write_text(json.dumps(environment))
    value = {**EVALUATION["values"][0], "name": HOSTILE[0], "unit": HOSTILE[1], "kind": HOSTILE[2]}
    details = {"kl by dimension": [1.0], "classes": {HOSTILE[0]: {HOSTILE[1]: 1.0}}}
    evaluation = {"values": [value], "warnings": HOSTILE, "details": details, "protocol": {HOSTILE[0]: HOSTILE[1]}}
    (path / "evaluation.json").write_text(json.dumps({**EVALUATION, **evaluation}))
    record = {"epoch": 1, HOSTILE[0]: 1.0, "neg_elbo": HOSTILE[1]}
    (path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    (path / "samples" / "samples.png").write_bytes(b"<svg onload=alert(1)>")
    return Run.open(path)


def test_a_hostile_run_cannot_inject(root: Path, tmp_path: Path) -> None:
    run = hostile(root, tmp_path)
    for text in (report([run]), report([run, Run.open(root / "vae")])):
        found = Tags(text)
        assert not {"script", "iframe"} & {tag for tag, _ in found.tags}
        assert not [attributes for _, attributes in found.tags if any(name.startswith("on") for name in attributes)]
        assert HOSTILE[1] in found.text


def test_pictures_outside_of_the_run_are_not_read(root: Path, tmp_path: Path) -> None:
    path = shutil.copytree(root / "vae", tmp_path / "linked")
    before = report([Run.open(path)]).count("<img")
    shutil.move(path / "samples" / "samples.png", tmp_path / "secret.png")
    (path / "samples" / "samples.png").symlink_to(tmp_path / "secret.png")
    assert report([Run.open(path)]).count("<img") == before - 1


def test_the_command_writes_it(root: Path, tmp_path: Path, command) -> None:
    found = command("report", "cvae", "--runs", root)
    assert found.status == 0 and (root / "cvae" / "report.html").read_text().startswith("<!doctype html>")
    both = command("report", "cvae", "--compare", "vae", "-o", tmp_path / "both.html", "--runs", root)
    assert both.status == 0 and "cvae · vae" in (tmp_path / "both.html").read_text()
    refused = command("report", "cvae", "-o", tmp_path / "both.pdf", "--runs", root)
    assert refused.status == 2 and "as .html" in refused.err
    with pytest.raises(DataError, match="at least one run"):
        report([])
    damaged = shutil.copytree(root / "cvae", tmp_path / "damaged")
    (damaged / "evaluation.json").write_text('{"format": 7}')
    with pytest.raises(RunError, match="evaluate"):
        report([Run.open(damaged)])


def test_it_is_legible_and_accessible(root: Path, tmp_path: Path) -> None:
    (tmp_path / "one.html").write_text(report([Run.open(root / "cvae")]))
    (tmp_path / "two.html").write_text(report([Run.open(root / "cvae"), Run.open(root / "vae")]))
    with browser(tmp_path / "profile") as driver:
        for name in ("one", "two"):
            driver.get((tmp_path / f"{name}.html").as_uri())
            for width in (360, 1280, 2560):
                resize(driver, width, 900)
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            assert errors(driver) == []
            for scheme in ("light", "dark"):
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                if AXE.is_file():
                    driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
                    assert driver.execute_async_script(VIOLATIONS) == []


# -- charts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (96.1, 96.15), (1e-4, 3e-4), (0, 1e6), (-1e-9, 1e-9)])
def test_ticks_are_few_round_and_within(low: float, high: float) -> None:
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 6
    assert all(low - 1e-6 * abs(low) - 1e-9 <= tick <= high + 1e-6 * abs(high) for tick in found)


def points(text: str) -> list[tuple[float, float]]:
    pairs = re.search(r'polyline points="([^"]*)"', text)[1].split()
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in pairs)]


def test_a_line_goes_through_its_numbers() -> None:
    found = points(charts.lines("loss", [charts.ChartLine("training", [(1, 10.0), (2, 20.0), (3, 15.0)])]))
    (a, b, c) = found
    assert b[0] - a[0] == pytest.approx(c[0] - b[0], abs=0.2)
    assert (a[1] - c[1]) == pytest.approx((a[1] - b[1]) / 2, abs=0.2) and b[1] < c[1] < a[1]


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0], [1.0, 1.0], [float("inf"), 2.0]])
def test_odd_numbers_do_no_harm(values: list[float]) -> None:
    given: Any = list(enumerate(values))
    text = charts.lines("loss", [charts.ChartLine("training", given)])
    assert "nan" not in text.lower() and "inf," not in text.lower()
    assert bool(text) == any(value == value and abs(value) != float("inf") for value in values)


def test_a_first_epoch_far_above_is_cut_off_and_said() -> None:
    given = [(1.0, 5000.0), *((float(i), 100.0 - i) for i in range(2, 20))]
    text = charts.lines("loss", [charts.ChartLine("training", given)])
    assert "is cut off" in text and min(y for _, y in points(text)) < 0
