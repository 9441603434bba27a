"""Runs: from a config to a run folder, and back.

| file | what |
|---|---|
| `preset`, `own_model` | `vaekit.train`; `vaekit.fit` with its progress in sight |
| `lifecycle` | trained, resumed, and what the other ranks do meanwhile |
| `job`, `preflight` | a recipe with its data and its model; what is checked before a training |
| `data_facts`, `environment`, `commit` | what environment.json says of the data; of the machine; of git |
| `restore`, `migration` | from a run folder to its config, data and model; configs of earlier versions |
| `weights` | models with stored weights |
| `repetition` | trained again, to compare the weights |
| `series`, `replicate`, `side_by_side` | one config with several seeds; one of them; several processes |
| `terminal`, `tensorboard` | how it looks in a terminal, and as event files |
| `pictures`, `picture_writer` | pictures of the data, every epoch and the model; the thread that writes them |
| `profiling` | where the time of a training goes |
"""
