"""Kopf's watches, as one piece of work that ends when it is told to, or when it fails.

Kopf repeats what may pass, and gives up on an answer that will not: a right taken away, say. It
then waits for its other watches, without end if one of them waits to log in again.
"""

import asyncio
from collections.abc import Sequence

import kopf

from rlhf_operator.errors import ClusterError
from rlhf_operator.handlers import configure

STOP_SECONDS = 15.0
"""How long Kopf may take to stop: it gives its tasks 5 s."""


async def follow(
    registry: kopf.OperatorRegistry,
    namespaces: Sequence[str],
    *,
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Follow the cluster, or some namespaces of it, until `stop`; `ready` is set at the start.

    Raises:
        ClusterError: a watch has failed for good. Tasks of Kopf may be left behind.
    """
    settings = kopf.OperatorSettings()
    configure(settings)
    others = asyncio.all_tasks()
    roots = await kopf.spawn_tasks(
        registry=registry,
        settings=settings,
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
        stop_flag=stop,
        ready_flag=ready,
    )
    running = asyncio.create_task(kopf.run_tasks(roots, ignored=others), name="kopf")
    # What existed before is left alone, and so must the task that waits for all the rest.
    others.add(running)
    try:
        await asyncio.wait(roots, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({running}, timeout=STOP_SECONDS)
    except asyncio.CancelledError:
        running.cancel()
        raise
    if not running.done():
        raise ClusterError("the watches have ended and do not stop")
    if (error := running.exception()) is not None:
        raise ClusterError(f"a watch has failed: {error}") from error
