"""`vae evaluate` and `vae compare` as their users meet them."""

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest

import tiny
from test_cli import assert_refused
from vaekit import cli, config
from vaekit.evaluation import run_evaluation as runs
from vaekit.evaluation.samples import classifier as eyes
from vaekit.runs import job, lifecycle, restore


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Runs on the tiny data: one preset with two seeds, another with one, and a conditional one."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "load_data", tiny.dataset)
        patch.setattr(job, "draw_pictures", lambda *_, **__: [])
        for name, preset, more in (
            ("plain-0", "vae", {}),
            ("plain-1", "vae", {"train": {"seed": 1}}),
            ("iwae", "iwae", {"objective": {"name": "iwae", "samples": 3}}),
            ("asked", "cvae", {"model": {"condition": "class"}}),
        ):
            sections = {key: dict(value) for key, value in tiny.SECTIONS.items()} | {"schedule": {"name": "constant"}}
            sections["train"]["epochs"] = 1
            for section, values in more.items():
                sections[section] = values if section == "objective" else sections[section] | values
            lifecycle.train_run(config.read("standard-vae", sections=sections), name=name, preset=preset, root=folder)
    return folder


@pytest.fixture
def command(command, root: Path, tmp_path_factory, monkeypatch):
    """Run the command on these runs."""
    cache = tmp_path_factory.getbasetemp() / "cache" / "data"
    monkeypatch.setattr(eyes, "cache_folder", lambda: cache)
    monkeypatch.setattr(eyes, "EPOCHS", 8)
    monkeypatch.setattr(restore.data, "load", lambda name, **_: tiny.dataset(name))
    return lambda *arguments: command(*arguments, "--runs", root)


QUICK = ("--samples", 12, "--device", "cpu")


def test_evaluate_prints_a_table_and_writes_it(command, root: Path) -> None:
    found = command("evaluate", "--all", "plain-0", *QUICK)
    assert found.status == 0, found.err
    lines = found.out.splitlines()
    assert lines[0].split() == ["value", "unit", "kind"]
    nll = next(line for line in lines if line.startswith("nll"))
    assert "±" in nll and nll.endswith("upper bound")
    assert "binarize: one fixed draw" in found.out and "samples: 12" in found.out
    assert "bounds: done" in found.err and "bounds" not in found.out
    table = json.loads((root / "plain-0" / "evaluation.json").read_text())
    assert [value["name"] for value in table["values"]][:3] == ["elbo", "rate", "distortion"]
    assert all((root / "plain-0" / picture).exists() for picture in table["details"]["pictures"])


def test_evaluate_prints_json(command, root: Path) -> None:
    found = command("evaluate", "plain-0", "--ais", "--temperatures", 4, "--images", 12, *QUICK, "--json")
    table = json.loads(found.out)
    assert table["protocol"]["annealing"]["temperatures"] == 4
    assert {value["name"] for value in table["values"]} >= {"AIS", "BDMC gap, simulated data"}
    assert table["run"] == str(root / "plain-0")


@pytest.mark.filterwarnings("ignore:this processor has no bfloat16")
def test_evaluate_in_bfloat16_says_so_and_keeps_its_own_numbers(command, root: Path) -> None:
    tables = []
    for precision in ("bf16", "fp32"):
        found = command("evaluate", "plain-0", *QUICK, "--precision", precision, "--json")
        tables.append(json.loads(found.out))
        assert tables[-1]["protocol"]["precision"] == precision
    rounded, exact = ({value["name"]: value["value"] for value in table["values"]} for table in tables)
    assert rounded["nll"] != exact["nll"]
    assert rounded["nll"] == pytest.approx(exact["nll"], abs=0.02)
    assert "--precision" in command("evaluate", "plain-0", "--precision", "bf61").err


def test_evaluate_says_what_matters_in_three_blocks_of_80_columns(command, root: Path) -> None:
    lines = command("evaluate", "plain-0", "--runs", root, "--samples", 3).out.splitlines()
    titles = [line.partition(":")[0] for line in lines if re.match(r"[A-Z]\w+: [A-Z].*\.$", line)]
    assert titles[:2] == ["Likelihood", "Latents"]
    assert max(map(len, lines)) <= 80 + len(str(root))
    assert any(line.startswith("  −log p(x), at most") and "nats" in line for line in lines)
    assert any(re.match(r"  class, by a linear classifier  \d.* %$", line) for line in lines)


def test_evaluate_shows_each_class(command) -> None:
    found = command("evaluate", "--all", "asked", *QUICK)
    lines = found.out.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("class  "))
    assert lines[heading].split("  ")[-1].strip() == "recognised (%)"
    assert [line.split()[0] for line in lines[heading + 1 : heading + 4]] == ["rows", "columns", "corner"]


def test_compare_makes_a_table(command) -> None:
    for name in ("plain-0", "plain-1", "iwae", "asked"):
        assert command("evaluate", name, *QUICK).status == 0
    compared = ("compare", "plain-0", "plain-1", "iwae")
    shown = command(*compared).out.splitlines()
    assert max(map(len, shown)) <= 80
    assert shown[0].split() == ["unit", "vae", "iwae"] and shown[1].split() == ["runs", "2", "1"]
    assert any(line.startswith("iwae minus vae") for line in shown)
    found = command(*compared, "--format", "markdown")
    assert found.status == 0, found.err
    assert "| vae | 2 |" in found.out and "| iwae | 1 |" in found.out
    assert found.out.splitlines()[0].startswith("|  | n | nll (nats, upper bound) |")
    assert "±" in found.out and "samples: 12" in found.out
    presets = command("compare", "--group", "vae", "--group", "iwae", "--column", "nll", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(presets.out)))
    assert [(row["group"], row["n"]) for row in rows] == [("vae", "2"), ("iwae", "1")]
    assert r"\toprule" in command("compare", "plain-0", "iwae", "--format", "latex").out
    tree = json.loads(command("compare", "plain-0", "iwae", "asked", "--json").out)
    assert {d["over"] for d in tree["differences"] if d["column"] == "nll"} == {"rows"}
    assert tree["groups"]["cvae"]["runs"] == ["asked"]


def test_protocols_do_not_mix(command) -> None:
    command("evaluate", "plain-0", *QUICK)
    command("evaluate", "iwae", "--samples", 13, "--device", "cpu")
    assert_refused(command("compare", "plain-0", "iwae"), "'nll' was measured by different protocols: samples is 12")
    assert command("compare", "plain-0", "iwae", "--column", "elbo").status == 0


def test_an_evaluation_of_some_rows_leaves_that_of_all_test_rows_alone(command, root: Path) -> None:
    shown = {}
    for options in ((), ("--rows", 5), ("--split", "validation"), ("--split", "validation", "--rows", 5)):
        for name in ("plain-0", "plain-1"):
            result = command("evaluate", name, *QUICK, *options)
            shown[options, name] = result.out.splitlines()[-1].split("/")[-1]
    files = [name for (_, run), name in shown.items() if run == "plain-0"]
    assert files == [
        "evaluation.json",
        *(f"evaluation-{rows}.json" for rows in ("5-rows", "validation", "validation-5-rows")),
    ]
    tables = {name: json.loads((root / "plain-0" / name).read_text()) for name in files}
    protocols = [(table["protocol"]["split"], table["protocol"]["rows"]) for table in tables.values()]
    assert protocols == [("test", 16), ("test", 5), ("validation", 16), ("validation", 5)]
    assert len({table["details"]["per row"] for table in tables.values()}) == 4
    everything = command("evaluate", "plain-0", *QUICK, "--rows", 16).out.splitlines()[-1]
    assert everything.endswith("/evaluation.json")  # 16 are all
    for options, count in (((), 16), (("--rows", 5), 5), (("--split", "validation"), 16)):
        found = json.loads(command("compare", "plain-0", "plain-1", *options, "--json").out)
        assert found["protocol"]["rows"] == count
    assert_refused(
        command("compare", "plain-0", "plain-1", "--rows", 6), "on 6 evenly spread test rows, only in evaluation.json, "
    )
    assert_refused(command("compare", "plain-0", "plain-1", "--split", "tset"), "did you mean 'test'")
    assert "--output" in command("compare", "plain-0", "plain-1", "--rows", 5, "-o", "page.html").err
    (root / "plain-0" / "evaluation.json").unlink()
    assert_refused(command("compare", "plain-0", "plain-1"), "not been evaluated on all test rows")
    page = command("report", "plain-0", "-o", root / "page.html")
    text = (root / "page.html").read_text()
    assert page.status == 0 and "Not evaluated on all test rows" in text and "evaluation-validation-5-rows.json" in text


def test_an_interruption_says_that_the_work_is_kept(command, monkeypatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "evaluate_model", interrupted)
    found = command("evaluate", "plain-0", *QUICK)
    assert found.status == 130
    assert "`vae evaluate plain-0` with the same options continues" in found.err
    assert "vae resume" not in found.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "plain-0", "--samples", 0), "'--samples': must be at least 1, got 0"),
        (("evaluate", "plain-0", "--split", "tset"), "unknown split 'tset'; did you mean 'test'"),
        (("evaluate", "plian-0"), "unknown run 'plian-0'; did you mean 'plain-0'"),
        (("evaluate", "plain-0", "--memory", "much"), "--memory must be a size such as 500M or 4G, got 'much'"),
        (("evaluate", "plain-0", "--memory", "1K"), "memory must be at least 1048576 bytes"),
        (("evaluate", "plain-0", "--rows", 0), "--rows.*: must be at least 1, got 0"),
        (("evaluate", "plain-0", "--temperatures", 5), "--temperatures goes with --ais"),
        (("evaluate", "plain-0", "--ais", "--temperatures", 0), "'--temperatures': must be at least 1, got 0"),
        (("compare",), "at least 2 runs, got 0"),
        (("compare", "plain-0"), "at least 2 runs, got 1"),
        (("compare", "--group", "vea"), "unknown preset of an evaluated run 'vea'; did you mean 'vae'"),
        (
            ("compare", "plain-0", "plain-1", "--column", "nnl"),
            r"not all runs have the value 'nnl'; did you mean 'nll'\? All have: .*\bnll\b",
        ),
    ],
)
def test_mistakes_are_one_line(command, root: Path, arguments: tuple[object, ...], message: str) -> None:
    for name in ("plain-0", "plain-1"):
        if arguments[0] == "compare" and not (root / name / "evaluation.json").exists():
            command("evaluate", name, *QUICK)
    assert_refused(command(*arguments), message)


def test_a_run_that_was_not_evaluated_is_refused(command, root: Path) -> None:
    command("evaluate", "plain-0", *QUICK)
    (root / "asked" / "evaluation.json").unlink(missing_ok=True)
    assert_refused(command("compare", "plain-0", "asked"), "`vae evaluate asked`")


@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_help_opens_with_a_line_to_copy(command, verb: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["vae", verb, "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert f"Try `vae {verb}" in capsys.readouterr().out.splitlines()[2]
