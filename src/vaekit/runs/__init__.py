"""Runs: from a config to a run folder, and back.

| file | what |
|---|---|
| `preset`, `own_model` | `vaekit.train`; `vaekit.fit` |
| `lifecycle` | training and resuming a run, alone or with other ranks |
| `job`, `preflight` | a recipe with its data and its model; the checks before a training |
| `final_test` | the means on the test rows after a training |
| `data_record`, `environment`, `commit` | what environment.json records: the data; the machine; git |
| `restore` | from a run folder to its data, model and loss |
| `run_config` | the config of a run, and what configs of earlier versions mean |
| `model_weights` | models and their stored weights |
| `repetition` | a run trained again, to compare the weights |
| `series`, `replicate`, `side_by_side` | one config with several seeds; one of them; several processes |
| `terminal`, `tensorboard` | the progress in a terminal; event files |
| `pictures`, `picture_writer` | pictures of the data, every epoch and the model; the thread that writes them |
| `profiling` | where the time of a training goes |
"""
