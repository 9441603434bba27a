"""The quality of the samples of a model.

| file | what |
|---|---|
| `quality` | images: squared Fréchet distance, precision and recall, density and coverage, class balance |
| `classifier` | the classifier that judges images by its features and classes |
| `synthetic` | rows of a table, compared with real ones |
"""
