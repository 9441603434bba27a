"""The assignment: its models, its functions, and the weights that students store.

| file | what |
|---|---|
| `models` | the VAE and the class-conditional VAE, and their functions |
| `student_weights` | weights as students store them |

Not for: the handout and its grading (`teaching`).
"""

from .models import CVAE, VAE, hello_vae, loss_function, reparametrize

__all__ = ["CVAE", "VAE", "hello_vae", "loss_function", "reparametrize"]
