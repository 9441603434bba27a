"""Configs: a run as data, and how it becomes objects.

Importing this package imports no torch, so that the command line answers at once.

| file | what |
|---|---|
| `schema` | the records: sections and parts |
| `reading` | from a preset or a TOML file, with settings on top, to a config |
| `spelling`, `synonyms` | the key that a misspelt word stands for |
| `parts` | the table of parts, and how a name becomes a constructor with checked options |
| `recipe` | a config resolved once: model, loss, optimizer and schedule |
| `building` | `vaekit.build`: a model from a config or a preset's name |
| `assemble`, `contracts` | from parts to a model: the order of parts, and the questions to them |
| `groups` | parameters in groups, where a part wants another learning rate or no weight decay |
| `inspection`, `trial` | what a part lacks, found on a few rows before training |
| `presets/` | published models, a few lines of TOML each |
"""

from .reading import (
    changed,
    data_section,
    nearest_setting,
    preset_header,
    preset_names,
    preset_text,
    presets,
    read,
    tables_of,
)
from .schema import Config, Data, Fit, Model, ObjectivePart, Part, Section, Train, explain, flat, parse

__all__ = [
    "Config",
    "Data",
    "Fit",
    "Model",
    "ObjectivePart",
    "Part",
    "Section",
    "Train",
    "changed",
    "data_section",
    "explain",
    "flat",
    "nearest_setting",
    "parse",
    "preset_header",
    "preset_names",
    "preset_text",
    "presets",
    "read",
    "tables_of",
]
