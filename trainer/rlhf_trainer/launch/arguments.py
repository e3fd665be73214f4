"""Command line of the launcher, and of the ranks that it starts with the same arguments."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, Self

from pydantic import ValidationError
from typing_extensions import override

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import (
    HARDWARE_FILE,
    METRICS_PORT,
    AttemptPaths,
    Hardware,
    Phase,
    Workspace,
)
from rlhf_trainer.errors import InvalidError

DEFAULT_GRACE_SECONDS = 300
"""`runPolicy.terminationGracePeriodSeconds` unless it is set."""

_LONGEST_VALUE = 80
"""Characters of a refused value that a message shows."""


@dataclass(frozen=True)
class Arguments:
    """Which attempt at which phase to run, where, and how."""

    phase: Phase
    config: Path
    workspace: Path
    data_root: Path
    iteration: int
    attempt: int
    run_name: str
    processes: int | None
    """Ranks on this node; None leaves it to the job's environment."""
    metrics_port: int
    grace_seconds: int
    """Time between SIGTERM and SIGKILL."""

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Self:
        """Read a command line.

        Raises:
            InvalidError: it cannot be understood.
        """
        read = cls(**vars(_parser().parse_args(argv)))
        return replace(
            read,
            data_root=read.data_root or read.config.parent,
            run_name=read.run_name or read.workspace.absolute().name,
        )

    def to_argv(self) -> list[str]:
        """Return a command line that `parse` reads back as the same."""
        options: dict[str, object] = {
            "config": self.config,
            "workspace": self.workspace,
            "data-root": self.data_root,
            "iteration": self.iteration,
            "attempt": self.attempt,
            "run-name": self.run_name,
            "metrics-port": self.metrics_port,
            "grace-seconds": self.grace_seconds,
        }
        if self.processes is not None:
            options["processes"] = self.processes
        return [self.phase.slug, *(f"--{name}={value}" for name, value in options.items())]

    @property
    def paths(self) -> AttemptPaths:
        """Where the attempt writes."""
        return Workspace(self.workspace).attempt(self.iteration, self.phase, self.attempt)

    def load_hardware(self) -> Hardware | None:
        """Read where the phases run, if that lies beside the configuration.

        Raises:
            InvalidError: it cannot be read.
        """
        file = self.config.with_name(HARDWARE_FILE)
        try:
            return Hardware.from_json(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            problem = f"cannot be read: {str(error).splitlines()[0]}"
            raise InvalidError("hardware", file, problem, "remove it, or mend it") from error

    def load_config(self) -> TrainingConfig:
        """Read the configuration file.

        Raises:
            InvalidError: it is missing, no JSON, or breaks a rule.
        """
        try:
            text = self.config.read_text(encoding="utf-8")
            return TrainingConfig.model_validate_json(text)
        except (OSError, UnicodeDecodeError) as error:
            problem = getattr(error, "strerror", None) or str(error)
            raise InvalidError("config", self.config, problem, "name a readable file") from error
        except ValidationError as error:
            raise _refused(self.config, error) from error


def _refused(path: Path, error: ValidationError) -> InvalidError:
    first, *others = error.errors(include_url=False)
    place = ".".join(str(part) for part in first["loc"]) or str(path)
    value = repr(first["input"])
    if len(value) > _LONGEST_VALUE:
        value = value[:_LONGEST_VALUE] + "…"
    problem = first["msg"].removeprefix("Value error, ")
    more = f" ({len(others)} more)" if others else ""
    return InvalidError(place, value, problem, f"correct it in {path}{more}")


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        raise InvalidError("arguments", shlex.join(self._given), message, f"see {self.prog} --help")

    @override
    def parse_args(  # type: ignore[override]  # narrower: no namespace of the caller's own
        self, args: Sequence[str]
    ) -> argparse.Namespace:
        self._given = args
        return super().parse_args(args)


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m rlhf_trainer.launch",
        description="Run one attempt at one phase, and exit with its outcome's code.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "phase", type=_phase, help="preparation, sft, reward-model, ppo, evaluation"
    )
    parser.add_argument("--config", type=Path, required=True, help="configuration, JSON")
    parser.add_argument("--workspace", type=Path, required=True, help="the run's root folder")
    parser.add_argument("--data-root", type=Path, help="default: the configuration's folder")
    parser.add_argument("--iteration", type=_counted, default=1, help="default: 1")
    parser.add_argument("--attempt", type=_counted, default=1, help="default: 1")
    parser.add_argument("--run-name", help="default: the workspace's name")
    parser.add_argument(
        "--processes", type=_counted, help="ranks on this node; default: PET_NPROC_PER_NODE, or 1"
    )
    parser.add_argument(
        "--metrics-port",
        type=_port,
        default=METRICS_PORT,
        help=f"of /metrics, 0 for any free one; default: {METRICS_PORT}",
    )
    parser.add_argument(
        "--grace-seconds",
        type=_counted,
        default=DEFAULT_GRACE_SECONDS,
        help=f"between SIGTERM and SIGKILL; default: {DEFAULT_GRACE_SECONDS}",
    )
    return parser


def _phase(text: str) -> Phase:
    try:
        return Phase.from_slug(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _counted(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _port(text: str) -> int:
    largest = 65535
    if not text.isdecimal() or int(text) > largest:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {largest}")
    return int(text)
