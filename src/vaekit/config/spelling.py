"""The key of a config that a word stands for: `lr` is train.learning_rate, `size` is data.size.

No part is imported: the keys are those of the sections, and the options of parts that the caller passes.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from .schema import Config, Data, Model, Section, Train
from .synonyms import OTHER_NAMES

SECTIONS: dict[str, type[Section]] = {"data": Data, "model": Model, "train": Train}
PART_KINDS = tuple(name for name in Config.model_fields if name not in SECTIONS)


def nearest_key(word: str, options: Iterable[str] = ()) -> str | None:
    """The key that a word stands for, or None.

    Arguments:
        word: The word as written.
        options: Keys of options of parts, such as "prior.components".

    >>> nearest_key("lr"), nearest_key("batch-size"), nearest_key("learning_rat"), nearest_key("prior")
    ('train.learning_rate', 'train.batch_size', 'train.learning_rate', 'prior.name')
    """
    word = word.replace("-", "_").lower()
    if word in OTHER_NAMES:
        return OTHER_NAMES[word]
    if word in PART_KINDS:
        return f"{word}.name"
    keys = _by_last_word(options)
    last = word.rpartition(".")[2]
    near = [last] if last in keys else get_close_matches(last, keys, n=1, cutoff=0.75)
    return keys[near[0]] if near else None


def _by_last_word(options: Iterable[str]) -> dict[str, str]:
    """Whole keys by their last word; if several keys share a last word, the first key counts."""
    sections = [f"{section}.{key}" for section, record in SECTIONS.items() for key in record.model_fields]
    return {key.rpartition(".")[2]: key for key in reversed([*sections, *options]) if not key.endswith(".name")}
