"""`python -m vaekit` is the command `vae`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `main` handles it, Ctrl-C ends the process without a traceback

from .cli import main

if __name__ == "__main__":
    main()
