"""Tables: from files and frames to numbers and back, and every bad cell in one line with its row and column."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaekit.data import load
from vaekit.data.table.column_overview import with_nan
from vaekit.data.table.columns import Column
from vaekit.data.table.encoded_table import encode_table
from vaekit.errors import ConfigError, DataError
from vaekit.store import files

pd = pytest.importorskip("pandas")

from vaekit.data.table.frames import frame_of  # noqa: E402
from vaekit.data.table.table_files import read_frame, write_frame  # noqa: E402
from vaekit.evaluation.missing import filling  # noqa: E402

R = np.random.default_rng(0)
N = 60
SIZES = ["small", "middle", "large"]


def frame(n: int = N, missing: float = 0.0) -> Any:
    r = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "height": r.normal(170, 10, n),
            "age": r.integers(18, 90, n),
            "visits": r.poisson(3, n),
            "income": np.exp(r.normal(10, 1, n)),
            "smoker": r.random(n) < 0.3,
            "sex": r.choice(["female", "male"], n),
            "city": pd.Categorical(r.choice(["Rome", "Oslo", "Lima"], n), categories=["Oslo", "Rome", "Lima", "Bonn"]),
            "size": pd.Categorical(r.choice(SIZES, n), categories=SIZES, ordered=True),
            "born": pd.Timestamp("1990-01-01") + pd.to_timedelta(r.integers(0, 9000, n), "D"),
            "seen": pd.Timestamp("2024-01-01 12:00:01") + pd.to_timedelta(r.integers(0, 10**7, n), "s"),
        }
    )
    return table.mask(r.random(table.shape) < missing) if missing else table


KINDS = {
    "height": "real",
    "age": "real",
    "visits": "real",
    "income": "real",
    "smoker": "bernoulli",
    "sex": "bernoulli",
    "city": "categorical",
    "size": "ordinal",
    "born": "real",
    "seen": "real",
}


def everything(data: Any) -> np.ndarray:
    return np.concatenate([with_nan(split.x, split.observed) for split in data.splits.values()])


def test_the_kind_of_a_column_follows_from_its_type() -> None:
    data = load(frame())
    assert data.kind == "table"
    assert {column.name: column.kind for column in data.columns} == KINDS
    told = load(frame(), columns={"visits": "count", "income": "positive", "height": "ignore", "sex": "label"})
    kinds = {column.name: column.kind for column in told.columns}
    assert kinds == {k: v for k, v in KINDS.items() if k not in ("height", "sex")} | {
        "visits": "count",
        "income": "positive",
    }
    assert told.classes == ("female", "male")
    assert [len(split) for split in told.splits.values()] == [48, 6, 6]


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_values_types_and_levels_come_back(missing: float) -> None:
    table = frame(missing=missing)
    columns = load(table).columns
    back = frame_of(encode_table(table, columns).x, columns)
    for name in table.columns:
        left, right = table[name], back[name]
        assert (left.isna().to_numpy() == right.isna().to_numpy()).all(), name
        known = ~left.isna()
        if name in ("height", "income"):
            np.testing.assert_allclose(right[known], left[known], rtol=1e-6)
        elif name == "seen":
            assert (right[known] - left[known]).abs().max() < pd.Timedelta("5s")  # float32 over half a year
        else:
            assert (right[known].astype(object) == left[known].astype(object)).all(), name
    assert list(back["city"].cat.categories) == ["Oslo", "Rome", "Lima", "Bonn"]
    assert back["size"].cat.ordered
    if not missing:
        assert back["age"].dtype == table["age"].dtype
        assert back["smoker"].dtype == bool


def test_large_numbers_keep_their_digits() -> None:
    table = pd.DataFrame({"id": 3_000_000_000 + np.arange(N), "x": R.normal(size=N)})
    columns = load(table).columns
    assert columns[0].origin > 0 and columns[1].origin == 0
    assert (frame_of(encode_table(table, columns).x, columns)["id"] == table["id"]).all()
    far = Column("time", "real", "float64", origin=1e9)
    assert far.decode(np.array([3.2, 0.0, -4.25], np.float32)).tolist() == [1e9 + 3.2, 1e9, 1e9 - 4.25]
    assert filling._texts(np.array([3.2], np.float32), far) == ["1000000003.2"]


@pytest.mark.parametrize(("least", "dtype", "decoded"), [(0, "int64", 0), (-1, "int64", -3), (0, "float64", -3)])
def test_integers_that_are_never_negative_stay_so(least: int, dtype: str, decoded: int) -> None:
    table = pd.DataFrame({"children": (least + R.integers(0, 9, N)).astype(dtype), "x": R.normal(size=N)})
    table.loc[:1, "children"] = least
    column = load(table, test=2, validation=2).columns[0]
    below = column.decode(np.array([-3.0 - column.origin], np.float32))
    assert below.dtype == dtype and below[0] == decoded
    assert Column.from_json(column.to_json()) == column


def test_standardization_is_that_of_the_observed_training_rows() -> None:
    table = frame(missing=0.3)
    data = load(table, columns={"income": "positive", "visits": "count"})
    x = with_nan(data.train.x, data.train.observed).astype(float)
    for name, seen in (("height", lambda v: v), ("income", np.log), ("visits", np.log1p)):
        i = next(i for i, column in enumerate(data.columns) if column.name == name)
        values = seen(x[:, i][~np.isnan(x[:, i])])
        assert data.columns[i].loc == pytest.approx(values.mean())
        assert data.columns[i].scale == pytest.approx(values.std())
    assert [Column.from_json(column.to_json()) for column in data.columns] == list(data.columns)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_file_gives_the_columns_of_the_frame(tmp_path: Path, suffix: str) -> None:
    table = frame(missing=0.2).astype({"age": "Int64", "visits": "Int64"})
    write_frame(table, tmp_path / f"t{suffix}")
    data = load(tmp_path / f"t{suffix}", columns={"size": SIZES})
    kinds = {column.name: (column.kind, column.dtype) for column in data.columns}
    assert {name: kind for name, (kind, _) in kinds.items()} == KINDS
    assert kinds["age"][1] == "int64" and kinds["born"][1] == "date" and kinds["seen"][1] == "datetime"
    read = read_frame(tmp_path / f"t{suffix}")
    assert (read["height"].isna().to_numpy() == table["height"].isna().to_numpy()).all()
    assert (read["height"].dropna().to_numpy() == table["height"].dropna().to_numpy()).all()  # every digit


@pytest.mark.parametrize(
    ("header", "mark", "names"),
    [
        ('"size, cm";weight', ";", ["size, cm", "weight"]),
        ('"a;b;c",d', ",", ["a;b;c", "d"]),
        ("size, cm;weight;age", ";", ["size, cm", "weight", "age"]),
        ('"x, y"\t"z; w"', "\t", ["x, y", "z; w"]),
        ("a,b;c", ",", ["a", "b;c"]),
        ('5" disk;6" disk', ";", ['5" disk', '6" disk']),
        ("a", ",", ["a"]),
    ],
)
def test_a_separator_within_a_name_separates_nothing(tmp_path: Path, header: str, mark: str, names: list[str]) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n{mark.join(['0'] * len(names))}\n", encoding="utf-8")
    assert list(read_frame(tmp_path / "t.csv").columns) == names


def test_an_array_is_a_table_whose_gaps_are_nan(tmp_path: Path) -> None:
    x = R.normal(size=(N, 3)).astype("f4")
    x[:, 2] = x[:, 2] > 0
    x[5, 0] = np.nan
    np.save(tmp_path / "x.npy", x)
    for data in (load(x), load(tmp_path / "x.npy", value_kind="table")):
        assert [(column.name, column.kind) for column in data.columns] == [
            ("x0", "real"),
            ("x1", "real"),
            ("x2", "bernoulli"),
        ]
        assert np.isnan(everything(data)).sum() == 1
    assert load(data) is data
    narrow = torch.tensor(x, requires_grad=True).bfloat16()
    expected = everything(load(narrow.detach().float().numpy()))
    assert np.array_equal(everything(load(narrow)), expected, equal_nan=True)


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (0, 8, 8)])
def test_an_array_without_numbers_is_refused_in_words(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape))
    with pytest.raises(DataError, match=r"a table must be numbers of shape \(N, D\), got float64"):
        load(tmp_path / "x.npy", value_kind="table")


def test_columns_of_other_types_of_pandas_are_numbers_and_texts() -> None:
    x = R.normal(size=N)
    table = pd.DataFrame(
        {
            0: pd.array([*x[:-1], None], dtype="double[pyarrow]"),
            1: pd.array(range(N), dtype="int64[pyarrow]"),
            2: pd.arrays.SparseArray(np.where(x > 0, x, 0.0)),
            3: pd.cut(x, [-9, 0, 0.5, 9]),
        }
    )
    data = load(table, columns={1: "count"})
    kinds = [(column.name, column.kind, column.dtype) for column in data.columns]
    assert kinds[:3] == [("0", "real", "float64"), ("1", "count", "int64"), ("2", "real", "float64")]
    assert data.columns[3].levels == ("(-9.0, 0.0]", "(0.0, 0.5]", "(0.5, 9.0]") and data.columns[3].kind == "ordinal"
    assert np.allclose(np.nansum(everything(data)[:, 0]), x[:-1].sum(), atol=1e-4)
    assert np.allclose(everything(data)[:, 2].sum(), x[x > 0].sum(), atol=1e-4)
    for kind in (3, None):
        with pytest.raises(ConfigError, match=f"unknown kind of column '{kind}'"):
            load(table, columns={1: kind})


def test_ones_own_split_is_kept(tmp_path: Path) -> None:
    train, test = frame(), frame(20)
    for name, table in (("train", train), ("val", test[:5]), ("test", test)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    data = load(tmp_path, columns={"size": SIZES})
    assert [len(split) for split in data.splits.values()] == [N, 5, 20]
    height = everything(data)[:, 0]
    np.testing.assert_allclose(height[-20:], test["height"], rtol=1e-6)
    apart = load(tmp_path / "train.csv", test=str(tmp_path / "test.csv"), columns={"size": SIZES})
    assert [len(split) for split in apart.splits.values()] == [54, 6, 20]


def edited(**cells: Any) -> Any:
    table = frame()
    for name, value in cells.items():
        if callable(value):
            table[name] = value(table)
        else:
            table[name] = table[name].astype(object)
            table.at[7, name] = value
    return table


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (edited(height="tall"), {}, r"column 'height' has numbers in 59 rows, but 'tall' in row 8; correct or empty"),
    (edited(height=np.inf), {}, "column 'height', row 8: inf is not finite; leave the cell empty"),
    (edited(height={"a": 1}), {}, "column 'height', row 8: a dict is neither a number, a text nor a date"),
    (edited(height=lambda t: 3.0), {}, "column 'height' has the same value, 3.0, in all rows; set .* = 'ignore'"),
    (edited(height=lambda t: np.nan), {}, "column 'height' has no value in any of 60 rows"),
    (edited(sex=lambda t: [f"id{i}" for i in range(N)]), {}, "column 'sex' has 60 different values in 60 rows"),
    (edited(), {"visits": "positive"}, r"column 'visits' is positive, but row \d+ has 0, which is not greater than 0"),
    (edited(), {"height": "count"}, r"column 'height' is count, but row 1 has 17\d.*, which is not a whole number"),
    (edited(), {"sex": "positive"}, "column 'sex', row 1: '(fe)?male' is not a number"),
    (edited(), {"sex": ["male", "other"]}, "column 'sex', row [0-9]+: unknown level 'female'; did you mean 'male'"),
    (edited(), {"age": "bernoulli"}, "is to be bernoulli, but it has more than two values"),
    (pd.concat([frame(), frame()[["age"]]], axis=1), {}, r"two columns are called 'age' \(numbers 2, 11\)"),
    (
        edited(height=1e308),
        {},
        r"column 'height', row 8: 1e\+308 is beyond ±1e\+37, which single precision cannot hold",
    ),
    (frame().assign(day=np.array([2**62, -5] * 30, "datetime64[us]")), {}, "column 'day' has a date .* after the year"),
    (frame()[:1], {}, "same value"),
    (frame()[:0], {}, "has 0 rows and 10 columns"),
]


@pytest.mark.parametrize(("table", "columns", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_column_is_named_with_its_row(table: Any, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        load(table, columns=columns)
    assert "\n" not in str(error.value)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"hight": "real"}, "columns: unknown column 'hight'; did you mean 'height'"),
    ({"height": "reel"}, "columns.height: unknown kind of column 'reel'; did you mean 'real'"),
    ({"sex": "ordinal"}, "column 'sex' has texts, whose order is not known; give it"),
    ({"*": "ignore"}, "leave no column to learn from"),
    ({"size": ["small"]}, "must have at least two levels"),
    (
        {"size": ["small", "middle", "middle", "large"]},
        "columns.size has the level 'middle' twice; give each level once",
    ),
    ({"sex": "label", "smoker": "label"}, "only one column can be a label"),
    ({"*": "label", "height": "real"}, "only one column can be a label, but 9 are"),
    ({"*": "size-factor", "sex": "bernoulli"}, "only one column can be a size-factor, but 9 are"),
    ({"*": "label"} | {name: "ignore" for name in KINDS if name != "sex"}, "'[*]' is for several columns"),
    ({"total": "size-factor"}, "sum of the columns of kind 'count', but there is none"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG)
def test_what_is_told_of_columns_is_checked(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(frame(), columns=columns)


FILES: list[tuple[bytes, str]] = [
    (b'a,b\n1,2\n"3,4\n5,6\n', "line 3 begins a quoted text that never ends"),
    (b"a,b\n1,2\n3,4,5\n", "line 3 has 3 values, the lines before it have 2"),
    (b"a,b\n1,caf\xe9\n", "line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    (b"a,a\n1,2\n", "two columns are called 'a'"),
    (b"a,b\n1,2,3\n4,5,6\n", "row 1 has more values than the 2 names"),
    (b"", "has no columns; its first line must name them"),
    (b"a,b\n", "has 0 rows"),
    (b"a\n" + b"x" * 200_000, r"cannot be read as \.csv \(field larger than field limit"),
    (b",".join([b"a"] * 50_001) + b"\n1\n", "has 50,001 columns, more than the 50,000 that a table may have"),
    (b",".join([b"a"] * 20_000) + b"\n1\n", r"20000 columns are called 'a' \(numbers 1, 2, 3, 4, 5, 6, 7, 8, 9 …\)"),
]


@pytest.mark.parametrize(("content", "message"), FILES)
def test_a_broken_file_says_where(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path / "t.csv")
    assert "\n" not in str(error.value)
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as \.parquet"):
        load(tmp_path / "t.parquet")


def test_a_file_that_memory_cannot_hold_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n")
    os.truncate(tmp_path / "t.csv", 1 << 40)
    with pytest.raises(DataError, match=r"t\.csv: needs 1,099,511,627,776 bytes for its rows .* are free"):
        load(tmp_path / "t.csv")
    pd.DataFrame({"a": np.arange(100_000) % 2}).to_parquet(tmp_path / "t.parquet")
    monkeypatch.setattr(files, "MACHINE_MEMORY", 1 << 23)
    with pytest.raises(DataError, match="has 100,000 rows of 1 columns, more than memory can hold of one column"):
        load(tmp_path / "t.parquet")


def test_a_folder_with_the_name_of_a_table_has_to_hold_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(DataError, match=r"t\.csv: is a folder without train\.csv"):
        load(tmp_path / "t.csv")


def test_dates_that_a_model_draws_stay_within_the_calendar() -> None:
    column = Column("day", "real", "date", origin=18_000.0)
    first, last = column.decode(np.array([-1e9, 1e9], np.float32))
    assert (str(first)[:10], str(last)[:10]) == ("0001-01-01", "9999-12-31")


def test_rows_for_a_trained_model_need_its_columns_and_levels() -> None:
    columns = load(frame()).columns
    with pytest.raises(DataError, match="lacks column 'age', which the model knows; it has: 'height'"):
        encode_table(frame().drop(columns="age"), columns)
    with pytest.raises(DataError, match="column 'sex', row 8: unknown level 'both'; known: female, male"):
        encode_table(edited(sex="both"), columns)
    more = encode_table(frame().assign(extra=1)[::-1], columns)
    assert torch.equal(torch.tensor(more.x[::-1].copy()), torch.tensor(encode_table(frame(), columns).x))
    nothing = frame().mask(np.arange(N)[:, None] == np.full(10, 3))
    assert np.isnan(encode_table(nothing, columns).x[3]).all()  # a row without any value is a row


def test_a_size_factor_is_a_column_or_the_sum_of_the_counts() -> None:
    counts = pd.DataFrame(R.poisson(5, (N, 3)), columns=list("abc")).astype("float")
    counts.loc[0, "a"] = np.nan
    data = load(counts, columns={"*": "count", "total": "size-factor"})
    assert [column.kind for column in data.columns] == ["count"] * 3 + ["size-factor"]
    x = encode_table(counts, data.columns).x
    np.testing.assert_allclose(x[1:, 3], counts.to_numpy()[1:].sum(1))
    assert x[0, 3] == pytest.approx(counts.loc[0, ["b", "c"]].mean() * 3)


def test_a_size_factor_of_the_user_is_not_computed() -> None:
    counts = pd.DataFrame(R.poisson(5, (N, 3)) + 1, columns=list("abc"))
    columns = {"*": "count", "total": "size-factor"}
    (own,) = load(counts.assign(total=R.gamma(5, 1, N)), columns=columns).columns[3:]
    (computed,) = load(counts, columns=columns).columns[3:]
    assert computed.computed and not own.computed
    with pytest.raises(DataError, match="the table lacks column 'total'"):
        encode_table(counts, [own])
    older = {key: value for key, value in computed.to_json().items() if key != "computed"}
    assert Column.from_json(older) == computed


@pytest.mark.parametrize(
    ("train", "test", "dtype"),
    [
        ([1, 2, 3], [5.5, 3.5, 8.5], "float64"),
        ([1, 2, 3], [5.0, 3.0, np.nan], "int64"),  # whole numbers leave the type as it is
        ([1, 2, 3], [5, 4, 2**40], "int64"),
        ([0.5, 2, 3], [5, 4, 3], "float64"),
    ],
)
def test_a_table_to_test_on_keeps_its_decimals(tmp_path: Path, train: Any, test: Any, dtype: str) -> None:
    pd.DataFrame({"a": train * 20, "b": R.normal(size=60)}).to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame({"a": test, "b": R.normal(size=3)}).to_csv(tmp_path / "test.csv", index=False)
    for memory in (None, 0):
        data = load(tmp_path, columns={"*": "real"}, memory=memory)
        decoded = frame_of(with_nan(data.test.x[:], data.test.observed_in_memory), data.columns)["a"]
        assert data.columns[0].dtype == dtype
        np.testing.assert_array_equal(decoded.astype(float), test)


def test_small_integers_do_not_clip_larger_ones_of_a_second_table(tmp_path: Path) -> None:
    small, large = np.arange(1, 61, dtype="uint8"), np.arange(300, 303)
    pd.DataFrame({"a": small, "b": R.normal(size=60)}).to_parquet(tmp_path / "train.parquet")
    pd.DataFrame({"a": large, "b": R.normal(size=3)}).to_parquet(tmp_path / "test.parquet")
    data = load(tmp_path)
    assert data.columns[0].decode(data.test.x[:, 0].numpy()).tolist() == large.tolist()


def test_dates_keep_their_time_zone(tmp_path: Path) -> None:
    days = pd.date_range("2024-03-01", periods=N, freq="7h", tz="Europe/Paris")
    table = pd.DataFrame({"when": days, "x": R.normal(size=N)})
    table.loc[3, "when"] = pd.NaT
    columns = load(table, test=2, validation=2).columns
    assert columns[0].zone == "Europe/Paris" and Column.from_json(columns[0].to_json()) == columns[0]
    opened = encode_table(table, columns)
    back = frame_of(opened.x, columns)["when"]
    assert str(back.dt.tz) == "Europe/Paris" and back[3] is pd.NaT
    assert (back.drop(3) - days.delete(3).to_series(index=back.drop(3).index)).abs().max() <= pd.Timedelta("1s")
    filled = filling.fill_gaps(table, opened, np.zeros_like(opened.x))
    assert not filled["when"].isna().any() and (filled["when"].drop(3) == table["when"].drop(3)).all()
    text = table.astype({"when": str})
    text.loc[3, "when"] = ""
    assert filling.fill_gaps(text, opened, np.zeros_like(opened.x))["when"][3].endswith(("+01:00", "+02:00"))
