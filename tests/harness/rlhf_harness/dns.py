"""CoreDNS for a cluster's own names, on the cluster's address. It knows no other names."""

from rlhf_harness.context import Context
from rlhf_harness.processes import Command
from rlhf_harness.waiting import answers

_READY_PORT = 8181

_COREFILE = """
.:53 {{
  bind {address}
  errors
  ready {address}:{ready}
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    ttl 5
  }}
  cache 5 {{
    # The name of a pod that is not there yet must not stay unknown once it is.
    disable denial
  }}
}}
"""


def coredns(context: Context) -> Command:
    """The name server's process."""
    address = context.placement.address
    text = _COREFILE.format(address=address, ready=_READY_PORT, kubeconfig=context.state.kubeconfig)
    path = context.state.write("Corefile", text)
    ready = context.url(_READY_PORT, "/ready", scheme="http")
    return Command(
        name="coredns",
        argv=context.argv("coredns", "-conf", str(path)),
        ready=lambda: answers(ready),
    )
