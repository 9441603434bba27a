"""`vae explore`: a page on which to touch the latent space of any model, from a server or all in one file.

    page = vaekit.explore(model, data)   # shows itself in a notebook
    page.save("page.html")

Not for: numbers that judge a model (`evaluation`).
"""

from .show import Page, explore

__all__ = ["Page", "explore"]
