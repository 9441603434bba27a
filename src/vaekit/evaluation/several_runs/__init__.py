"""Several runs, of several seeds.

| file | what |
|---|---|
| `comparison`, `comparison_table` | the numbers of runs side by side; the table that they are written into |
| `speedrun` | the seconds to a likelihood by fixed rules |
| `student_t` | the quantiles of confidence intervals |
"""
