"""`rlhf init`: a commented manifest to start from, made from the models' own documentation.

Which fields a newcomer should see is decided here; what they mean and default to is not.
"""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from rlhf_operator.api.fields import Field, field_at
from rlhf_operator.api.manifest import parse_manifest
from rlhf_operator.api.problems import problem_of
from rlhf_operator.api.run import API_VERSION, KIND, Metadata
from rlhf_operator.api.spec import RLHFRunSpec
from rlhf_operator.api.yaml_text import parse_value
from rlhf_operator.errors import InvalidManifestError, SpecError

WIDTH = 100

SHOWN: dict[str, object] = {
    "model.source": "my-base-model",
    "data.demonstrations.path": "demonstrations.jsonl",
    "data.comparisons.path": "comparisons.jsonl",
    "data.prompts.path": "prompts.jsonl",
    "sft.epochs": None,
    "sft.batchSize": None,
    "sft.learningRate": None,
    "rewardModel.batchSize": None,
    "rewardModel.learningRate": None,
    "rewardModel.minimumAccuracy": None,
    "ppo.totalEpisodes": None,
    "ppo.rolloutBatchSize": None,
    "ppo.minibatchSize": None,
    "ppo.learningRate": None,
    "ppo.maximumResponseTokens": None,
    "ppo.kl.coefficient": None,
    "ppo.kl.targetNats": None,
    "evaluation.promptCount": None,
    "deepspeed.zeroStage": None,
    "checkpoint.everySteps": None,
    "seed": None,
    "guard.kl.limitNats": 15.0,
    "guard.kl.action": None,
    "placement.pool": None,
    "runPolicy.backoffLimit": None,
}
"""Fields of the spec, with a value where there is no default to show."""

_HEAD = f"""\
# An RLHF run: SFT, reward model, PPO and evaluation. Every field that is left out has a default.
#   rlhf validate FILE    checks this file and the data it names
#   rlhf run FILE         runs it on this machine
apiVersion: {API_VERSION}
kind: {KIND}
metadata:
  name: NAME
spec:
"""


def write_starter(name: str, file: Path) -> None:
    """Write a starter manifest.

    Raises:
        SpecError: the file exists already, or cannot be written.
        InvalidManifestError: the name is none.
    """
    try:
        Metadata(name=name)
    except ValidationError as error:
        problems = [problem_of(each, Metadata, lambda _: "") for each in error.errors()]
        raise InvalidManifestError(problems) from error
    text = starter(name, file)
    parse_manifest(text, str(file))
    try:
        with file.open("x", encoding="utf-8") as output:
            output.write(text)
    except FileExistsError as error:
        raise SpecError(
            field="output",
            value=file,
            problem="exists already",
            fix="move it away, or choose another file with --output",
        ) from error
    except OSError as error:
        raise SpecError(
            field="output",
            value=file,
            problem=f"cannot be written ({error.strerror})",
            fix="choose another file with --output",
        ) from error


def starter(name: str, file: Path) -> str:
    """Return a manifest with the fields a newcomer should see, documented."""
    # A name such as `true` or `null` is text in quotes only.
    spelt = name if parse_value(name) == name else json.dumps(name)
    head = _HEAD.replace("FILE", str(file)).replace("NAME", spelt)
    return head + "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    open_sections: tuple[str, ...] = ()
    for path, value in SHOWN.items():
        *sections, name = path.split(".")
        for depth, section in enumerate(sections):
            if open_sections[: depth + 1] != tuple(sections[: depth + 1]):
                yield from _comment(_field(".".join(sections[: depth + 1])), depth)
                yield f"{_indent(depth)}{section}:"
        open_sections = tuple(sections)
        field = _field(path)
        yield from _comment(field, len(sections))
        shown = field.default if value is None else value
        yield f"{_indent(len(sections))}{name}: {json.dumps(shown)}"


def _field(path: str) -> Field:
    field = field_at(RLHFRunSpec, path.split("."))
    assert field is not None, path  # noqa: S101 -- our own table
    return field


def _comment(field: Field, depth: int) -> list[str]:
    prefix = f"{_indent(depth)}# "
    return textwrap.wrap(
        field.document,
        WIDTH,
        initial_indent=prefix,
        subsequent_indent=prefix,
        break_on_hyphens=False,
    )


def _indent(depth: int) -> str:
    return "  " * (depth + 1)
