"""A Kubernetes API as one of its users sees it, through kubectl.

Also what tests need around their subject: namespaces under Pod Security, service accounts with
given rights, a workspace volume.
"""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_harness import kubeconfig as kubeconfigs
from rlhf_harness.commands import run
from rlhf_harness.packages import SEARCH

Manifest = Mapping[str, Any]
"""A resource, as its JSON."""

GROUP = 65532
"""The group of pods that run as nobody in particular; workspaces on hostPath belong to it."""

_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Kubernetes:
    """One user of one cluster."""

    kubeconfig: Path
    program: str
    """The kubectl to use."""

    scratch: Path
    """Where kubeconfigs of other users and kubectl's cache may be written."""

    def kubectl(
        self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 60
    ) -> str:
        """Run kubectl and return what it printed; CommandError with its message if it fails."""
        environment = {
            "PATH": os.environ.get("PATH", SEARCH),
            "HOME": str(self.scratch),
            "KUBECONFIG": str(self.kubeconfig),
        }
        argv = [self.program, *arguments]
        return run(argv, stdin=stdin, env=environment, timeout_seconds=timeout_seconds)

    def get(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get` finds, for instance get("pod", "a", "-n", "b")."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "-o", "json", *arguments))
        return found

    def apply(self, *manifests: Manifest | Path | str, timeout_seconds: float = 60) -> None:
        """Create or change resources: as JSON, as a file, or as YAML text."""
        for one in manifests:
            command = ["apply", "--server-side", "--force-conflicts", "-f"]
            if isinstance(one, Path):
                self.kubectl(*command, str(one), timeout_seconds=timeout_seconds)
            else:
                text = one if isinstance(one, str) else json.dumps(one)
                self.kubectl(*command, "-", stdin=text, timeout_seconds=timeout_seconds)

    def check(self, manifest: Manifest) -> None:
        """Ask the API server, with its webhooks, to take this on trial; CommandError if not."""
        self.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))

    def namespace(self, name: str, *, pod_security: str = "restricted") -> None:
        """Create a namespace that enforces a Pod Security standard."""
        labels = {"pod-security.kubernetes.io/enforce": pod_security}
        metadata = {"name": name, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def service_account(self, namespace: str, name: str) -> "Kubernetes":
        """Create a service account, if need be; the API as it sees it, for a day."""
        metadata = {"name": name, "namespace": namespace}
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        token = self.kubectl("-n", namespace, "create", "token", name, "--duration=24h").strip()
        return self._as(f"{namespace}-{name}", kubeconfigs.with_token(self._cluster(), token))

    def through(self, server: str, name: str) -> "Kubernetes":
        """The same user, who reaches the API at another address, without TLS."""
        config = self._view()
        config["clusters"][0]["cluster"] = {"server": server}
        return self._as(name, json.dumps(config))

    def server(self) -> tuple[str, bytes]:
        """Where the API is, and the certificate of its authority."""
        cluster = self._cluster()
        return cluster["server"], base64.b64decode(cluster["certificate-authority-data"])

    def impersonated(self, user: str, groups: Sequence[str] = ()) -> "Kubernetes":
        """The API as another user sees it, who need not be known to anything but RBAC."""
        config = self._view()
        config["users"][0]["user"] |= {"as": user, "as-groups": list(groups)}
        return self._as(f"user-{user}", json.dumps(config))

    def grant(
        self, subject: Manifest, rules: Sequence[Manifest], *, name: str, namespace: str = ""
    ) -> None:
        """Give a subject of RBAC these rules, in one namespace or in the whole cluster.

        Args:
            subject: as in a RoleBinding; see `account_subject` and `user_subject`.
            rules: as in a Role.
            name: of the role and of its binding.
            namespace: empty for a ClusterRole.
        """
        scope = {"namespace": namespace} if namespace else {}
        kind = "Role" if namespace else "ClusterRole"
        common = {"apiVersion": f"{_RBAC}/v1", "metadata": {"name": name, **scope}}
        reference = {"apiGroup": _RBAC, "kind": kind, "name": name}
        binding = {"roleRef": reference, "subjects": [subject]}
        self.apply({**common, "kind": kind, "rules": list(rules)})
        self.apply({**common, "kind": f"{kind}Binding", **binding})

    def workspace(self, namespace: str, folder: Path, *, name: str = "workspace") -> None:
        """A claim that every pod may write to, bound to a folder of this machine.

        The kubelet does not change the group of a hostPath, so the folder gets it here.
        """
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, -1, GROUP)
        folder.chmod(0o2770)
        shared = {"storageClassName": "", "accessModes": ["ReadWriteMany"]}
        size, volume = {"storage": "10Gi"}, f"{namespace}-{name}"
        place = {
            "capacity": size,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": name},
            "hostPath": {"path": str(folder), "type": "Directory"},
        }
        claim = {"volumeName": volume, "resources": {"requests": size}}
        self.apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume},
             "spec": {**shared, **place}},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
             "metadata": {"name": name, "namespace": namespace}, "spec": {**shared, **claim}},
        )  # fmt: skip

    def _as(self, name: str, config: str) -> "Kubernetes":
        path = self.scratch / f"{name}.conf"
        path.write_text(config, encoding="utf-8")
        path.chmod(0o600)
        return Kubernetes(path, self.program, self.scratch)

    def _view(self) -> dict[str, Any]:
        arguments = ("config", "view", "--minify", "--flatten", "--raw", "-o", "json")
        config: dict[str, Any] = json.loads(self.kubectl(*arguments))
        return config

    def _cluster(self) -> Manifest:
        cluster: Manifest = self._view()["clusters"][0]["cluster"]
        return cluster


def account_subject(namespace: str, name: str) -> Manifest:
    """A service account, as RBAC names it."""
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


def user_subject(name: str) -> Manifest:
    """A user, as RBAC names it."""
    return {"apiGroup": _RBAC, "kind": "User", "name": name}


def secret(namespace: str, name: str, contents: Mapping[str, Path]) -> Manifest:
    """A Secret of files."""
    data = {key: base64.b64encode(path.read_bytes()).decode() for key, path in contents.items()}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
