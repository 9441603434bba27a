"""The command line: each verb parses, calls and prints.

stdout is the result, stderr is progress and errors. Exit status 2 is the caller's mistake, 1 is ours, 130 is Ctrl-C.
Nothing heavy is imported before a verb needs it: `--help` answers at once.

| file | what |
|---|---|
| `command` | the command `vae`: its verbs in order, and errors as a line and an exit status |
| `train`, `series` | `vae train` and `vae resume`, on one device or several; `vae train --seeds` |
| `profile`, `repeat` | `vae profile`, `vae repeat` |
| `pictures`, `sample_table` | `vae sample`, `vae interpolate`, `vae reconstruct`; `vae sample` of a table |
| `latents` | `vae map`, `vae traverse`, `vae latents` |
| `encode`, `score` | `vae encode`, `vae score` |
| `impute` | `vae impute` |
| `explore`, `report`, `export` | `vae explore`, `vae report`, `vae export` |
| `evaluate` | `vae evaluate` |
| `compare` | `vae compare` |
| `runs` | `vae info`, `vae runs` |
| `data`, `presets` | `vae data`, `vae presets` |
| `teach`, `check` | `vae teach`, `vae check` |
| `speedrun` | `vae speedrun` |
| `config_options` | the options that make a config |
| `run_options` | RUN and its options, for verbs that use the model of a run |
| `drawing_options` | the same for verbs that draw, with the options of a picture |
| `common` | other options, and printing of results |
| `printing`, `tables`, `usage_errors` | stdout and stderr; tables in 80 columns; messages for a wrong command line |
"""

from .command import app, main

__all__ = ["app", "main"]
