"""One table over runs: mean ± sd over training seeds, and which differences are more than noise.

Runs that differ only in their seed are one group, and a group is one row. Of runs with the same seed only the first
counts. Every group is compared with the first group. If both groups have the same seeds, two or more, the difference is
paired by seed. If their seeds differ and both have two or more, it is Welch's. If both groups have one run, it is
paired by row, which says nothing about another training. Otherwise the difference has no interval. The table names the
kind of each difference.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...config import flat
from ...data.registry import known_as
from ...errors import ConfigError, RunError, unknown
from ...runs.run_config import config_of, is_own_data
from ...store import Run, files, list_runs
from ...store.metrics import ROWS_KEY
from ...store.tensors import unpack
from ..evaluation_file import PER_ROW, Evaluation, RowSelection, check_evaluated
from ..measure_contract import CHOICE_KEY
from ..model_evaluation import MEASURES
from ..values import bound_name
from . import student_t
from .comparison_table import Cell, Comparison, Difference

CONFIDENCE = 0.95
SHOWN_BY_DEFAULT = [name for measure in MEASURES for name in measure.compared]  # of these, the ones that every run has
# Keys that may differ within a group: the seed, and keys that do not change the numbers.
_NOT_COMPARED = ("train.seed", "train.device", "train.threads", "train.deterministic", "train.checkpoint_every")
_PER_ROW_LIMIT = 1 << 30  # bytes


@dataclass(frozen=True)
class EvaluatedRun:
    """An evaluated run.

    Arguments:
        run: The run.
        seed: Its training seed.
        evaluation: Its evaluation.
        settings: Its config, flat, without the keys that may differ within a group; equal settings make a group.
    """

    run: Run
    seed: int
    evaluation: Evaluation
    settings: dict[str, Any]

    @property
    def preset(self) -> str:
        """The name of the preset that was trained."""
        return str(self.run.environment.get("preset", "custom"))


def compare(
    runs: Sequence[Run],
    *,
    columns: Iterable[str] = (),
    split: str = "test",
    rows: int | None = None,
    data: str | os.PathLike[str] | None = None,
) -> Comparison:
    """Compare evaluated runs.

    Arguments:
        runs: Two or more, each with an evaluation of these rows.
        columns: Names of values; by default those of `SHOWN_BY_DEFAULT` that all runs have.
        split: The split that the runs were evaluated on.
        rows: The number of rows, if the runs were evaluated on some rows only; None for all rows.
        data: The name or path of the data that they were evaluated on, as `evaluate` got it; each run's own by default.

    Raises:
        ConfigError: Fewer than two runs are left without the repeats, a value is unknown, or a column has numbers of
            different protocols.
        RunError: A run has not been evaluated on these rows.
    """
    selection = RowSelection(split, rows)  # refuses an unknown split and a wrong number
    if not isinstance(runs, Iterable) or not all(isinstance(run, Run) for run in runs):
        raise ConfigError(f"a comparison takes a list of runs, got {runs!r:.80}; vaekit.Run.open(name) opens one")
    unique = list({run.path.resolve(): run for run in runs}.values())
    if len(unique) < 2:
        raise ConfigError(f"a comparison needs at least 2 runs, got {len(unique)}")
    groups, repeats = _without_repeats(_grouped([_evaluated_run(run, selection, data) for run in unique]))
    members = [member for group in groups.values() for member in group]
    names = _columns(members, (columns,) if isinstance(columns, str) else tuple(columns))
    for name in names:
        _check_protocol(name, members)
    first = members[0].evaluation
    cells = {
        group: {name: _cell([m.evaluation[name].value for m in members_of_group]) for name in names}
        for group, members_of_group in groups.items()
    }
    base, *rest = groups
    differences = [_difference(group, name, groups[base], groups[group]) for group in rest for name in names]
    return Comparison(
        {name: (first[name].unit, first[name].kind) for name in names},
        {group: [member.run.name for member in members_of_group] for group, members_of_group in groups.items()},
        cells,
        differences,
        protocol_of(first.protocol, first["nll"].depends_on if "nll" in names else ()),
        repeats,
    )


def evaluated_runs(
    preset: str,
    root: Path | str = "runs",
    *,
    split: str = "test",
    rows: int | None = None,
    data: str | os.PathLike[str] | None = None,
) -> list[Run]:
    """The runs of a preset that were evaluated on these rows, the newest first.

    Raises:
        RunError: No run of this preset has been evaluated on them.
    """
    selection = RowSelection(split, rows)
    runs = [run for run in list_runs(root) if _on(run, selection, data).file_in(run) is not None]
    names = [str(run.environment.get("preset")) for run in runs]
    if not runs:
        where = replace(selection, data=os.fspath(data or ""))
        raise RunError(f"no run in {root} has been evaluated on {where}", command="evaluate")
    if preset not in names:
        raise RunError(unknown("preset of an evaluated run", preset, set(names)))
    return [run for run, name in zip(runs, names, strict=True) if name == preset]


def _on(run: Run, selection: RowSelection, data: str | os.PathLike[str] | None) -> RowSelection:
    """The selection of rows of a run's own data, or of other data."""
    if data is None or is_own_data(config_of(run), os.fspath(data)):
        return selection
    return replace(selection, data=known_as(os.fspath(data)))


def _evaluated_run(run: Run, selection: RowSelection, data: str | os.PathLike[str] | None) -> EvaluatedRun:
    file = check_evaluated(run, _on(run, selection, data))
    config = flat(config_of(run).model_dump(exclude_none=True))
    seed = config.get("train.seed", 0)
    evaluation = Evaluation.from_json(run.read_json(file))
    settings = {key: value for key, value in config.items() if key not in _NOT_COMPARED}
    return EvaluatedRun(run, seed if isinstance(seed, int) else 0, evaluation, settings)


def _grouped(members: Sequence[EvaluatedRun]) -> dict[str, list[EvaluatedRun]]:
    """Groups of runs with equal settings; the name of a group says how it differs from others of the same preset."""
    groups: list[list[EvaluatedRun]] = []
    for member in members:
        group = next((group for group in groups if group[0].settings == member.settings), None)
        if group is None:
            groups.append([member])
        else:
            group.append(member)
    firsts = [group[0] for group in groups]
    return {_label(group[0], firsts): group for group in groups}


def _without_repeats(
    groups: Mapping[str, Sequence[EvaluatedRun]],
) -> tuple[dict[str, list[EvaluatedRun]], dict[str, str]]:
    """The first run of each seed in every group; and the repeats, each with the run that it repeats.

    Raises:
        ConfigError: Only one run is left.
    """
    first_of_seed: dict[str, list[EvaluatedRun]] = {}
    repeats: dict[str, str] = {}
    for group, members in groups.items():
        first: dict[int, EvaluatedRun] = {}
        for member in members:
            if first.setdefault(member.seed, member) is not member:
                repeats[member.run.name] = first[member.seed].run.name
        first_of_seed[group] = list(first.values())
    if sum(map(len, first_of_seed.values())) < 2:
        verb = "repeats" if len(repeats) == 1 else "repeat"
        raise ConfigError(
            f"a comparison needs at least 2 runs, but {', '.join(repeats)} {verb} {next(iter(repeats.values()))}: "
            "the config and the seed are the same"
        )
    return first_of_seed, repeats


def _label(member: EvaluatedRun, others: Sequence[EvaluatedRun]) -> str:
    """The preset of a run, with the settings by which it differs from others of this preset."""
    own = member.settings
    alike = [other for other in others if other.preset == member.preset]
    differing = [
        f"{key}={own[key]}" for key in sorted(own) if any(other.settings.get(key) != own[key] for other in alike)
    ]
    return f"{member.preset} ({', '.join(differing)})" if differing else member.preset


def _columns(members: Sequence[EvaluatedRun], requested: tuple[str, ...]) -> list[str]:
    common = [value.name for value in members[0].evaluation.values]
    for member in members[1:]:
        names = {value.name for value in member.evaluation.values}
        common = [name for name in common if name in names]
    for name in requested:
        if name not in common:
            near = get_close_matches(name, common, n=1)
            hint = f"did you mean {near[0]!r}? All" if near else "all"
            raise ConfigError(
                f"not all runs have the value {name!r}; {hint} have: {', '.join(sorted(common)) or 'none'}"
            )
    columns = list(dict.fromkeys(requested)) or [name for name in SHOWN_BY_DEFAULT if name in common]
    if not columns:
        raise ConfigError("these runs have no value in common; evaluate them in the same way")
    return columns


# -- protocols --------------------------------------------------------------------------------------------------------


_ALWAYS = ("data", "checksum", "split", ROWS_KEY, CHOICE_KEY, "binarize", "likelihood")


def protocol_of(protocol: Mapping[str, Any], depends_on: Iterable[str] = ()) -> dict[str, Any]:
    """The part of a protocol that changes the expectation of a value.

    Arguments:
        protocol: Protocol of the evaluation.
        depends_on: Settings that the value depends on: `Value.depends_on`.
    """
    return {key: protocol.get(key) for key in (*_ALWAYS, *depends_on)}


def _check_protocol(name: str, members: Sequence[EvaluatedRun]) -> None:
    first = members[0]
    protocol = _measured(name, first.evaluation)
    for member in members[1:]:
        for key, value in _measured(name, member.evaluation).items():
            if protocol.get(key) != value:
                raise ConfigError(
                    f"{name!r} was measured by different protocols: {key} is {protocol.get(key)!r} for "
                    f"{first.run.name} and {value!r} for {member.run.name}; evaluate them in the same way, or leave "
                    "one out"
                )


def _measured(name: str, evaluation: Evaluation) -> dict[str, Any]:
    """The protocol of a value, and its kind."""
    value = evaluation[name]
    protocol = {**evaluation.protocol, "classifier": _classifier(evaluation.details.get("samples"))}
    return {**protocol_of(protocol, value.depends_on), "kind": value.kind}


def _classifier(samples: Any) -> str | None:
    """The beginning of the classifier's checksum, from the details of an evaluation; None without a classifier."""
    classifier = samples.get("classifier") if isinstance(samples, dict) else None
    return str(classifier.get("sha256"))[:12] if isinstance(classifier, dict) else None


# -- numbers ----------------------------------------------------------------------------------------------------------


def _cell(values: Sequence[float]) -> Cell:
    numbers = torch.tensor(values, dtype=torch.float64)
    return Cell(numbers.mean().item(), numbers.std().item() if len(values) > 1 else None, len(values))


def _difference(group: str, name: str, base: Sequence[EvaluatedRun], members: Sequence[EvaluatedRun]) -> Difference:
    group_values, base_values = (
        {member.seed: member.evaluation[name].value for member in side} for side in (members, base)
    )
    if len(group_values) >= 2 and group_values.keys() == base_values.keys():
        pairs = [group_values[seed] - base_values[seed] for seed in sorted(group_values)]
        return _interval_of(group, name, torch.tensor(pairs, dtype=torch.float64), "seeds")
    if len(group_values) >= 2 and len(base_values) >= 2:
        return _welch(group, name, list(group_values.values()), list(base_values.values()))
    if len(group_values) == len(base_values) == 1:
        per_row, base_per_row = (_per_row(side[0], name) for side in (members, base))
        if per_row is not None and base_per_row is not None and per_row.shape == base_per_row.shape:
            return _interval_of(group, name, per_row.double() - base_per_row.double(), "rows")
    means = [_cell(list(values.values())).mean for values in (group_values, base_values)]
    return Difference(
        group, name, means[0] - means[1], None, None, n=min(len(group_values), len(base_values)), over="seeds"
    )


def _welch(group: str, name: str, values: Sequence[float], base_values: Sequence[float]) -> Difference:
    """The difference of two means over different seeds; their spreads may differ.

    Reference: Welch 1947, "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34; the degrees of freedom are rounded down.
    """
    sets = [torch.tensor(numbers, dtype=torch.float64) for numbers in (values, base_values)]
    mean = (sets[0].mean() - sets[1].mean()).item()
    errors = [numbers.var().item() / len(numbers) for numbers in sets]
    total = sum(errors)
    denominator = sum(error**2 / (len(numbers) - 1) for error, numbers in zip(errors, sets, strict=True))
    freedom = max(1, math.floor(total**2 / denominator)) if denominator > 0 else 1
    reach = student_t.quantile(freedom, CONFIDENCE) * math.sqrt(total)
    return Difference(
        group, name, mean, mean - reach, mean + reach, n=len(values) + len(base_values), over="seeds, unpaired"
    )


def _interval_of(group: str, name: str, pairs: Tensor, over: str) -> Difference:
    mean, error = pairs.mean().item(), pairs.std().item() / math.sqrt(len(pairs))
    reach = student_t.quantile(len(pairs) - 1, CONFIDENCE) * error
    return Difference(group, name, mean, mean - reach, mean + reach, n=len(pairs), over=over)


def _per_row(member: EvaluatedRun, name: str) -> Tensor | None:
    """The numbers of a value for each row; None where they were not kept."""
    evaluation = member.evaluation
    key, sign = (bound_name(evaluation.protocol.get("samples", 0)), -1) if name == "nll" else (name, 1)
    path = evaluation.details.get(PER_ROW)
    if not isinstance(path, str):
        return None
    try:
        where = files.confine(member.run.path, path)
        numbers, _ = unpack(files.read(where, _PER_ROW_LIMIT), where)
    except RunError:
        return None
    return sign * numbers[key] if key in numbers and numbers[key].numel() > 1 else None
