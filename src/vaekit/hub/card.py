"""README.md of an exported folder: a model card with all that the run records.

Not for: the files for programs (`program_files`).
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..config import Config
from ..data.dataset import row_word
from ..evaluation.evaluation_file import Evaluation, is_outdated
from ..model.dimensions import SILENT_BELOW
from ..model.elbo_terms import unit_of
from ..runs.data_record import DataRecord
from ..store import Run
from ..store.escape import to_markdown
from ..store.metrics import ROWS_KEY
from .interchange import Parity


def card(
    run: Run,
    config: Config,
    content: Mapping[str, Any],
    evaluation: Evaluation | None,
    test: Mapping[str, Any] | None,
    parity: Mapping[str, Parity],
    *,
    pictures: Sequence[str] = (),
) -> str:
    """The text of the model card, in Markdown.

    Arguments:
        run: The run.
        config: The config of the run, with every default written out.
        content: The content of config.json.
        evaluation: Result of `vae evaluate`; None if these weights were not evaluated.
        test: Results on the test split at the end of training; None if the training did not end.
        parity: Deviation of each ported file from PyTorch.
        pictures: Names of pictures in the folder.
    """
    parts = [
        _header(run, content),
        f"# {to_markdown(run.name)}",
        _description(config, content),
        *[f"![{name.removesuffix('.png')}]({name})" for name in pictures],
        _how_to_load(content),
        _figures(run, content, evaluation, test),
        _columns(content),
        _latents(content),
        _training(run, config, content),
        _limits(content, evaluation),
        _folder(content, parity, pictures),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _header(run: Run, content: Mapping[str, Any]) -> str:
    """Metadata for model hubs, in YAML: JSON strings are YAML too, so that no name can break out."""
    lines = ["---", "library_name: vaekit"]
    if content["kind"] == "image":
        lines.append("pipeline_tag: unconditional-image-generation")
    lines += ["tags:", "- vae", "- variational-autoencoder", "- generative"]
    lines += ["datasets:", f"- {json.dumps(DataRecord.of(run).name)}"]
    return "\n".join([*lines, "---"])


def _description(config: Config, content: Mapping[str, Any]) -> str:
    conditional = f", conditional on {content['context_size']} classes" if content["context_size"] else ""
    shape = _shape(content["event_shape"])
    rows = f"rows of a table of {shape} columns" if "columns" in content else f"{shape} {content['kind']}s"
    return (
        f"A variational autoencoder of {rows}{conditional}: "
        f"{config.encoder.name} encoder, {config.posterior.name} posterior over {_shape(content['latent_shape'])} "
        "latents, "
        f"{config.prior.name} prior, {config.decoder.name} decoder, {config.likelihood.name} likelihood; trained by "
        f"{config.objective.name}. {content['parameters']:,} parameters."
    )


def _how_to_load(content: Mapping[str, Any]) -> str:
    c = ", 3" if content["context_size"] > 3 else ", 0" if content["context_size"] else ""
    comment = "  # 16 of one class" if c else ""
    return f"""## Use it

```python
import vaekit
model = vaekit.load("this/folder")
{_rows(content)} = model.sample(16{c}){comment}
```

`model.encode(x)`, `model.decode(z)` and `model.reconstruct(x)` take tensors prepared as in preprocessing.json. Without
vaekit: the weights are plain safetensors; `example.safetensors` has eight inputs with their latents and
reconstructions, to verify a port."""


def _columns(content: Mapping[str, Any]) -> str:
    """The columns of a table, in the order of the values of x."""
    if "columns" not in content:
        return ""
    lines = ["## Columns", "", "| x | column | kind | type | levels |", "|---|---|---|---|---|"]
    for i, column in enumerate(content["columns"]):
        levels = [str(level) for level in column["levels"][:6]] + ["…"] * (len(column["levels"]) > 6)
        cells = (column["name"], column["kind"], column["dtype"], ", ".join(levels))
        lines.append(f"| {i} | {' | '.join(to_markdown(cell) for cell in cells)} |")
    text = (
        "x holds the number of a level, 0, 1, …, or a number less `origin`; "
        f"a missing value is {content['missing']}. See config.json."
    )
    return "\n".join([*lines, "", text])


def _figures(
    run: Run, content: Mapping[str, Any], evaluation: Evaluation | None, test: Mapping[str, Any] | None
) -> str:
    lines = ["## Figures", ""]
    rows = _rows(content)
    reason = "the run was evaluated with other weights"
    if not is_outdated(run):
        reason = f"the run was not evaluated on all test {rows}"
    if evaluation is not None:
        protocol = evaluation.protocol
        lines += ["| | value | unit | kind |", "|---|---|---|---|"]
        lines += [f"| {to_markdown(v.name)} | {v} | {v.shown_unit} | {v.kind} |" for v in evaluation.values]
        where = f"{protocol.get(ROWS_KEY)} {rows} of {to_markdown(str(protocol.get('data')))} {protocol.get('split')}"
        noise = f"{protocol.get('samples')} importance samples; seed {protocol.get('seed')}"
        lines += ["", f"On {where}; ± is the standard error over {rows}; {noise}."]
    elif test:
        numbers = [(name, value) for name, value in test.items() if isinstance(value, float)]
        lines += ["| | value | unit |", "|---|---|---|"]
        lines += [f"| {to_markdown(name)} | {value:.2f} | {unit_of(name)} |" for name, value in numbers]
        where = f"{test.get(ROWS_KEY)} test {rows} at the end of training, one latent each"
        lines += ["", f"On {where}, without errors: {reason}."]
    else:
        lines += [f"None: {reason}."]
    return "\n".join(lines)


def _latents(content: Mapping[str, Any]) -> str:
    latent = content["aggregate_posterior"]
    if not latent["over"]:
        return ""
    kl, silent = latent["kl"] or latent["information"], latent["silent"]
    title = "KL by latent, nats" if latent["kl"] else "Information about x by latent, nats, at most"
    over = f"{latent['over']} test {_rows(content)}"
    text = f"Mean and standard deviation of the aggregate posterior over {over} are in config.json."
    if kl is None:
        return f"## Latents\n\n{text}"
    listed = ", ".join(f"z{i + 1} {kl[i]:.2f}" for i in latent["order"][:12])
    quiet = f" {len(silent)} of {len(kl)} are silent, below {SILENT_BELOW:g} nats." if silent else ""
    return f"## Latents\n\n{title}, the greatest first: {listed}.{quiet} {text}"


def _rows(content: Mapping[str, Any]) -> str:
    """The plural noun for rows of the data."""
    return f"{row_word(content['kind'])}s"


def _grey(config: Config, content: Mapping[str, Any]) -> str | None:
    if config.data.binarize != "none":
        return f"binarized: {config.data.binarize}"
    return "as they are" if content["kind"] == "image" else None


def _training(run: Run, config: Config, content: Mapping[str, Any]) -> str:
    environment = run.environment
    metrics = run.metrics()
    seconds = sum(record.get("seconds") or 0 for record in metrics)
    command = environment.get("command")
    data = DataRecord.of(run)
    split = ", ".join(f"{count:,} {name}" for name, count in data.counts.items())
    hardware = f"{environment.get('device_name')} ({environment.get('device')})"
    versions = {name: environment.get(name.lower()) for name in ("vaekit", "torch", "Python")}
    rows = {
        "data": f"{data.name}: {split}; sha256 {data.checksum}",
        "grey values": _grey(config, content),
        "preset": environment.get("preset"),
        "seed": environment.get("seed"),
        "command": shlex.join(map(str, command)) if isinstance(command, list) else None,
        "epochs": f"{len(metrics)}, {seconds:.0f} s",
        "hardware": hardware,
        "threads": environment.get("threads"),
        "software": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "precision": environment.get("precision"),
        "trained": run.created.date().isoformat(),
    }
    lines = [f"| {name} | {to_markdown(str(value))} |" for name, value in rows.items() if value is not None]
    return "\n".join(["## Training", "", "| | |", "|---|---|", *lines])


def _limits(content: Mapping[str, Any], evaluation: Evaluation | None) -> str:
    limits = [to_markdown(sentence) for sentence in (evaluation.warnings if evaluation else [])]
    data_range = content["value_range"]
    if data_range:
        low, high = ("no limit" if value is None else f"{value:g}" for value in data_range)
        limits.append(f"values of x go from {low} to {high}; others are refused")
    if content["kind"] == "image":
        limits.append(f"images of other sizes than {_shape(content['event_shape'])} must be resized first")
    limits.append("likelihood is not familiarity: simpler data can be likelier than the training data")
    limits.append(
        "weights, examples and pictures can give away training or test data: you decide whether to share them"
    )
    return "\n".join(["## Limits", "", *[f"- {sentence}" for sentence in limits]])


def _folder(content: Mapping[str, Any], parity: Mapping[str, Parity], pictures: Sequence[str]) -> str:
    rows = {
        "model.safetensors": "the weights; its header has the checksum of config.json",
        "config.json": "parts and options, event shape, value range, classes, statistics of the latents",
        "preprocessing.json": "from a row of the table to x"
        if "columns" in content
        else f"from a stored {content['kind']} to x",
        "example.safetensors": "eight inputs `x`, their latents `z`, reconstructions `x_hat`, and any context `c`",
    }
    lines = ["## The folder", "", *[f"- `{name}`: {text}" for name, text in rows.items()]]
    for name, errors in parity.items():
        worst = ", ".join(f"{output} {value:.1e}" for output, value in errors.items())
        lines.append(f"- `{name}`: any batch size; greatest deviation from PyTorch {worst}")
    return "\n".join(lines)


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
