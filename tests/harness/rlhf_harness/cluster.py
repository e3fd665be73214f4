"""One cluster from start to end, and its parts by name. This is what tests hold in their hands."""

import logging
import os
import shutil
import time
from functools import cached_property
from pathlib import Path
from typing import Self

from rlhf_harness import (
    containerd,
    control_plane,
    dns,
    kwok,
    node,
    packages,
    prometheus,
    proxy,
    sandbox,
    state,
    training_operator,
)
from rlhf_harness.audit import AuditLog
from rlhf_harness.binaries import Tools
from rlhf_harness.building import ensure_built
from rlhf_harness.context import Context
from rlhf_harness.errors import CommandError, HarnessError, UnavailableError
from rlhf_harness.identity import ProcessId
from rlhf_harness.kubernetes import Kubernetes
from rlhf_harness.options import IMAGE, ClusterOptions, NodeOptions
from rlhf_harness.placement import Bare, Placement
from rlhf_harness.processes import Command, Component
from rlhf_harness.prometheus import Prometheus
from rlhf_harness.sandbox import Sandbox
from rlhf_harness.waiting import until

_logger = logging.getLogger(__name__)


class Cluster:
    """A cluster of this machine's own; `up` starts the control plane, the rest comes on demand.

    with Cluster(ClusterOptions(name="mine")) as cluster:
        cluster.add_node()
        cluster.kubernetes.apply(...)
        cluster["kube-apiserver"].kill()
    """

    image = IMAGE
    """An image that every node has; with the `host` runtime its `python` is the project's."""

    def __init__(self, options: ClusterOptions | None = None) -> None:
        self.options = options or ClusterOptions()
        self.tools = Tools()
        self.nodes: list[node.Node] = []
        self._components: dict[str, Component] = {}
        self._archives: list[Path] = []
        self._context: Context | None = None

    def __enter__(self) -> Self:
        """Start it; what has been started is ended if that fails."""
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.down()

    def __getitem__(self, name: str) -> Component:
        """A component by its name, as in `components`."""
        if name not in self._components:
            raise HarnessError(f"no component {name!r}", f"there are {', '.join(self.components)}")
        return self._components[name]

    @property
    def components(self) -> list[str]:
        """The names of everything that has been started."""
        return list(self._components)

    @property
    def context(self) -> Context:
        """What components know about the cluster."""
        if self._context is None:
            raise HarnessError(f"cluster {self.options.name!r} has not been started")
        return self._context

    @cached_property
    def kubernetes(self) -> Kubernetes:
        """The API as the administrator sees it."""
        current = self.context.state
        return Kubernetes(current.kubeconfig, self.tools.path("kubectl"), current.folder)

    @property
    def audit(self) -> AuditLog:
        """Who asked the API server for what."""
        return AuditLog(self.context.state.logs / control_plane.AUDIT_LOG)

    @property
    def logs(self) -> Path:
        """The folder with one log per component."""
        return self.context.state.logs

    def up(self) -> None:
        """Start the control plane and the training operator; leftovers are ended first."""
        packages.ensure_installed(packages.CONTROL_PLANE)
        if os.geteuid() == 0:
            packages.ensure_installed(packages.SANDBOX)
        ensure_built(self.tools, "core")
        began = time.monotonic()
        self._place()
        control_plane.prepare(self.context)
        self._start(control_plane.etcd(self.context))
        self._start(control_plane.apiserver(self.context))
        later = [
            self._spawn(control_plane.controller_manager(self.context)),
            self._spawn(control_plane.scheduler(self.context)),
        ]
        training_operator.install(self.context, self.kubernetes)
        self._start(training_operator.command(self.context, self.kubernetes))
        for component in later:
            component.wait_ready()
        training_operator.wait_accepting(self.kubernetes)
        until(self._has_default_account, "the controller manager to make service accounts")
        _logger.info("control plane up in %.0f s", time.monotonic() - began)

    def add_node(self, options: NodeOptions | None = None) -> node.Node:
        """Add a real node, with DNS and cluster IPs if it is the first."""
        place = self.context.placement
        if not isinstance(place, Sandbox):
            raise UnavailableError(
                "a real node needs root and namespaces", "run as root on a machine that allows both"
            )
        packages.ensure_installed(packages.NODE)
        ensure_built(self.tools, "node")
        began = time.monotonic()
        added = node.Node(
            self.context, self.kubernetes, place.pods, len(self.nodes) + 1, options or NodeOptions()
        )
        if self.nodes:
            place.add_address(added.address)
        else:
            self.kubernetes.apply(*containerd.runtime_classes())
            self._spawn(dns.coredns(self.context))
            self._spawn(proxy.kube_proxy(self.context))
        self._start(added.containerd())
        added.import_images([*node.archives(self.context), *self._archives])
        self._start(added.kubelet())
        added.declare()
        if not self.nodes:
            self["coredns"].wait_ready()
            self["kube-proxy"].wait_ready()
        self.nodes.append(added)
        _logger.info("%s ready in %.0f s", added.name, time.monotonic() - began)
        return added

    def import_image(self, archive: Path) -> None:
        """Give an image to every node that is there, and to those that will be added.

        Pods run it as it is with `runtimeClassName: runc`.
        """
        if archive in self._archives:
            return
        for one in self.nodes:
            one.import_images([archive])
        self._archives.append(archive)

    def add_kwok(self, count: int = 5) -> None:
        """Add nodes that are not there, on which KWOK plays pods."""
        ensure_built(self.tools, "kwok")
        if "kwok" not in self._components:
            self._start(kwok.kwok(self.context))
        kwok.nodes(self.kubernetes, count)

    def add_prometheus(self) -> Prometheus:
        """Add a Prometheus that reads every run, and the operator if it is installed."""
        ensure_built(self.tools, "prometheus")
        self._start(prometheus.command(self.context, self.kubernetes))
        return Prometheus(prometheus.url(self.context.placement.address))

    def restart_training_operator(self, *, restricted_init_container: bool = True) -> None:
        """Start the training operator anew, with or without the init container's template."""
        command = training_operator.command(
            self.context, self.kubernetes, restricted_init_container=restricted_init_container
        )
        self["training-operator"].restart(command)
        training_operator.wait_accepting(self.kubernetes)

    def tend(self) -> None:
        """Start again what has ended, as a kubelet would: a scheduler ends when it is in doubt."""
        for component in self._components.values():
            if not component.running:
                component.start()

    def lose_node(self, lost: node.Node) -> None:
        """Let a node go silent with everything on it; `revive_node` brings it back, empty."""
        self[f"kubelet-{lost.name}"].kill()
        self[f"containerd-{lost.name}"].kill()
        lost.kill_pods()

    def revive_node(self, lost: node.Node) -> None:
        """Start a lost node again, or restart one that is there."""
        seen = lost.heartbeat()
        for name in (f"containerd-{lost.name}", f"kubelet-{lost.name}"):
            if self[name].running:
                self[name].kill()
            self[name].start()
        until(lambda: lost.heartbeat() != seen, f"{lost.name} to report", timeout_seconds=60)
        lost.declare()

    def down(self, *, keep_logs: Path | None = None) -> None:
        """End everything, give everything back; logs can be kept elsewhere."""
        if self._context is None:
            return
        began = time.monotonic()
        current = self._context.state
        self._context.placement.stop()
        sandbox.end(current)
        for component in self._components.values():
            component.reap()
        if keep_logs is not None and current.logs.exists():
            shutil.copytree(current.logs, keep_logs, dirs_exist_ok=True)
        current.remove()
        self._components.clear()
        self.nodes.clear()
        self._archives.clear()
        self._context = None
        _logger.info("cluster %s ended in %.1f s", self.options.name, time.monotonic() - began)

    def _place(self) -> None:
        """Choose the place under the lock that keeps clusters apart."""
        with state.locked():
            end_stale()
            if found := state.load(self.options.name):
                raise HarnessError(
                    f"cluster {found.name!r} runs",
                    f"end it: python -m rlhf_harness down {found.name}",
                )
            current = state.State(
                name=self.options.name,
                starter=ProcessId.own(),
                tied=self.options.tied_to_this_process,
            )
            current.remove()
            current.save()
            place: Placement = Sandbox(current) if sandbox.possible() else Bare()
            self._context = Context(self.options, self.tools, current, place)
            place.start()

    def _start(self, command: Command) -> None:
        self._add(command).start()

    def _spawn(self, command: Command) -> Component:
        component = self._add(command)
        component.spawn()
        return component

    def _add(self, command: Command) -> Component:
        component = Component(command, self.context.placement, self.context.state)
        self._components[command.name] = component
        return component

    def _has_default_account(self) -> bool:
        try:
            self.kubernetes.get("serviceaccount", "default", "-n", "default")
        except CommandError:
            return False
        return True


def end(current: state.State) -> None:
    """End a cluster by its record, from any process."""
    sandbox.end(current)
    current.remove()
    _logger.info("ended cluster %s", current.name)


def end_stale() -> None:
    """End what killed processes have left behind."""
    for found in state.load_all():
        if found.stale:
            end(found)
