"""What every component of one cluster needs to know about it."""

from dataclasses import dataclass

from rlhf_harness import kubeconfig
from rlhf_harness.binaries import Tools
from rlhf_harness.options import ClusterOptions
from rlhf_harness.pki import Authority, Pair
from rlhf_harness.placement import Placement
from rlhf_harness.state import State


@dataclass(frozen=True)
class Context:
    """One cluster: what was asked for, where it runs, where it writes, who signs."""

    options: ClusterOptions
    tools: Tools
    state: State
    placement: Placement

    @property
    def authority(self) -> Authority:
        """Signs the certificates."""
        return Authority(self.state.pki)

    @property
    def server(self) -> str:
        """The API server's address."""
        return f"https://{self.placement.address}:{self.placement.ports.apiserver}"

    def url(self, port: int, path: str, *, scheme: str = "https") -> str:
        """An address of a component."""
        return f"{scheme}://{self.placement.address}:{port}{path}"

    def argv(self, program: str, *arguments: str, name: str = "") -> list[str]:
        """The command line of a component, with what the options add to it."""
        extra = self.options.extra_arguments.get(name or program, ())
        return [self.tools.path(program), *arguments, *extra]

    def client(self, name: str, subject: str) -> str:
        """Write a kubeconfig for a user; the path of the file."""
        return str(self.kubeconfig_of(name, self.authority.client(name, subject)))

    def kubeconfig_of(self, name: str, pair: Pair) -> str:
        """Write a kubeconfig for the holder of a certificate; the path of the file."""
        text = kubeconfig.with_certificate(self.server, self.authority.root, pair)
        return str(self.state.write(f"{name}.conf", text))
