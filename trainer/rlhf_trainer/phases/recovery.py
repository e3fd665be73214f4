"""A phase that is saved at step boundaries, and taken up where its predecessor left it.

What all phases save: their engines, by every rank, and the state of every rank's torch generator;
every other draw is seeded by step and row. What a phase knows besides is its own model, as JSON.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from rlhf_trainer.contract import AttemptPaths, ResumedFrom
from rlhf_trainer.engine import lineage
from rlhf_trainer.engine.checkpoints import Checkpoints
from rlhf_trainer.engine.growing import beating_while_growing
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.saving import flaw_seen_together
from rlhf_trainer.engine.training_engine import TrainingEngine
from rlhf_trainer.errors import Facts, PreemptedError, WorkspaceError
from rlhf_trainer.files import sync, write_failure
from rlhf_trainer.phases.context import PhaseContext

STATE, ENGINES, GENERATORS = "state.json", "engines", "generators-{rank}.pt"

NOT_THE_MODEL = (STATE, ENGINES, GENERATORS.format(rank="*"))
"""What a checkpoint holds besides a model that plain transformers reads."""

StateT = TypeVar("StateT", bound="PhaseState")


class PhaseState(BaseModel):
    """What a phase has to know to go on, besides weights and optimiser."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    step: int
    """Completed updates."""
    certified_step: int = 0
    """Newest checkpoint measured inside the KL limit (PPO)."""


class Recovery:
    """Saves one phase and takes it up again; all ranks call the same methods in the same order."""

    def __init__(
        self, context: PhaseContext, ranks: Ranks, engines: Mapping[str, TrainingEngine]
    ) -> None:
        self._context, self._ranks, self._engines = context, ranks, engines
        self.resumed_from = self._pick()
        self.checkpoints = self._take_over()
        self._predecessors_are_gone = False

    def resume(self, kind: type[StateT]) -> StateT | None:
        """Bring engines and generators to the picked checkpoint; None where a phase begins anew."""
        if self.resumed_from.attempt is None:
            return None
        folder = self._context.paths.checkpoint(self.resumed_from.step)
        state = _read_state(folder, kind)
        for name, engine in self._engines.items():
            engine.load(folder / ENGINES / name)
        _restore_generators(torch.load(self._generators(folder), weights_only=True))
        self._context.telemetry.note(
            f"going on after step {state.step}, from attempt {self.resumed_from.attempt}"
        )
        return state

    def is_due(self, step: int) -> bool:
        """Return whether the phase is saved after `step` updates, interrupted or not."""
        return step % self._context.config.checkpoint.every_steps == 0

    def at_boundary(
        self, state: StateT, facts: Facts, add: Callable[[Path], object] = lambda _: None
    ) -> None:
        """Save every `checkpoint.everySteps`; save and end the phase if any rank is asked to.

        `add` writes into the checkpoint what the phase wants there besides.

        Raises:
            PreemptedError: SIGTERM has arrived.
            WorkspaceError: the volume is full or cannot be written.
        """
        preempted = self._ranks.any(self._context.preemption.requested)
        if preempted or self.is_due(state.step):
            self.save(state, add)
        if preempted:
            message = f"preempted: asked to end, and saved after step {state.step}"
            raise PreemptedError(message, facts=facts)

    def save(self, state: StateT, add: Callable[[Path], object] = lambda _: None) -> None:
        """Save the phase as it is after `state.step` updates.

        Raises:
            WorkspaceError: the volume is full or cannot be written; earlier checkpoints stand.
        """
        if self.checkpoints.newest_step == state.step:
            return

        def write(folder: Path) -> None:
            for name, engine in self._engines.items():
                engine.save(folder / ENGINES / name)
            torch.save(_generators(), self._generators(folder))
            if self._ranks.is_main:
                text = state.model_dump_json(by_alias=True)
                (folder / STATE).write_text(text + "\n", encoding="utf-8")
            add(folder)

        with self._context.telemetry.stage("checkpoint"):
            self._write(state.step, write)
        self._context.telemetry.set("checkpoint_step", state.step)

    def _write(self, step: int, write: Callable[[Path], None]) -> None:
        paths = self._context.paths
        try:
            if self._ranks.is_main:
                # A checkpoint vouches for the steps before it, so they go to the disk first.
                sync(paths.history)
            self.checkpoints.write(step, write, self._context.telemetry.heartbeat)
            if self._ranks.is_main and not self._predecessors_are_gone:
                lineage.remove_predecessors(self._attempt, self._context.attempt)
        except Exception as error:
            cause = write_failure(error, paths.root)
            if cause is None:
                raise
            raise WorkspaceError(paths.root, f"the checkpoint of step {step}", cause) from error
        self._predecessors_are_gone = True

    def _pick(self) -> ResumedFrom:
        """Pick the checkpoint to go on from, once. What is on disk the main rank says for all."""
        paths = self._context.paths
        record = self._ranks.from_main(lambda: lineage.read_record(paths))
        if record is not None:
            return record
        candidates = self._ranks.from_main(
            lambda: list(lineage.candidates(self._attempt, self._context.attempt))
        )
        found = lineage.pick(candidates, self.flaw, self._context.telemetry.note)
        certified = None if found is None else self._whole_certified(found)

        def adopt() -> ResumedFrom:
            with beating_while_growing(paths.root, self._context.telemetry.heartbeat):
                for one in (found, certified):
                    if one is not None:
                        lineage.take_over(one.path, paths.checkpoint(one.step))
            picked = ResumedFrom()
            if found is not None:
                picked = ResumedFrom(attempt=found.attempt, step=found.step)
            lineage.write_record(paths, picked)
            return picked

        return self._ranks.from_main(adopt)

    def _whole_certified(self, found: lineage.Candidate) -> lineage.Candidate | None:
        """Return the certified checkpoint that another one names; None if it is not to be had."""
        step = self._ranks.from_main(lambda: self._certified(found.path))
        path = self._attempt(found.attempt).checkpoint(step)
        if step in (0, found.step) or not self._ranks.from_main(path.exists):
            return None
        one = replace(found, step=step, path=path)
        return lineage.pick([one], self.flaw, self._context.telemetry.note)

    def flaw(self, folder: Path, *, ignore: Sequence[str] = ()) -> str | None:
        """Say what is wrong with a checkpoint; all ranks look at it together, and agree."""
        beat = self._context.telemetry.heartbeat
        return flaw_seen_together(folder, self._ranks, beat, ignore=ignore)

    def _take_over(self) -> Checkpoints:
        paths, record = self._context.paths, self.resumed_from
        adopted: list[int] = []
        certified = 0
        if record.attempt is not None:
            certified = self._certified(paths.checkpoint(record.step))
            steps = {certified, record.step}
            adopted = [step for step in steps if step and paths.checkpoint(step).exists()]
        checkpoints = Checkpoints(
            paths, self._context.config.checkpoint.keep_last, self._ranks, adopted=adopted
        )
        checkpoints.certify(certified)
        return checkpoints

    @staticmethod
    def _certified(folder: Path) -> int:
        return _read_state(folder, PhaseState).certified_step

    def _attempt(self, number: int) -> AttemptPaths:
        context = self._context
        return context.workspace.attempt(context.iteration, context.phase, number)

    def _generators(self, folder: Path) -> Path:
        return folder / GENERATORS.format(rank=self._ranks.rank)


def _read_state(folder: Path, kind: type[StateT]) -> StateT:
    return kind.model_validate_json((folder / STATE).read_text(encoding="utf-8"))


def _generators() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_generators(states: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
