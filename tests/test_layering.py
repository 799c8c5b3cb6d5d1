"""Who may import whom (docs/ARCHITECTURE.md): rooms know what lies below them, and nothing of their siblings."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOWER = {"dnnlib": set(), "torch_utils": {"dnnlib"}}
SIBLINGS = ("training", "arcface", "metrics", "example_faces")
ALLOWED: dict[str, set[str]] = {
    **LOWER,
    **{name: {"dnnlib", "torch_utils"} for name in SIBLINGS},
    "generation": {"dnnlib", "torch_utils", *SIBLINGS},
    "reproduction": {"dnnlib", "torch_utils", *SIBLINGS, "generation"},
    "commands": {"dnnlib", "torch_utils", *SIBLINGS, "generation", "reproduction"},
}
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}


def imported_roots(path: Path) -> set[str]:
    """First names of everything that `path` imports, inside functions too."""
    roots = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the package's name"
            roots.add((node.module or "").split(".")[0])
    return roots


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_package_imports_only_what_lies_below(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    forbidden = (set(ALLOWED) | SCRIPTS | {"tests", "bench"}) - ALLOWED[package] - {package}
    for path in files:
        assert not imported_roots(path) & forbidden, (
            f"{path.relative_to(ROOT)} imports {imported_roots(path) & forbidden}"
        )


def test_package_inits_are_empty_but_for_a_docstring() -> None:
    """So that importing one module costs only that module."""
    for package in ALLOWED:
        body = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8")).body
        assert all(isinstance(node, ast.Expr) for node in body), package


def test_scripts_do_not_import_one_another() -> None:
    for script in SCRIPTS:
        assert not imported_roots(ROOT / f"{script}.py") & SCRIPTS, script
