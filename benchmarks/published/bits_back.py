"""The network of bits-back coding on 8-bit images: `python benchmarks/published/bits_back.py --variants MNIST`."""

from rows import Row, Variant, main

ONE = ("--samples", "1")  # one sampled z, as a coder would use
BITS = "bits per dimension"

ROW = Row(
    name="bits-back",
    title="VAE of bits-back coding",
    paper="Townsend, Bird and Barber 2019, arXiv:1901.04866, table 2",
    unit="bits/dim",
    protocol="784-200 with batch norm, z 50, beta-binomial pixels of 8 bits, Adam 5e-4, batch 100, 20 epochs on all "
    "60,000 images; −ELBO of the test set with sampled z",
    cost="10 minutes of one core",
    source="not verified, no source at hand has them",
    variants=(
        Variant("MNIST", 1.39, "bits-back", ("data.validation=0",), ONE, BITS),
        Variant("Fashion-MNIST", 3.66, "bits-back", ("data.validation=0", "data.name=fashion-mnist"), ONE, BITS),
    ),
)

if __name__ == "__main__":
    main(ROW)
