"""Estimators in scikit-learn's words: `VAE`, `VAEImputer`, `VAEOutlierDetector`.

They take arrays and frames, also frames of mixed columns; a missing value is NaN. `import vaekit` does not import this
package.

| file | what |
|---|---|
| `estimator` | their common base: from X to a trained model |
| `transformer`, `imputer`, `detector` | latents, densities and new rows; missing values; unusual rows |

Not for: runs, commands and data larger than memory (`vaekit.train`).
"""

try:
    import sklearn as _sklearn  # noqa: F401  (scikit-learn itself: the import is absolute)
except ImportError as error:
    raise ImportError("vaekit.sklearn needs scikit-learn and pandas; install vaekit[sklearn]") from error

from .detector import VAEOutlierDetector
from .imputer import VAEImputer
from .transformer import VAE

__all__ = ["VAE", "VAEImputer", "VAEOutlierDetector"]
