"""Rows of which some values are given or missing, and rows that a model of a table draws.

| file | what |
|---|---|
| `imputation` | weighted samples given what was observed: what the other values are likely to be |
| `filling` | a table with its gaps filled, and how sure each value is |
| `conditional` | new rows with given values in some columns; how badly each value of a row is explained |
| `completion` | ways to go on with half of an image |
| `outliers` | how well scores tell unusual rows |
| `synthetic` | how drawn rows of a table compare with real ones |
"""
