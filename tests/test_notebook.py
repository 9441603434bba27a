"""The notebook: what is stored of it, and a shortened run."""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(NOTEBOOKS / "vae.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def pictures(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [base64.b64decode(o.data["image/png"]) for o in outputs if o.output_type == "display_data"]


def test_is_stored_as_executed_from_top_to_bottom(stored):
    nbformat.validate(stored)
    cells = code_cells(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert len(pictures(stored)) == 10


def test_is_small_and_tells_nothing_about_the_machine():
    text = (NOTEBOOKS / "vae.ipynb").read_text()
    assert len(text) < 2_000_000
    assert not re.search(r"/(work|tmp|home|root|Users|usr)/|[A-Z]:\\\\", text)


def test_defines_nothing(stored):
    source = "\n".join(cell.source for cell in code_cells(stored))
    assert not re.search(r"^\s*(def|class) |\blambda\b", source, re.MULTILINE)


def test_stored_results_are_those_of_the_full_training(stored):
    text = printed(stored)
    losses = [float(loss) for loss in re.findall(r"Train Epoch: \d+ \tLoss: ([\d.]+)", text)]
    assert len(losses) == 30
    bounds = dict(re.findall(r"^(C?VAE) +test −ELBO +([\d.]+)", text, re.MULTILINE))
    assert 100 < float(bounds["CVAE"]) < float(bounds["VAE"]) < 120
    assert "mean error 5.639e-05" in text
    assert "loss 8.5079, error 2.130e-06" in text
    assert "1,288,414 parameters" in text
    assert "1,296,414 parameters" in text
    terms = re.findall(r"β = ([\d.]+) +distortion +([\d.]+) \+ rate +([\d.]+)", text)
    rates = {float(beta): float(rate) for beta, _, rate in terms}
    assert sorted(rates, reverse=True) == sorted(rates, key=rates.get)  # a heavier KL is a smaller KL
    assert rates[784] < 0.1 < 5 < rates[1]
    collapsed, cured = re.search(r"rate: ([\d.]+) nats when collapsed, ([\d.]+) when cured", text).groups()
    assert float(collapsed) < 0.1 < 5 < float(cured)


def test_runs(tmp_path):
    copy = tmp_path / "vae.ipynb"
    copy.write_bytes((NOTEBOOKS / "vae.ipynb").read_bytes())
    short = {"VAE_NOTEBOOK_EPOCHS": "1", "VAE_NOTEBOOK_IMAGES": "1024"}
    command = [sys.executable, NOTEBOOKS / "execute.py", copy]
    done = subprocess.run(command, env=os.environ | short, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(copy, as_version=4)
    assert "1 epochs on 1,024 images" in printed(executed)
    assert printed(executed).count("Train Epoch: 0") == 3
    assert len(pictures(executed)) == 10


def test_a_failing_cell_stops_with_its_error_and_changes_nothing(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)\nraise SystemError('broken cell')")])
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    before = (tmp_path / "broken.ipynb").read_bytes()
    command = [sys.executable, NOTEBOOKS / "execute.py", tmp_path / "broken.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "broken cell" in done.stderr
    assert (tmp_path / "broken.ipynb").read_bytes() == before
