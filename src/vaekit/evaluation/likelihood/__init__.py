"""How likely rows are, and whether that can be trusted.

| file | what |
|---|---|
| `log_likelihood` | the measure: all of the files below, for one model |
| `bounds` | ELBO, rate, distortion, importance-weighted bounds |
| `weights` | statistics of the importance weights: means, effective sample size, Pareto k̂ |
| `ais` | annealed importance sampling, bidirectional Monte Carlo |
| `support` | whether p(x) is a likelihood for given data |
"""
