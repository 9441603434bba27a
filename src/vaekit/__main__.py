"""`python -m vaekit` is the command `vae`."""

from .cli import main

main()
