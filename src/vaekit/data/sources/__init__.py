"""Sources of data: IDX files, arrays, folders of images, and downloads by torchvision.

| file | what |
|---|---|
| `idx` | IDX, the format of MNIST and its descendants |
| `torchvision_sets` | data sets that torchvision downloads |
| `arrays`, `archives` | `.npy`; `.npz` |
| `image_folder` | folders of images |
| `shapes` | images drawn here, with known factors |
| `file_access` | opening a file that may come from somebody else; temporary files |
"""
