"""How good the samples of a model of images are.

| file | what |
|---|---|
| `quality` | Fréchet distance, precision and recall, density and coverage, class balance |
| `classifier` | the classifier whose features and classes judge samples |
"""
