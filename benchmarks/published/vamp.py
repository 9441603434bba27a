"""VampPrior against the standard prior: `python benchmarks/published/vamp.py`."""

from rows import Row, Variant, main

ROW = Row(
    name="vamp",
    title="Priors, 1 layer, dynamic MNIST",
    paper="Tomczak and Welling 2018, arXiv:1705.07120, table 2",
    unit="nats",
    protocol="784-300-300-40 and back, gated, 500 pseudo-inputs, binarized afresh per minibatch, Adam 5e-4, batch 100, "
    "warm-up over 100 epochs, until 50 epochs bring nothing, 50,000 images; −L_5000 of the test set",
    cost="some hundred epochs: an estimated 10 hours of one core each",
    source="not verified: what is at hand (the card of pythae's reproduction) quotes the paper for static MNIST only, "
    "85.57 with the VampPrior",
    variants=(
        Variant("standard", 84.50, "vamp", ("prior={name='standard-normal'}",)),
        Variant("VampPrior", 82.38, "vamp"),
    ),
)

if __name__ == "__main__":
    main(ROW)
