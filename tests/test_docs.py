"""The documents: their examples run, their commands exist, and the notebook's and README's figures are recorded ones."""

import importlib
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vaekit
from vaekit import cli, config, data

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```(python|console)\n(.*?)```", re.DOTALL)
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] if path.name != "log.md")


def blocks(page: Path, kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text()) if found == kind]


@pytest.fixture
def small_mnist(monkeypatch):
    """MNIST with its first few images only, so that the examples are quick."""
    whole = data.load("mnist")
    few = data.Dataset(
        name="mnist",
        train=data.Split(whole.train.x[:512], whole.train.labels[:512]),
        validation=data.Split(whole.validation.x[:64], whole.validation.labels[:64]),
        test=data.Split(whole.test.x[:64], whole.test.labels[:64]),
        classes=whole.classes,
        checksum=whole.checksum,
    )
    monkeypatch.setattr("vaekit.data.loading.load", lambda *_, **__: few)
    monkeypatch.setattr("vaekit.runs.job.load_data", lambda *_, **__: few)
    return few


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch, small_mnist) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for code in blocks(page, "python"):
        first = code.splitlines()[0]
        if first.startswith("# ") and first.endswith(".py"):
            (tmp_path / first[2:]).write_text(code)
        torch.manual_seed(0)
        exec(compile(code, str(page), "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    """Every `vae …` line parses: the verb and each option exist."""
    for block in blocks(page, "console"):
        for line in block.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if not line.startswith("$ vae ") or "|" in words:
                continue
            verb = cli.app.commands[words[1]]
            verb.make_context(words[1], words[2:], resilient_parsing=False)


def test_own_parts_train_from_the_command_line(tmp_path: Path, monkeypatch, capsys, small_mnist) -> None:
    page = ROOT / "docs" / "extending.md"
    for code in blocks(page, "python"):
        name = code.splitlines()[0].removeprefix("# ")
        if name.endswith(".py"):
            (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    settings = [
        word
        for block in blocks(page, "console")
        for word in shlex.split(block)
        if word.startswith(("prior.", "posterior.", "likelihood.", "encoder.", "decoder.", "objective."))
    ]
    options = [option for setting in settings for option in ("--set", setting)]
    optimization = ["optimizer.name=my_optimizer:SignDescent", "schedule.name=my_schedule:Steps"]
    others = [word for setting in (*optimization, "objective.name=my_losses:Guided") for word in ("--set", setting)]
    ways = {"parts": options, "model": ["--set", "model.name=my_model:Linear"], "others": others}
    for name, more in ways.items():
        arguments = ["vae", "train", "standard-vae", "--name", name, "--epochs", "1", "--trust", *more]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, capsys.readouterr().err
        assert (tmp_path / "runs" / name / "samples" / "samples.png").exists()
        with pytest.raises(vaekit.errors.ConfigError, match="trust=True"):
            vaekit.load(name)
        assert vaekit.load(name, trust=True).sample(2).shape == (2, 1, 28, 28)
    assert "critic" in vaekit.store.Run.open("parts").metrics()[0]
    assert "error" in vaekit.store.Run.open("others").metrics()[0]
    import my_data

    assert my_data.stripes().event_shape == (1, 16, 16)


@pytest.mark.parametrize("page", ["README.md", "docs/choosing.md", "docs/reliability.md", "docs/speed.md"])
def test_tables_are_the_recorded_figures(page: str, monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import report

    assert report.filled(page) == (ROOT / page).read_text()


def test_published_figures_are_the_recorded_ones(monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "published")
    import results
    import rows

    page = (ROOT / "docs" / "results.md").read_text()
    assert results.page() == page
    for script, row in results.rows().items():
        options = [config.read(variant.preset, None, variant.settings) for variant in row.variants]
        assert len(options) == len({variant.label for variant in row.variants}), script
        recorded = {(result["variant"], result["schedule"]) for result in row.recorded()}
        assert len(recorded) == len(row.recorded()), script
        assert all(f"{result['published']:g}" in page for result in row.recorded())
        assert (rows.HERE / f"{script}.py").exists()


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists() or "://" in target, f"{page.name}: {target}"


def test_no_machine_s_paths_are_in_the_documents() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.md", "*.ipynb", "*.json"], cwd=ROOT, capture_output=True, text=True)
    for name in tracked.stdout.split():
        assert "/root/" not in (ROOT / name).read_text(), name


def links() -> list[tuple[str, str]]:
    found = []
    for page in [*PAGES, ROOT / "docs" / "log.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        found += [(str(page.relative_to(ROOT)), link) for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    return found


@pytest.mark.parametrize(("page", "link"), links())
def test_a_link_leads_somewhere(page: str, link: str) -> None:
    assert not link.startswith("http") or "://" in link
    target, _, anchor = link.partition("#")
    if "://" in target:
        return
    path = (ROOT / page).parent / target if target else ROOT / page
    assert path.exists(), f"{page} links to {target}, which is not there"
    if anchor:
        headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, f"{page} links to #{anchor} of {target}, which has no such heading"


def test_the_site_s_reference_names_what_is_public() -> None:
    site = runpy.run_path(str(ROOT / "docs" / "site.py"))
    named = {member for _, members in site["REFERENCE"].values() for member in members}
    for member in named:
        place = site["PLACES"].get(member, member)
        module, _, name = place.rpartition(".")
        try:
            importlib.import_module(place)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), name), place
