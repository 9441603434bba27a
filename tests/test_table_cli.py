"""From table.csv to imputations, scores and new rows, as a user does it; and the same bits after an interruption."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import conftest
import tiny
from conftest import one_line
from test_tables import SIZES, frame
from vaekit import config, load
from vaekit.errors import ConfigError
from vaekit.evaluation.missing import conditional, filling
from vaekit.evaluation.single_rows import named_rows, scoring
from vaekit.runs import job, lifecycle
from vaekit.runs.restore import RestoredRun
from vaekit.store import Run
from vaekit.training import Interrupted, Listener, loop

pd = pytest.importorskip("pandas")

SMALL = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}, "latent_size": 2}
SETTINGS = ["data.columns.visits=count", 'data.columns.size=["small","middle","large"]', "data.columns.smoker=label"]


def sections(data: Path, **train: Any) -> dict[str, Any]:
    return {"data": {"name": str(data)}, "train": {"epochs": 3, "batch_size": 16, "device": "cpu", **train}, **SMALL}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with t.csv, a fifth of whose cells are empty, and a run on it."""
    folder = tmp_path_factory.mktemp("tables")
    frame(120, missing=0.2).astype({"age": "Int64", "visits": "Int64"}).to_csv(folder / "t.csv", index=False)
    settings = config.read("table-vae", settings=SETTINGS, sections=sections(folder / "t.csv"))
    lifecycle.train_run(settings, name="a", root=folder / "runs")
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


class Stop(Listener):
    """Presses Ctrl-C in the second epoch."""

    def step(self, progress: Any, batches: int | None, means: Any) -> None:
        if progress.step == 9:
            raise KeyboardInterrupt


def test_a_run_on_a_table_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame(120, missing=0.2).to_parquet(tmp_path / "t.parquet")
    settings = config.read("not-miwae", settings=SETTINGS[:1], sections=sections(tmp_path / "t.parquet"))
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    monkeypatch.setattr(loop, "CHECK_EVERY", 0.0)  # tell the listener of every step
    whole = lifecycle.train_run(settings, name="whole", root=tmp_path)
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        lifecycle.train_run(settings, name="broken", root=tmp_path, listener=Stop())
    broken = lifecycle.resume_run(Run.open("broken", root=tmp_path))
    assert tiny.outcome(broken) == tiny.outcome(whole)


def test_the_columns_are_listed_before_training(here: Path, command: Any) -> None:
    result = command("data", "t.csv", *(word for s in SETTINGS[:2] for word in ("--set", s)), "--json")
    kinds = {row["column"]: row["kind"] for row in json.loads(result.out)}
    assert kinds["visits"] == "count" and kinds["size"] == "ordinal" and kinds["born"] == "real"
    columns = {row["column"]: row for row in json.loads(result.out)}
    assert columns["sex"]["levels"] == ["female", "male"] and columns["sex"]["minimum"] is None
    assert 0.1 < columns["age"]["missing"] < 0.3 and columns["age"]["minimum"] < columns["age"]["median"]
    assert columns["born"]["minimum"] < columns["born"]["maximum"] and len(columns["born"]["minimum"]) == 10
    assert "female, male" in command("data", "t.csv").out
    assert "column 'sex': unknown" not in one_line(command("data", "t.csv", "--set", "data.columns.sx=real"))


def test_new_rows_have_the_types_of_the_table(here: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditional, "FEW_EFFECTIVE", 10**9)
    assert command("sample", "a", "-n", 50, "-o", "new.csv").status == 0
    new = pd.read_csv("new.csv")
    assert len(new) == 50 and not new.isna().any().any()
    assert new["age"].dtype.kind == "i" and (new["visits"] >= 0).all()
    assert set(new["size"]) <= set(SIZES) and new["born"].str.fullmatch(r"\d{4}-\d\d-\d\d").all()
    result = command("sample", "a", "-n", 40, "-o", "women.csv", "--where", "sex=female", "--where", "age=40")
    assert result.status == 0 and "effective sample size" in result.out
    assert (
        "beware      the given values are rare: fewer than" in result.out
        and max(map(len, result.out.splitlines())) <= 80
    )
    women = pd.read_csv("women.csv")
    assert (women["sex"] == "female").all() and (women["age"] == 40).all() and women["height"].nunique() > 20
    assert "unknown level 'femal'; did you mean" in one_line(command("sample", "a", "--where", "sex=femal"))
    assert "unknown column 'sx'" in one_line(command("sample", "a", "--where", "sx=female"))
    assert "two values, 'female' and 'male'" in one_line(
        command("sample", "a", "--where", "sex=female", "--where", "sex=male")
    )
    assert "column 'age' cannot be 'old'" in one_line(command("sample", "a", "--where", "age=old"))
    assert "gives these values a density" in one_line(command("sample", "a", "--where", "height=1e25"))


def test_rows_of_other_values_or_classes_are_files_of_their_own(here: Path, command: Any) -> None:
    paths = [command("sample", "a", "-n", 2, "--where", f"height={value}", "--json") for value in ("-1", "1")]
    named = [Path(json.loads(result.out)["files"][0]).name for result in paths]
    assert named == ["sample-0-height-minus-1.csv", "sample-0-height-1.csv"]


def test_an_array_cannot_hold_a_table_of_texts_and_that_is_said_before_any_work(
    here: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RestoredRun, "model", lambda *_, **__: pytest.fail("the work began"))
    for verb in ("sample", "impute"):
        assert "a .npy has numbers only; write .csv" in one_line(command(verb, "a", "-o", "new.npy"))


def test_a_table_that_cannot_be_written_is_refused_before_any_work(here: Path, command: Any) -> None:
    assert "full.xlsx must end in .csv" in one_line(command("impute", "a", "--data", "t.csv", "-o", "full.xlsx"))
    before = (here / "t.csv").read_bytes()
    for verb in ("impute", "score", "encode", "sample"):
        assert "t.csv is the file of the data, which would be lost" in one_line(
            command(verb, "a", "-o", here / "t.csv")
        )
    for name in ("full-2.csv", "full-cells.csv"):  # files that impute writes beside its -o
        (here / name).write_bytes(before)
        refused = one_line(command("impute", "a", "--data", name, "-o", "full.csv", "--draws", 2, "--samples", 5))
        assert f"{name} is the file of the data, which would be lost" in refused
        assert (here / name).read_bytes() == before
        (here / name).unlink()
    assert (here / "t.csv").read_bytes() == before
    (here / "folder").mkdir(exist_ok=True)
    assert "is a folder; name one of its tables" in one_line(command("evaluate", "a", "--data", "folder/"))


def test_data_below_the_home_folder_or_in_a_folder_are_kept(
    here: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(here))
    before = (here / "t.csv").read_bytes()
    for verb in ("impute", "score", "encode"):
        for name, output in (("~/t.csv", "~/t.csv"), ("t.csv", "~/t.csv"), ("~/t.csv", "t.csv")):
            refused = one_line(command(verb, "a", f"--data={name}", f"--output={output}"))
            assert "t.csv is the file of the data, which would be lost" in refused
    assert command("impute", "a", "--data=~/t.csv", "--output=~/home.csv", "--samples", 5).status == 0
    assert pd.read_csv("home.csv").shape == pd.read_csv("t.csv").shape and not (here / "~").exists()
    pd.read_csv("t.csv").assign(odd=[0] * 110 + [1] * 10).to_csv("rare.csv", index=False)
    assert "AUROC" in command("score", "a", "--data=~/rare.csv", "--samples", 5, "--labels", "odd").out
    for name in ("home.csv", "home-cells.csv", "rare.csv"):
        (here / name).unlink()

    (here / "parts").mkdir()
    (here / "parts" / "train.csv").write_bytes(before)
    (here / "test.csv").write_bytes(before)
    settings = [*SETTINGS, "data.test=test.csv", "train.epochs=1"]
    lifecycle.train_run(
        config.read("table-vae", settings=settings, sections=sections(here / "parts")), name="f", root=here / "runs"
    )
    assert "parts/train.csv is in the folder of the data" in one_line(command("sample", "f", "-o", "parts/train.csv"))
    for name in ("test.csv", "parts/../test.csv"):
        assert "test.csv is the file of the data" in one_line(command("encode", "f", "-o", name))
    assert "parts: is a folder; name the file of the table" in one_line(command("impute", "f"))
    for _ in range(2):  # what is not of the data is written again
        assert command("sample", "f", "-n", 2, "-o", "parts/../again.csv").status == 0
    assert (here / "parts" / "train.csv").read_bytes() == (here / "test.csv").read_bytes() == before


def test_scores_of_other_rows_need_the_test_rows_once(
    here: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.read_csv("t.csv").iloc[:20].to_csv("other.csv", index=False)
    words = ("score", "a", "--data", "other.csv", "--samples", 7, "--json", "-o")
    first = command(*words, "first.csv")
    monkeypatch.setattr(RestoredRun, "dataset", lambda *_: pytest.fail("the test rows were read again"))
    second = command(*words, "second.csv")
    assert first.status == second.status == 0, second.err
    assert Path("first.csv").read_bytes() == Path("second.csv").read_bytes()
    assert json.loads(first.out)["least_likely"] == json.loads(second.out)["least_likely"]


def test_few_effective_samples_count_in_rows_with_gaps_only(
    here: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "FEWEST_EFFECTIVE", 10**9)
    whole = pd.read_csv("t.csv").drop(columns="smoker").dropna()
    for gaps, counted in ((0, "gaps        0 in"), (1, "1 row has under"), (2, "2 rows have under")):
        table = whole.reset_index(drop=True)
        table.loc[: gaps - 1, "height"] = None
        table.to_csv("few-gaps.csv", index=False)
        printed = command("impute", "a", "--data", "few-gaps.csv", "-o", "filled.csv", "--samples", 5).out
        assert counted in printed and ("beware" in printed) == ("probability" in printed) == (gaps > 0)


def test_gaps_are_filled_and_nothing_else_changes(here: Path, command: Any) -> None:
    result = command("impute", "a", "--data", "t.csv", "-o", "full.csv", "--samples", 50)
    assert result.status == 0, result.err
    before, after = (pd.read_csv(name, dtype=str, keep_default_na=False) for name in ("t.csv", "full.csv"))
    known = before != ""
    assert (after.where(known, "") == before).all().all()
    modelled = [name for name in before if name != "smoker"]
    assert (after[modelled] != "").all().all() and (after["smoker"] == before["smoker"]).all()
    cells = pd.read_csv("full-cells.csv")
    assert len(cells) == int((~known[modelled]).sum().sum())
    heights = cells[cells["column"] == "height"]
    low, value, high = (heights[name].astype(float) for name in ("low", "value", "high"))
    assert (low < value).all() and (value < high).all()
    sexes = cells[cells["column"] == "sex"]
    assert sexes["probability"].between(0.5, 1).all() and set(sexes["value"]) <= {"female", "male"}
    again = command("impute", "a", "--data", "t.csv", "-o", "m.parquet", "--samples", 50, "--draws", 3, "--json")
    assert again.status == 0, again.err
    assert isinstance(json.loads(again.out)["rows_with_few_effective_samples"], int)
    *table_names, cells_name = json.loads(again.out)["files"]
    drawn = [pd.read_parquet(name) for name in table_names]
    assert len(drawn) == 3 and len(pd.read_csv(cells_name)) == len(cells)
    assert not drawn[0].equals(drawn[1])


def test_unusual_rows_are_found_and_explained(here: Path, command: Any) -> None:
    table = pd.read_csv("t.csv")
    table["odd"] = 0
    table.loc[:4, ["height", "age"]] = [40.0, 2]
    table.loc[:4, "odd"] = 1
    table.to_csv("odd.csv", index=False)
    result = command(
        "score", "a", "--data", "odd.csv", "--samples", 20, "-o", "scores.csv", "--labels", "odd", "--json"
    )
    assert result.status == 0, result.err
    said = json.loads(result.out)
    assert said["auroc"]["value"] > 0.95
    assert said["least_likely"][0]["reasons"][0] == {"column": "height", "percentile": 100.0}
    scores = pd.read_csv("scores.csv")
    assert {"nll", "percentile", "height", "sex"} <= set(scores)
    assert scores["height"][:5].min() > scores["height"][5:].max()
    assert "AUROC" in command("score", "a", "--data", "odd.csv", "--samples", 5, "--labels", "odd").out
    assert "unknown column 'eggs'" in one_line(command("score", "a", "--data", "odd.csv", "--labels", "eggs"))


def test_columns_are_compared_with_the_rows_that_the_whole_is_compared_with(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "REFERENCE_ROWS", 5)
    run, heard, compared = Run.open("a", root="runs"), [], []

    def watched(model: Any, batches: Any, **options: Any) -> torch.Tensor:
        (batch,) = batches
        compared.append(len(batch))
        return value_scores(model, iter((batch,)), **options)

    value_scores = scoring.value_scores
    monkeypatch.setattr(scoring, "value_scores", watched)
    rows = named_rows.rows_of(run).some(torch.arange(3))
    scoring.score_run(run, load(run), rows, samples=5, listener=lambda *event: heard.append(event))
    assert len(named_rows.rows_of(run)) == 12 and compared == [3, 5]  # five of the twelve test rows
    assert [stage.partition(" of ")[0] for stage, *_ in heard[-2:]] == ["columns", "columns"]


def test_other_verbs_take_a_table_or_say_that_they_do_not(here: Path, command: Any) -> None:
    assert command("encode", "a", "--data", "t.csv", "-o", "z.npy").status == 0
    assert np.load("z.npy").shape == (120, 2)
    evaluated = command("evaluate", "a", "--samples", 5)
    assert evaluated.status == 0
    for line in ("columns alike", "pairs alike", "told from real rows", "nearest training row", "learned from them"):
        assert line in evaluated.out
    assert "rows: " in command("evaluate", "a", "--samples", 5, "--all").out
    assert command("evaluate", "a", "--samples", 5, "--data", "t.csv").status == 0
    assert command("report", "a", "-o", "r.html").status == 0
    assert command("info", "a").status == 0
    for verb in ("map", "traverse"):
        assert "are not images" in one_line(command(verb, "a"))
    assert "--hide is for images" in one_line(command("impute", "a", "--hide", "left"))
    assert "-n is for images" in one_line(command("impute", "a", "-n", 3))
    assert "leave out --walks" in one_line(command("interpolate", "a", "--between", 0, 1, "--walks", 2))
    assert "name the table" in one_line(command("data", "--set", "data.columns.age=real"))
    for option in ("--noise", "--by-class", "--invert", "--cmap=magma"):
        assert f"{option.partition('=')[0]} is for images" in one_line(command("sample", "a", option))
    assert command("explore", "a", "-o", "page.html").status in (0, 2)
    exported = command("export", "a", "-o", "exported")
    assert exported.status == 0, exported.err
    assert load("exported").columns == load("runs/a").columns
    example = load_file("exported/example.safetensors")
    assert example["x"].isnan().any()  # a gap, which the model does not take for a 0
    assert torch.equal(load("exported").encode(example["x"]), example["z"])
    assert "a missing value is NaN" in Path("exported/README.md").read_text()
    card = Path("exported/README.md").read_text()
    assert "rows of a table of" in card and "image" not in card and "grey" not in card
    assert "| sex | bernoulli | str | female, male |" in card
    assert "--pixels is not for tables, whose scores have a column for each column" in one_line(
        command("score", "a", "--pixels", "p.npy")
    )


def test_a_table_needs_a_model_of_tables(here: Path, command: Any) -> None:
    with pytest.raises(
        ConfigError, match="is a table, which the likelihood 'bernoulli' does not take; train the preset"
    ):
        lifecycle.train_run(config.read("standard-vae", sections=sections(here / "t.csv")), root=here / "other")
    assert "lacks columns 'height', 'age'" in one_line(command("impute", "a", "--data", "full-cells.csv"))
    assert "unknown level" in one_line(_with(command, "size", "huge"))


def _with(command: Any, name: str, value: str) -> Any:
    table = pd.read_csv("t.csv")
    table.loc[3, name] = value
    table.to_csv("bad.csv", index=False)
    return command("encode", "a", "--data", "bad.csv")


def test_a_matrix_of_counts_is_a_table(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = np.random.default_rng(0).lognormal(0, 0.5, (80, 1))
    np.save("x.npy", np.random.default_rng(1).poisson(depth * np.arange(1, 7)))
    train = ["train.epochs=2", "encoder.hidden=[8]", "decoder.hidden=[8]", "model.latent_size=2"]
    arguments = [word for setting in train for word in ("--set", setting)]
    trained = command("train", "count-vae", "--data", "x.npy", "--device", "cpu", "--name", "c", *arguments)
    assert trained.status == 0, trained.err
    assert [column.kind for column in load("runs/c").columns] == ["count"] * 6 + ["size-factor"]
    assert command("sample", "c", "-n", 30, "-o", "new.csv").status == 0
    new = pd.read_csv("new.csv")
    assert list(new) == [f"x{i}" for i in range(6)] and (new >= 0).all().all() and new["x5"].dtype.kind == "i"
    gaps = np.load("x.npy").astype(float)
    gaps[::7, 2] = np.nan
    np.save("gaps.npy", gaps)
    filled = command("impute", "c", "--data", "gaps.npy", "-o", "full.npy", "--samples", 20)
    assert filled.status == 0, filled.err
    full = np.load("full.npy")
    assert (full[~np.isnan(gaps)] == gaps[~np.isnan(gaps)]).all() and not np.isnan(full).any()
    assert command("score", "c", "--data", "gaps.npy", "--samples", 5).status == 0


def test_drawn_rows_have_the_size_factor_of_the_users_table(tmp_path: Path, command, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    depth = random.gamma(5, 1, (80, 1))
    table = pd.DataFrame(random.poisson(depth * [1, 2, 3]), columns=["a", "b", "c"]).assign(total=depth)
    table.to_csv("t.csv", index=False)
    train = ["train.epochs=1", "encoder.hidden=[8]", "decoder.hidden=[8]", "model.latent_size=2"]
    arguments = [word for setting in train for word in ("--set", setting)]
    trained = command("train", "count-vae", "--data", "t.csv", "--device", "cpu", "--name", "own", *arguments)
    assert trained.status == 0, trained.err
    assert command("sample", "own", "-n", 5, "-o", "new.csv").status == 0
    new = pd.read_csv("new.csv")
    assert list(new) == list(table) and (new["total"] > 0).all()


def test_a_model_of_each_class_finds_the_classes_in_another_table(tmp_path: Path, command, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    colours = np.array(["red", "green", "blue"])[random.integers(0, 3, 90)]
    table = pd.DataFrame({"a": random.normal(size=90), "b": random.normal(size=90), "colour": colours})
    table.to_csv("t.csv", index=False)
    few = table.iloc[5:20].assign(a=lambda frame: frame["a"].where(frame.index > 6))
    few.to_csv("few.csv", index=False)
    options = ("--set", "model.condition=class", "--set", "data.columns.colour=label", "--epochs", 1, "--name", "r")
    assert command("train", "table-vae", "--data", "t.csv", *conftest.SMALL, *options).status == 0
    assert command("score", "r", "--data", "few.csv", "--samples", 2, "-o", "s.csv").status == 0
    assert pd.read_csv("s.csv")["class"].tolist() == few["colour"].tolist()
    for verb in (("impute", "-o", "full.csv"), ("encode", "-o", "z.csv"), ("evaluate",)):
        samples = () if verb[0] == "encode" else ("--samples", 2)
        done = command(verb[0], "r", "--data", "few.csv", *samples, *verb[1:])
        assert done.status == 0, done.err
    assert not pd.read_csv("full.csv").isna().any().any()
    few.drop(columns="colour").to_csv("none.csv", index=False)
    assert "lacks column 'colour'" in one_line(command("score", "r", "--data", "none.csv"))
    few.assign(colour="pink").to_csv("pink.csv", index=False)
    assert "unknown class 'pink'" in one_line(command("score", "r", "--data", "pink.csv"))
    assert command("sample", "r", "-n", 4, "--class", "red", "-o", "new.csv").status == 0
    assert pd.read_csv("new.csv")["colour"].tolist() == ["red"] * 4
    assert "use --class" in one_line(command("sample", "r", "-n", 4, "--where", "a=1"))
    few.assign(colour=few["colour"].where(few.index != 7)).to_csv("gap.csv", index=False)
    assert "the class of row 3 is missing" in one_line(command("impute", "r", "--data", "gap.csv"))
