"""MIWAE, PIWAE and CIWAE: `python benchmarks/published/rainforth.py --variants MIWAE`."""

from rows import Row, Variant, main
from vae_1l import BURDA

ROW = Row(
    name="rainforth",
    title="Tighter bounds are not necessarily better",
    paper="Rainforth et al. 2018, arXiv:1802.04537, table 1",
    unit="nats",
    protocol=f"64 samples, in 8 groups of 8 where there are groups; the schedule of Burda et al.: {BURDA}",
    cost="an estimated 12 days of one core each, or half a day of a GPU",
    source="not verified, no source at hand has them; nor is that the paper used Burda's schedule",
    variants=(
        Variant("MIWAE (8, 8)", 84.97, "miwae"),
        Variant("PIWAE (8, 8)", 84.46, "piwae"),
        Variant("CIWAE β = 0.05", 84.57, "ciwae"),
    ),
)

if __name__ == "__main__":
    main(ROW)
