"""Modules are small, named for their idea, and lie where they may."""

import ast
from pathlib import Path

import pytest

Modules = dict[Path, ast.Module]

MAXIMUM_FILE_LINES = 400
MAXIMUM_FUNCTION_LINES = 50
REFUSED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}

TORCH_DISTRIBUTED_ROOMS = ("engine", "launch")
"""Packages of the trainer that may touch torch.distributed: the launcher runs torchrun's agent."""


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def test_files_are_at_most_400_lines(modules: Modules, root: Path) -> None:
    sizes = {path: (root / path).read_text(encoding="utf-8").count("\n") for path in modules}
    assert {p: size for p, size in sizes.items() if size > MAXIMUM_FILE_LINES} == {}


def test_functions_are_at_most_50_lines(modules: Modules) -> None:
    long = [
        f"{path}:{node.lineno} {node.name}: {size} lines"
        for path, tree in modules.items()
        for node in functions(tree)
        if (size := (node.end_lineno or node.lineno) - node.lineno + 1) > MAXIMUM_FUNCTION_LINES
    ]
    assert long == []


def test_modules_are_named_for_an_idea(modules: Modules) -> None:
    named = {path: {part.strip("_") for part in path.with_suffix("").parts} for path in modules}
    assert [path for path, parts in named.items() if parts & REFUSED_NAMES] == []


@pytest.mark.parametrize("folder", ["operator", "trainer", "tests"])
def test_source_roots_are_no_packages(folder: str, modules: Modules) -> None:
    # A package named `operator` on the path replaces the standard library's: nothing starts.
    assert Path(folder, "__init__.py") not in modules


def test_test_folders_are_no_packages(modules: Modules) -> None:
    folders = {path.parent for path in modules if path.name.startswith(("test_", "conftest"))}
    assert [folder for folder in folders if folder / "__init__.py" in modules] == []


def test_torch_distributed_is_touched_by_engine_and_launcher_only(modules: Modules) -> None:
    touching = [
        path
        for path, tree in modules.items()
        if path.parts[:2] == ("trainer", "rlhf_trainer")
        and path.with_suffix("").parts[2] not in TORCH_DISTRIBUTED_ROOMS
        and any(_touches_torch_distributed(node) for node in ast.walk(tree))
    ]
    assert touching == []


def _touches_torch_distributed(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(name.name.startswith("torch.distributed") for name in names)
        case ast.ImportFrom(module="torch", names=names):
            return any(name.name == "distributed" for name in names)
        case ast.ImportFrom(module=str(module)):
            return module.startswith("torch.distributed")
        case ast.Attribute(value=ast.Name(id="torch"), attr="distributed"):
            return True
        case _:
            return False
