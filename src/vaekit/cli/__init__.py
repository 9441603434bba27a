"""The command line: each verb parses, calls and prints.

stdout is the result, stderr is progress and errors. Exit status 2 is the caller's mistake, 1 is ours, 130 is Ctrl-C.
Nothing heavy is imported before a verb needs it: `--help` answers at once.

| file | what |
|---|---|
| `entry` | the command `vae`: its verbs in order, and errors as a line and an exit status |
| `train` | `vae train` and `vae resume`, on one device or several |
| `series` | `vae train --seeds` |
| `profile` | `vae train --profile` |
| `repeat` | `vae repeat` |
| `pictures` | `vae sample`, `vae interpolate`, `vae reconstruct` |
| `images` | `vae encode`, `vae score` |
| `evaluate` | `vae evaluate` |
| `compare` | `vae compare` |
| `runs` | `vae info`, `vae runs` |
| `listings` | `vae data`, `vae presets` |
| `common` | what verbs share: options, opening a run, printing |
"""

from .entry import app, main

__all__ = ["app", "main"]
