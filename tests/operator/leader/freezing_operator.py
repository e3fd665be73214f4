"""A leader that freezes when its FREEZE_AT-th write is on its way, and was allowed already."""

import os
import signal
import sys
from itertools import count
from typing import Any

from rlhf_operator.cluster.api import Api
from rlhf_operator.main import main

plain = Api._request
AT = int(os.environ["FREEZE_AT"])
writes = count(1)


async def request(self: Api, method: str, path: str, **options: Any) -> Any:
    if method != "GET" and "/leases" not in path and next(writes) == AT:
        os.kill(os.getpid(), signal.SIGSTOP)
    return await plain(self, method, path, **options)


if __name__ == "__main__":
    Api._request = request  # type: ignore[method-assign]
    sys.exit(main())
