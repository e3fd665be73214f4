"""The smallest operator that Kopf allows: the base that memory is measured against."""

import asyncio
from typing import Any

import kopf


@kopf.on.event("rlhf.dev", "v1alpha1", "rlhfruns")
async def changed(**_: Any) -> None:  # noqa: ANN401 - Kopf's own
    """See a run and do nothing."""


async def main() -> None:
    """Follow the whole cluster until killed."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    await kopf.operator(settings=settings, clusterwide=True, standalone=True)


if __name__ == "__main__":
    asyncio.run(main())
