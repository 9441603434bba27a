"""How much tighter annealing is than importance sampling, on one decoder: `python benchmarks/published/ais.py`."""

from rows import Row, Variant, main

ROW = Row(
    name="ais",
    title="AIS over the importance-weighted bound",
    paper="Wu, Burda, Salakhutdinov and Grosse 2017, arXiv:1611.04273",
    unit="nats",
    protocol="One decoder, two estimates of log p(x) of the same test images: AIS of 16 chains with 10,000 "
    "temperatures from the prior, and the importance-weighted bound. Ours anneals the first 50 images from the "
    "posterior, 10 leapfrog steps a transition, against L_5000",
    cost="the training of row vae-1l, and an estimated day of one core for 10,000 temperatures",
    source="not verified, no source at hand has them; the figure is the difference of 86.46 and 85.62",
    variants=(
        Variant(
            "K = 1 decoder",
            0.84,
            "vae-1l",
            evaluation=("--samples", "5000", "--images", "50", "--ais", "--temperatures", "10000"),
            metric="AIS over the importance-weighted bound",
            series="vae-1l-k-1",
        ),
    ),
    note="Ours is another decoder, of the 40 epochs of row VAE, so the two figures can agree in sign and size only. On "
    "data that the decoder made, the lower and the upper bound of bidirectional Monte Carlo are −0.015 ± 0.021 nats "
    "apart: 400 temperatures from the posterior have converged.",
)

if __name__ == "__main__":
    main(ROW)
