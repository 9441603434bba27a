"""Odd surroundings and text from strangers: terminals, pipes, consoles, signals, environments, folders that go."""

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import SMALL, Result, one_line
from vaekit import plot
from vaekit.cli import printing
from vaekit.runs import terminal
from vaekit.runs.commit import commit
from vaekit.store import Run, escape
from vaekit.training import Progress as Reached
from vaekit.training import stop_requests

Command = Callable[..., Result]
ESCAPES = "a\nvae: all is well\x1b]0;owned\x07\x9b31m\u202e\ud800"
SHOWN = r"a\nvae: all is well\x1b]0;owned\x07\x9b31m\u202e\ud800"


# -- text on its way to the terminal and into documents -----------------------------------------------------------------


def test_text_is_escaped_once_for_each_kind_of_document() -> None:
    assert escape.visible(ESCAPES) == SHOWN
    assert escape.visible(SHOWN) == SHOWN
    assert escape.visible("−ELBO of größe 3×3 日本") == "−ELBO of größe 3×3 日本"
    assert json.loads(escape.to_json({ESCAPES: 1})) == {ESCAPES: 1}
    assert escape.to_json(ESCAPES).isprintable()
    assert escape.to_markdown("<img src=x>|`a`\n[b](c)") == r"&lt;img src=x&gt;\|\`a\`\\n\[b\](c)"
    assert escape.to_latex("~^\\input{x}") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}input\{x\}"
    assert [escape.to_csv(text) for text in ("=1", "@x", "+1", "-2.5", "-x", "\t=1", "b")] == [
        "'=1", "'@x", "+1", "-2.5", "'-x", "'\t=1", "b",
    ]  # fmt: skip


def test_values_of_run_files_and_names_of_files_reach_the_terminal_escaped(here: Path, command: Command) -> None:
    path = here / "runs/a/environment.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps(table | {"preset": ESCAPES, "torch": ESCAPES, "command": [ESCAPES]}))
    shutil.copytree(here / "runs/a", here / "runs/c")
    config = here / "runs/c/config.toml"
    config.write_text(re.sub(r"learning_rate = .*", "learning_rate = 0.5", config.read_text()))
    for arguments in (("runs",), ("info", "a"), ("compare", "a", "c"), ("compare", "a", "c", "--format", "csv")):
        for more in ((), ("--json",)):
            result = command(*arguments, *more)
            assert result.status == 0, result.err
            assert result.out.replace("\n", "").isprintable()
    assert SHOWN in command("runs", "--long").out
    assert json.loads(command("info", "a", "--json").out)["preset"] == ESCAPES
    shutil.copytree(here / "runs/a", here / "runs/b")
    (here / "runs/b/environment.json").write_text("{}" + ESCAPES[:-1])
    assert all(line.isprintable() for line in command("runs").err.splitlines())
    (here / "photos").mkdir()
    (here / "photos" / f"{ESCAPES[:-1]}.png").write_text("no image")
    assert SHOWN[:-6] in one_line(command("train", "--data", "photos"))


@pytest.mark.parametrize(("encoding", "minus"), [("cp1252", "-"), ("ascii", "-"), ("utf-8", "−")])
def test_any_encoding_of_a_console_will_do(encoding: str, minus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    with printing.streams():
        printing.out("−ELBO 日本")
        printing.out_json({"−ELBO": "日本"})
    first, second = raw.getvalue().decode(encoding).splitlines()
    assert first.startswith(f"{minus}ELBO ")
    assert json.loads(second) == {"−ELBO": "日本"}


def test_closed_streams_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # what Python makes of `>&-`
    monkeypatch.setattr(sys, "stderr", None)
    with printing.streams():
        printing.out("a")
        printing.out_json(["b"])
        printing.note("c")
    assert sys.stdout is None and sys.stderr is None


def test_a_bare_command_prints_its_help(command: Command) -> None:
    result = command()
    assert result.status == 0 and len(result.out.splitlines()) > 15 and "\n  train " in result.out
    assert result.err == ""


def test_the_live_bar_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None, markup=False)
    with Progress(*terminal.COLUMNS, console=console) as bar:
        shown = terminal._Bar(console, 1000, bar)
        means = {"loss": 1.0, "neg_elbo": 12345.67, "rate": 1234.5, "distortion": 1e4, "rows": 3e6}
        shown.step(Reached(epoch=998, batch=1, seconds=1.0), 2, means)
        (line,) = [line for line in console.render_lines(bar.get_renderable(), pad=False) if line]
    text = "".join(segment.text for segment in line)
    assert len(text) <= 80 and "−ELBO 12345.67" in text and "3,000,000 rows/s" in text and "…" not in text


@pytest.mark.parametrize("is_terminal", [True, False])
def test_stages_of_an_evaluation_are_shown_escaped(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=is_terminal, color_system=None, markup=False)
    monkeypatch.setattr(terminal, "_console", lambda: console)
    with terminal.stage_progress() as listener:  # a name of a folder, which no markup of rich may be read in
        listener("scoring [/x]\x1b]0;owned\x07", 1, 1)
    assert r"scoring [/x]\x1b]0;owned\x07" in file.getvalue()
    assert "\x07" not in file.getvalue()


def test_empty_arguments_are_mistakes(here: Path, command: Command) -> None:
    assert "unknown preset ''" in one_line(command("train", "", "--data", "x.npy", *SMALL))
    assert "unknown run ''" in one_line(command("info", ""))


# -- streams that cannot be written -----------------------------------------------------------------------------------


def test_a_full_disk_under_stdout_is_one_line_and_a_reader_that_left_no_error(here: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "vaekit", "runs"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "vae: error: cannot write stdout: no space left on device\n")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "vaekit", "runs"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_training_whose_log_is_full_goes_on(here: Path) -> None:
    arguments = ["train", "--data", "x.npy", "--epochs", "3", *SMALL, "--name", "full"]
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "vaekit", *arguments], stdout=subprocess.DEVNULL, stderr=full)
    assert done.returncode == 0
    assert Run.open("full").status == "finished"


def test_a_training_whose_terminal_is_closed_stops_with_a_checkpoint_or_goes_on_after_nohup(here: Path) -> None:
    for name, handling in (("hang-up", signal.SIG_DFL), ("nohup", signal.SIG_IGN)):
        arguments = ["train", "--data", "x.npy", "--epochs", "400", *SMALL, "--name", name]
        arguments += ["--set", "train.batch_size=1024", "--set", "train.checkpoint_every=1000"]
        process, terminal = pty.fork()
        if not process:
            signal.signal(signal.SIGHUP, handling)
            os.execv(sys.executable, [sys.executable, "-m", "vaekit", *arguments])
        said = b""
        while b"epoch   2/400" not in said:
            said += os.read(terminal, 1 << 16)
        if name == "nohup":
            os.kill(process, signal.SIGHUP)
        os.close(terminal)
        if name == "nohup":
            time.sleep(0.5)
            os.kill(process, signal.SIGTERM)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        run = Run.open(name)
        assert (status, run.status) in ((130, "interrupted"), (0, "finished")), name
        assert run.has_checkpoint()
        if name == "hang-up":
            assert run.status == "interrupted"


def test_a_closed_terminal_asks_a_training_to_stop_unless_that_is_ignored() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        with stop_requests() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert asked
        assert signal.getsignal(signal.SIGHUP) is before
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stop_requests() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not asked
    finally:
        signal.signal(signal.SIGHUP, before)


# -- nothing of a folder is run, and nothing of it changes the figures ---------------------------------------------------


def test_the_commit_is_read_and_nothing_of_a_repository_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        options = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
        return subprocess.run(["git", *options, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    git("init", "-q", "r")
    monkeypatch.chdir("r")
    git("commit", "-q", "--allow-empty", "-m", "x")
    expected = git("rev-parse", "HEAD")
    assert commit() == expected
    git("pack-refs", "--all")
    assert commit() == expected
    git("worktree", "add", "-q", "../w")
    monkeypatch.chdir("../w")
    assert commit() == expected
    git("checkout", "-q", "--detach")
    assert commit() == expected
    monkeypatch.chdir("../r")
    ran = tmp_path / "ran"
    Path(".git/config").write_text(f'[core]\n\tfsmonitor = "echo fsmonitor >> {ran}; true"\n')
    assert commit() == expected
    assert not ran.exists()
    Path(".git/HEAD").unlink()
    os.mkfifo(".git/HEAD")  # would be waited for
    assert commit() is None
    Path(".git/HEAD").unlink()
    Path(".git/HEAD").write_text("ref: refs/heads/../../../../secret")
    assert commit() is None


def test_figures_need_neither_the_backend_of_a_notebook_nor_a_style_nor_latex(here: Path) -> None:
    (here / "matplotlibrc").write_text("text.usetex: True\n")
    code = "from vaekit import plot; plot.save(plot.curves([{'epoch': 1, 'loss': 2.0, 'a$\\\\frac$': 1.0}]), 'c.png')"
    environment = os.environ | {"MPLBACKEND": "module://nowhere.backend_inline"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    styled = (here / "c.png").read_bytes()
    (here / "matplotlibrc").unlink()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (here / "c.png").read_bytes() == styled


def test_figures_leave_the_caller_s_settings_as_they_are() -> None:
    import matplotlib

    with matplotlib.rc_context({"lines.linewidth": 7.0}):
        plot.curves([{"epoch": 1, "loss": 1.0}])
        assert matplotlib.rcParams["lines.linewidth"] == 7.0
