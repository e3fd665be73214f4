"""A leader that freezes when its FREEZE_AT-th write about FREEZE_RUN is on its way, and allowed."""

import json
import os
import signal
import sys
from itertools import count
from typing import Any

from rlhf_operator.cluster.api import Api
from rlhf_operator.main import main

plain = Api._request
AT, RUN = int(os.environ["FREEZE_AT"]), os.environ["FREEZE_RUN"]
writes = count(1)


async def request(self: Api, method: str, path: str, **options: Any) -> Any:
    about = method != "GET" and RUN in path + json.dumps(options.get("body"))
    if about and next(writes) == AT:
        os.kill(os.getpid(), signal.SIGSTOP)
    return await plain(self, method, path, **options)


if __name__ == "__main__":
    Api._request = request  # type: ignore[method-assign]  # between asking and sending
    sys.exit(main())
