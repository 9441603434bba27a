"""What `vae evaluate` prints: three short blocks, each with a sentence for people who are not specialists."""

from collections.abc import Iterator

from ..evaluation import Evaluation, Value
from .printing import out

Row = tuple[str, str, str]  # of a value: its name, up to * if that is not all of it; what to call it, what it means

BLOCKS: dict[str, tuple[str, tuple[Row, ...]]] = {
    "Likelihood": (
        "How well it predicts new images. Fewer nats are better.",
        (
            ("nll", "−log p(x), at most", "from importance samples"),
            ("AIS", "log p(x), at least", "by annealing"),
            ("bits per dimension", "the same per pixel", ""),
            ("elbo", "ELBO", "what training maximises"),
            ("rate", "rate", "what the latents cost"),
            ("distortion", "distortion", "what they leave unexplained"),
        ),
    ),
    "Latents": (
        "What the code of an image says about it.",
        (
            ("active units", "latents in use", ""),
            ("10-nearest*", "class of the neighbours", "by the nearest codes"),
            ("linear probe*", "class by a straight cut", "by a linear classifier"),
        ),
    ),
    "Samples": (
        "How images that the model makes up compare with real ones.",
        (
            ("recognised*", "show the class asked for", ""),
            ("precision", "precision", "samples like an image"),
            ("recall", "recall", "images like a sample"),
            ("coverage", "coverage", "images with a sample nearby"),
            ("Fréchet distance (*", "Fréchet distance", "less is closer"),
            ("Fréchet distance of*", "… of training images", "as near as one can come"),
        ),
    ),
    "Rows": (
        "How rows that the model makes up compare with real ones.",
        (
            ("column shapes", "columns alike", "100 % at best"),
            ("pair trends", "pairs alike", "100 % at best"),
            ("told from", "told from real rows", "by a classifier; 50 % at best"),
            ("nearest training", "nearest training row", "of test rows 1; less: copies"),
            ("learned from drawn", "learned from them", "predicting a column with levels"),
            ("learned from real", "… from real rows", ""),
        ),
    ),
}


def print_blocks(evaluation: Evaluation) -> None:
    """Print the numbers that most people want, at most 80 columns wide."""
    for title, (sentence, rows) in BLOCKS.items():
        lines = list(_lines(evaluation.values, rows))
        if lines:
            out(f"{title}: {sentence}")
            for line in lines:
                out(line)
            out()


def _lines(values: list[Value], rows: tuple[Row, ...]) -> Iterator[str]:
    for name, label, meaning in rows:
        for value in values:
            is_meant = value.name.startswith(name[:-1]) if name.endswith("*") else value.name == name
            if is_meant:
                number = f"{value} {value.unit}".strip()
                yield f"  {label:<25}{number:<24}{meaning}".rstrip()
                break
