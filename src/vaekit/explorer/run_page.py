"""`vae report`: everything known about a run, or about several side by side, on one page to read, print and send.

It is HTML without script. Everything that comes from a run is escaped; pictures are inlined. Not for: exploring a
model (`show`), or computing the numbers (`evaluation`).
"""

import base64
import html
import math
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from .. import __version__
from ..config import flat
from ..errors import DataError, VAEError
from ..evaluation.evaluation_file import ALL_TEST_ROWS, Evaluation, evaluation_files, is_outdated, outdated
from ..model.elbo_terms import TITLES, is_neg_elbo, title_of, unit_of
from ..runs.data_record import DataRecord
from ..runs.run_config import config_of
from ..store import Run, files
from ..store.metrics import BOOKKEEPING, stored_test
from . import charts
from .page import asset, digest

PICTURES = {
    "samples": "New images, drawn from the prior",
    "classes": "A row for each class; a column is the same draw of the prior",
    "reconstructions": "Test images, their reconstructions, and the errors",
    "interpolation": "Straight lines between latents drawn from the prior",
    "traversals": "One latent at a time, the others held",
    "map": "The decoded plane of two latents",
    "latents": "Posterior means after training",
    "kl": "What each latent carries",
    "training": "Training images",
    "evaluation-latents": "Posterior means of test images",
    "evaluation-neighbours": "Samples, and the training images nearest to them",
}
PICTURE_LIMIT = 16 << 20  # bytes of a picture
PNG = b"\x89PNG\r\n\x1a\n"

escape = html.escape


def report(runs: Sequence[Run]) -> str:
    """The page of one run, or of several side by side.

    Arguments:
        runs: The runs, at least one.

    Raises:
        RunError: A run is damaged.
        DataError: `runs` is empty.
    """
    if not runs:
        raise DataError("a report needs at least one run")
    single = len(runs) == 1
    title = runs[0].name if single else " · ".join(run.name for run in runs)
    below = _summary(runs[0]) if single else f"{len(runs)} runs side by side"
    parts = [
        f"<header><h1>{escape(title)}</h1><p>{escape(below)}</p></header>",
        _section("In short", _side_by_side(runs, _headline)),
        _section("Warnings", _side_by_side(runs, _warnings)),
        "" if single else _section("Compared", _compared(runs)),
        _section("Training", _curves(runs)),
        _section("Pictures", _gallery(runs)),
        _section("Latents", _side_by_side(runs, _latents)),
        _section("Evaluation", _evaluation(runs[0])) if single else "",
        "" if single else _section("What differs in the configuration", _differences(runs)),
        _section("Configuration", _side_by_side(runs, partial(_configuration, single))),
        _section("Environment", _side_by_side(runs, _environment)),
        _section("Reproduce", _side_by_side(runs, _reproduce)),
        f"<footer>vaekit {escape(__version__)}</footer>",
    ]
    style = asset("report.css")
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest(style)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=True)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)} · vae report</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n<main>\n{''.join(parts)}\n</main>\n</body>\n</html>\n"
    )


def write_report(runs: Sequence[Run], path: Path) -> Path:
    """Write the page: all of the file, or nothing.

    Raises:
        DataError: The name does not end in .html.
        RunError: A run is damaged, or the file cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"a report is written as .html, got {path.name!r}; change the suffix")
    files.write(path, report(runs).encode())
    return path


# -- layout ------------------------------------------------------------------------------------------------------------


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _side_by_side(runs: Sequence[Run], draw: Callable[[Run], str]) -> str:
    """The content of each run; several runs get a column each, headed by the name."""
    contents = [draw(run) for run in runs]
    if not any(contents):
        return ""
    if len(runs) == 1:
        return contents[0]
    columns = (
        f"<div><h3>{escape(run.name)}</h3>{content or '<p class=quiet>none</p>'}</div>"
        for run, content in zip(runs, contents, strict=True)
    )
    return f"<div class=columns>{''.join(columns)}</div>"


def _table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table; its first column names the rows."""
    cells = (f"<th scope=col>{escape(cell)}</th>" if cell else "<td></td>" for cell in head)
    top = f"<thead><tr>{''.join(cells)}</tr></thead>" if head else ""
    lines = "".join(
        f"<tr><th scope=row>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return f"<div class=wide><table>{top}<tbody>{lines}</tbody></table></div>" if rows else ""


# -- one run -----------------------------------------------------------------------------------------------------------


def _summary(run: Run) -> str:
    config = config_of(run)
    parts = (f"{config.encoder.name} encoder", f"{config.posterior.name} posterior", f"{config.prior.name} prior")
    more = (
        f"{config.decoder.name} decoder",
        f"{config.likelihood.name} likelihood",
        f"{config.objective.name} objective",
    )
    name = DataRecord.of(run).name
    return f"{run.environment.get('preset')} on {name}: {', '.join((*parts, *more))}; {run.status}"


def _headline(run: Run) -> str:
    """The main figures."""
    figures: list[tuple[str, str, str]] = []  # name, number, kind of number
    evaluation = Evaluation.of_present_weights(run)
    if evaluation is not None:
        main_names = ("nll", "bits per dimension", "elbo", "rate", "distortion", "active units")
        figures = [
            (value.name, f"{value} {value.unit}", value.kind) for value in evaluation.values if value.name in main_names
        ]
    elif test := stored_test(run):
        numbers = {name: value for name, value in test.items() if isinstance(value, float)}
        figures = [
            (f"test {TITLES.get(name, name)}", f"{value:.2f} {unit_of(name)}".rstrip(), "")
            for name, value in numbers.items()
        ]
    metrics = run.metrics()
    seconds = sum(record.get("seconds") or 0 for record in metrics)
    figures += [("epochs", str(len(metrics)), ""), ("training", f"{seconds:.0f} s", "")]
    figures.append(("parameters", f"{run.environment.get('parameters', 0):,}", ""))
    cards = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{f'<small>{escape(kind)}</small>' if kind else ''}</dd></div>"
        for name, value, kind in figures
    )
    return f"<dl class=cards>{cards}</dl>"


def _warnings(run: Run) -> str:
    if is_outdated(run):
        return f"<ul><li>{_outdated(run, ALL_TEST_ROWS.file)}</li></ul>"
    evaluation = Evaluation.of_run(run)
    if evaluation is None or not evaluation.warnings:
        return ""
    return f"<ul>{''.join(f'<li>{escape(str(sentence))}</li>' for sentence in evaluation.warnings)}</ul>"


def _outdated(run: Run, file: str) -> str:
    """The sentence about an outdated evaluation, with the remedy."""
    return f"{escape(outdated(file))}, and is left out: <code>vae evaluate {escape(shlex.quote(run.name))}</code>"


def _curves(runs: Sequence[Run]) -> str:
    """A chart for each logged number; training is solid, validation dashed."""
    labels = [run.name for run in runs]
    labels = [label if labels.count(label) == 1 else str(run.path) for label, run in zip(labels, runs, strict=True)]
    metrics = [run.metrics() for run in runs]
    names = list(dict.fromkeys(key for records in metrics for record in records for key in record))
    names = [name for name in names if name not in BOOKKEEPING and not name.startswith("validation_")]
    if "neg_elbo" in names and all(is_neg_elbo(record) for records in metrics for record in records):
        names.remove("loss")
    drawn_charts = []
    for name in names:
        chart_lines = []
        for i, (run_label, records) in enumerate(zip(labels, metrics, strict=True)):
            for label, key, dashed in (("training", name, False), ("validation", f"validation_{name}", True)):
                points = [
                    (float(r["epoch"]), float(r[key]))
                    for r in records
                    if _number(r.get(key)) and _number(r.get("epoch"))
                ]
                chart_lines.append(
                    charts.ChartLine(label if len(runs) == 1 else f"{run_label}, {label}", points, i, dashed)
                )
        drawn_charts.append(charts.lines(title_of(name), chart_lines))
    return f"<div class=charts>{''.join(drawn_charts)}</div>" if any(drawn_charts) else ""


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _gallery(runs: Sequence[Run]) -> str:
    """The pictures of one run side by side; for several runs, a row for each kind of picture."""
    if len(runs) > 1:
        rows = [(words, _side_by_side(runs, partial(_picture, name))) for name, words in PICTURES.items()]
        return "".join(f"<h3>{escape(words)}</h3>{images}" for words, images in rows if images)
    pictures = {words: _picture(name, runs[0]) for name, words in PICTURES.items()}
    figures = (
        f"<figure><figcaption>{escape(words)}</figcaption>{img}</figure>" for words, img in pictures.items() if img
    )
    return f"<div class=gallery>{''.join(figures)}</div>" if any(pictures.values()) else ""


def _picture(name: str, run: Run) -> str:
    """A picture of samples/, inlined; "" if there is none, or if it is of an outdated evaluation."""
    if name.startswith("evaluation-") and is_outdated(run):
        return ""
    try:
        path = files.confine(run.path, f"samples/{name}.png")
        content = files.read(path, PICTURE_LIMIT) if path.is_file() else b""
    except VAEError:
        return ""
    if not content.startswith(PNG):
        return ""
    text = escape(f"{PICTURES[name]}, of {run.name}", quote=True)
    return f'<img src="data:image/png;base64,{base64.b64encode(content).decode()}" alt="{text}">'


def _latents(run: Run) -> str:
    """A chart of the KL of each latent or, if it is unknown, of the variance of its posterior mean."""
    evaluation = Evaluation.of_present_weights(run)
    kinds = (
        ("kl by dimension", "KL by latent", "nats"),
        ("variance of posterior means", "Variance of the posterior mean", ""),
    )
    for key, title, unit in kinds:
        values = evaluation.details.get(key) if evaluation else None
        if isinstance(values, list) and values and all(_number(value) for value in values):
            order = sorted(range(len(values)), key=lambda i: -values[i])
            chart = charts.bars(title, [(f"z{i + 1}", values[i]) for i in order[:60]], unit)
            return f"<div class=charts>{chart}</div>"
    return ""


def _evaluation(run: Run) -> str:
    """The evaluation of all test rows, and then those of other rows."""
    names = evaluation_files(run)
    parts = [
        f"<p class=quiet>{_outdated(run, name)}</p>"
        if is_outdated(run, name)
        else _numbers(run, Evaluation.from_json(run.read_json(name)))
        for name in names
    ]
    parts = [
        part if name == ALL_TEST_ROWS.file else f"<h3>{escape(name)}</h3>{part}"
        for name, part in zip(names, parts, strict=True)
    ]
    if ALL_TEST_ROWS.file not in names:
        where = "Not evaluated on all test rows" if names else "Not evaluated"
        parts.insert(0, f"<p class=quiet>{where}: <code>vae evaluate {escape(shlex.quote(run.name))}</code></p>")
    return "".join(parts)


def _numbers(run: Run, evaluation: Evaluation) -> str:
    """The numbers of an evaluation, and its protocol."""
    values = _table([[v.name, str(v), v.unit, v.kind] for v in evaluation.values], ("", "value", "unit", "kind"))
    classes = evaluation.details.get("classes")
    by_class = ""
    if isinstance(classes, dict) and classes and all(isinstance(row, dict) for row in classes.values()):
        head = ("class", *(f"{name} (%)" for name in next(iter(classes.values()))))
        by_class = _table([[str(name), *map(_rounded, row.values())] for name, row in classes.items()], head)
    protocol = _table([[str(key), str(value)] for key, value in evaluation.protocol.items()])
    error = f"± is the standard error over {DataRecord.of(run).row_word}s"
    note = f"<p class=quiet>{error}. Numbers of different protocols cannot be compared.</p>"
    return f"{values}{note}{by_class}<details><summary>Protocol</summary>{protocol}</details>"


def _rounded(value: Any) -> str:
    return f"{value:.1f}" if _number(value) else "—"


def _configuration(is_open: bool, run: Run) -> str:
    text = escape(config_of(run).to_toml())
    return f"<details{' open' if is_open else ''}><summary>config.toml</summary><pre tabindex=0>{text}</pre></details>"


def _environment(run: Run) -> str:
    entries = {key: value for key, value in flat(run.environment).items() if not isinstance(value, dict)}
    rows = [
        [key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)] for key, value in entries.items()
    ]
    return f"<details><summary>{len(rows)} entries</summary>{_table(rows)}</details>"


def _reproduce(run: Run) -> str:
    command = run.environment.get("command")
    lines = [f"vae repeat {shlex.quote(run.name)}"]
    if isinstance(command, list):
        lines.insert(0, shlex.join(map(str, command)))
    return f"<pre tabindex=0>{escape(chr(10).join(lines))}</pre>"


# -- several runs ------------------------------------------------------------------------------------------------------


def _compared(runs: Sequence[Run]) -> str:
    """Evaluated numbers, a column for each run; without an evaluation, numbers of the end of training."""
    evaluations = [Evaluation.of_present_weights(run) for run in runs]
    tables: list[dict[str, str]]
    if any(evaluations):
        tables = [
            {v.name: f"{v} {v.unit}".strip() for v in evaluation.values} if evaluation else {}
            for evaluation in evaluations
        ]
        beware = _protocols([evaluation for evaluation in evaluations if evaluation])
    else:
        tests = [stored_test(run) or {} for run in runs]
        tables = [
            {f"test {TITLES.get(k, k)}": f"{v:.2f}" for k, v in test.items() if isinstance(v, float)} for test in tests
        ]
        beware = ""
    names = list(dict.fromkeys(name for table in tables for name in table))
    rows = [[name, *(table.get(name, "—") for table in tables)] for name in names]
    return beware + _table(rows, ("", *(run.name for run in runs)))


def _protocols(evaluations: Sequence[Evaluation]) -> str:
    """A warning if the protocols differ."""
    keys = list(dict.fromkeys(key for evaluation in evaluations for key in evaluation.protocol))
    differing = [key for key in keys if len({str(evaluation.protocol.get(key)) for evaluation in evaluations}) > 1]
    if not differing:
        return ""
    return f"<p>Do not compare these numbers: the protocols differ in {escape(', '.join(differing))}.</p>"


def _differences(runs: Sequence[Run]) -> str:
    tables = [flat(config_of(run).model_dump(mode="json")) for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    rows = [[name, *(str(table.get(name, "—")) for table in tables)] for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    return _table(rows, ("", *(run.name for run in runs))) or "<p>Nothing.</p>"
