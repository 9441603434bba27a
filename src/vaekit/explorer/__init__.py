"""`vae explore`: an interactive page of any model's latent space, from a server or in one file.

    page = vaekit.explore(model, data)   # shows itself in a notebook
    page.save("page.html")

| file | what |
|---|---|
| `show` | `explore`, an object that shows itself and saves itself |
| `page_content`, `graph` | the data of the page: points and statistics; the model as operators |
| `page`, `server`, `assets/` | the page from its parts; its server; style and script |
| `run_page`, `charts` | `vae report`; charts as SVG |

Not for: measuring a model (`evaluation`).
"""

from .show import Page, explore

__all__ = ["Page", "explore"]
