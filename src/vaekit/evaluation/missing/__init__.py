"""Rows with given or missing values, of tables and images.

| file | what |
|---|---|
| `imputation` | weighted samples given the observed values: likely values of the missing ones |
| `filling` | a table with its gaps filled, and how sure each value is |
| `conditional` | new rows with given values in some columns; the cost of each value of a row |
| `completion` | ways to complete half of an image |
"""
