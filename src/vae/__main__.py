"""`python -m vae` is the command `vae`."""

from .cli import main

main()
