r"""Text from elsewhere, on its way to a terminal or into a document.

File names, labels, and all texts of a run folder pass through one of these functions exactly once, where they are
printed or written. So no escape sequence, line break, formula, command or tag gets through. TOML and JSON are
escaped by the libraries that write them, HTML by `html.escape`. Not for: reading (`bounded`).

>>> visible("a\nvae: all is well\x1b]0;owned\x07")
'a\\nvae: all is well\\x1b]0;owned\\x07'
"""

import json
import re
from typing import Any

# Control characters of C0 and C1, line and paragraph separators, marks of text direction, invisible characters, and
# halves of surrogate pairs, which no encoding has.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
    "|[\U000e0000-\U000e007f]"
)
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_FORMULA = re.compile(r"\s*[=+\-@]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_LATEX = {ord(sign): f"\\{sign}" for sign in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}",
    ord("~"): r"\textasciitilde{}",
    ord("^"): r"\textasciicircum{}",
    ord("−"): "$-$",
}
_MARKDOWN = re.compile(r"[\\|`<>\[\]]")
_HTML = {"<": "&lt;", ">": "&gt;"}


def visible(text: str) -> str:
    """One line in which control characters are shown by their codes, as in Python's own literals."""
    return _UNSEEN.sub(_code, text)


def visible_lines(text: str) -> str:
    """A text of several lines in which control characters are shown by their codes; line breaks stay."""
    return "\n".join(map(visible, text.split("\n")))


def to_json(value: Any) -> str:
    r"""JSON on one line: letters of all alphabets stay, and characters that a terminal obeys are escaped.

    >>> to_json({"−ELBO": "a\x9bb"})
    '{"−ELBO": "a\\u009bb"}'
    """
    return _UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], json.dumps(value, ensure_ascii=False))


def to_markdown(text: str) -> str:
    r"""A text as a cell of a table in Markdown, which is HTML too.

    >>> to_markdown("a|b <script>")
    'a\\|b &lt;script&gt;'
    """
    return _MARKDOWN.sub(lambda match: _HTML.get(match[0], f"\\{match[0]}"), visible(text).replace("&", "&amp;"))


def to_latex(text: str) -> str:
    r"""A text for LaTeX, with all its commands escaped.

    >>> to_latex("50 % of x_1")
    '50 \\% of x\\_1'
    """
    return visible(text).translate(_LATEX)


def to_csv(text: str) -> str:
    """A text as a cell of a CSV file: a spreadsheet takes it for text, even if it begins like a formula.

    >>> [to_csv(text) for text in ("=1+1", "-3", "a.png")]
    ["'=1+1", '-3', 'a.png']
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _code(match: re.Match[str]) -> str:
    number = ord(match[0])
    if match[0] in _SHORT:
        return _SHORT[match[0]]
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
