"""A plan for people, and for programs."""

from collections.abc import Sequence
from typing import Any

from rlhf_trainer.planning.hardware import GIB
from rlhf_trainer.planning.moments import Components
from rlhf_trainer.planning.plan import MemoryPlan, PhasePlan

COLUMNS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
    "kv_cache": "KV cache",
    "logits": "logits",
    "buffers": "buffers",
    "runtime": "runtime",
}
"""Headings of components."""


def table(plan: MemoryPlan) -> str:
    """Return the plan as text: for each phase the moment that needs most, in GiB per rank."""
    head = ["phase", *COLUMNS.values(), "total", "memory", "free", ""]
    rows = [head, *(_row(phase) for phase in plan.phases)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, len(head) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([_title(plan), "", *lines, "", *_places(plan), *plan.notes]) + "\n"


def line(plan: MemoryPlan) -> str:
    """Return the plan on one line, for a log."""
    needs = ", ".join(
        f"{phase.phase.value} {gib(phase.peak.held.total)} GiB ({phase.verdict.value})"
        for phase in plan.phases
    )
    return f"predicted memory per {_unit(plan)}: {needs}"


def _unit(plan: MemoryPlan) -> str:
    return "GPU" if any(phase.place.is_gpu for phase in plan.phases) else "process"


def _title(plan: MemoryPlan) -> str:
    return f"Predicted memory per {_unit(plan)}, in GiB, when each phase needs most:"


def _row(phase: PhasePlan) -> list[str]:
    held, capacity = phase.peak.held, phase.place.memory_bytes
    return [
        phase.phase.value,
        *(gib(getattr(held, name)) for name in COLUMNS),
        gib(held.total),
        "?" if capacity is None else gib(capacity),
        "?" if capacity is None else gib(capacity - held.total),
        phase.verdict.value,
    ]


def _places(plan: MemoryPlan) -> list[str]:
    return [
        f"{phase.phase.value}: {_place(phase)}, ZeRO {phase.zero_stage}; most at: {phase.peak.name}"
        + (
            f"; {gib(phase.host_bytes)} GiB in the host's memory for each rank"
            if phase.host_bytes
            else ""
        )
        for phase in plan.phases
    ]


def _place(phase: PhasePlan) -> str:
    place = phase.place
    what = "GPU" if place.is_gpu else "process"
    many = "" if place.processes == 1 else ("s" if place.is_gpu else "es")
    nodes = f"{place.nodes} x " if place.nodes > 1 else ""
    return f"{nodes}{place.processes} {what}{many}" + (f" of {place.pool}" if place.pool else "")


def gib(value: float) -> str:
    """Return bytes in GiB, as tables show them."""
    return f"{value / GIB:.2f}" if abs(value) < 10 * GIB else f"{value / GIB:.1f}"


def to_json(plan: MemoryPlan, edits: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the plan in bytes, with every moment of every phase."""
    return {
        "predicted": True,
        "fits": plan.refused is None,
        "phases": [_phase_json(phase) for phase in plan.phases],
        "notes": list(plan.notes),
        "smallestChange": None if edits is None else list(edits),
    }


def _phase_json(phase: PhasePlan) -> dict[str, Any]:
    return {
        "phase": phase.phase.value,
        "zeroStage": phase.zero_stage,
        "place": phase.place.model_dump(mode="json", by_alias=True),
        "verdict": phase.verdict.value,
        "peak": {"moment": phase.peak.name, "bytes": bytes_of(phase.peak.held)},
        "moments": [
            {"moment": moment.name, "bytes": bytes_of(moment.held)} for moment in phase.moments
        ],
        "hostBytes": round(phase.host_bytes),
    }


def bytes_of(held: Components) -> dict[str, int]:
    """Return components by their names, and their total."""
    names = {"kv_cache": "kvCache"}
    parts = {names.get(name, name): round(getattr(held, name)) for name in COLUMNS}
    return parts | {"total": round(held.total)}


def refusal(refused: PhasePlan) -> tuple[str, str, str]:
    """Return place, value and problem of a phase that cannot fit."""
    held, place = refused.peak.held, refused.place
    largest = sorted(COLUMNS, key=lambda name: -getattr(held, name))[:2]
    parts = " and ".join(f"{gib(getattr(held, name))} GiB {COLUMNS[name]}" for name in largest)
    problem = (
        f"{refused.phase.value} needs {gib(held.total)} GiB on each GPU at the "
        f"{refused.peak.name} (predicted), {parts} among it; there are "
        f"{gib(place.memory_bytes or 0)} GiB"
    )
    return place.pool_field, place.pool or "?", problem
