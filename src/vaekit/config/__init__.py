"""Configs: what a run is made of, as data, and how it becomes objects.

    schema.py    the records: sections and parts
    reading.py   from a preset or a TOML file, with settings on top, to a config
    spelling.py, synonyms.py  which key somebody means who wrote another
    parts.py     the table of parts, and how a name becomes a constructor with checked options
    recipe.py    a config resolved once, and the model, loss, optimizer and schedule that are made from it
    assemble.py  from parts to a model: what each is given
    asking.py    what each is asked, and the answers of a plain module
    inspection.py  what a part lacks, said before training
    presets/     published models, a few lines of TOML each

Importing this package imports no torch, so that the command line answers at once.
"""

from .reading import changed, meant, preset_header, preset_names, preset_text, presets, read
from .schema import Config, Data, Model, ObjectivePart, Part, Section, Train, explain, flat, parse

__all__ = [
    "Config",
    "Data",
    "Model",
    "ObjectivePart",
    "Part",
    "Section",
    "Train",
    "changed",
    "explain",
    "flat",
    "meant",
    "parse",
    "preset_header",
    "preset_names",
    "preset_text",
    "presets",
    "read",
]
