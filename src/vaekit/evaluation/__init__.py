"""Numbers that can be trusted: bounds on log p(x), the information in the latents, the quality of samples.

Every number is a `Value` with its standard error, its unit and its kind. Everything works for any
`LatentVariableModel`, is a deterministic function of its seed, and takes bounded memory.

| file or folder | what |
|---|---|
| `measure`, `model_evaluation` | the contract of a measure; all of them for one model |
| `likelihood/` | bounds on log p(x), and whether it is a likelihood |
| `latent_space/` | the information in latents, and priors fitted to them |
| `samples/` | the quality of image samples |
| `missing/` | rows with given or missing values: drawn, filled, completed |
| `tables/` | unusual rows, and drawn rows of a table compared with real ones |
| `named_rows`, `scoring` | single rows: their latents, and how unlikely each row is, compared with a run's test rows |
| `data_for_model`, `model_with_data` | the data that a caller gives for a model; a model with data to show it on |
| `run_evaluation`, `evaluated_rows` | all measures of a run, into `evaluation.json`; its rows, and its files |
| `dispatch` | `evaluate`, for a model or a run |
| `comparison`, `comparison_table`, `student_t` | a table over runs and seeds, and the quantiles of its intervals |
| `values_with_errors`, `reading_old` | a number with its error; numbers of earlier versions |
| `batchwise` | how estimators go over rows, batch by batch |
| `speedrun` | the seconds to a likelihood by fixed rules, over seeds |
"""

from .comparison import compare
from .dispatch import evaluate
from .latent_space.ex_post import fit_prior, fitted_prior
from .likelihood.ais import Annealing
from .measure import Options
from .missing.completion import complete
from .missing.conditional import rows_where
from .model_evaluation import evaluate_model
from .named_rows import rows_of
from .run_evaluation import evaluate_run
from .scoring import score_run
from .values_with_errors import Evaluation, Value

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
