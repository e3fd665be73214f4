"""Kubeconfig files: everything inside, so that one file is all a client needs."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_harness.pki import Pair


def with_certificate(server: str, authority: Path, pair: Pair) -> str:
    """For the user that a client certificate names."""
    user = {
        "client-certificate-data": _embedded(pair.certificate),
        "client-key-data": _embedded(pair.key),
    }
    return _kubeconfig({"server": server, "certificate-authority-data": _embedded(authority)}, user)


def with_token(cluster: Mapping[str, Any], token: str) -> str:
    """For the service account that a token was made for; `cluster` as in a kubeconfig."""
    return _kubeconfig(cluster, {"token": token})


def _embedded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _kubeconfig(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> str:
    """JSON, which every reader of YAML takes."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
            "current-context": "context",
        },
        indent=1,
    )
