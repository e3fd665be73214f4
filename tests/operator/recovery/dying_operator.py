"""An operator that dies right after its DIE_AFTER-th write, before it has learnt the answer."""

import os
import sys
from itertools import count
from typing import Any

from rlhf_operator.cluster.api import Api
from rlhf_operator.main import main

DIED = 77

plain = Api._write
LAST = int(os.environ["DIE_AFTER"])
writes = count(1)


async def write(self: Api, method: str, path: str, *arguments: Any) -> Any:
    answer = await plain(self, method, path, *arguments)
    if "/leases" not in path and next(writes) == LAST:
        os._exit(DIED)
    return answer


if __name__ == "__main__":
    Api._write = write  # type: ignore[method-assign]
    sys.exit(main())
