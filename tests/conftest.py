"""One thread for each process: tests are small, run side by side, and compare weights bit for bit across processes."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
