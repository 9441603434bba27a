"""Which key of a config somebody means: `lr` is train.learning_rate, `size` is data.size.

No part is imported: keys are those of the sections, and the options of parts that presets set.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache

from .reading import flat, preset_names, preset_text
from .schema import Config, Data, Model, Section, Train

SECTIONS: dict[str, type[Section]] = {"data": Data, "model": Model, "train": Train}
OTHER_NAMES = {  # what other libraries and papers call it
    "lr": "train.learning_rate",
    "rate": "train.learning_rate",
    "bs": "train.batch_size",
    "batch": "train.batch_size",
    "num_epochs": "train.epochs",
    "n_epochs": "train.epochs",
    "max_epochs": "train.epochs",
    "amp": "train.precision",
    "clip": "train.clip_norm",
    "early_stopping": "train.patience",
    "checkpoint": "train.checkpoint_every",
    "latent": "model.latent_size",
    "latents": "model.latent_size",
    "latent_dim": "model.latent_size",
    "z_dim": "model.latent_size",
    "zdim": "model.latent_size",
    "dim": "model.latent_size",
    "conditional": "model.condition",
    "dataset": "data.name",
    "img_size": "data.size",
    "image_size": "data.size",
    "beta": "objective.beta",
    "k": "objective.samples",
    "loss": "objective.name",
    "hidden": "encoder.hidden",
    "channels": "encoder.channels",
    "components": "prior.components",
    "optim": "optimizer.name",
    "weight_decay": "optimizer.weight_decay",
    "scheduler": "schedule.name",
}
PARTS = tuple(name for name in Config.model_fields if name not in SECTIONS)


def meant(word: str) -> str | None:
    """The key that a word stands for, or None.

    >>> meant("lr"), meant("batch-size"), meant("size"), meant("learning_rat"), meant("prior")
    ('train.learning_rate', 'train.batch_size', 'data.size', 'train.learning_rate', 'prior.name')
    """
    word = word.replace("-", "_").lower()
    if word in OTHER_NAMES:
        return OTHER_NAMES[word]
    if word in PARTS:
        return f"{word}.name"
    keys = _keys()
    last = word.rpartition(".")[2]
    near = [last] if last in keys else get_close_matches(last, keys, n=1, cutoff=0.75)
    return keys[near[0]] if near else None


@cache
def _keys() -> dict[str, str]:
    """Keys with their section, by their last word; where several have the same, the first."""
    sections = [f"{section}.{key}" for section, record in SECTIONS.items() for key in record.model_fields]
    return {key.rpartition(".")[2]: key for key in reversed([*sections, *_options()]) if not key.endswith(".name")}


def _options() -> Iterable[str]:
    """The options of parts that presets set."""
    from ..store.bounded import toml_table

    for preset in preset_names():
        yield from flat(toml_table(preset_text(preset)))
