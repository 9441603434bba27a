"""Handing a model on: a folder with everything that its next user needs, and reading it back.

    vaekit.export("runs/mnist", "mnist-vae")
    model = vaekit.load("mnist-vae")

Nothing in the folder is executed. Not for: runs (`runs.restore`), or pages to look at (`explorer`).

| file | what |
|---|---|
| `writing`, `card`, `program_files` | `export`; the model card; the files for programs |
| `interchange` | ONNX and torch's exported programs |
| `folders` | `load` |
"""

from .folders import load
from .writing import export

__all__ = ["export", "load"]
