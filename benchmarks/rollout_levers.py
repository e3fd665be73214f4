"""What each lever of the acting half of a PPO step is worth: generation and scoring, in turns.

`rollout_levers.py --case a` takes the phase's own networks and collects experience with and without
each lever; nothing is learned. A lever is taken back by putting in its place what was there before;
what did not pay is tried in the same way.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from typing_extensions import override

from floor import Decoder
from ppo_against_trl import CRITICS, floor_of
from ppo_ours import alone, ppo_config, prescribe_lengths, start_of
from ppo_start import CASES, TOLD, Case
from recording import (
    RESULTS,
    Cell,
    Lever,
    Result,
    Section,
    Table,
    conditions,
    digits,
    load,
    record,
)
from rlhf_trainer.telemetry.telemetry import SilentTelemetry
from stopwatch import Stages, Stopwatch, allocator_settings, peak_memory
from update_levers import put

AS_IS = "as it is"
STAGES = ("rollout", "reference", "score")
Change = Callable[[], Any]
"""Returns a context in which something is otherwise."""

LEVERS = {
    "without: packed weights": (True, "weights laid out for oneDNN, once for each stage"),
    "without: sums of blocks": (True, "cumulative sums of one block of the vocabulary to draw"),
    "without: last layer only where it is read": (True, "last layer where it is read"),
    "with: a cache with room": (False, "keys and values written behind the others, not copied"),
    "with: attention of one token as products": (False, "attention of one token without SDPA"),
    "with: budgets of four times the tokens": (False, "larger micro-batches to score"),
    "with: bfloat16 products": (False, "bfloat16 by autocast: other numbers, so never unasked"),
}
"""What is tried: whether it is kept, and what it is."""


def changes() -> dict[str, Change]:
    """Return how each is taken back or tried; to be called with torch there."""
    tried: tuple[Change, ...] = (
        unpacked,
        whole_vocabulary,
        everywhere,
        cache_with_room,
        attention_by_products,
        partial(budget, 4),
        in_bfloat16,
    )
    return {AS_IS: nullcontext} | dict(zip(LEVERS, tried, strict=True))


@contextmanager
def unpacked() -> Iterator[None]:
    """Multiply as torch does."""
    from rlhf_trainer.phases import ppo_collect  # noqa: PLC0415 - with torch
    from rlhf_trainer.rollout import sampler, scoring  # noqa: PLC0415 - with torch

    with ExitStack() as stack:
        for module in (ppo_collect, sampler, scoring):
            stack.enter_context(put(module, "packed", nullcontext))
        yield


def whole_vocabulary() -> Any:  # noqa: ANN401 - a context
    """Draw by the cumulative sums of all probabilities in float64."""
    import torch  # noqa: PLC0415 - after the environment

    from rlhf_trainer.rollout import sampler  # noqa: PLC0415 - with torch
    from rlhf_trainer.rollout.drawing import Drawn  # noqa: PLC0415 - with torch

    def draw(logits: Any, uniforms: Any, *, temperature: float) -> Any:  # noqa: ANN401 - tensors
        logp = (logits.float() / temperature).log_softmax(-1)
        probs = logp.exp()
        cumulative = probs.double().cumsum(-1)
        point = uniforms.unsqueeze(1) * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, point, right=True).clamp_(max=logp.shape[1] - 1)
        chosen = logp.gather(1, token).squeeze(1)
        return Drawn(token.squeeze(1), chosen, torch.special.entr(probs).sum(-1))

    return put(sampler, "draw", draw)


def everywhere() -> Any:  # noqa: ANN401 - a context
    """Compute the last layer at all positions."""
    from rlhf_trainer.models import last_layer  # noqa: PLC0415 - with torch

    return put(last_layer, "KNOWN", {})


def cache_with_room() -> Any:  # noqa: ANN401 - a context
    """Write new keys and values into tensors that are large enough for all."""
    from transformers.cache_utils import DynamicLayer  # noqa: PLC0415 - with torch

    room_tokens = 64

    def update(self: Any, keys: Any, values: Any, *_: Any, **__: Any) -> Any:  # noqa: ANN401 - tensors
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        start = self.get_seq_length()
        end = start + keys.shape[-2]
        rooms = getattr(self, "rooms", None)
        if rooms is None or rooms[0].shape[-2] < end or len(rooms[0]) != len(keys):
            shape = (*keys.shape[:2], end + room_tokens, keys.shape[-1])
            rooms = self.rooms = keys.new_empty(shape), values.new_empty(shape)
            for room, old in zip(rooms, (self.keys, self.values), strict=True):
                if start:
                    room[..., :start, :] = old
        for room, new in zip(rooms, (keys, values), strict=True):
            room[..., start:end, :] = new
        self.keys, self.values = (room[..., :end, :] for room in rooms)
        return self.keys, self.values

    return put(DynamicLayer, "update", update)


@contextmanager
def attention_by_products() -> Iterator[None]:
    """Attend with two batched products where there is one query for each row."""
    import torch  # noqa: PLC0415 - after the environment
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # noqa: PLC0415 - with torch

    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - tensors
        rows, heads, tokens, size = query.shape
        if tokens > 1:
            return plain(module, query, key, value, mask, **kwargs)
        groups = key.shape[1]
        grouped = query.view(rows, groups, heads // groups, size)
        scores = torch.matmul(grouped, key.transpose(2, 3)).mul_(kwargs["scaling"])
        if mask is not None:
            scores.masked_fill_(~mask, -torch.inf)
        return torch.matmul(scores.softmax(-1), value).view(rows, 1, heads, size), None

    ALL_ATTENTION_FUNCTIONS["sdpa"] = attend
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = plain


@contextmanager
def budget(factor: int) -> Iterator[None]:
    """Score in larger micro-batches."""
    from rlhf_trainer.rollout import experience, scoring  # noqa: PLC0415 - with torch

    with ExitStack() as stack:
        for module in (experience, scoring):
            plan = module.plan_step

            def larger(lengths: Any, *, budget_tokens: int, plan: Any = plan, **rest: Any) -> Any:  # noqa: ANN401 - passed on
                return plan(lengths, budget_tokens=factor * budget_tokens, **rest)

            stack.enter_context(put(module, "plan_step", larger))
        yield


@contextmanager
def in_bfloat16() -> Iterator[None]:
    """Multiply in bfloat16."""
    import torch  # noqa: PLC0415 - after the environment

    with unpacked(), torch.autocast("cpu", dtype=torch.bfloat16):
        yield


class Watched(SilentTelemetry):
    """Times the stages."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = Stopwatch()

    @override
    def stage(self, name: str) -> Any:
        return self.watch.stage(name)


def run(case: Case, start: Path, critic: str, rounds: int) -> Any:  # noqa: ANN401 - stages by name
    """Collect in turns; return the stages of each change, and the machine's rates."""
    told = json.loads((start / TOLD).read_text(encoding="utf-8"))
    prescribe_lengths(told["responseLengths"])
    with alone(1) as ranks:
        from ppo_workspace import context_of  # noqa: PLC0415 - DeepSpeed asks for a device at once
        from rates import measure_rates  # noqa: PLC0415 - with torch
        from rlhf_trainer.contract import Phase  # noqa: PLC0415
        from rlhf_trainer.phases import ppo  # noqa: PLC0415

        telemetry = Watched()
        config = ppo_config(case, critic, {})
        context = context_of(start, Phase.PPO, config, telemetry, attempt=os.getpid())
        phase = ppo._PPO(context, ranks)  # noqa: SLF001 - its acting half alone
        model = Decoder(case.hidden, case.intermediate, case.layers, case.vocabulary)
        found: dict[str, list[Stages]] = {}
        tried = changes()
        for number in range(rounds + 1):
            for name, change in tried.items() if number else ((AS_IS, nullcontext),):
                with change():
                    telemetry.watch.begin()
                    phase._collect()  # noqa: SLF001 - as above
                    stages = telemetry.watch.end()
                    phase.first_pass.forget()
                if number:
                    found.setdefault(name, []).append(stages)
        return found, measure_rates(model)


def main(argv: Sequence[str]) -> None:
    """Measure what is asked for and leave the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--start", type=Path, help="folder of a start, made there if missing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args(argv)
    case, before = CASES[asked.case], load()
    with start_of(asked.case, asked.start) as start:
        found, rates = run(case, start, CRITICS[0], asked.rounds)

    def seconds(name: str, stage: str) -> float:
        return float(median(step[stage]["cpu"] for step in found[name]))

    rows: list[tuple[Cell, ...]] = [
        (name, *(digits(seconds(name, stage)) for stage in STAGES)) for name in found
    ]
    levers = tuple(
        Lever(what, kept, "; ".join(_told(name, stage, seconds) for stage in STAGES))
        for name, (kept, what) in LEVERS.items()
    )
    least = floor_of(case, rates, separate_critic=True).generation
    ratio = seconds(AS_IS, "rollout") / least
    result = Result(
        name=f"rollout-levers-{asked.case}",
        section=Section.TRAINING,
        title=f"Levers of generation and scoring, {asked.case}",
        measured=(
            f"The acting half of a PPO step of {case.title}: experience is collected in turns with "
            "and without each lever by one process of one thread, which learns nothing; a number "
            f"is the median of {asked.rounds}."
        ),
        command=f"python benchmarks/rollout_levers.py --case {asked.case}",
        tables=(Table("CPU seconds of a stage, one thread", ("", *STAGES), tuple(rows)),),
        levers=levers,
        notes=(
            (
                f"Generation takes {ratio:.3g} times its floor of {least:.3g} CPU seconds at "
                f"{rates.flops / 1e9:.3g} GFLOP/s, measured in the same process."
            ),
            f"Peak memory of the process, all changes together: {peak_memory() / 2**30:.3g} GiB.",
        ),
        conditions=conditions(before, settings=allocator_settings()),
    )
    for row in rows:
        print(*row, sep=" | ")
    print(*result.notes, f"left {record(result, asked.results)}", sep="\n", flush=True)


def _told(name: str, stage: str, seconds: Callable[[str, str], float]) -> str:
    """Return what a stage took before the lever and with it."""
    without, with_it = (name, AS_IS) if name.startswith("without") else (AS_IS, name)
    return f"{stage} {seconds(without, stage):.3g} to {seconds(with_it, stage):.3g} s"


if __name__ == "__main__":
    main(sys.argv[1:])
