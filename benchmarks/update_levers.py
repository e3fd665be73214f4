"""What each lever of the PPO update is worth: steps of one process, in turns with and without it.

`update_levers.py --case a --critic Separate` runs the phase itself. A lever is taken back by
putting in its place what was there before; what did not pay is tried in the same way.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial, wraps
from pathlib import Path
from typing import Any

from typing_extensions import override

from floor import Rates
from ppo_against_trl import CRITICS, STAGES, floor_of
from ppo_ours import Timed, alone, ppo_config, prescribe_lengths, start_of
from ppo_start import CASES, TOLD, Case
from recording import RESULTS, Cell, Result, Section, Table, conditions, digits, load, record
from stopwatch import EnoughError, Pace, Stages, allocator_settings, peak_memory

AS_IS = "as it is"
Change = Callable[[], Any]
"""Returns a context in which something is otherwise."""


@contextmanager
def put(owner: Any, name: str, value: object) -> Iterator[None]:  # noqa: ANN401 - module or class
    """Put something in the place of an attribute."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def changes() -> dict[str, Change]:
    """Return what is tried, by name; to be called with torch there."""
    onednn = {"without: oneDNN's products forward and to the inputs": by_torch}
    return {
        AS_IS: nullcontext,
        "without: last layer only where it is read": everywhere,
        "without: log-probabilities in one kernel": part_by_part,
        "without: one pass to measure and to learn": measured_anew,
        "without: last tokens left out": with_last_tokens,
        "without: AdamW fused": partial(stepping, fused=False),
        **(onednn if _by_onednn() else {}),
        "without: own clipping, no reduction on one rank": by_deepspeed,
        "with: micro-batches of 512 tokens": partial(budget, 512),
        "with: micro-batches of 1,024 tokens": partial(budget, 1024),
        "with: micro-batches of 2,048 tokens": partial(budget, 2048),
        "with: bfloat16 where matrices are multiplied": in_bfloat16,
        "with: torch's own RMSNorm": torch_norm,
    }


def everywhere() -> Any:  # noqa: ANN401 - a context
    """Compute the last layer at all positions."""
    from rlhf_trainer.models import last_layer  # noqa: PLC0415 - with torch

    return put(last_layer, "KNOWN", {})


@contextmanager
def part_by_part() -> Iterator[None]:
    """Differentiate log-probabilities operation by operation."""
    from rlhf_trainer.models import policy, role_model  # noqa: PLC0415 - with torch

    def plain(hidden: Any, head: Any, target: Any, *, temperature: float) -> Any:  # noqa: ANN401 - tensors
        logits = head(hidden).float() / temperature
        return logits.gather(-1, target.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)

    with (
        put(policy, "selected_log_probs", plain),
        put(role_model, "selected_log_probs", plain),
    ):
        yield


def measured_anew() -> Any:  # noqa: ANN401 - a context
    """Keep no pass that measured values."""
    from rlhf_trainer.phases.first_pass import FirstPass  # noqa: PLC0415 - with torch

    def begin(self: FirstPass, *, keep: bool) -> None:
        del keep
        self.forget()

    return put(FirstPass, "begin", begin)


def with_last_tokens() -> Any:  # noqa: ANN401 - a context
    """Compute each sequence's last token."""
    from rlhf_trainer.rollout import experience  # noqa: PLC0415 - with torch

    batched = experience.batched  # type: ignore[attr-defined] # where it is called

    def whole_batch(*args: Any, whole: bool, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on
        del whole
        return batched(*args, **kwargs)

    return put(experience, "batched", whole_batch)


def stepping(*, fused: bool) -> Any:  # noqa: ANN401 - a context
    """Step with AdamW fused or operation by operation."""
    from rlhf_trainer.engine.training_engine import TrainingEngine  # noqa: PLC0415 - with torch

    update = TrainingEngine.update

    @wraps(update)
    def set_then_update(self: Any, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - passed on
        groups = self._engine.optimizer.param_groups
        for group in groups:
            group["fused"] = fused
        try:
            return update(self, *args, **kwargs)
        finally:
            for group in groups:
                group["fused"] = True

    return put(TrainingEngine, "update", set_then_update)


@contextmanager
def by_deepspeed() -> Iterator[None]:
    """Reduce on one rank, take the norm twice, and scale gradients whether small or not."""
    import torch  # noqa: PLC0415 - after the environment
    from deepspeed.runtime.utils import clip_grad_norm_  # noqa: PLC0415 - with torch

    from rlhf_trainer.engine.training_engine import TrainingEngine  # noqa: PLC0415 - with torch

    def clip(self: Any) -> float:  # noqa: ANN401 - an engine
        parameters = list(self.module.parameters())
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        clip_grad_norm_(parameters, self._maximum_gradient_norm)
        return float(norm)

    def local(self: Any, *, is_last: bool) -> Any:  # noqa: ANN401 - an engine; a context
        return nullcontext() if is_last else self._engine.no_sync()

    with (
        put(TrainingEngine, "_clip_plain_gradients", clip),
        put(TrainingEngine, "_local_gradients", local),
    ):
        yield


@contextmanager
def budget(tokens: int) -> Iterator[None]:
    """Compute and learn in micro-batches of another size."""
    from rlhf_trainer.phases import ppo_update  # noqa: PLC0415 - with torch
    from rlhf_trainer.rollout import experience  # noqa: PLC0415 - with torch

    with ExitStack() as stack:
        for module in (ppo_update, experience):
            plan = module.plan_step
            stack.enter_context(
                put(
                    module,
                    "plan_step",
                    lambda lengths, plan=plan, **k: plan(lengths, **k | {"budget_tokens": tokens}),
                )
            )
        yield


@contextmanager
def in_bfloat16() -> Iterator[None]:
    """Multiply matrices in bfloat16, as torch's autocast does: other numbers, so never unasked."""
    import torch  # noqa: PLC0415 - after the environment

    from rlhf_trainer.models.policy import Policy  # noqa: PLC0415 - with torch
    from rlhf_trainer.models.scalar_head import ScalarHead  # noqa: PLC0415 - with torch

    with ExitStack() as stack:
        for kind in (Policy, ScalarHead):
            forward: Any = kind.forward
            lowered = torch.autocast("cpu", dtype=torch.bfloat16)(forward)
            stack.enter_context(put(kind, "forward", lowered))
        yield


def _by_onednn() -> bool:
    """Return whether there is anything for `by_torch` to take back on this CPU."""
    from rlhf_trainer.models.trained_linear import onednn_pays  # noqa: PLC0415 - with torch

    return onednn_pays()


def by_torch() -> Any:  # noqa: ANN401 - a context
    """Multiply as torch does."""
    from torch.nn import Linear  # noqa: PLC0415 - after the environment

    from rlhf_trainer.models.trained_linear import TrainedLinear  # noqa: PLC0415 - with torch

    return put(TrainedLinear, "forward", Linear.forward)


def torch_norm() -> Any:  # noqa: ANN401 - a context
    """Normalise as torch does, not operation by operation."""
    from torch.nn import functional  # noqa: PLC0415 - after the environment
    from transformers.models.llama.modeling_llama import LlamaRMSNorm  # noqa: PLC0415

    def forward(self: Any, rows: Any) -> Any:  # noqa: ANN401 - tensors
        return functional.rms_norm(rows, self.weight.shape, self.weight, self.variance_epsilon)

    return put(LlamaRMSNorm, "forward", forward)


class Switching(Timed):
    """Takes each step after the first another way."""

    def __init__(self, pace: Pace, response_tokens: int, tried: dict[str, Change]) -> None:
        super().__init__(pace, response_tokens)
        self._names, self._tried, self._next = list(tried), tried, 0
        self._context = ExitStack()
        self.peaks: dict[str, int] = {}

    @override
    def finish_step(self, step: int, event: str = "") -> None:
        self._context.close()
        super().finish_step(step, event)
        change = self._tried[self._names[self._next % len(self._names)]]
        self._next += 1
        self._context.enter_context(change())


def run(case: Case, start: Path, config: dict[str, Any], asked: argparse.Namespace) -> Any:  # noqa: ANN401 - stages by name
    """Step in turns; return the stages of each change, and the machine's rates."""
    told = json.loads((start / TOLD).read_text(encoding="utf-8"))
    prescribe_lengths(told["responseLengths"])
    with alone(1) as ranks:
        from ppo_workspace import context_of  # noqa: PLC0415 - DeepSpeed asks for a device at once
        from rates import measure_rates  # noqa: PLC0415 - with torch
        from rlhf_trainer.contract import Phase  # noqa: PLC0415
        from rlhf_trainer.phases import ppo  # noqa: PLC0415

        tried = {
            name: change
            for name, change in changes().items()
            if name == AS_IS or any(word in name for word in asked.only)
        }
        pace = Pace(1 + asked.rounds * len(tried), paced=False)
        telemetry = Switching(pace, sum(told["responseLengths"]), tried)
        model = asked.decoder(case)
        rates = [measure_rates(model)]
        with suppress(EnoughError):
            ppo.run(context_of(start, Phase.PPO, config, telemetry, attempt=os.getpid()), ranks)
        rates.append(measure_rates(model))
    steps = pace.done[1:]
    found = {name: steps[index :: len(tried)] for index, name in enumerate(tried)}
    best = {name: max(vars(one)[name] for one in rates) for name in vars(rates[0])}
    return found, Rates(**best)


def table_of(title: str, found: dict[str, list[Stages]]) -> Table:
    """Return the best by change, and how it stands to the best step as it is."""

    def seconds(name: str, stage: str) -> float:
        return min(step[stage]["cpu"] for step in found[name])

    rows: list[tuple[Cell, ...]] = []
    for name in found:
        cells = [digits(seconds(name, stage)) for stage in (*STAGES[1:], "total")]
        ratios = (
            digits(seconds(name, stage) / seconds(AS_IS, stage)) for stage in ("update", "total")
        )
        rows.append((name, *cells, *ratios))
    columns = ("", *STAGES[1:], "all", "update, to as it is", "all, to as it is")
    return Table(title, columns, tuple(rows))


def main(argv: Sequence[str]) -> None:
    """Measure what is asked for and leave the result."""
    from floor import Decoder  # noqa: PLC0415 - named here alone

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--critic", choices=CRITICS, default=CRITICS[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names of changes")
    parser.add_argument("--start", type=Path, help="folder of a start, made there if missing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--ppo", type=json.loads, default={}, help="JSON: fields of spec.ppo")
    asked = parser.parse_args(argv)
    asked.decoder = lambda c: Decoder(c.hidden, c.intermediate, c.layers, c.vocabulary)
    case, before = CASES[asked.case], load()
    with start_of(asked.case, asked.start) as start:
        found, rates = run(case, start, ppo_config(case, asked.critic, asked.ppo), asked)
    separate = asked.critic == CRITICS[0]
    least = floor_of(case, rates, separate_critic=separate).update
    took = min(step["update"]["cpu"] for step in found[AS_IS])
    table = table_of(f"critic {asked.critic}, CPU seconds of a step, one thread", found)
    result = Result(
        name=f"update-levers-{asked.case}-{asked.critic.lower()}",
        section=Section.TRAINING,
        title=f"Levers of the PPO update, {asked.case}, critic {asked.critic}",
        measured=(
            f"PPO steps of {case.title}, taken in turns with and without each lever by one process "
            f"of one thread; a number is the best of {asked.rounds}, as other load only adds."
        ),
        command=f"python benchmarks/update_levers.py --case {asked.case} --critic {asked.critic}",
        tables=(table,),
        notes=(
            (
                f"The update takes {took / least:.3g} times its floor of {least:.3g} CPU seconds "
                f"at {rates.training_flops / 1e9:.3g} GFLOP/s, measured in the same process."
            ),
            f"Peak memory of the process, all changes together: {peak_memory() / 2**30:.3g} GiB.",
        ),
        conditions=conditions(before, settings=allocator_settings()),
    )
    for row in table.rows:
        print(*row, sep=" | ")
    print(*result.notes, f"left {record(result, asked.results)}", sep="\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
