"""What was measured of the operator at scale, and the tables that are made of it."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from many_runs.levers import LEVERS
from many_runs.plant import Startup
from many_runs.processes import OTHERS, Memory
from many_runs.timing import Spread, Story
from recording import Cell, Result, Section, Table, conditions

HUNDRED = 100

STEADY = "steady"
ARRIVING = "more at once"

ARRIVED = "run applied → job created"
FOLLOWED = "pod ended → next phase's job created"

_BREACHES = (
    "Breaches: a trainer takes a step every 5 s and is read every 15 s; it has the time of two "
    "readings, 30 s, to stop by itself before the operator does."
)


@dataclass
class Window:
    """A while in which something was measured."""

    what: str
    live: int
    seconds: float
    spreads: dict[str, Spread]
    calls: dict[str, int]
    per_run: dict[str, float]
    """Requests by kind, of runs that went from Preparation to PPO."""
    cpu: dict[str, float] = field(default_factory=dict)
    memory: Memory | None = None
    scrapes: int = 0
    passes: int = 0
    pass_mean_ms: float = 0.0
    pass_p99_below: str = ""

    @classmethod
    def of(
        cls,
        what: str,
        live: int,
        seconds: float,
        story: Story,
        told: dict[str, float],
        interval_seconds: float,
    ) -> "Window":
        """Return what the audit log tells of it."""
        found = {
            ARRIVED: Spread.of(story.apply_to_job()),
            FOLLOWED: Spread.of(story.phase_to_phase()),
            "job created → pod created (training operator)": Spread.of(story.job_to_pod()),
            "breach served → in the status": Spread.of(story.breach_seen(told)),
            "trainer's time over → stop in the status": Spread.of(
                story.stop_late(interval_seconds)
            ),
            "stop in the status → job deleted": Spread.of(story.stop_to_deleted()),
            "breach served → job deleted": Spread.of(story.told_to_deleted(told)),
        }
        whole = story.runs_until_ppo()
        counted = story.calls(whole)
        return cls(
            what,
            live,
            round(seconds, 1),
            {name: spread for name, spread in found.items() if spread},
            dict(story.calls()),
            {name: round(number / len(whole), 2) for name, number in sorted(counted.items())},
        )

    def take_passes(self, before: Mapping[str, float], after: Mapping[str, float]) -> None:
        """Take in what the operator says about its passes."""
        grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
        count = grown["pass_duration_seconds_count"]
        self.passes = int(count)
        self.pass_mean_ms = round(1000 * grown["pass_duration_seconds_sum"] / max(count, 1), 1)
        bounds = [name for name in after if name.startswith("pass<")]
        within = (name[5:] for name in bounds if grown[name] >= 0.99 * count)
        self.pass_p99_below = next(within, "more")

    @property
    def title(self) -> str:
        """What it is called in tables."""
        return f"{self.live} live, {self.what}"


@dataclass
class Report:
    """All of it."""

    empty_kopf: Memory | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of a finished run and of what it leaves, as the API server sends them."""
    starts: list[tuple[str, int, Startup]] = field(default_factory=list)
    """With what, how many finished runs among it, and how it went."""
    windows: list[Window] = field(default_factory=list)
    training_operator: dict[str, tuple[Spread | None, Spread | None]] = field(default_factory=dict)


def result(report: Report, load_before: float, command: str, part: str = "") -> Result:
    """Return the result as all benchmarks leave theirs."""
    return Result(
        name=f"operator-scale-{part}" if part else "operator-scale",
        section=Section.OPERATOR,
        title="The operator with many runs" + (f" ({part})" if part else ""),
        measured=(
            "A real API server with etcd, scheduler, controller manager and training operator; "
            "pods are played by KWOK, and one server answers for the metrics of all of them. "
            "Latencies are taken from the API server's audit log, CPU seconds and memory from the "
            "kernel. Everything shares the machine's cores. Steady means: while the live runs "
            "stay in PPO and are read every 15 s, a new run arrives now and then and goes through "
            "Preparation, SFT and reward model within seconds, and another one's PPO ends. At the "
            "largest number of live runs some then break the rule on KL, all at once."
        ),
        command=command,
        headlines=tuple(_headlines(report)),
        tables=tuple(_tables(report)),
        levers=() if part else LEVERS,
        conditions=conditions(
            load_before, packages=("kopf", "kubernetes", "aiohttp", "pydantic"), settings={}
        ),
    )


def _headlines(report: Report) -> Iterator[str]:
    for window in report.windows:
        if window.what != STEADY:
            continue
        told = (
            f"{name} p50 {spread.p50:.2g} s, {_tail(spread)}"
            for name in (ARRIVED, FOLLOWED)
            if (spread := window.spreads.get(name))
        )
        yield f"{window.live} live runs at steady work: {'; '.join(told)}"
    base = report.empty_kopf
    for what, runs, start in report.starts:
        if base is not None and runs:
            over = 1000 * (start.memory.resident - base.resident) / runs
            yield (
                f"{what}: all looked at {start.caught_up:.0f} s after the start, {over:.2g} kB "
                "each over an operator that does nothing"
            )


def _tail(spread: Spread) -> str:
    """Return the 99th percentile; of fewer values it would be the largest."""
    if spread.count < HUNDRED:
        return f"largest of {spread.count} {spread.largest:.2g} s"
    return f"p99 of {spread.count} {spread.p99:.2g} s"


def _tables(report: Report) -> list[Table]:
    found = [
        _latencies(report),
        _work(report),
        _processors(report),
        _cost(report),
        _starts(report),
    ]
    if report.windows:
        found.append(_calls(report))
    if report.training_operator:
        found.append(_training_operator(report))
    return [table for table in found if table.rows]


def _latencies(report: Report) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (window.title, name, spread.count, spread.p50, spread.p99, spread.largest)
        for window in report.windows
        for name, spread in window.spreads.items()
    ]
    return Table(
        "Latencies, seconds",
        ("load", "from → to", "times", "p50", "p99", "largest"),
        tuple(rows),
        (_BREACHES,),
    )


def _work(report: Report) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            window.title,
            window.seconds,
            window.passes,
            window.pass_mean_ms,
            f"≤ {window.pass_p99_below}",
            window.scrapes,
            sum(window.calls.values()),
            window.memory.resident if window.memory else None,
        )
        for window in report.windows
    ]
    columns = (
        *("load", "seconds", "passes", "mean, ms", "p99, s"),
        *("requests to endpoints", "requests to the API server", "operator's memory, MB"),
    )
    return Table("The operator's work", columns, tuple(rows))


def _processors(report: Report) -> Table:
    names = list(report.windows[0].cpu) if report.windows else []
    rows: list[tuple[Cell, ...]] = [
        (
            window.title,
            window.seconds,
            *(round(window.cpu.get(name, 0.0), 1) for name in names),
            round(sum(window.cpu.values()) / window.seconds, 2),
        )
        for window in report.windows
    ]
    columns = ("load", "seconds", *names, f"cores busy, of {os.cpu_count()}")
    note = f"`{OTHERS}`: whatever else ran on the machine; where all cores are busy, runs wait."
    return Table("CPU seconds by process", columns, tuple(rows), (note,))


def _cost(report: Report) -> Table:
    """What one run costs until its PPO, where many come at once: little else is done then."""
    bursts = [window for window in report.windows if window.what.endswith(ARRIVING)]
    names = [name for name in (bursts[0].cpu if bursts else ()) if name != OTHERS]
    rows: list[tuple[Cell, ...]] = [
        (
            window.title,
            came.count,
            *(round(1000 * window.cpu.get(name, 0.0) / came.count) for name in names),
        )
        for window in bursts
        if (came := window.spreads.get(ARRIVED))
    ]
    return Table(
        "CPU milliseconds for each run of a burst, from its arrival to its PPO, two jobs",
        ("load", "runs that came", *names),
        tuple(rows),
        ("What those cost that are there already is in it, too.",),
    )


def _starts(report: Report) -> Table:
    base = report.empty_kopf
    rows: list[tuple[Cell, ...]] = []
    if base is not None:
        rows.append(("empty Kopf operator", None, None, None, base.resident, base.peak, None))
    for what, runs, start in report.starts:
        over = 1000 * (start.memory.resident - base.resident) / runs if base and runs else None
        rows.append(
            (
                f"operator with {what}",
                round(start.ready, 1),
                round(start.caught_up, 1),
                round(start.cpu, 1),
                start.memory.resident,
                start.memory.peak,
                None if over is None else round(over, 1),
            )
        )
    columns = (
        *("process", "ready after, s", "all runs looked at after, s", "CPU s until then"),
        *("memory, MB", "peak, MB", "kB per finished run over the empty operator"),
    )
    sizes = ", ".join(f"{kind} {size}" for kind, size in report.sizes.items())
    return Table(
        "Start and memory", columns, tuple(rows), (f"Bytes as the API server sends them: {sizes}.",)
    )


def _calls(report: Report) -> Table:
    steady = [window.per_run for window in report.windows if window.what == STEADY]
    # Where runs do not come through within the window there is nothing to count.
    counted = next((one for one in reversed(steady) if one), {})
    rows: list[tuple[Cell, ...]] = list(counted.items())
    if rows:
        rows.append(("all", round(sum(counted.values()), 2)))
    return Table(
        "The operator's requests for a run from its arrival to its PPO, four jobs",
        ("request", "times"),
        tuple(rows),
        ("Lists and watches are not for one run: see the requests in all above.",),
    )


def _training_operator(report: Report) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (setting, what, spread.count, spread.p50, spread.p99)
        for setting, both in report.training_operator.items()
        for what, spread in zip(("run applied → job", "job → pod"), both, strict=True)
        if spread is not None
    ]
    return Table(
        "A burst of runs under the training operator's settings, seconds",
        (
            "--kube-api-qps, --kube-api-burst, --controller-threads",
            "from → to",
            "times",
            "p50",
            "p99",
        ),
        tuple(rows),
        ("20, 30 and 1 are its defaults.",),
    )
