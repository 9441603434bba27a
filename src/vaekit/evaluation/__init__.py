"""Numbers that can be trusted: bounds on log p(x), the information in the latents, the quality of samples.

Every number is a `Value` with its standard error, its unit and its kind. Everything works for any
`LatentVariableModel`, is a deterministic function of its seed, and takes bounded memory.

| file or folder | what |
|---|---|
| `model_or_run` | `evaluate`, for a model or a run |
| `model_evaluation`, `run_evaluation` | all measures of a model on data; those of a run, written into its folder |
| `measure_contract` | what a measure gets and gives, and the options of an evaluation |
| `values`, `evaluation_file` | a number with its error; all numbers about a model, and the files that hold them |
| `likelihood/` | bounds on log p(x), and whether log p(x) is a likelihood |
| `latent_space/` | the information in latents, and priors fitted to them |
| `samples/` | the quality of drawn images, and of drawn rows of a table |
| `missing/` | rows with given or missing values: drawn, filled, completed |
| `single_rows/` | rows with names: their latents, and how unlikely each row is |
| `several_runs/` | runs side by side, over seeds; the seconds to a likelihood |
| `model_with_data` | the data that a caller gives for a model; a model with data to show it on |
| `batchwise`, `batch_cache` | how estimators go over rows, batch by batch; finished batches, kept in a run folder |
"""

from .evaluation_file import Evaluation
from .latent_space.ex_post import fit_prior, fitted_prior
from .likelihood.ais import Annealing
from .measure_contract import Options
from .missing.completion import complete
from .missing.conditional import rows_where
from .model_evaluation import evaluate_model
from .model_or_run import evaluate
from .run_evaluation import evaluate_run
from .several_runs.comparison import compare
from .single_rows.named_rows import rows_of
from .single_rows.scoring import score_run
from .values import Value

__all__ = [
    "Annealing",
    "Evaluation",
    "Options",
    "Value",
    "compare",
    "complete",
    "evaluate",
    "evaluate_model",
    "evaluate_run",
    "fit_prior",
    "fitted_prior",
    "rows_of",
    "rows_where",
    "score_run",
]
