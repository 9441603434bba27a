"""Write the recorded figures into the documents: `python benchmarks/report.py`; a test keeps them equal."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

from vaekit.config import preset_names, read

HERE = Path(__file__).parent
ROOT = HERE.parent

NAMES = {
    "course-vae": "VAE, the assignment's recipe",
    "standard-vae": "VAE, the same networks with a standard normal prior",
    "vae": "VAE, ours (the default)",
    "course-cvae": "CVAE, the assignment's recipe",
    "standard-cvae": "CVAE, the same networks with a standard normal prior",
    "cvae": "CVAE, ours",
}


def recipes() -> str:
    results = json.loads((HERE / "recipes.json").read_text())
    rows = ["| model | `vae train …` | test −ELBO | rate | distortion |", "|---|---|---|---|---|"]
    for preset, name in NAMES.items():
        if preset not in results:
            continue
        score, runs = results[preset]["test_neg_elbo"], results[preset]["runs"]
        rate, distortion = (sum(run["test"][term] for run in runs) / len(runs) for term in ("rate", "distortion"))
        spread = f" ± {score['sd']:.2f}" if score["n"] > 1 else f" (n = {score['n']})"
        rows.append(f"| {name} | `{preset}` | {score['mean']:.2f}{spread} | {rate:.2f} | {distortion:.2f} |")
    return "\n".join(rows)


def presets() -> str:
    results = json.loads((HERE / "presets.json").read_text())
    rows = [
        "| preset | objective | binarize | epochs | validation −ELBO | rate | distortion | s per epoch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for preset in preset_names():
        if read(preset).likelihood.name == "columns" or read(preset).data.kind:
            continue  # of tables, or of signals
        if preset not in results:
            rows.append(f"| `{preset}` | {read(preset).objective.name} | | | not yet run | | | |")
            continue
        run = results[preset]
        score = run["validation"]
        cells = [f"{score[term]:.2f}" if term in score else "" for term in ("neg_elbo", "rate", "distortion")]
        rows.append(
            f"| `{preset}` | {run['objective']} | {run['binarize']} | {run['epochs']} | {' | '.join(cells)} | "
            f"{run['seconds_per_epoch']:.0f} |"
        )
    return "\n".join(rows)


def speed() -> str:
    results = json.loads((HERE / "speed.json").read_text())
    rows = ["| what | ours | compared with | theirs | ratio | goal | met |", "|---" * 7 + "|"]

    def row(what: str, part: str, ours: str, other: str, theirs: str, goal: str, *, faster: bool = False) -> None:
        if ours not in results.get(part, {}).get("median", {}):
            rows.append(f"| {what} | not measured | {other} | | | {goal} | |")
            return
        found, unit = results[part]["median"], results[part]["unit"]
        ratio = found[theirs] / found[ours] if faster else found[ours] / found[theirs]
        times = f"{ratio:.1f}× as fast" if faster else f"{ratio:.2f}×"
        figures = f"{found[ours]:.3g} {unit} | {other} | {found[theirs]:.3g} {unit} | {times}"
        rows.append(f"| {what} | {figures} | {goal} | {_met(goal, found[ours] if goal.endswith(' s') else ratio)} |")

    epoch = "an epoch of `vae train course-vae`"
    products = "-bf16" if results.get("training", {}).get("precision") == "bf16" else ""
    row(epoch, "training", "ours", "the assignment's own loop", "assignment", "≥ 4×", faster=True)
    row(epoch, "training", "ours", "Pythae 0.1.2", "pythae", "≥ 2×", faster=True)
    row(epoch, "training", "ours", "the floor: its products and Adam", f"floor{products}", "≤ 2×")
    row("the floor itself", "training", f"floor{products}", "the assignment's own loop", "assignment", "", faster=True)
    row(f"{epoch}, fp32", "training", "ours-fp32", "the floor in fp32", "floor", "≤ 2×")
    row("a sample of L_5000", "evaluation", "ours-nll", "Pythae's `get_nll`", "pythae-nll", "≥ 6×", faster=True)
    row("a sample of L_5000", "evaluation", "ours-nll", "the decoder's products", "decoder-floor", "≤ 1.3×")
    row(
        "the same with `--precision bf16`",
        *("evaluation", "ours-nll-bf16", "Pythae's `get_nll`", "pythae-nll", "≥ 6×"),
        faster=True,
    )
    row("`vae sample`", "startup", "vae sample", "`import torch`", "import torch", "≤ 1.2×")
    row("`vae train` without its steps", "startup", "vae train, no step", "`import torch`", "import torch", "≤ 3 s")
    row("`vae --help`", "startup", "vae --help", "Python itself", "python -c pass", "≤ 0.2 s")
    row("`vae runs`", "startup", "vae runs", "Python itself", "python -c pass", "≤ 0.5 s")
    row("loading MNIST, warm", "startup", "load MNIST", "`import torch`", "import torch", "≤ 0.3 s")
    row("`--seeds 4 --jobs 2`", "seeds", "two at a time", *("one after another",) * 2, "≥ 1.6×", faster=True)
    kept = "torch, the data and the model"
    row("memory of `vae train standard-vae`", "memory", "vae train vae", kept, kept, "≤ 1.5×")
    return "\n".join(rows)


def _met(goal: str, value: float) -> str:
    """Whether a value is within a goal such as "≤ 2×", if there is one."""
    if not goal:
        return ""
    limit = float(goal[2:].rstrip(" s×"))
    return "yes" if (value <= limit if goal.startswith("≤") else value >= limit) else "no"


def quality() -> str:
    results = json.loads((HERE / "speed.json").read_text())
    names = {"assignment": "the assignment's own loop", "pythae": "Pythae 0.1.2", "small": "a script of one layer"}
    found, others = results.get("quality", {"goals": {}}), results.get("rivals", {})
    rivals = [name for name in names if name in others]
    heads = ["test −ELBO ≤", "ours", *(names[rival] for rival in rivals)]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for goal, runs in found["goals"].items():
        worst = max(run["test_neg_elbo"] for run in runs)
        command = re.sub(r" --seed \d+", "", runs[0]["command"])
        cell = f"{_spread([run['seconds'] for run in runs])}, `{command}`: at most {worst:.1f}"
        cells = [cell if worst <= float(goal) else f"missed: {worst:.1f}"]
        for rival in rivals:
            times = [run["reached_seconds"].get(goal) for run in others[rival]]
            best = min(score for run in others[rival] for score in run["test_neg_elbo"])
            most = max(run["epochs"] for run in others[rival])
            cells.append(f"not in {most} epochs: {best:.1f}" if None in times else _spread(times))
        rows.append(f"| {goal} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _spread(seconds: list[float]) -> str:
    return f"{statistics.mean(seconds):.1f} ± {statistics.stdev(seconds):.1f} s"


def precision() -> str:
    found = json.loads((HERE / "precision.json").read_text())
    rows = ["| `train.precision` | test −ELBO of `course-vae` | seeds |", "|---|---|---|"]
    for name in ("fp32", "bf16"):
        mean, sd, n = (found[name][key] for key in ("mean", "sd", "n"))
        rows += [f"| `{name}` | {mean:.2f} ± {sd:.2f} | {n} |"]
    return "\n".join(rows)


def machine() -> str:
    """What the speeds were measured on."""
    results = json.loads((HERE / "speed.json").read_text())
    parts = sorted({(found["hardware"], found["torch"], found["date"]) for found in results.values()})
    return "\n".join(f"Measured on {hardware}, torch {torch}, {date}." for hardware, torch, date in parts)


def waiting() -> str:
    """How long threads spin, and what a step takes then."""
    found = json.loads((HERE / "waiting.json").read_text())
    rows = ["| threads that wait | ms per step, alone | beside a busy process |", "|---|---|---|"]
    for setting, taken in found["median"].items():
        name = f"`{setting}`" if "=" in setting else setting
        rows.append(f"| {name} | {taken['alone']:.1f} | {taken['beside a busy process']:.1f} |")
    return "\n".join(rows)


def streaming() -> str:
    found = json.loads((HERE / "streaming.json").read_text())
    rows = ["| `conv-vae` | in memory | memory-mapped `.npy` | folder of images |", "|---|---|---|---|"]
    for name, kind in found.items():
        if name.startswith("conv-vae, "):
            speeds = [f"{kind['memory']['median_images_per_second']:,.0f} images/s"]
            speeds += [f"{kind[where]['median_ratio_to_memory']:.2f} of that" for where in ("npy", "folder")]
            rows.append(f"| {name.removeprefix('conv-vae, ')} | {' | '.join(speeds)} |")
    growth = found["growth"]["microseconds_per_image_by_images"]
    counts = ", ".join(f"{int(count):,}" for count in growth)
    times = ", ".join(f"{growth[count]['processor']:.1f}" for count in growth)
    flat = f"Processor time for an image of 8 × 8 pixels and a small MLP, from {counts} images on disk: {times} µs."
    return "\n".join([*rows, "", flat])


def reliability() -> str:
    found = json.loads((HERE / "reliability.json").read_text())
    kills, fuzz, cost = found["kills"], found["fuzz"], found["cost"]
    readers = fuzz["readers"].values()
    refused = sum(reader["refused"] for reader in readers)
    every = f"`train.checkpoint_every` = {cost['checkpoint_every']:.0f} s"
    rows = [
        "| what | how often | what came of it |",
        "|---|---|---|",
        *(f"| {way} | {times} | |" for way, times in kills["ways"].items()),
        f"| deaths in all | {kills['deaths']} | {kills['runs']} runs, each the same bit for bit |",
        f"| damaged inputs, {len(readers)} readers | {fuzz['inputs']:,} | {refused:,} refused, the others read |",
        f"| a checkpoint of the preset `vae`, {cost['megabytes']:.0f} MB | | {cost['seconds_per_checkpoint']:.2f} s |",
        f"| all checkpoints of {every} | {cost['checkpoints']} | {100 * cost['share']:.1f} % of the training time |",
    ]
    return "\n".join([*rows, "", f"{found['hardware']}, torch {found['torch']}, {found['date']}."])


def ranks() -> str:
    found = json.loads((HERE / "ranks.json").read_text())
    rows = ["| preset | whole batch | 1 rank | 2 ranks | faster | efficiency | processor time |", "|---" * 7 + "|"]
    for run in found["runs"]:
        one, two = (f"{run['median'][ranks]:,}" for ranks in ("1", "2"))
        what = f"`{run['preset']}`, {run['precision']} | {run['global_batch']:,}"
        rows.append(
            f"| {what} | {one} | {two} | {run['speedup']:.2f} × | {100 * run['efficiency']:.0f} % | {_work(run)} |"
        )
    loads = [load for run in found["runs"] for load in run["load_average"].values()]
    load = f"load average from {min(loads):.0f} to {max(loads):.0f} by other jobs included"
    return "\n".join([*rows, "", f"{found['hardware']}, torch {found['torch']}, {found['date']}; {load}."])


def _work(run: dict[str, Any]) -> str:
    one, two = (run["processor_microseconds_per_image"][ranks] for ranks in ("1", "2"))
    return f"{one:.0f} → {two:.0f} µs, {100 * one / two:.0f} %"


def samples() -> str:
    """How good the samples of the recipes are."""
    path = HERE / "samples.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    columns = {
        "precision": "precision",
        "recall": "recall",
        "coverage": "coverage",
        "squared Fréchet distance (classifier features)": "squared Fréchet distance",
        "recognised as the class asked for": "recognised",
    }
    rows = [f"| `vae train …` | {' | '.join(columns.values())} | seeds |", "|---" * (len(columns) + 2) + "|"]
    for preset, found in results.items():
        # older records have the name without "squared"
        cells = [
            _cell(found["values"].get(name, found["values"].get(name.removeprefix("squared ")))) for name in columns
        ]
        rows.append(f"| `{preset}` | {' | '.join(cells)} | {len(found['runs'])} |")
    return "\n".join(rows)


def _cell(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    return f"{value['mean']:.1f}" + ("" if value["sd"] is None else f" ± {value['sd']:.1f}")


def speedruns() -> str:
    """Entries to the tracks of `vae speedrun`."""
    rows = ["| track | entry | seconds | nats per image | p | passed |", "|---|---|---|---|---|---|"]
    for path in sorted((HERE / "speedruns").glob("*.json")):
        entry = json.loads(path.read_text())
        seconds, score = entry["seconds"], entry["score"]
        rows.append(
            f"| {entry['track']} | `{entry['command']}` | {seconds['mean']:.1f} ± {seconds['sd']:.1f} | "
            f"{score['mean']:.2f} ± {score['sd']:.2f} | {entry['p_value']:.1g} | {'yes' if entry['passed'] else 'no'} |"
        )
    return "\n".join(rows)


def peers() -> str:
    """What this package has and others have."""
    found = json.loads((HERE / "peers.json").read_text())
    names = [f"{name} {version}" for name, version in found["versions"].items()]
    rows = [f"| | vaekit | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for row, record in found["rows"].items():
        cells = ["✓" if files else "" for files in record["where"].values()]
        rows.append(f"| {row} | {'✓' if record['here'] else ''} | {' | '.join(cells)} |")
    return "\n".join(rows)


def families() -> str:
    """What the families came to in short trainings: a table for each part that was run."""
    path = HERE / "families.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    if few := results.pop("labels", {}) | results.pop("latents", {}):
        results["labels"] = few
    parts = [FAMILIES[part](runs) for part, runs in results.items()]
    seconds = sum(run["seconds"] for runs in results.values() for run in runs.values())
    runs = [run for runs in results.values() for run in runs.values()]
    where = sorted({f"{run['hardware']}, torch {run['torch']}, {run['date']}" for run in runs})
    text = (
        f"`python benchmarks/families.py`, {seconds / 60:.0f} minutes in all, one training each unless said otherwise"
    )
    return "\n\n".join([*parts, f"{text}. {'; '.join(where)}."]) if parts else ""


def _ex_post(runs: dict[str, Any]) -> str:
    first = next(iter(runs.values()))
    rows = [
        f"**Densities fitted afterwards.** Squared Fréchet distance of {first['samples']:,} samples, smaller is "
        f"better, by where latents are drawn from, after {first['epochs']} epochs; ± is the standard error.",
        "",
        "| preset | the prior | one normal | a mixture |",
        "|---|---|---|---|",
    ]
    for preset, run in runs.items():
        cells = [f"{run[d]['frechet']:.1f} ± {run[d]['error']:.1f}" for d in ("prior", "normal", "mixture")]
        rows.append(f"| `{preset}` | {' | '.join(cells)} |")
    return "\n".join(rows)


PUBLISHED_ERRORS = {"M2": {"100": 11.97, "600": 4.94, "1000": 3.60}, "M1+M2": {"100": 3.33, "600": 2.59, "1000": 2.40}}


def _labels(runs: dict[str, Any]) -> str:
    rows = [
        "**Few labels.** Error in % of the test rows; published by Kingma et al. 2014, arXiv:1406.5298, table 1. Ours "
        "trained for minutes, and is far from done: the preset's 100 epochs take an estimated 3.5 hours of one core "
        "for each seed and number of labels; M1+M2 is over latents of `standard-vae` after 2 epochs.",
        "",
        "| model | labels | published | ours | epochs | seeds |",
        "|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, int], list[float]] = {}
    for name, run in runs.items():
        model, count, _ = name.split(", ")
        groups.setdefault((model, count, run["epochs"]), []).append(run["error"])
    for (model, count, epochs), errors in groups.items():
        spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
        published = PUBLISHED_ERRORS[model][count]
        ours = f"{statistics.mean(errors):.1f}{spread}"
        cells = [model, count, f"{published:.2f}", ours, str(epochs), str(len(errors))]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


PUBLISHED_SPHERES = {"sphere 2": 132.5, "normal 2": 135.7, "sphere 5": 108.4, "normal 5": 110.2}
PUBLISHED_SPHERES |= {"sphere 10": 93.2, "normal 20": 88.9}


def _spheres(runs: dict[str, Any]) -> str:
    first = next(iter(runs.values()))
    rows = [
        f"**Spheres.** −log p(x) of dynamic MNIST by {first['samples']} samples, the first {first['images']:,} test "
        "images, ± the standard error; published by Davidson et al. 2018, arXiv:1804.00891, table 1, who train until "
        "50 epochs bring nothing, as ours do: "
        f"{min(run['wall_clock_seconds'] for run in runs.values()) / 60:.0f} to "
        f"{max(run['wall_clock_seconds'] for run in runs.values()) / 60:.0f} minutes of a core each.",
        "",
        "| latents | dimensions | published | ours | epochs |",
        "|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        what, dimensions = name.split()
        nll = f"{run['nll']:.1f} ± {run['error']:.1f}"
        rows.append(f"| {what} | {dimensions} | {PUBLISHED_SPHERES[name]} | {nll} | {run['epochs']} |")
    return "\n".join(rows)


def _levels(runs: dict[str, Any]) -> str:
    first = next(iter(runs.values()))
    rows = [
        f"**Several levels.** −log p(x) of dynamic MNIST by {first['samples']} samples, the first {first['images']:,} "
        "test images, ± the standard error; rates of the levels from the data upwards, nats.",
        "",
        "| preset | epochs | seconds | −log p(x) | rates |",
        "|---|---|---|---|---|",
    ]
    for preset, run in runs.items():
        rates = ", ".join(f"{rate:.1f}" for rate in run["rates"].values())
        took = f"{run['wall_clock_seconds']:.0f}"
        rows.append(f"| `{preset}` | {run['epochs']} | {took} | {run['nll']:.1f} ± {run['error']:.1f} | {rates} |")
    return "\n".join(rows)


def _factors(runs: dict[str, Any]) -> str:
    scores = ("MIG", "SAP", "FactorVAE score", "DCI disentanglement", "DCI completeness", "DCI informativeness")
    heads = ("MIG", "SAP", "FactorVAE", "DCI: disentanglement", "completeness", "informativeness", "rate", "distortion")
    rows = [
        "**Disentanglement** on `shapes`, 10 latents, 600 steps; all scores from 0 to 1, FactorVAE's in %, more is "
        "better; rate and distortion in nats.",
        "",
        f"| preset | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for preset, run in runs.items():
        cells = [f"{run[name]:.0f}" if name == "FactorVAE score" else f"{run[name]:.2f}" for name in scores]
        cells += [f"{run[name]:.1f}" for name in ("rate", "distortion")]
        rows.append(f"| `{preset}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def _discrete(runs: dict[str, Any]) -> str:
    rows = [
        "**Discrete latents.** −ELBO of static MNIST by hard samples, 10,000 test images, nats. Papers on gradients of "
        "such models publish from 101.5 to 112.2, for several networks and after up to a million steps.",
        "",
        "| preset | epochs | seconds | −ELBO | rate | distortion |",
        "|---|---|---|---|---|---|",
    ]
    for preset, run in runs.items():
        figures = " | ".join(f"{run[name]:.1f}" for name in ("neg_elbo", "rate", "distortion"))
        rows.append(f"| `{preset}` | {run['epochs']} | {run['wall_clock_seconds']:.0f} | {figures} |")
    return "\n".join(rows)


FAMILIES = {
    "ex-post": _ex_post,
    "labels": _labels,
    "spheres": _spheres,
    "levels": _levels,
    "factors": _factors,
    "discrete": _discrete,
}


TABLES = {
    "README.md": {"recipes": recipes, "peers": peers},
    "docs/choosing.md": {"presets": presets, "samples": samples, "families": families},
    "docs/speed.md": {
        "speed": speed,
        "quality": quality,
        "precision": precision,
        "streaming": streaming,
        "waiting": waiting,
        "machine": machine,
        "speedruns": speedruns,
    },
    "docs/reliability.md": {"reliability": reliability},
    "docs/scaling.md": {"ranks": ranks},
}


def filled(page: str) -> str:
    """The text of a document with its tables made anew."""
    text = (ROOT / page).read_text()
    for name, table in TABLES[page].items():
        marked = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
        if not marked.search(text):
            raise ValueError(f"{page} has no place for the table {name!r}")
        text = marked.sub(lambda _, name=name, table=table: f"<!-- {name} -->\n{table()}\n<!-- /{name} -->", text)
    return text


def write() -> None:
    """Make all tables anew."""
    for page in TABLES:
        (ROOT / page).write_text(filled(page))


if __name__ == "__main__":
    write()
