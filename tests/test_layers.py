"""The structure of the package: who may import whom, what is public, and that doctests and help stay true."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vaekit
from vaekit.config import parts

SOURCE = Path(vaekit.__file__).parent

# A module may import only from those above it; those on one line stand side by side.
LAYERS = [
    ["errors"],
    ["rng", "store"],
    ["data", "distributions"],
    ["nets"],
    ["likelihoods", "posteriors"],
    ["priors"],
    ["model"],
    ["objectives", "course", "plot"],
    ["config"],
    ["training"],
    ["runs"],
    ["evaluation", "teaching"],
    ["explorer", "hub", "sklearn"],
    ["cli"],
    ["__main__"],
]


def module_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports when it is imported itself or used, but not for type checking only."""
    package = ("vaekit", *path.relative_to(SOURCE).parts[:-1])
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    guarded = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for node in ast.walk(test)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            target = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join([*target, alias.name]) for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("vaekit.") and name.count(".") >= 1}
    return found - {module_of(path)}


FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_from_those_above_it(path: Path) -> None:
    here = next(i for i, layer in enumerate(LAYERS) if module_of(path) in layer)
    assert imports(path) <= {name for layer in LAYERS[:here] for name in layer} | {"__version__"}


def test_every_module_has_its_place() -> None:
    assert {module_of(path) for path in FILES} == {name for layer in LAYERS for name in layer}
    assert len(LAYERS) <= 15  # which can be said in one breath


def test_the_check_sees_an_import_that_is_not_allowed() -> None:
    assert "runs" in imports(SOURCE / "cli" / "train.py")
    assert not imports(SOURCE / "cli" / "train.py") <= {name for layer in LAYERS[:3] for name in layer}


def test_the_public_surface_is_what_is_documented() -> None:
    assert vaekit.__all__ == sorted(vaekit.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))
    assert len(set(vaekit.__all__)) == len(vaekit.__all__)
    for name in vaekit.__all__:
        found = getattr(vaekit, name)
        assert found is not None
        assert found.__doc__, name
    assert dir(vaekit) == sorted(vaekit.__all__)
    for folder in (vaekit.data, vaekit.posteriors, vaekit.priors):
        assert dir(folder) == sorted(folder.__all__)
    api = (SOURCE.parents[1] / "docs" / "api.md").read_text()
    documented = {
        line.split("`")[1].split("(")[0].removeprefix("vaekit.")
        for line in api.splitlines()
        if line.startswith("- `vaekit.")
    }
    assert documented == set(vaekit.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'VEA'"):
        vaekit.VEA  # noqa: B018


def test_folders_that_messages_name_need_no_import_of_their_own() -> None:
    code = (
        "import vaekit; vaekit.config.read('vae'), vaekit.training.Listener, vaekit.sklearn.VAE, vaekit.model.WithPrior"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not hasattr(vaekit, "nothing")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_every_registered_part_exists() -> None:
    for kind, table in parts.PART_TABLE.items():
        for name in table:
            assert callable(parts.find_part(kind, name))


def positional(tree: ast.AST) -> list[str]:
    """Calls with more than six positional arguments, whose order nobody remembers; names of fields are a list."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) > 6]
    return [ast.unparse(call) for call in calls if not all(isinstance(value, ast.Constant) for value in call.args)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_calls_name_their_arguments(path: Path) -> None:
    assert not positional(ast.parse(path.read_text()))


def test_the_check_sees_a_call_with_seven_positional_arguments() -> None:
    assert positional(ast.parse("f(a, b, c, d, e, f, g)"))


def lower_case_entries(text: str) -> list[str]:
    """Entries of Arguments, Attributes and Raises in docstrings that begin with a lower-case word."""
    section: int | None = None
    wrong: list[str] = []
    for line in text.splitlines():
        header = re.match(r"^( *)(Arguments|Attributes|Raises):$", line)
        if header:
            section = len(header[1]) + 4
        elif line.strip() and section is not None and len(line) - len(line.lstrip()) < section:
            section = None
        elif section is not None and re.match(rf"^ {{{section}}}[\w*][\w*, .]*: (a|[a-z]{{2,}})(?=[ ,;:])", line):
            wrong.append(line.strip())
    return [line for line in wrong if not re.search(r": (log|lr|uint8|float32)\b", line)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_docstrings_say_what_an_argument_is_in_a_sentence(path: Path) -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    assert not [line for node in nodes for line in lower_case_entries(ast.get_docstring(node, clean=False) or "")]


def test_the_check_sees_a_lower_case_entry() -> None:
    assert lower_case_entries("Do.\n\n    Arguments:\n        x: rows.\n        y: Rows, z: a.\n") == []
    assert lower_case_entries("Do.\n\n    Arguments:\n        x: rows of data.\n") == ["x: rows of data."]


def unlisted(folder: Path) -> set[str]:
    """Files of a folder that the table of its `__init__.py` does not list, and names in it that are no file."""
    table = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    cells = re.findall(r"^\| (`[^|]*`) \| .* \|$", table, re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    folders = {name for cell in cells for name in re.findall(r"`(\w+)/`", cell)}
    assert all((folder / name).is_dir() for name in folders)
    return listed ^ {file.stem for file in folder.glob("*.py") if file.stem != "__init__"}


@pytest.mark.parametrize(
    "folder", [path.parent for path in SOURCE.glob("*/**/__init__.py")], ids=lambda path: path.name
)
def test_the_first_lines_of_a_folder_list_its_files(folder: Path) -> None:
    assert not unlisted(folder)


def test_the_check_sees_a_file_that_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text('"""Things.\n\n| file | what |\n|---|---|\n| `a`, `gone` | things |\n"""\n')
    (tmp_path / "a.py").touch()
    (tmp_path / "b.py").touch()
    assert unlisted(tmp_path) == {"gone", "b"}
