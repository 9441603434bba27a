"""Sources of data: IDX files, arrays, folders of images, and what torchvision downloads.

| file | what |
|---|---|
| `idx` | IDX, the format of MNIST and its descendants |
| `vision` | what torchvision downloads |
| `arrays`, `archives` | `.npy`; `.npz` |
| `frames` | tables: `.csv`, `.tsv`, `.parquet`, pandas |
| `image_folder` | folders of images |
| `shapes` | images that are drawn here, with known factors |
| `opening` | opening a file that somebody else may have put there |
"""
