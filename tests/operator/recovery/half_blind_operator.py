"""An operator that is woken by its watch of BLIND_TO, a kind of object, and shown nothing by it."""

import os
import sys
from collections.abc import Callable

import kopf

from rlhf_operator import handlers
from rlhf_operator.api import RunKey
from rlhf_operator.cluster.cache import Store
from rlhf_operator.cluster.kinds import Kind
from rlhf_operator.main import main

plain = handlers._register


def register(
    registry: kopf.OperatorRegistry, kind: Kind, store: Store, add: Callable[[RunKey], None]
) -> None:
    seen = Store(store._key) if kind.plural == os.environ["BLIND_TO"] else store
    plain(registry, kind, seen, add)


if __name__ == "__main__":
    handlers._register = register
    sys.exit(main())
