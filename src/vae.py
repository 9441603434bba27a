"""The assignment's module, for `from vae import VAE` where no `vae.py` of one's own lies beside the notebook.

Everything here is `vaekit.course`. A student's own file comes first, as it must; `vaekit` never imports this module.
"""

from vaekit.course import CVAE, VAE, hello_vae, loss_function, reparametrize

__all__ = ["CVAE", "VAE", "hello_vae", "loss_function", "reparametrize"]
