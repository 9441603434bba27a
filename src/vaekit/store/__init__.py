"""The run folder: everything a run reads and writes, atomically.

    runs/<name>/
      config.toml        resolved; repeats the run
      environment.json   format, preset, created, what the training was made with, and when it was resumed
      metrics.jsonl      one line per epoch
      status.json        finished, interrupted or failed
      lock               held by the process that writes
      tensorboard/       event files, where asked for
      checkpoints/       last/ and best/, each with the one before: safetensors + JSON, a manifest with SHA-256
      samples/           pictures by epoch
      evaluation.json    what `vae evaluate` found, with its batches and the numbers of each row in evaluation/
      test.json          −ELBO, rate and distortion of the test rows after training
      latents/, scores/  of rows, by `vae encode` and `vae score`

It knows nothing of models and training, and importing it imports no torch: `vae runs` answers at once.

| file | what |
|---|---|
| `run`, `root` | one run folder; the folder of all runs |
| `checkpoint`, `tensors`, `state_dict` | checkpoints; safetensors; reading what `torch.save` wrote |
| `journal`, `metrics` | metrics.jsonl, and what its records hold |
| `files`, `bounded`, `lock` | files whole or absent; bounds on what is read; one writer a folder |
| `escape` | text on its way to a terminal or a document |
"""

from .checkpoint import FORMAT, Checkpoint
from .root import delete, is_leftover
from .run import Run, find_runs, list_runs

__all__ = ["FORMAT", "Checkpoint", "Run", "delete", "find_runs", "is_leftover", "list_runs"]
