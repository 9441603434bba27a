"""One HTML file from style, script, content and weights. It needs no other file, and may load none.

Not for: the content of the page (`page_content`, `assets`), or serving it (`server`).
"""

import base64
import hashlib
import html
import json
import re
import zlib
from importlib.resources import files as resources
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..evaluation.model_with_data import ModelWithData
from .graph import Weights, decoding, encoding
from .page_content import PageContent

# In the order of the page: each module comes after the modules that it imports.
MODULES = "interpreter bytes geometry colours painter engine state map sliders blend own app"
_IMPORT = re.compile(r"^import .*?;\n", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"^ *//.*\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.MULTILINE)


def asset(name: str) -> str:
    """The text of a file in assets/."""
    return resources("vaekit.explorer").joinpath("assets", name).read_text(encoding="utf-8")


def script() -> str:
    """All modules as one script without comments; each module follows the modules that it imports."""
    modules = (_COMMENT.sub("", asset(f"{name}.mjs")) for name in MODULES.split())
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", module)) for module in modules)


def inline_json(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)  # ASCII: no U+2028 either
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def assembled(content: PageContent, *, programs: dict[str, Any] | None = None, weights: Weights | None = None) -> str:
    """The page as HTML.

    Arguments:
        content: Content of the page.
        programs: Programs that decode and encode; None for a page that asks its server.
        weights: The constants of the programs.
    """
    style, code = asset("style.css"), script()
    ask = "'self'" if programs is None else "'none'"
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest(code)}'; style-src 'sha256-{digest(style)}'; "
        f"img-src data: blob:; connect-src {ask}; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "TITLE": html.escape(f"{content['name']} · vae explore"),
        "POLICY": html.escape(policy, quote=True),
        "STYLE": style,
        "SCRIPT": code,
        "SCENE": inline_json({**content, "programs": programs, "table": weights.table if weights else []}),
        "WEIGHTS": deflated(bytes(weights.data)) if weights else "",
    }
    template = asset("page.html")
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda match: parts[match[1]], template)


def digest(text: str) -> str:
    """SHA-256 in base64, for a content-security policy."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def deflated(data: bytes) -> str:
    """Bytes deflated, in base64. Even bytes come before odd ones, since the high bytes of float16 are much alike."""
    pairs = np.frombuffer(data + b"\0" * (len(data) % 2), dtype=np.uint8).reshape(-1, 2)
    deflate = zlib.compressobj(9, strategy=zlib.Z_FILTERED)  # 1 % smaller: short matches are chance here
    return base64.b64encode(deflate.compress(pairs.T.tobytes()) + deflate.flush()).decode()


def standalone(subject: ModelWithData, content: PageContent, *, half: bool = True) -> tuple[str, list[str]]:
    """A page that needs no server, and sentences on its embedded data.

    Arguments:
        subject: The model.
        content: Content of the page.
        half: Whether weights are stored as float16.
    """
    weights, programs, embeds = Weights(half=half), {}, []
    kind = "float16" if half else "float32"
    no_decoder = None
    try:
        programs["decode"] = decoding(subject.model, weights)
        embeds.append(f"the decoder ({weights.value_count:,} numbers, {kind})")
        before = weights.value_count
        try:
            programs["encode"] = encoding(subject.model, weights, content["shape"])
            embeds.append(f"the encoder ({weights.value_count - before:,} numbers, {kind})")
        except ConfigError as error:
            content = {**content, "no_encoder": f"{error}; your own images need `vae explore`"}
    except ConfigError as error:
        no_decoder = f"this page cannot decode: {error}; run `vae explore` for a page that can"
        weights, programs = Weights(half=half), {}
    count, source = content["points"]["count"], content["source"]
    row, classes = content["kind"], "classes and " if bool((subject.labels >= 0).any()) else ""
    embeds.append(
        f"{count:,} {row}s of {source}, with their {classes}latents" if count else f"no {row} and no latent of one"
    )
    embeds.append("statistics of the latents and draws from the prior")
    content = {**content, "embeds": embeds, "no_decoder": no_decoder}
    return assembled(content, programs=programs, weights=weights), embeds
