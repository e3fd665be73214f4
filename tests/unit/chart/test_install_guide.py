"""The install guide: what it names is there."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from chart_values import Values
from rlhf_operator.api import Pool
from rlhf_operator.api.placement import Placement

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "install.md").read_text("utf-8")
COMMANDS = [
    line.removeprefix("$ ").partition(" #")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
NAMED = re.findall(r"`([a-z]\w*(?:\.[\w*]+)+)(?:=[\w{},-]+)?`", GUIDE)
OF_RUNS = ("spec.", "workspace.")


def has(model: type[BaseModel], path: str) -> bool:
    """Whether a model has a field at a path; a star is any name."""
    name, _, rest = path.partition(".")
    field = next((one for one in model.model_fields.values() if one.alias == name), None)
    if field is None:
        return False
    if rest.startswith("*."):
        return has(Pool, rest.removeprefix("*."))
    kind = field.annotation
    return not rest or (isinstance(kind, type) and issubclass(kind, BaseModel) and has(kind, rest))


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_of_a_known_program_on_files_that_exist(command: str) -> None:
    program, *arguments = command.split()
    assert program in {"make", "kubectl", "helm", "kind"}
    for argument in arguments:
        if argument.startswith(("examples/", "charts/", "crds/")):
            assert (ROOT / argument).exists()
    if program == "make":
        text = (ROOT / "Makefile").read_text("utf-8")
        assert f"\n{arguments[0]}:" in text


@pytest.mark.parametrize("path", sorted({p for p in NAMED if not p.startswith(OF_RUNS)}))
def test_value_that_is_named_exists(path: str) -> None:
    assert has(Values, path)


def test_values_of_the_guide_are_values_of_the_chart() -> None:
    blocks = re.findall(r"```yaml\n# values.yaml\n(.*?)```", GUIDE, re.DOTALL)
    (loaded,) = (YAML(typ="safe", pure=True).load(block) for block in blocks)
    pools = loaded.pop("pools")
    Values.model_validate(loaded, by_alias=True, by_name=False)
    for name, pool in pools.items():
        Pool.model_validate({**pool, "name": name}, by_alias=True, by_name=False)


def test_placements_of_the_guide_are_placements() -> None:
    blocks = re.findall(r"```yaml\nspec:\n(.*?)```", GUIDE, re.DOTALL)
    placements = [YAML(typ="safe", pure=True).load(block)["placement"] for block in blocks]
    assert len(placements) == 2
    for placement in placements:
        Placement.model_validate(placement, by_alias=True, by_name=False)
