"""Tables: columns of mixed kinds with missing values, from files, frames and arrays.

| file | what |
|---|---|
| `columns`, `column_kinds` | a column, its values as numbers and back; the choice of its kind |
| `frames` | frames of pandas and arrays, to columns as they were read, and back |
| `table_files`, `large_tables` | tables in files, read at once and written; read in pieces |
| `encoded_rows`, `encoded_table` | rows of numbers, in memory or on disk; all rows of a table by its columns |
| `standardization` | means and deviations of columns; numbers as networks see them |
| `table_dataset` | a table split into training, validation and test rows |
| `column_overview` | all columns at a glance |
"""
