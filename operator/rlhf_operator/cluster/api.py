"""Requests to the API server: a handful of verbs on plain JSON.

Every write is asked for permission first, so that a process that no longer leads changes nothing.
"""

import json
from collections.abc import Callable, Mapping

import aiohttp
from kubernetes.aio.client import ApiClient, ApiException
from kubernetes.aio.config import ConfigException

from rlhf_operator.cluster.kinds import Json, Kind
from rlhf_operator.errors import ClusterError

TIMEOUT_SECONDS = 20.0
"""How long one request may take; the pass that waits for it is tried again."""

JSON = "application/json"

METADATA = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Asks for a list that leaves out what the objects are like."""

MERGE_PATCH = "application/merge-patch+json"

FORBIDDEN, GONE, CONFLICT = 403, 404, 409

FIELD_MANAGER = "rlhf-operator"
"""What the API server notes beside every field that we set."""

_FAILED = 400
"""Statuses from here on are failures."""


class Api:
    """One user of one API server."""

    def __init__(self, client: ApiClient, may_write: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._may_write = may_write

    async def list(
        self, kind: Kind, namespace: str | None, query: Mapping[str, str], *, whole: bool = True
    ) -> Json:
        """Return the list of objects of one kind, whole or their metadata alone."""
        accept = JSON if whole else METADATA
        return await self._request("GET", kind.path(namespace), query=query, accept=accept)

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """Return an object, or None if there is none."""
        try:
            return await self._request("GET", kind.path(namespace, name))
        except ClusterError as error:
            if error.status == GONE:
                return None
            raise

    async def create(self, kind: Kind, manifest: Json) -> Json:
        """Create an object and return it as stored."""
        return await self._write("POST", kind.path(manifest["metadata"]["namespace"]), manifest)

    async def replace(self, kind: Kind, manifest: Json) -> Json:
        """Replace the very version of an object that the manifest names."""
        metadata = manifest["metadata"]
        return await self._write(
            "PUT", kind.path(metadata["namespace"], metadata["name"]), manifest
        )

    async def replace_status(self, kind: Kind, manifest: Json) -> Json:
        """Replace the status of the very version of an object that the manifest names."""
        metadata = manifest["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"], "status")
        return await self._write("PUT", path, manifest)

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        """Merge a patch into an object and return what it has become."""
        return await self._write("PATCH", kind.path(namespace, name), patch, MERGE_PATCH)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete an object, if it is still the one with this UID; one that is gone is fine."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        try:
            await self._write("DELETE", kind.path(namespace, name), options)
        except ClusterError as error:
            if error.status != GONE:
                raise

    async def _write(self, method: str, path: str, body: Json, content_type: str = JSON) -> Json:
        if not self._may_write():
            raise ClusterError(f"{method} {path}: this process does not lead any more")
        query = {} if method == "DELETE" else {"fieldManager": FIELD_MANAGER}
        return await self._request(method, path, query=query, body=body, content_type=content_type)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Json:
        try:
            request = await self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            text: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (OSError, ApiException, ConfigException, aiohttp.ClientError) as error:
            raise ClusterError(f"{method} {path}: {type(error).__name__}: {error}") from error
        return _answer(method, path, response.status, text)


def _answer(method: str, path: str, status: int, text: bytes) -> Json:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {"message": text[:200].decode(errors="replace")}
    if not isinstance(answer, dict):
        answer = {"message": str(answer)[:200]}
    if status >= _FAILED:
        message = str(answer.get("message", ""))[:2000]
        raise ClusterError(
            f"{method} {path}: {status}: {message}",
            status=status,
            reason=str(answer.get("reason", "")),
        )
    return answer
