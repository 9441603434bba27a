"""The IWAE with two layers: `python benchmarks/published/iwae_2l.py --variants "K = 5"`."""

from rows import Row, Variant, main
from vae_1l import BURDA

ROW = Row(
    name="iwae-2l",
    title="IWAE, 2 layers",
    paper="Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, table 1",
    unit="nats",
    protocol=f"Layers of 100 and 50; the rest as with 1 layer: {BURDA}",
    cost="an estimated 1.5 times that of 1 layer",
    source="verified in the README of github.com/nbip/IWAE, which quotes them and itself reaches 84.83 / 83.48 / 82.82",
    variants=tuple(
        Variant(f"K = {k}", figure, "iwae-2l", (f"objective.samples={k}",))
        for k, figure in ((1, 85.33), (5, 83.89), (50, 82.90))
    ),
)

if __name__ == "__main__":
    main(ROW)
