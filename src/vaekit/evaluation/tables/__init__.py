"""Rows with given or missing values, and rows that a model of a table draws.

| file | what |
|---|---|
| `imputation` | weighted samples given the observed values: likely values of the others |
| `filling` | a table with its gaps filled, and how sure each value is |
| `conditional` | new rows with given values in some columns; how badly each value of a row is explained |
| `completion` | ways to complete half of an image |
| `outliers` | how well scores find unusual rows |
| `synthetic` | how drawn rows of a table compare with real ones |
"""
