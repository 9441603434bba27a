"""Runs: from a config to a run folder, and back.

demands.py       what a config demands of the data and of the machine
job.py           a recipe with its data and its model, fitted into a run folder
preset.py        a preset trained in one call
own_model.py     a model that one holds, trained with its progress in sight
lifecycle.py     trained, resumed, and what the other ranks do meanwhile
repetition.py    trained again, to see whether the weights come out the same
restore.py       from a run folder to its model
series.py        one config, one seed after another, or several at the same time
replicate.py     one of them, in a process of its own
side_by_side.py  the processes of several
environment.py   what a run was made with
terminal.py      how a training or an evaluation looks in a terminal
commit.py        at which commit of git
pictures.py      pictures of the data, of every epoch, and of a trained model
tensorboard.py   metrics and pictures as event files
profiling.py     where the time of a training goes
"""
