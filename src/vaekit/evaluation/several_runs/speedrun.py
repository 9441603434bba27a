"""Seconds to a likelihood: tracks with fixed rules, and the time of an entry.

Other speedruns record the seconds to an accuracy; these tracks record the seconds to a likelihood on MNIST. The rules:

- The clock runs from the start of the process to its end, when the weights and all pictures are on the disk.
- A recipe learns from the 55,000 training images only, chooses by the 5,000 held-out ones, and is measured on all
  10,000 test images. Nothing learned elsewhere is used.
- All seeds of an entry are trained by the same command. The mean over at least three of them must meet the goal: a
  one-sided t-test of it has p < 0.05.

Not for: the time of one step (`benchmarks/speed.py`), or the quality of samples (`quality`).
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...config import Config
from ...data import Batches
from ...errors import ConfigError, check_count
from ...runs.data_record import DataRecord
from ...runs.environment import SETUP
from ...runs.restore import RestoredRun
from ...runs.run_config import config_of
from ...store import Run
from ..likelihood.bounds import bounds
from ..values import StageListener
from . import student_t

TRACK_SAMPLES = 5000
LEAST_SEEDS = 3
MNIST_IMAGES = 60_000  # of which the held-out ones are at least as many as by default
LEAST_HELD_OUT = 5_000
LEVEL = 0.05


@dataclass(frozen=True)
class Track:
    """The goal that an entry has to reach.

    Arguments:
        name: Name of the track.
        goal: Nats per test image, at most.
        binary: Whether the images are binarized anew for every epoch, and −L_5000 is measured; else the images are
            grey, and −ELBO is measured with one sample of z.
        preset: The preset of our own entry.
        settings: Settings on top of that preset.
    """

    name: str
    goal: float
    binary: bool
    preset: str
    settings: tuple[str, ...]

    @property
    def about(self) -> str:
        """The measure, in words."""
        measure = "−L_5000 of dynamically binarized images" if self.binary else "−ELBO of grey images"
        return f"{measure} ≤ {self.goal:g} nats"


TRACKS = {
    track.name: track
    for track in (
        Track("grey-100", 100.0, False, "vae", ("train.epochs=1", "train.batch_size=64", "train.learning_rate=3e-3")),
        Track("grey-94", 94.0, False, "vae", ("train.epochs=5",)),
        Track("binary-90", 90.0, True, "vae", ("train.epochs=2", "data.binarize=per-epoch", "model.latent_size=30")),
        Track("binary-87", 87.0, True, "vae", ("train.epochs=4", "data.binarize=per-epoch", "model.latent_size=30")),
    )
}


def speedrun(
    track: Track,
    train: Callable[[int], tuple[Run, float]],
    *,
    seeds: int = LEAST_SEEDS,
    say: Callable[[str], object] = lambda _: None,
    listener: StageListener | None = None,
) -> dict[str, Any]:
    """Train an entry to a track, one seed after another, and measure it.

    Arguments:
        track: The track.
        train: Trains a seed; gives the finished run, and the seconds from the start of its process to its end.
        seeds: Number of trainings, with the seeds 0, 1, 2 …
        say: Called with one line about each seed.
        listener: Called with the stage, the batches done and the total of each measurement, which the clock leaves out.

    Returns:
        The record: the track, each seed's seconds and score, their means, the p-value, and the machine
        as the last training recorded it.

    Raises:
        ConfigError: `seeds` is below 3, or a run does not keep to the rules.
    """
    check_count("seeds", seeds, LEAST_SEEDS)
    trained = [train(seed) for seed in range(seeds)]  # first, while the machine is quiet
    entries: list[dict[str, Any]] = []
    for seed, (run, seconds) in enumerate(trained):
        _check_rules(track, run)
        entry = {"seed": seed, "seconds": round(seconds, 2), "score": score_of(track, run, listener), "run": run.name}
        say(f"seed {seed}: {entry['seconds']:.1f} s, {entry['score']:.2f} nats")
        entries.append(entry)
    scores, times = [e["score"] for e in entries], [e["seconds"] for e in entries]
    p = p_value(scores, track.goal)
    return {
        "track": track.name,
        "what": track.about,
        "goal": track.goal,
        "passed": p < LEVEL,
        "p_value": p,
        "seconds": {"mean": statistics.mean(times), "sd": statistics.stdev(times)},
        "score": {"mean": statistics.mean(scores), "sd": statistics.stdev(scores), "unit": "nats per image"},
        "seeds": entries,
        "date": time.strftime("%Y-%m-%d"),
        "machine": {key: run.environment[key] for key in SETUP},
    }


def score_of(track: Track, run: Run, listener: StageListener | None = None) -> float:
    """The score of a run on a track, nats per test image; less is better."""
    if not track.binary:
        neg_elbo = run.read_json("test.json")["neg_elbo"]
        return math.inf if neg_elbo is None else float(neg_elbo)
    restored = RestoredRun.of(run)
    model = restored.model()
    test = Batches(restored.dataset().test, batch_size=1000, binarize=restored.binarize)
    x = torch.cat([batch.x for batch in test])
    estimates = bounds(model, x, samples=(TRACK_SAMPLES,), precision="bf16", listener=listener)
    return -estimates.tightest.mean().item()


def p_value(scores: Sequence[float], goal: float) -> float:
    """The probability of scores as good as these if the true mean is the goal, by Student's t-test.

    Arguments:
        scores: At least two.
        goal: The mean must stay below it.

    >>> round(p_value([1.0, 2.0, 3.0], 2.0), 3)
    0.5
    """
    sd, n = statistics.stdev(scores), len(scores)
    if sd == 0:
        return 0.0 if scores[0] < goal else 1.0
    t = (goal - statistics.mean(scores)) / (sd / math.sqrt(n))
    return student_t.cdf(-t, n - 1)


def check_config(track: Track, config: Config, images: int | None = None) -> None:
    """Check that a training keeps to the rules.

    Arguments:
        track: The track.
        config: The config of the training.
        images: The number of training images; by default the config's.

    Raises:
        ConfigError: The training learns from other images, from other pixel values or from their classes.
    """
    data = config.data
    if images is None:
        images = MNIST_IMAGES - (LEAST_HELD_OUT if data.validation is None else data.validation)
    if data.name != "mnist" or images > MNIST_IMAGES - LEAST_HELD_OUT:
        raise ConfigError(f"an entry learns from 55,000 images of mnist, this one from {images:,} of {data.name}")
    wanted = "per-epoch" if track.binary else "none"
    if data.binarize != wanted:
        raise ConfigError(f"the images of {track.name} need data.binarize = {wanted!r}, got {data.binarize!r}")
    if config.model.condition != "none":
        raise ConfigError(
            f"the score of {track.name} is of images alone, but this model is given their classes; choose an "
            "unconditional preset"
        )


def _check_rules(track: Track, run: Run) -> None:
    """Check that a run kept to the rules; see `check_config`."""
    check_config(track, config_of(run), DataRecord.of(run).counts["train"])
