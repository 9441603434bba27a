"""Single rows, of a run's data or of the user's.

| file | what |
|---|---|
| `named_rows` | rows with names, and their latents |
| `scoring` | how unlikely each row is, compared with a run's test rows |
| `outliers` | how well scores find unusual rows |
"""
