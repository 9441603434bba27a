"""The IWAE that is told the class: `python benchmarks/published/conditional_iwae.py --variants "K = 5"`."""

from rows import Row, Variant, main
from vae_1l import BURDA

ROW = Row(
    name="conditional-iwae",
    title="Label-conditional IWAE, 1 layer",
    paper="github.com/nbip/IWAE, README, task 4",
    unit="nats",
    protocol=f"Encoder, prior and decoder are told the label, prior N(μ(c), σ(c)²); the rest as Burda et al.: {BURDA}",
    cost="as of the IWAE with 1 layer",
    source="verified in that README; the repository is a re-implementation, not a paper",
    variants=tuple(
        Variant(f"K = {k}", figure, "iwae-1l", (f"objective.samples={k}", "model.condition=class", "prior.name=normal"))
        for k, figure in ((1, 82.32), (5, 81.41), (50, 80.78))
    ),
)

if __name__ == "__main__":
    main(ROW)
