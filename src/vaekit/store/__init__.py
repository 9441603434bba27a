"""The run folder: everything a run reads and writes, atomically.

    runs/<name>/
      config.toml        resolved; repeats the run
      environment.json   format, preset, created, the surroundings of the training, and its resumptions
      metrics.jsonl      one line per epoch
      status.json        finished, interrupted or failed
      lock               held by the process that writes
      tensorboard/       event files, if asked for
      checkpoints/       last/ and best/, each with its predecessor: safetensors + JSON, a manifest with SHA-256
      samples/           pictures by epoch
      evaluation.json    results of `vae evaluate` on all test rows by the best weights; evaluation-*.json those on
                         other rows or by other weights; evaluation/ has batches and the numbers of each row
      test.json          −ELBO, rate and distortion of the test rows after training
      latents/, scores/  results of `vae encode` and `vae score`

This package knows nothing of models and training, and importing it imports no torch: `vae runs` answers at once.

| file | what |
|---|---|
| `run`, `root` | one run folder; the folder of all runs |
| `checkpoint`, `tensors`, `state_dict` | checkpoints; safetensors; reading files of `torch.save` |
| `summaries` | runs at a glance |
| `journal`, `metrics`, `old_names` | metrics.jsonl, and the fields of its records; their names in older run folders |
| `files`, `bounded`, `lock` | files whole or absent; bounds on values; one writer a folder |
| `escape` | text on its way to a terminal or a document |
"""

from .checkpoint import RUN_FORMAT, Checkpoint
from .root import delete, is_leftover
from .run import Run, find_runs, list_runs

__all__ = ["RUN_FORMAT", "Checkpoint", "Run", "delete", "find_runs", "is_leftover", "list_runs"]
