"""The command line: each verb parses, calls and prints.

stdout is the result, stderr is progress and errors. Exit status 2 is the caller's mistake, 1 is ours, 130 is Ctrl-C.
Nothing heavy is imported before a verb needs it: `--help` answers at once.

| file | what |
|---|---|
| `entry` | the command `vae`: its verbs in order, and errors as a line and an exit status |
| `train`, `config_options` | `vae train` and `vae resume`, on one device or several; the options of a config |
| `series` | `vae train --seeds` |
| `profile` | `vae profile` |
| `repeat` | `vae repeat` |
| `pictures` | `vae sample`, `vae interpolate`, `vae reconstruct` |
| `latents` | `vae map`, `vae traverse`, `vae latents` |
| `encode`, `score`, `row_files` | `vae encode`, `vae score`, and their shared options |
| `impute`, `table_rows` | `vae impute`; `vae sample` of a table |
| `explore`, `report`, `export` | `vae explore`, `vae report`, `vae export` |
| `evaluate`, `summary` | `vae evaluate`, and its three short blocks |
| `compare` | `vae compare` |
| `runs` | `vae info`, `vae runs` |
| `listings` | `vae data`, `vae presets` |
| `teach`, `check` | `vae teach`, `vae check` |
| `speedrun` | `vae speedrun` |
| `common`, `opened`, `drawing` | shared by verbs: options, opening a run; shared by verbs that draw |
| `printing`, `tables`, `usage_errors` | stdout and stderr; tables in 80 columns; errors of click in our words |
"""

from .entry import app, main

__all__ = ["app", "main"]
