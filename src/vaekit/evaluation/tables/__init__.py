"""Unusual rows, and rows that a model of a table draws.

| file | what |
|---|---|
| `outliers` | how well scores find unusual rows |
| `synthetic` | how drawn rows of a table compare with real ones |
"""
