"""Normal pixels of unit, one shared and per-pixel σ: `python benchmarks/published/sigma_vae.py`."""

from rows import Row, Variant, main

ROW = Row(
    name="sigma-vae",
    title="σ-VAE, MNIST",
    paper="Rybkin, Daniilidis and Levine 2021, arXiv:2006.13202",
    unit="nats",
    protocol="Bound on −log p(x) of grey pixels in [0, 1] with normal likelihoods. The paper's network and schedule "
    "are not known here; the script takes those of preset sigma-vae (fully connected, 10 epochs), which are ours",
    cost="10 minutes of one core each",
    source="not verified: the authors' repository has no table",
    variants=(
        Variant("unit σ", 740.5, "sigma-vae", ("likelihood.scale=1.0",), ("--samples", "1")),
        Variant("shared σ", -896.1, "sigma-vae", ("likelihood.scale=optimal",), ("--samples", "1")),
        Variant("per-pixel σ", -2895.0, "sigma-vae", ("likelihood.scale=per-pixel",), ("--samples", "1")),
    ),
)

if __name__ == "__main__":
    main(ROW)
