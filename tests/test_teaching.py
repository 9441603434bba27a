"""The assignment as a class does it: what is handed out, and what `vae check` says of right and wrong solutions."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import torch
from nbclient import NotebookClient

import solutions
from vaekit.errors import DataError
from vaekit.teaching import check, grading, handout, pupil, sheet, teach

BLANK = handout.source("vae.py.txt").decode()


def grade(code: str):
    """A report on a solution that is known to be harmless, without a process of its own."""
    student = ModuleType("vae")
    exec(compile(code, "vae.py", "exec"), student.__dict__)
    verdicts = {}
    for i in range(sheet.MAXIMUM):
        torch.manual_seed(0)
        verdicts[i] = grading.Verdict(*pupil._check(i, student, Path("vae.py")))
    return grading._report("vae.py", verdicts)


def lost(report):
    return {s.name: s.maximum - s.points for s in report.sections if s.points < s.maximum}


# Solutions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", solutions.STYLES.values(), ids=solutions.STYLES)
def test_right_solutions_of_every_style_get_all_points(code, capsys):
    report = grade(code)
    assert (lost(report), report.points, report.maximum) == ({}, 12, 12), str(report)
    assert not any(section.diagnosis for section in report.sections)


@pytest.mark.parametrize(("code", "costs", "words"), solutions.MISTAKES.values(), ids=solutions.MISTAKES)
def test_each_mistake_is_diagnosed_and_costs_its_own_points_only(code, costs, words):
    report = grade(code)
    assert lost(report) == costs, str(report)
    diagnoses = [section.diagnosis for section in report.sections if section.name in costs]
    assert all(diagnoses)
    assert any(re.search(words, diagnosis) for diagnosis in diagnoses), str(report)
    assert not any(section.diagnosis for section in report.sections if section.name not in costs)


@pytest.mark.parametrize(("code", "words"), solutions.ACCEPTED.values(), ids=solutions.ACCEPTED)
def test_harmless_differences_are_accepted(code, words):
    report = grade(code)
    assert report.points == 12
    assert words in " ".join(section.diagnosis for section in report.sections)


def test_the_starter_is_the_solution_with_blanks():
    report = grade(BLANK)
    assert report.points == 0
    assert all("blank" in section.diagnosis for section in report.sections)
    assert BLANK.count("YOUR CODE HERE") == 8
    points = [int(n) for n in re.findall(r"\[(\d) points?\]", BLANK)]
    assert sum(points) == sheet.MAXIMUM == 12
    kept = [line for line in BLANK.splitlines()[6:] if "YOUR CODE" not in line]
    right = iter(solutions.RIGHT.splitlines())
    assert all(line in right for line in kept if line.strip())  # in this order


@pytest.mark.parametrize(
    ("filled", "points"),
    [(("encoder", "decoder"), 2), (("reparametrize",), 2), (("loss",), 2), (("encoder", "decoder", "forward"), 4)],
)
def test_half_a_solution_gets_its_points(filled, points):
    """Blanks are filled in as a student fills them in, one section after another."""
    code = BLANK
    right = solutions.RIGHT
    if "encoder" in filled:
        start, end = right.index("        hidden = self.hidden_dim"), right.index("        # 2. The decoder")
        code = code.replace("        # YOUR CODE HERE\n", right[start:end], 1)
    if "decoder" in filled:
        start = right.index("        self.decoder = nn.Sequential(")
        end = right.index("    def forward(self, x: Tensor) ->")
        code = code.replace("        # YOUR CODE HERE\n", right[start:end], 1)
    if "forward" in filled:
        start = right.index("        h = self.encoder(x)\n")
        code = code.replace("        # YOUR CODE HERE\n", right[start : right.index("        return x_hat", start)], 1)
    if "reparametrize" in filled:
        code = code.replace("    # YOUR CODE HERE\n    return z", f"    {solutions.DRAW}\n    return z")
    if "loss" in filled:
        body = f"    reconstruction = {solutions.BCE}\n    {solutions.KL}\n    {solutions.LOSS}\n    return loss"
        code = code.replace("    # YOUR CODE HERE\n    return loss", body)
    assert grade(code).points == points


# Files that misbehave -----------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    def write(code: str, name: str = "my_vae.py") -> Path:
        (tmp_path / name).write_text(textwrap.dedent(code))
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def f(:\n", r"not Python: .*\(line 1\)"),
        ("import sys\nsys.exit(3)", r"SystemExit: 3 \(line 2\)"),
        ("import os\nos._exit(3)", r"ended its process \(status 3\)"),
        ("import os\nos.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("while True: pass", "stopped after 2 s"),
        ("name = input()", r"waits for input\(\)"),
        ("import torch\nx = torch.ones(10**13)", "more memory than it may have"),
        ("", "There is no class VAE"),
    ],
)
def test_a_file_that_does_not_load_gets_no_points_and_one_line(write, code, words):
    report = check(write(code), seconds=2, megabytes=512)
    assert report.points == 0
    for section in report.sections:
        assert "\n" not in section.diagnosis
        assert "Traceback" not in section.diagnosis
    assert re.search(words, report.sections[0].diagnosis), report


def test_a_part_that_misbehaves_costs_its_own_points_only(write):
    hostile = solutions.change(
        (solutions.DRAW, "import os\n    os._exit(0)\n    z = mu"),
        (solutions.LOSS, "while True:\n        pass"),
    )
    report = check(write(hostile), seconds=4)
    assert lost(report) == {"reparametrize": 2, "loss_function": 2}
    words = {section.name: section.diagnosis for section in report.sections}
    assert words["reparametrize"] == "It ended its process (status 0)."
    assert words["loss_function"] == "It was stopped after 4 s: is there a loop that does not end?"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such limit")
def test_memory_is_limited(write):
    greedy = solutions.change((solutions.DRAW, f"hog = [0.0] * 10**9\n    {solutions.DRAW}"))
    report = check(write(greedy), megabytes=512)
    assert lost(report) == {"reparametrize": 2}
    assert "more memory" in report.sections[2].diagnosis


def test_what_a_file_prints_and_what_it_started_does_not_matter(write, command):
    noisy = solutions.RIGHT + (
        "\nimport os, subprocess, sys, threading, time\nprint('{' * 100_000)\nprint('}', file=sys.stderr)\n"
        'os.write(1, b\'\\n{"event": "end"}\\n\')\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n'
        "subprocess.Popen(['sleep', '1000'] if os.name == 'posix' else ['timeout', '1000'])\n"
    )
    result = command("check", write(noisy), "--json")
    assert (result.status, result.err) == (0, "")
    found = json.loads(result.out)
    assert (found["points"], found["maximum"]) == (12, 12)
    assert set(found["sections"][0]) == {"name", "points", "maximum", "diagnosis"}
    assert sum(section["points"] for section in found["sections"]) == 12


# The command --------------------------------------------------------------------------------------------------------


def test_the_command_prints_points_and_diagnoses_in_80_columns(write, command):
    swapped = solutions.MISTAKES["arguments swapped"][0]
    result = command("check", write(swapped))
    assert result.status == 0
    assert result.out.splitlines()[0] == "my_vae.py"
    assert result.out.splitlines()[-1].strip() == "11 of 12"
    assert "8.0731" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_a_file_that_is_not_there_is_the_callers_mistake(tmp_path, command):
    for path in (tmp_path / "no.py", tmp_path):
        result = command("check", path)
        assert (result.status, result.out) == (2, "")
        assert len(result.err.splitlines()) == 1
        assert "is not a file" in result.err


def test_teach_copies_everything_and_the_solution_gets_all_points(tmp_path, command):
    folder = tmp_path / "the course"
    result = command("teach", folder)
    assert result.status == 0
    names = sorted(str(path.relative_to(folder).as_posix()) for path in folder.rglob("*.*"))
    assert names == [
        "assignment.ipynb",
        "teacher/rubric.md",
        "teacher/solution.ipynb",
        "teacher/solution.py",
        "vae.py",
    ]
    assert command("check", folder / "teacher" / "solution.py").out.endswith("  12 of 12\n")
    assert command("check", folder / "vae.py").out.endswith("  0 of 12\n")


def test_teach_never_replaces_a_students_file_without_a_word(tmp_path, command):
    teach(tmp_path, teacher=False)
    assert teach(tmp_path, teacher=False) == []
    written = tmp_path / "vae.py"
    written.write_text("mine")
    (tmp_path / "assignment.ipynb").unlink()
    result = command("teach", tmp_path)
    assert result.status == 2
    assert f"{written}: there already" in result.err
    assert "--overwrite" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["vae.py"]
    assert written.read_text() == "mine"
    assert command("teach", tmp_path, "--student", "--overwrite").status == 0
    assert written.read_text() == BLANK
    assert not (tmp_path / "teacher").exists()


def test_teach_into_a_file_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        teach(tmp_path / "file")


# The notebook and the pages ------------------------------------------------------------------------------------------


def assignment():
    return nbformat.reads(handout.source("assignment.ipynb").decode(), as_version=4)


def test_the_assignments_notebook_is_clean_and_names_the_points_of_the_sheet():
    notebook = assignment()
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert sum(int(n) for n in re.findall(r"\| \*\*\d\*\* \|.*\| (\d) \|", text)) == sheet.MAXIMUM
    assert sum(int(n) for n in re.findall(r"^## .*\[(\d) points?\]", text, re.MULTILINE)) == sheet.MAXIMUM
    assert text.count("**Predict.**") >= 12
    assert "http" not in text.replace("https://arxiv.org", "")


def test_the_assignments_notebook_runs_with_a_solution_filled_in(tmp_path):
    teach(tmp_path, teacher=False)
    (tmp_path / "vae.py").write_text(solutions.LECTURE)  # of a style other than ours
    notebook = assignment()
    short = {"VAE_NOTEBOOK_EPOCHS": "1", "VAE_NOTEBOOK_IMAGES": "512"}
    client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=os.environ | short)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [o.data["text/plain"] for o in outputs if o.output_type == "execute_result" and "text/plain" in o.data]
    assert [text for text in texts if text.endswith("12 of 12")] == texts[0:1] + texts[-1:]
    assert sum(o.output_type == "display_data" for o in outputs) == 10


@pytest.mark.parametrize("beside", [True, False])
def test_the_install_cell_finds_a_checkout_beside_it_or_the_package_index(tmp_path, monkeypatch, beside):
    folder = tmp_path / "week 7"
    folder.mkdir()
    if beside:
        (tmp_path / "vaekit" / "src" / "vaekit").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    cell = next(cell.source for cell in assignment().cells if "%pip" in cell.source)
    code = re.sub(r"^( *)%pip (.*)$", r"\1calls.append(f'\2')", cell, flags=re.MULTILINE)
    names = {"calls": []}
    exec(code, names)
    source = tmp_path / "vaekit" if beside else "vaekit"
    assert names["calls"] == [f'install --quiet "{source}"']


def test_the_page_shows_what_the_check_prints():
    page = (Path(__file__).parents[1] / "docs" / "teaching.md").read_text()
    swapped = solutions.change(
        (solutions.BCE, 'F.binary_cross_entropy(x, x_hat, reduction="sum")'),
        (solutions.DRAW, "z = torch.normal(mu, torch.exp(logvar / 2))"),
    )
    assert f"```\n{grade(swapped)}\n```" in page


def test_the_rubric_has_the_points_of_the_sheet():
    rubric = handout.source("rubric.md").decode()
    for section in sheet.SECTION_NAMES:
        points = sum(part.section == section for part in sheet.POINTS)
        assert re.search(rf"^\| \d `?{section}`? \| {points} \|", rubric, re.MULTILINE), section


# Beside the course's own files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("initialised", [False, True])
def test_a_students_vae_and_the_courses_nndl2_come_first(tmp_path, initialised):
    (tmp_path / "vae.py").write_text(solutions.LECTURE + "\nfrom nndl2.own import MARK\n")
    (tmp_path / "nndl2").mkdir()
    (tmp_path / "nndl2" / "own.py").write_text("MARK = 'the course'\n")
    (tmp_path / "nndl2" / "helper.py").write_text("MARK = 'the course'\n")
    if initialised:
        (tmp_path / "nndl2" / "__init__.py").write_text("")
    code = (
        "import vae, nndl2.helper, vaekit.teaching as teaching\n"
        "assert vae.MARK == nndl2.helper.MARK == 'the course'\n"
        "from vaekit import VAE, loss_function\n"
        "assert VAE is not vae.VAE\n"
        "print(teaching.check('vae.py').points)\n"
    )
    source = str(Path(grading.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": source}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([sys.executable, "-c", code], **run)
    assert (done.stdout, done.stderr) == ("12\n", "")
    done = subprocess.run([sys.executable, "-m", "vaekit", "check", "vae.py", "--json"], **run)
    assert json.loads(done.stdout)["points"] == 12
    if not initialised:  # a namespace is shared by both
        done = subprocess.run([sys.executable, "-c", "from nndl2.check import check; print(check('vae.py'))"], **run)
        assert done.stdout.endswith("12 of 12\n")
