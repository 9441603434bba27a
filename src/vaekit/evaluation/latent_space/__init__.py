"""The information in latents, and priors fitted to them.

| file | what |
|---|---|
| `representation` | the measure: all about the latents of one model |
| `latent_statistics` | KL by dimension, active units, mutual information, linear probe, nearest neighbours |
| `code_usage` | how evenly a model uses its codes |
| `disentanglement` | whether each latent stands for one factor, where the factors are known |
| `classified` | the error of a classifier that was trained with the model |
| `aggregate` | the aggregate posterior |
| `ex_post` | priors fitted to the latents of training rows |
"""
