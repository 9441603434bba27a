"""The quality of the samples of a model of images.

| file | what |
|---|---|
| `quality` | squared Fréchet distance, precision and recall, density and coverage, class balance |
| `classifier` | the classifier that judges samples by its features and classes |
"""
