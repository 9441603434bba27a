"""Tables that are read in pieces: the same rows, columns, errors and weights, and no file left behind."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from conftest import one_line
from test_table_cli import SETTINGS, sections
from test_tables import frame
from vaekit import config
from vaekit.data import Batches, Dataset, Split, Stored, load
from vaekit.data.sources import file_access
from vaekit.data.table import encoded_rows, large_tables, standardization
from vaekit.data.table.column_overview import columns_with_nan, with_nan
from vaekit.data.table.columns import Column
from vaekit.errors import ConfigError, DataError
from vaekit.runs import job, lifecycle
from vaekit.store import files

pd = pytest.importorskip("pandas")

N = 300


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files; tables are read twenty rows at a time."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(file_access.tempfile, "tempdir", str(folder))
    monkeypatch.setattr(large_tables, "_CELLS_AT_ONCE", 200)
    monkeypatch.setattr(encoded_rows, "_BLOCK_VALUES", 500)
    return folder


def mixed(gaps: bool) -> Any:
    """A table whose columns change their types within a file, as pandas reads it in pieces."""
    r = np.random.default_rng(2)
    table = frame(N, missing=0.2 if gaps else 0.0)
    table["a.b"], table["a"] = r.normal(size=N), r.normal(size=N).astype("float32")
    table["late"] = np.where(np.arange(N) < 280, r.integers(0, 9, N), 0.5)  # whole numbers first
    table["code"] = np.where(np.arange(N) < 40, "1", r.choice(["x", "y", "2"], N))  # first texts that look like numbers
    table["flag"] = np.where(np.arange(N) < 200, "True", r.choice(["no", "True"], N))
    table["hash"] = r.integers(0, 2**63, N).astype("uint64") * 2 + 1
    table["spring"] = [f"2024-0{3 + i % 2}-30T10:00:00+0{1 + i % 2}:00" for i in range(N)]
    if gaps:
        table.loc[:60, ["smoker", "sex", "born", "age", "code"]] = None  # nothing at all in the first pieces
    return table


def written(table: Any, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.astype({"visits": "Int64"}).to_parquet(path, row_group_size=70)
    elif path.suffix == ".npy":
        np.save(path, table[["height", "a.b", "late"]].to_numpy("float64", na_value=np.nan))
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def assert_same(first: Dataset, second: Dataset) -> None:
    assert (first.checksum, first.columns, first.classes) == (second.checksum, second.columns, second.classes)
    for name, split in first.splits.items():
        other = second.splits[name]
        assert torch.equal(split.x[:], other.x[:])
        for a, b in ((split.observed_in_memory, other.observed_in_memory), (split.labels, other.labels)):
            assert (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))


@pytest.mark.parametrize("gaps", [False, True], ids=["full", "gaps"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".npy"])
def test_rows_read_in_pieces_are_the_rows_read_at_once(suffix: str, gaps: bool, tmp_path: Path) -> None:
    path = written(mixed(gaps), tmp_path / f"t{suffix}")
    told = {} if suffix == ".npy" else {"visits": "count", "total": "size-factor", "sex": "label", "flag": "ignore"}
    at_once, in_pieces = (load(path, memory=memory, columns=told, value_kind="table") for memory in (None, 0))
    assert isinstance(at_once.train.x, torch.Tensor) and isinstance(in_pieces.train.x, Stored)
    assert isinstance(in_pieces.train.observed, Stored) is (gaps or suffix != ".npy")  # a total of 0 is a gap
    assert_same(at_once, in_pieces)
    for a, b in zip(columns_with_nan(at_once), columns_with_nan(in_pieces), strict=True):
        np.testing.assert_array_equal(a, b)
    orders = [
        Batches(data.train, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(3))
        for data in (at_once, in_pieces)
    ]
    for a, b in zip(*orders, strict=True):
        assert torch.equal(a.x, b.x) and (a.observed is None or torch.equal(a.observed, b.observed))
    assert_same(in_pieces, load(path, memory=0, columns=told, value_kind="table"))
    other = load(
        path, memory=0, columns=told | {"*": "ignore"} | {in_pieces.columns[0].name: "real"}, value_kind="table"
    )
    assert other.checksum != in_pieces.checksum  # negative control: the comparison sees a difference


def test_a_folder_of_large_tables_keeps_its_splits(tmp_path: Path) -> None:
    table = mixed(gaps=True)
    for part, rows in (("train", slice(200)), ("val", slice(200, 250)), ("test", slice(250, None))):
        table[rows][["height", "age", "sex"]].to_csv(tmp_path / f"{part}.csv", index=False)
    at_once, in_pieces = (load(tmp_path, memory=memory) for memory in (None, 0))
    assert [len(split) for split in in_pieces.splits.values()] == [200, 50, 50]
    assert_same(at_once, in_pieces)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Outcomes of two trainings in this folder, "whole" and "pieces"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    frame(120, missing=0.2).to_csv("t.csv", index=False)
    outcomes = []
    for name, memory in (("whole", 1.0), ("pieces", 0.0)):
        settings = [*SETTINGS[1:2], f"data.memory={memory}"]
        recipe = config.read("table-vae", settings=settings, sections=sections(tmp_path / "t.csv"))
        outcomes.append(tiny.outcome(lifecycle.train_run(recipe, name=name)))
    return outcomes


def test_the_weights_are_the_same(runs: list[Any]) -> None:
    assert runs[0] == runs[1]


@pytest.mark.slow
def test_everything_after_a_training_is_the_same(runs: list[Any], command: Any) -> None:
    outputs = []
    for name in ("whole", "pieces"):
        for words in (
            ("score", name, "--data", "t.csv", "-o", f"{name}-scores.csv"),
            ("encode", name, "--split", "train", "-o", f"{name}-z.csv"),
            ("impute", name, "--samples", 20, "-o", f"{name}-full.csv"),
        ):
            assert command(*words).status == 0
        result = json.loads(command("evaluate", name, "--samples", 10, "--json").out)
        values = {value["name"]: value["value"] for value in result["values"]}
        outputs.append((values, *(Path(f"{name}-{what}.csv").read_text() for what in ("scores", "z", "full"))))
    assert outputs[0][1:] == outputs[1][1:]
    assert outputs[0][0] == pytest.approx(outputs[1][0], rel=1e-12)


BAD = [
    ("a,b\n" + "1,2\n2,3\n" * 125 + "x,3\n" + "3,3\n" * 20, "column 'a' has numbers in 270 rows, but 'x' in row 251"),
    ("a,b\n" + "1,2\n" * 250 + "1,inf\n" + "3,1\n" * 20, "column 'b', row 251: inf is not finite"),
    ("a,b\n" + "1,2\n" * 250 + "1,2,3\n", "line 252 has 3 values, the lines before it have 2"),
    ("a,b\n" + "1,2\n" * 250 + '1,"2\n' + "1,2\n" * 9, "line 252 begins a quoted text that never ends"),
    ("a,b\n1,2,3\n" + "1,2\n" * 250, "row 1 has more values than the 2 names"),
    ("a,a\n" + "1,2\n" * 250, "two columns are called 'a'"),
    ("a,b\n", "has 0 rows and 2 columns"),
    ("", "has no columns"),
    (b"a,b\n" + b"1,2\n" * 250 + b"caf\xe9,2\n", "line 252: byte 0xe9 is not UTF-8"),
    (b"a,b\n" + b"1,2\n" * 250 + b"caf\xc3", "line 252: byte 0xc3 is not UTF-8"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_cell_is_named_and_nothing_is_left(
    content: str | bytes, message: str, tmp_path: Path, temporary: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for memory in (0, 1):  # read at once, it has the same message
        with pytest.raises(DataError) as error:
            load(path, memory=memory)
        assert message in str(error.value)
    assert os.listdir(temporary) == []


def test_no_file_is_left_even_while_the_rows_are_used(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(mixed(gaps=True), tmp_path / "t.csv")
    data = load(path, memory=0)
    path.unlink()
    assert os.listdir(temporary) == [] and len(data.train.x[:3]) == 3  # of no name, and read all the same

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    written(mixed(gaps=True), path)
    monkeypatch.setattr(Column, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(path, memory=0)
    assert os.listdir(temporary) == []


def test_a_table_that_neither_disk_nor_memory_can_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    path = written(mixed(gaps=False), tmp_path / "t.csv")
    monkeypatch.setattr(files, "MACHINE_MEMORY", 100 * N)
    assert isinstance(load(path).train.x, Stored)  # too much for memory at once, whatever data.memory says
    monkeypatch.setattr(files, "MACHINE_MEMORY", 100 * N - 1)
    with pytest.raises(DataError, match="has 300 rows of 17 columns, more than memory can hold of one column"):
        load(path)
    monkeypatch.setattr(file_access.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 7}))
    assert "needs" in one_line(command("train", "--data", path, "--set", "data.memory=0"))
    with pytest.raises(ConfigError, match=r"^memory is for rows of your own"):
        load(frame(), memory=0)


def test_statistics_of_blocks_are_those_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    r = np.random.default_rng(0)
    x = np.exp(r.normal(size=(1000, 2))).astype(np.float32)
    x[r.random(x.shape) < 0.3] = np.nan
    columns = [Column("a", "real", "float64"), Column("b", "positive", "float64")]
    whole = standardization.statistics_of(columns, x, np.arange(1000))
    known = [x[~np.isnan(x[:, i]), i].astype(np.float64) for i in (0, 1)]
    assert (whole.mean[0], whole.deviation[0]) == (known[0].mean(), known[0].std())  # bit for bit, in one block
    assert (whole.mean[1], whole.deviation[1]) == (np.log(known[1]).mean(), np.log(known[1]).std())
    monkeypatch.setattr(encoded_rows, "_BLOCK_VALUES", 34)
    blocks = standardization.statistics_of(columns, x, np.arange(1000))
    np.testing.assert_allclose(blocks.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(blocks.deviation, whole.deviation, rtol=1e-13)
    np.testing.assert_array_equal(blocks.least, np.nanmin(x, 0))
    split = Split(torch.from_numpy(x).nan_to_num(0), None, ~torch.from_numpy(x).isnan())
    np.testing.assert_array_equal(with_nan(split.x[:], split.observed_in_memory), x)
