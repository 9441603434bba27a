"""Runs: from a config to a run folder, and back.

job.py           a config made real: data, model, training and pictures in one run folder
lifecycle.py     trained, resumed, and the part that other ranks take
repetition.py    trained again, to see whether the weights come out the same
restore.py       from a run folder to its config and its model
series.py        one config, one seed after another
environment.py   what a run was made with
pictures.py, tensorboard.py, profiling.py
"""
