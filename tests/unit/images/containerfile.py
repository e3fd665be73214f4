"""A Containerfile as its instructions, stage by stage."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

_STAGE = re.compile(r"^(?P<base>\S+)(?: AS (?P<name>\S+))?$")


@dataclass
class Stage:
    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [words for one, words in self.instructions if one == keyword]

    @property
    def copies(self) -> list[tuple[str, list[str], str]]:
        """From which stage, what, to where."""
        found = []
        for words in self.all("COPY"):
            *options, target = shlex.split(words)
            stages = [one.partition("=")[2] for one in options if one.startswith("--from=")]
            sources = [one for one in options if not one.startswith("--")]
            found.append((stages[0] if stages else "", sources, target))
        return found


@dataclass
class Containerfile:
    arguments: dict[str, str]
    stages: list[Stage]

    def __getitem__(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def final(self) -> Stage:
        return self.stages[-1]


def read(path: Path) -> Containerfile:
    lines = [one for one in path.read_text(encoding="utf-8").splitlines() if one[:1] != "#"]
    text = "\n".join(lines).replace("\\\n", " ")
    found = Containerfile({}, [])
    for line in filter(None, map(str.strip, text.splitlines())):
        keyword, _, words = line.partition(" ")
        if keyword == "FROM":
            stage = _STAGE.match(words)
            assert stage, f"{path}: cannot read FROM {words}"
            found.stages.append(Stage(stage["name"] or "", stage["base"]))
        elif found.stages:
            found.stages[-1].instructions.append((keyword, words.strip()))
        else:
            name, _, value = words.partition("=")
            found.arguments[name] = value
    return found
