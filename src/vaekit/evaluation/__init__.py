"""Numbers that can be trusted: bounds on log p(x), what the latents carry, how good the samples are.

Every number is a `Value` with its standard error, its unit and what kind of number it is. Everything works for any
`LatentVariableModel`, is a deterministic function of its seed, and takes bounded memory.

| file | what |
|---|---|
| `bounds` | ELBO, rate, distortion, importance-weighted bounds |
| `weights` | what is kept of the importance weights: means, effective sample size, Pareto k̂ |
| `ais` | annealed importance sampling, bidirectional Monte Carlo |
| `latents` | KL by dimension, active units, mutual information, linear probe, nearest neighbours |
| `named_rows`, `scoring` | single rows: their latents, and how unlikely each is; compared with the test rows of a run |
| `disentanglement` | whether each latent stands for one factor, where the factors are known |
| `quality` | Fréchet distance, precision and recall, density and coverage, class balance |
| `aggregate`, `subject` | the aggregate posterior; a model with data to show it on |
| `classified`, `ex_post` | the error of a classifier trained with the model; priors fitted to its latents |
| `classifier` | the classifier whose features and classes judge samples |
| `support` | whether p(x) is a likelihood for given data |
| `conditional`, `filling`, `outliers`, `synthetic` | rows of tables: given values, gaps, outliers, drawn ones |
| `completion` | ways to go on with half of an image |
| `imputation` | weighted samples given what was observed: what the other values are likely to be |
| `measure`, `measures` | the contract of a measure; all of them for one model |
| `log_likelihood`, `representation` | the measures of likelihood and of latents |
| `stored` | the same for a run, into its `evaluation.json` |
| `dispatch` | either, by what is given |
| `comparison`, `table` | a table over runs and seeds |
| `record`, `reading_old` | a number with its error; reading those that did not say yet what they depend on |
| `chunks` | how estimators go over rows, batch by batch |
| `speedrun` | the seconds to a likelihood by fixed rules, over seeds |
"""

from .comparison import compare
from .completion import complete
from .conditional import rows_where
from .dispatch import evaluate
from .ex_post import fit_prior, fitted_prior
from .measure import Options
from .measures import evaluate_model
from .named_rows import rows_of
from .record import Evaluation, Value
from .scoring import score_run
from .stored import evaluate_run

__all__ = [
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
