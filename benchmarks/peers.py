"""What this package has and others have, checked: `python benchmarks/peers.py`.

It downloads the rivals' newest releases from the package index, without what they need and without running them, and
looks in their sources for what a row is about: the definition of a class or function, or a call. For us a row is a
preset, a verb or a module that is there. Writes peers.json; `benchmarks/report.py` writes the table of the README.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vaekit.cli.command import VERBS
from vaekit.config import preset_names

RESULTS = Path(__file__).parent / "peers.json"
PACKAGES = {  # distribution: import
    "pythae": "pythae",
    "scvi-tools": "scvi",
    "multivae": "multivae",
    "zuko": "zuko",
    "vector-quantize-pytorch": "vector_quantize_pytorch",
    "disent": "disent",
}

# What a row is about, what it is here (a preset, `a verb` or a module), and what its source holds elsewhere.
ROWS: dict[str, tuple[str, str]] = {
    "conditional on the class": ("cvae", r"class CVAE\b|n_cat_list"),
    "importance-weighted bounds as objectives": ("iwae-1l", r"class C?IWAE\b"),
    "normalizing flows": ("nsf-vae", r"class \w*(Flow|IAF|MAF)\b"),
    "mixture or VampPrior": ("vamp", r"class (VAMP|MixtureOfGaussiansPrior|VampPrior)\b"),
    "sampler fitted afterwards": ("rae", r"class GaussianMixtureSampler\b"),
    "quantized latents": ("vq-vae", r"class (VQVAE|VectorQuantize|FSQ)\b"),
    "discrete latents by gradient estimators": ("discrete-vae", r"disarm|DisARM|rloo|RLOO"),
    "spherical latents": ("spherical-vae", r"class SVAE\b|PowerSpherical|VonMisesFisher"),
    "hyperbolic latents": ("poincare-vae", r"class PoincareVAE\b"),
    "semi-supervised": ("m2", r"class SCANVI\b|SemiSupervised"),
    "adversarial: FactorVAE, AAE": ("factor-vae", r"class FactorVAE\b"),
    "ladders and top-down hierarchies": ("ladder-vae", r"class (LadderVAE|TopDown\w*|MHVAE)\b"),
    "count likelihoods": ("count-vae", r"class NegativeBinomial\b"),
    "tables of mixed columns": ("table-vae", r"MixedColumns|CategoricalEmbeddings|mixed_columns"),
    "missing values, MIWAE and not-MIWAE": ("not-miwae", r"NotMIWAE|not_miwae|self_masking"),
    "imputation": ("`impute`", r"def (impute|get_imputed)\w*"),
    "scikit-learn estimators that pass its checks": ("vaekit.sklearn", r"check_estimator"),
    "disentanglement metrics": ("vaekit.evaluation.latent_space.disentanglement", r"def metric_mig\b"),
    "likelihood by importance sampling": ("`evaluate`", r"def (get_nll|get_marginal_ll|compute_joint_nll)\b"),
    "standard errors of its figures": ("`compare`", r"standard_error|stderr_of|std_err"),
    "resume with the state of the random streams": ("`resume`", r"get_rng_state|rng_state"),
    "ONNX and a model card": ("`export`", r"onnx"),
    "a page to touch the latent space": ("`explore`", r"<canvas|streamlit|gradio"),
}


def ours(what: str) -> bool:
    """Whether a preset, a `verb` or a module is there."""
    if what.startswith("`"):
        return what.strip("`") in {verb.name for verb in VERBS}
    return find_spec(what) is not None if what.startswith("vaekit.") else what in preset_names()


def sources(distribution: str, folder: Path) -> tuple[str, dict[str, str]]:
    """The newest version of a package, and its Python files by name."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    subprocess.run([*command, distribution], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py") and "/test" not in name]
        return wheel.name.split("-")[1], {name: archive.read(name).decode(errors="replace") for name in names}


def main() -> None:
    results: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "versions": {}, "rows": {}}
    code = {}
    for distribution in PACKAGES:
        with tempfile.TemporaryDirectory() as folder:
            results["versions"][distribution], code[distribution] = sources(distribution, Path(folder))
    for row, (here, pattern) in ROWS.items():
        found = {
            distribution: [name for name, text in files.items() if re.search(pattern, text)][:3]
            for distribution, files in code.items()
        }
        results["rows"][row] = {"ours": here, "here": ours(here), "pattern": pattern, "where": found}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    for row, record in results["rows"].items():
        print(f"{row:45} {record['here']!s:6}", [name for name, files in record["where"].items() if files])


if __name__ == "__main__":
    main()
