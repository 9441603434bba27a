"""Comparisons of runs: means over seeds, paired intervals, protocols that do not mix, four formats."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
from safetensors.torch import save

from vaekit import config
from vaekit.errors import ConfigError, RunError
from vaekit.evaluation import Evaluation, Value, compare
from vaekit.evaluation.several_runs import student_t
from vaekit.evaluation.several_runs.comparison import evaluated_runs, protocol_of
from vaekit.store import Run

PROTOCOL = {
    "data": "mnist",
    "checksum": "0" * 64,
    "split": "test",
    "rows": 100,
    "binarize": "one fixed draw",
    "likelihood": "probability",
    "samples": 50,
    "seed": 0,
    "vaekit": "0.1.0",
}
JUDGED = {"samples": {"classifier": {"sha256": "a" * 64}}}


@pytest.fixture
def made(tmp_path: Path):
    """A run of a preset with a seed, and what an evaluation found."""

    def make(
        name: str,
        nll: float = 90.0,
        *,
        seed: int = 0,
        preset: str = "vae",
        settings: tuple[str, ...] = (),
        protocol: dict | None = None,
        kind: str = "upper bound",
        details: dict | None = None,
        more: tuple[Value, ...] = (),
        per_row: torch.Tensor | None = None,
    ) -> Run:
        text = config.read("standard-vae", settings=[f"train.seed={seed}", *settings]).to_toml()
        run = Run.create(name, preset=preset, config=text, environment={}, root=tmp_path)
        run.release()
        values = [
            Value("elbo", -nll - 2, 0.3, "nats", "lower bound", likelihood=True),
            Value("nll", nll, 0.3, "nats", kind, depends_on=("samples",), likelihood=True),
            *more,
        ]
        details = dict(details or JUDGED)
        if per_row is not None:
            run.write_bytes("evaluation/per-image.safetensors", save({"L_50": -per_row}))
            details["per image"] = "evaluation/per-image.safetensors"
        found = Evaluation(values, PROTOCOL | (protocol or {}), details=details)
        run.write_json("evaluation.json", found.to_json())
        return run

    return make


@pytest.fixture
def seeds(made) -> list[Run]:
    """Three seeds of two presets: the second is better by 1, 2 and 3 nats."""
    return [
        *(made(f"vae-{seed}", 90.0 + 5 * seed, seed=seed) for seed in range(3)),
        *(
            made(f"iwae-{seed}", 89.0 + 4 * seed, seed=seed, preset="iwae", settings=("objective.name=iwae",))
            for seed in range(3)
        ),
    ]


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_means_and_deviations_are_over_training_seeds(seeds: list[Run]) -> None:
    table = compare(seeds)
    assert table.groups == {"vae": ["vae-0", "vae-1", "vae-2"], "iwae": ["iwae-0", "iwae-1", "iwae-2"]}
    cell = table.cells["vae"]["nll"]
    assert (cell.mean, cell.sd, cell.n) == (95.0, 5.0, 3)
    assert list(table.columns) == ["nll", "elbo"]


def test_seeds_with_other_numbers_of_threads_are_one_group(made) -> None:
    table = compare([made(f"vae-{n}", 90.0 + n, seed=n, settings=(f"train.threads={1 + n}",)) for n in range(2)])
    assert table.groups == {"vae": ["vae-0", "vae-1"]}
    assert table.cells["vae"]["nll"].n == 2


@pytest.mark.parametrize("wrong", ["one run", 5, [5], "vae-0"])
def test_a_comparison_of_anything_but_runs_says_what_to_pass(made, wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"takes a list of runs, got .*Run\.open\(name\) opens one"):
        compare(made("a") if wrong == "one run" else wrong)


def test_an_evaluation_lists_the_names_of_its_values(made) -> None:
    evaluation = Evaluation.of_run(made("a"))
    assert "nll" in evaluation and "nil" not in evaluation
    assert {name: evaluation[name].value for name in evaluation} == {"elbo": -92.0, "nll": 90.0}


def test_differences_are_paired_by_seed(seeds: list[Run]) -> None:
    found = next(d for d in compare(seeds).differences if d.column == "nll")
    assert (found.group, found.mean, found.n, found.over) == ("iwae", -2.0, 3, "seeds")
    reach = 4.302653 * 1.0 / math.sqrt(3)  # t of two degrees of freedom, sd 1
    assert found.low == pytest.approx(-2 - reach)
    assert found.high == pytest.approx(-2 + reach)
    assert found.verdict == "within noise"
    # Paired by the wrong seeds, the same numbers would differ by 9 nats of sd.
    shuffled = compare([seeds[0], seeds[1], seeds[2], *reversed(seeds[3:])])
    assert [d for d in shuffled.differences if d.column == "nll"] == [found]


def test_a_consistent_difference_is_beyond_noise(made) -> None:
    runs = [made(f"a{s}", 90 + 10 * s, seed=s) for s in range(4)]
    runs += [made(f"b{s}", 89 + 10 * s + 0.1 * (s % 2), seed=s, settings=("prior.name=vamp",)) for s in range(4)]
    found = next(d for d in compare(runs).differences if d.column == "nll")
    assert found.verdict == "beyond noise, over seeds"
    assert found.high < 0


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    from vaekit.evaluation.several_runs.comparison import _interval_of

    pairs = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.7
    found = [_interval_of("g", "c", row, "seeds") for row in pairs]
    share = sum(d.low <= 0.7 <= d.high for d in found) / 2000
    assert abs(share - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [
        (1, 12.7062),
        (2, 4.30265),
        (3, 3.18245),
        (4, 2.77645),
        (9, 2.26216),
        (10, 2.22814),
        (120, 1.97993),
        (99999, 1.95999),
    ],
)
def test_student_t(freedom: int, expected: float) -> None:
    assert student_t.quantile(freedom, 0.95) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_many_degrees_of_freedom_have_the_quantile_of_the_expansion(confidence: float) -> None:
    for freedom in (5_001, 20_000):
        t = student_t.quantile(freedom, confidence)
        assert student_t.within(t, freedom) == pytest.approx(confidence, abs=1e-11)  # the exact series
        assert abs(t - NormalDist().inv_cdf(0.5 + confidence / 2)) > 1e-6  # negative control: the normal is not enough
    exact = student_t.quantile(5_000, confidence)
    assert student_t._expanded(NormalDist().inv_cdf(0.5 + confidence / 2), 5_000) == pytest.approx(exact, abs=1e-9)


def test_single_runs_are_compared_over_images_and_said_to_be(made) -> None:
    base = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20 + 90
    one = made("one", per_row=base)
    two = made(
        "two",
        per_row=base - 1 + 0.5 * torch.randn(100, generator=torch.Generator().manual_seed(1)),
        settings=("prior.name=vamp",),
    )
    found = {d.column: d for d in compare([one, two]).differences}
    assert found["nll"].over == "rows"
    assert found["nll"].mean == pytest.approx(-1, abs=0.2)
    assert found["nll"].high < -0.8  # unpaired, the images alone would spread the interval over ± 5 nats
    assert "over rows" in found["nll"].verdict
    assert found["elbo"].low is None  # which was not kept for each image
    assert found["elbo"].verdict == "unknown (one seed)"
    assert replace(found["nll"], low=math.nan, high=math.nan).verdict == "unknown (not finite)"


def test_groups_of_other_seeds_are_compared_by_welch(made) -> None:
    a, b = [90.0, 91.0, 92.5, 90.5, 91.5], [88.0, 88.2, 87.7, 88.1, 88.4]
    runs = [made(f"a{i}", nll, seed=i) for i, nll in enumerate(a)]
    runs += [made(f"b{i}", nll, seed=5 + i, settings=("prior.name=vamp",)) for i, nll in enumerate(b)]
    found = next(d for d in compare(runs).differences if d.column == "nll")
    assert found.mean == pytest.approx(-3.02)
    # As scipy.stats.ttest_ind(b, a, equal_var=False) has it, with its 4.58 degrees of freedom rounded down to 4.
    error = math.sqrt(0.925 / 5 + 0.067 / 5)
    assert (found.low, found.high) == (
        pytest.approx(-3.02 - 2.776445 * error, abs=1e-4),
        pytest.approx(-3.02 + 2.776445 * error, abs=1e-4),
    )
    assert (found.n, found.over, found.verdict) == (10, "seeds, unpaired", "beyond noise, over seeds, unpaired")
    partly = compare([*runs[:5], *runs[5:], made("c", 88.3, seed=4, settings=("prior.name=vamp",))])
    assert next(d for d in partly.differences if d.column == "nll").over == "seeds, unpaired"
    same = [made(f"s{i}", 90.0, seed=i, settings=("prior.name=nsf",)) for i in (7, 8)]
    same += [made(f"t{i}", 90.0, seed=i, settings=("prior.name=maf",)) for i in (9, 10)]
    assert next(d for d in compare(same).differences if d.column == "nll").low == 0.0


def test_a_welch_interval_covers_the_truth_as_often_as_it_says() -> None:
    from vaekit.evaluation.several_runs.comparison import _welch

    g = torch.Generator().manual_seed(0)
    pairs = [(torch.randn(5, generator=g) + 0.7, 3 * torch.randn(4, generator=g)) for _ in range(2000)]
    found = [_welch("g", "c", a.tolist(), b.tolist()) for a, b in pairs]
    share = sum(d.low <= 0.7 <= d.high for d in found) / 2000
    assert 0.94 < share < 0.98  # rounded degrees of freedom make it a little wide


def test_a_repeated_run_counts_once_and_is_named(made) -> None:
    runs = [made("a", 90, seed=0), made("a-again", 90, seed=0), made("b", 91, seed=1)]
    table = compare(runs)
    cell = table.cells["vae"]["nll"]
    assert (cell.n, cell.sd) == (2, pytest.approx(0.7071, abs=1e-3))
    assert table.groups == {"vae": ["a", "b"]}
    assert table.repeats == table.to_json()["repeats"] == {"a-again": "a"}
    assert "a-again repeats a" in table.to_markdown()
    with pytest.raises(ConfigError, match="but a-again repeats a: the config and the seed are the same"):
        compare(runs[:2])
    with pytest.raises(ConfigError, match="but a-again, a-more repeat a: the config"):
        compare([*runs[:2], made("a-more")])


def test_seeds_without_a_partner_give_no_interval(made) -> None:
    runs = [made("a", 90, seed=0), made("b", 91, seed=1), made("c", 80, seed=2, settings=("prior.name=vamp",))]
    found = next(d for d in compare(runs).differences if d.column == "nll")
    assert (found.mean, found.low) == (pytest.approx(-10.5), None)


# -- groups -----------------------------------------------------------------------------------------------------------


def test_groups_of_one_preset_are_told_apart_by_what_differs(made) -> None:
    runs = [made("a"), made("b", settings=("prior.name=vamp", "train.epochs=99")), made("c", seed=7)]
    table = compare(runs)
    assert list(table.groups) == [
        "vae (prior.name=standard-normal, train.epochs=10)",
        "vae (prior.name=vamp, train.epochs=99)",
    ]
    assert list(table.groups.values()) == [["a", "c"], ["b"]]


def test_a_device_makes_no_other_group(made) -> None:
    assert len(compare([made("a"), made("b", seed=1, settings=("train.device=cpu",))]).groups) == 1


def test_a_run_named_twice_counts_once(made) -> None:
    a, b = made("a"), made("b", seed=1)
    assert compare([a, b, a]).cells["vae"]["nll"].n == 2
    with pytest.raises(ConfigError, match="at least 2 runs, got 1"):
        compare([a, a])


# -- protocols --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"protocol": {"split": "validation"}}, "split is 'test' for one and 'validation' for two"),
        ({"protocol": {"binarize": "none"}}, "binarize"),
        ({"protocol": {"samples": 5000}}, "samples is 50 for one and 5000 for two"),
        ({"protocol": {"data": "kmnist"}}, "data"),
        ({"protocol": {"checksum": "1" * 64}}, "checksum"),
        ({"protocol": {"rows": 10}}, "rows is 100 for one and 10 for two"),
        ({"kind": "not a likelihood"}, "kind is 'upper bound' for one and 'not a likelihood' for two"),
    ],
)
def test_protocols_do_not_mix(made, change: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=f"'nll' was measured by different protocols: {key}"):
        compare([made("one"), made("two", seed=1, **change)])


def test_what_does_not_depend_on_k_may_differ_in_it(made) -> None:
    runs = [made("one"), made("two", seed=1, protocol={"samples": 5000, "seed": 3, "vaekit": "9"})]
    assert list(compare(runs, columns=["elbo"]).columns) == ["elbo"]
    assert "samples" in protocol_of(PROTOCOL, ("samples",))
    assert "samples" not in protocol_of(PROTOCOL)
    assert "annealing" in protocol_of(PROTOCOL, ("annealing",))


def test_values_written_before_they_said_what_they_depend_on_are_read_and_compared(made) -> None:
    """The first form of evaluation.json has neither `depends_on` nor `likelihood` nor `maximum`."""
    rows = (
        ("nll", "nats", "upper bound", ("samples",), True),
        ("elbo", "nats", "lower bound", (), True),
        ("L_10", "nats", "lower bound", (), True),
        ("rate", "nats", "estimate", (), False),
        ("effective sample size", "samples", "estimate", ("samples",), False),
        ("AIS", "nats", "lower bound", ("annealing",), True),
        ("AIS acceptance", "%", "estimate", ("annealing",), False),
        ("AIS over the importance-weighted bound", "nats", "estimate", ("samples", "annealing"), False),
        ("BDMC gap, simulated data", "nats", "estimate", ("annealing",), False),
        ("precision", "%", "estimate", ("classifier",), False),
        ("active units", "of 15", "estimate", (), False),
    )
    for name, unit, kind, depends_on, likelihood in rows:
        table = {"name": name, "value": 1.0, "standard_error": 0.1, "unit": unit, "kind": kind, "noise": None}
        expected = Value(name, 1.0, 0.1, unit, kind, None, depends_on, likelihood)
        assert Value.from_json(table) == expected == Value.from_json(json.loads(json.dumps(expected.to_json())))
    distance = {
        "name": "Fréchet distance (classifier features)",
        "value": 1.0,
        "standard_error": 0.1,
        "unit": "squared",
    }
    of_today = Value("squared Fréchet distance (classifier features)", 1.0, 0.1, "", depends_on=("classifier",))
    for old in (distance, {**of_today.to_json(), **distance}, of_today.to_json()):
        assert Value.from_json(old) == of_today
    entropy = {"name": "class entropy (at most 2.303)", "value": 2.0, "standard_error": 0.1, "unit": "nats"}
    assert Value.from_json(entropy) == Value(
        "class entropy", 2.0, 0.1, "nats", depends_on=("classifier",), maximum=2.303
    )
    assert Value.from_json(entropy).shown_unit == "nats, at most 2.303"
    runs = [made("one"), made("two", seed=1, protocol={"samples": 5000})]
    for run in runs:
        tree = run.read_json("evaluation.json")
        for value in tree["values"]:
            for added in ("depends_on", "likelihood", "maximum"):
                del value[added]
        run.write_json("evaluation.json", tree)
    with pytest.raises(ConfigError, match="'nll' was measured by different protocols: samples is 50"):
        compare(runs)
    assert compare(runs, columns=["elbo"]).columns


@pytest.mark.parametrize("damage", [{"depends_on": 3}, {"depends_on": ["seed"]}, {"depends_on": [[]]}, {"name": 3}])
def test_a_value_that_depends_on_nothing_known_is_damaged(damage: dict) -> None:
    with pytest.raises(RunError, match="evaluate the run again"):
        Value.from_json(Value("nll", 90.0, 0.3, "nats").to_json() | damage)


def test_other_eyes_do_not_mix(made) -> None:
    score = (Value("precision", 80.0, 1.0, "%", depends_on=("classifier",)),)
    other = {"samples": {"classifier": {"sha256": "b" * 64}}}
    runs = [made("one", more=score), made("two", seed=1, more=score, details=other)]
    with pytest.raises(ConfigError, match="'precision' was measured by different protocols: classifier"):
        compare(runs)
    assert compare(runs, columns=["nll"]).columns


def test_only_what_all_have_is_shown(made) -> None:
    runs = [made("one", more=(Value("AIS", -80.0, 1.0, "nats", "lower bound"),)), made("two", seed=1)]
    assert list(compare(runs).columns) == ["nll", "elbo"]
    with pytest.raises(ConfigError, match=r"^not all runs have the value 'AIS'; all have: elbo, nll$"):
        compare(runs, columns=["AIS"])


def test_a_run_that_was_not_evaluated_says_how(made, tmp_path: Path) -> None:
    bare = Run.create("bare", preset="vae", config="", environment={}, root=tmp_path)
    bare.release()
    with pytest.raises(RunError, match="run bare has not been evaluated yet"):
        compare([made("one"), bare])


def test_a_damaged_evaluation_says_so(made) -> None:
    run = made("one")
    whole, other = run.read_json("evaluation.json"), made("two")
    for damaged in ({"format": 1}, whole | {"details": -1}, whole | {"protocol": []}):
        run.write_json("evaluation.json", damaged)
        with pytest.raises(RunError, match="evaluate the run again"):
            compare([run, other])


def test_runs_of_a_preset_are_found(made, tmp_path: Path) -> None:
    made("a"), made("b", seed=1), made("c", preset="cvae")
    bare = Run.create("bare", preset="vae", config="", environment={}, root=tmp_path)
    bare.release()
    assert sorted(run.name for run in evaluated_runs("vae", tmp_path)) == ["a", "b"]
    with pytest.raises(RunError, match=r"unknown preset of an evaluated run 'cave'; did you mean 'cvae'"):
        evaluated_runs("cave", tmp_path)


# -- formats ----------------------------------------------------------------------------------------------------------


def test_evaluations_on_other_data_are_compared(made, tmp_path: Path) -> None:
    runs = [made(name, seed=seed) for seed, name in enumerate(("a", "b"))]
    for run, nll in zip(runs, (70.0, 72.0), strict=True):
        other = Evaluation([Value("nll", nll, 0.3, "nats", "upper bound")], PROTOCOL | {"data": "new/x.npy"})
        run.write_json("evaluation-new-x.npy.json", other.to_json())
    assert compare(runs, data="new/x.npy").cells["vae"]["nll"].mean == 71
    assert compare(runs, data=Path("new/x.npy")).protocol["data"] == "new/x.npy"
    assert compare(runs).cells["vae"]["nll"].mean == compare(runs, data="mnist").cells["vae"]["nll"].mean == 90
    assert {run.name for run in evaluated_runs("vae", tmp_path, data="new/x.npy")} == {"a", "b"}
    with pytest.raises(RunError, match=r"on all test rows of y[.]npy, only in evaluation"):
        compare(runs, data="y.npy")
    with pytest.raises(RunError, match=r"no run in .* on all test rows of y[.]npy"):
        evaluated_runs("vae", tmp_path, data="y.npy")


def test_formats_say_the_same(seeds: list[Run]) -> None:
    table = compare(seeds)
    markdown = table.to_markdown()
    assert "|  | n | nll (nats, upper bound) | elbo (nats, lower bound) |" in markdown
    assert "| vae | 3 | 95.0 ± 5.0 | -97.0 ± 5.0 |" in markdown
    assert "| iwae | nll | -2 | -4.484 to +0.4841 | 3 seeds | within noise |" in markdown
    assert "split: test" in markdown
    assert len({line.count("|") for line in markdown.split("\n\n")[0].splitlines()}) == 1
    latex = table.to_latex()
    assert r"vae & 3 & $95.0 \pm 5.0$ & $-97.0 \pm 5.0$ \\" in latex
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert rows[0] == {
        "group": "vae",
        "column": "nll",
        "mean": "95.0",
        "sd": "5.0",
        "n": "3",
        "unit": "nats",
        "kind": "upper bound",
    }
    assert len(rows) == 4
    tree = json.loads(json.dumps(table.to_json()))
    assert tree["groups"]["iwae"]["values"]["nll"] == {"mean": 93.0, "sd": 4.0, "n": 3}
    assert tree["differences"][0]["verdict"] == "within noise"


def test_one_seed_shows_no_deviation_and_signs_are_escaped(made) -> None:
    score = (Value("precision", 80.0, 1.0, "%"),)
    table = compare([made("a", more=score), made("b_1", preset="my_preset", settings=("prior.name=vamp",), more=score)])
    assert r"my\_preset & 1 & $90.00$" in table.to_latex()
    assert r"precision (\%)" in table.to_latex()
    assert "±" not in table.to_markdown()
    assert table.to_csv().splitlines()[1] == "vae,nll,90.0,,1,nats,upper bound"


def test_a_number_that_is_none_is_a_dash(made) -> None:
    table = compare([made("a", math.nan), made("b", math.nan, seed=1)])
    assert "—" in table.to_markdown() and "--" in table.to_latex()
