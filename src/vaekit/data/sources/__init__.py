"""Where data come from: IDX files, arrays, folders of images, and what torchvision downloads."""
