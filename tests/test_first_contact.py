"""The first ten minutes: what is typed first, and what comes of it on a terminal of 80 columns."""

import re
from pathlib import Path

import pytest

from conftest import SMALL, Result, one_line
from vaekit.cli.tables import table_lines
from vaekit.config import meant
from vaekit.runs.terminal import packed


def narrow(result: Result) -> str:
    """The whole output of a command that has succeeded, no line of which is wider than 80 columns."""
    assert result.status == 0, result.err
    for line in (result.out + result.err).splitlines():
        assert len(line) <= 80, line
    return result.out


def test_a_training_says_what_it_does_and_what_to_do_next(command, here: Path) -> None:
    name = "a-name-that-is-so-long-that-it-has-a-line-of-its-own"
    result = command("train", "--data", here / "x.npy", "--epochs", 2, *SMALL, "--name", name)
    narrow(result)
    heading, where, *lines = [line for line in result.err.splitlines() if "warning" not in line]
    assert re.fullmatch(r"vae: [\d,]+ weights, 170 images of x.npy, cpu (fp32|bf16),", heading)
    assert where.strip() == f"runs/{name}"
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert re.search(r"^pictures    in it, samples/samples.png and \d+ more$", result.out, re.MULTILINE)
    assert result.out.splitlines()[-1].startswith("next        `vae evaluate`")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("help",),
        ("help", "train"),
        ("presets",),
        ("data",),
        ("runs",),
        ("info",),
        ("evaluate", "--samples", "2", "--images", "10"),
        ("evaluate", "--samples", "2", "--images", "10", "--all"),
    ],
    ids=str,
)
def test_everything_fits_80_columns(command, here: Path, monkeypatch: pytest.MonkeyPatch, arguments) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert narrow(command(*arguments))


def test_long_lists_have_a_line_for_each_row(command, here: Path) -> None:
    rows = narrow(command("presets"))
    assert "arXiv" not in rows
    long = command("presets", "--long").out.splitlines()
    assert len(long) < len(rows.splitlines()) and "arXiv:1312.6114" in "\n".join(long)
    assert str(here / "x.npy") not in command("runs").out
    assert "where" in command("data", "--long").out.splitlines()[0]


def test_help_is_help(command) -> None:
    assert command("help").out == command("--help").out == command().out
    assert command("help", "sample").out == command("sample", "--help").out
    assert command("help").out.startswith("Usage: vae ")
    assert "..." not in command("help").out.partition("Commands:")[2]  # no line is cut


TYPED = {
    ("train", "--lr", "1e-3"): "there is no option --lr; type --set train.learning_rate=1e-3",
    ("train", "--latent-size=2"): "type --set model.latent_size=2",
    ("train", "--epoch", "3"): "type --epochs 3",
    ("train", "--beta"): "type --set objective.beta=VALUE",
    ("resume", "--lr", "1e-3"): "type --set train.learning_rate=1e-3",
    ("train", "--set", "size=32"): "did you mean data.size=32?",
    ("train", "--set", "lr=1e-3"): "did you mean train.learning_rate=1e-3?",
    ("train", "--set", "train.lr=1"): "did you mean 'train.learning_rate'?",
    ("train", "--set", "prior=vamp"): "did you mean prior.name=vamp?",
    ("train", "mnist"): "mnist is not a preset but data: vae train --data mnist",
    ("train", "mine.toml"): "vae train --config mine.toml",
    ("train", "cave"): "unknown preset 'cave'; did you mean 'cvae'?",
    ("cvae",): "type vae train cvae",
    ("tran",): "Did you mean 'train'?",
    ("train", "--nonsense"): "No such option '--nonsense'",
}


@pytest.mark.parametrize("arguments", TYPED, ids=str)
def test_a_slip_is_answered_with_the_right_spelling(command, arguments) -> None:
    assert TYPED[arguments] in one_line(command(*arguments))


def test_no_runs_are_a_hint_and_an_empty_list(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("runs")
    assert (result.status, result.out) == (0, "")
    assert result.err == "vae: there is no run in runs yet; `vae train` makes one\n"
    assert command("runs", "--json").out == "[]\n"


def test_tables_fold_their_widest_cells_and_lose_nothing() -> None:
    rows = [["name", "what"], ["a", "one two three " * 9], ["b" * 100, "x"]]
    lines = table_lines(rows)
    assert max(map(len, lines)) <= 80
    assert "".join(lines).count("b") == 100 and " ".join(lines).count("three") == 9
    assert len(table_lines(rows, None)) == 3
    assert packed(["a" * 50, "b" * 29]).splitlines() == ["a" * 50, "    " + "b" * 29]
    assert packed(["a" * 50, "b" * 28]) == "a" * 50 + "  " + "b" * 28


def test_words_of_other_libraries_are_understood_and_nonsense_is_not() -> None:
    assert meant("batch_size") == "train.batch_size" and meant("patiense") == "train.patience"
    assert meant("foo") is None and meant("") is None
