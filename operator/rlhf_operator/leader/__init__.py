"""Which of several processes works: the one that holds a Lease.

The others wait and know nothing, so that whoever takes over looks at the cluster afresh.
"""

from rlhf_operator.leader.elector import Elector, LeaseName
from rlhf_operator.leader.leading import led
from rlhf_operator.leader.timing import Timing

__all__ = ["Elector", "LeaseName", "Timing", "led"]
