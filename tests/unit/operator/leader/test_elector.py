"""Two electors and one Lease, whose requests take as long as a test wants, get lost, or fail."""

import asyncio
from collections.abc import Coroutine
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlhf_operator.cluster.api import CONFLICT
from rlhf_operator.errors import ClusterError
from rlhf_operator.leader import Elector, LeaseName, Timing

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TIMING = Timing(15.0)
MINUTE_SECONDS = 60.0

Fate = Literal["done", "answer lost", "failed"]
Move = tuple[int, float, Fate]
"""Who goes on, how many seconds later, and what becomes of the request that waits there."""

MOVES = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.floats(0, 20),
        st.sampled_from(("done", "done", "done", "answer lost", "failed")),
    ),
    max_size=60,
)


class World:
    """A clock, and an API server with room for one Lease."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.lease: dict[str, Any] | None = None
        self._version = 0

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])

    def write(self, lease: dict[str, Any]) -> None:
        current = (self.lease or {"metadata": {}})["metadata"].get("resourceVersion")
        if lease["metadata"].get("resourceVersion") != current:
            raise ClusterError("somebody else wrote", status=CONFLICT)
        self._version += 1
        metadata = lease["metadata"] | {"resourceVersion": str(self._version)}
        self.lease = deepcopy(lease | {"metadata": metadata})


class Process:
    """One elector, whose requests wait for the test to let them through."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name
        door: Any = self
        self.elector = Elector(
            door,
            LeaseName("system", "rlhf", name),
            TIMING,
            clock=lambda: NOW + timedelta(seconds=world.seconds),
            monotonic=lambda: world.seconds,
        )
        self._asked, self._fate = asyncio.Event(), asyncio.Queue[Fate]()
        self._step: asyncio.Task[bool] | None = None

    async def get(self, *_: object) -> dict[str, Any] | None:
        await self._let_through()
        return deepcopy(self._world.lease)

    async def create(self, _: object, lease: dict[str, Any]) -> None:
        await self._let_through(lease)

    replace = create

    async def move(self, fate: Fate) -> None:
        """Begin a step, or let its next request through."""
        if self._step is None:
            self._step = asyncio.create_task(self.elector._step())
            await self._next(self._step)
            return
        self._fate.put_nowait(fate)
        await self._next(self._step)
        if self._step.done():
            failure = self._step.exception()
            assert failure is None or isinstance(failure, ClusterError | TimeoutError)
            if failure is None and self._step.result():
                assert self._world.holder == self._name
            self._step = None

    async def look(self) -> None:
        """Take a whole step, undisturbed."""
        await self.move("done")
        while self._step is not None:
            await self.move("done")

    async def end(self) -> None:
        if self._step is not None:
            self._step.cancel()
            await asyncio.gather(self._step, return_exceptions=True)

    async def _let_through(self, lease: dict[str, Any] | None = None) -> None:
        self._asked.set()
        fate = await self._fate.get()
        if fate == "failed":
            raise ClusterError("the API server is ill")
        if lease is not None:
            self._world.write(lease)
        if fate == "answer lost":
            raise TimeoutError

    async def _next(self, step: "asyncio.Task[bool]") -> None:
        self._asked.clear()
        asked = asyncio.create_task(self._asked.wait())
        await asyncio.wait((step, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()


async def led_by_one() -> tuple[World, Process, Process]:
    """Return who leads and who does not."""
    world = World()
    leader, other = Process(world, "a"), Process(world, "b")
    await leader.look()
    assert leader.elector.held()
    return world, leader, other


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, MINUTE_SECONDS))


FROZEN_BEFORE_ITS_FIRST_LOOK: list[Move] = [
    *((0, 0.0, "done") for _ in range(3)),  # a leads
    (1, 0.0, "done"),  # b begins to look, and is frozen
    (0, 16.0, "done"),
    *((0, 0.0, "done") for _ in range(2)),  # a has renewed
    *((1, 0.0, "done") for _ in range(4)),  # b sees that, and looks again
]

BOTH_CREATE: list[Move] = [(who, 0.0, "done") for _ in range(3) for who in (0, 1)]
"""The one that comes too late is told of a conflict."""


@settings(deadline=None)  # a deadline measures the load of the machine
@example(FROZEN_BEFORE_ITS_FIRST_LOOK)
@example(BOTH_CREATE)
@given(MOVES)
def test_two_never_lead_at_once(moves: list[Move]) -> None:
    async def play() -> None:
        world = World()
        both = [Process(world, name) for name in ("a", "b")]
        for who, seconds, fate in moves:
            world.seconds += seconds
            await both[who].move(fate)
            assert not all(one.elector.held() for one in both)
        for one in both:
            await one.end()

    run(play())


def test_other_one_leads_once_it_has_seen_no_sign_of_life_for_so_long() -> None:
    async def play() -> None:
        world, leader, other = await led_by_one()
        world.seconds += 14
        await other.look()  # the first that it sees of the lease
        world.seconds += TIMING.lease_seconds - 0.1
        await other.look()
        assert not other.elector.held()
        world.seconds += 0.1
        await other.look()
        assert other.elector.held()
        assert not leader.elector.held()

    run(play())


def test_holder_relies_on_a_renewal_from_when_it_was_asked_for() -> None:
    async def play() -> None:
        world = World()
        leader = Process(world, "a")
        await leader.move("done")
        world.seconds += 8
        await leader.look()
        assert leader.elector.held()
        world.seconds += TIMING.renew_deadline_seconds - 8
        assert not leader.elector.held()

    run(play())


def test_lease_that_is_let_go_is_taken_at_once() -> None:
    async def play() -> None:
        _, leader, other = await led_by_one()
        await other.look()
        assert not other.elector.held()
        releasing = asyncio.create_task(leader.elector.release())
        for _ in range(2):
            leader._fate.put_nowait("done")
        await releasing
        assert not leader.elector.held()
        await other.look()
        assert other.elector.held()

    run(play())


def test_lease_of_another_one_is_not_let_go() -> None:
    async def play() -> None:
        world, _, other = await led_by_one()
        await other.look()
        for _ in range(2):
            other._fate.put_nowait("done")
        await other.elector.release()
        assert world.holder == "a"

    run(play())
