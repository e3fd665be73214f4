"""Load on the API server: runs that are applied, runs as finished ones are left, pods that end."""

import asyncio
import copy
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from rlhf_harness import Cluster, kwok

Json = dict[str, Any]

NAMESPACE = "scale"

RUNS = f"/apis/rlhf.dev/v1alpha1/namespaces/{NAMESPACE}/rlhfruns"
JOBS = f"/apis/kubeflow.org/v1/namespaces/{NAMESPACE}/pytorchjobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"

AT_ONCE = 24
"""Requests of ours in flight."""

SHORT: Mapping[str, Any] = {
    "sft": {"from": {"path": "sft"}},
    "rewardModel": {"from": {"path": "rm"}},
}
"""Parts of a spec by which PPO follows upon Preparation."""


@dataclass(frozen=True)
class Client:
    """The administrator of a cluster, without kubectl: one process must make many requests."""

    session: aiohttp.ClientSession
    server: str

    async def send(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json"
    ) -> Json:
        """Send a request; return the answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type}
        async with self.session.request(
            method, self.server + path, data=data, headers=headers
        ) as answer:
            text = await answer.text()
            if not answer.ok:
                msg = f"{method} {path}: {answer.status}: {text[:500]}"
                raise RuntimeError(msg)
            found: Json = json.loads(text)
            return found

    async def list(self, path: str, selector: str = "") -> list[Json]:
        """Return all objects at a path, page by page."""
        found: list[Json] = []
        more = ""
        while True:
            query = f"?limit=500&labelSelector={selector}&continue={more}"
            page = await self.send("GET", path + query)
            found += page["items"]
            more = page["metadata"].get("continue", "")
            if not more:
                return found

    async def patch(self, path: str, patch: Json) -> Json:
        """Merge a patch into an object."""
        return await self.send("PATCH", path, patch, content_type="application/merge-patch+json")


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[Client]:
    """Connect as the administrator."""
    authority = cluster.context.authority
    pair = authority.pair("admin")
    trust = ssl.create_default_context(cafile=str(authority.root))
    trust.load_cert_chain(pair.certificate, pair.key)
    connector = aiohttp.TCPConnector(ssl=trust, limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(session, cluster.context.server)


async def at_once(calls: Iterable[Callable[[], Awaitable[Any]]], limit: int = AT_ONCE) -> list[Any]:
    """Make many calls, some of them at the same time; return what they returned, in order."""
    gate = asyncio.Semaphore(limit)

    async def one(call: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever it is
        async with gate:
            return await call()

    return await asyncio.gather(*(one(call) for call in calls))


async def until(
    condition: Callable[[], Awaitable[bool]],
    what: str,
    *,
    seconds: float,
    every_seconds: float = 0.5,
) -> float:
    """Wait for a condition; return after how many seconds it held."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() > began + seconds:
            msg = f"waited {seconds:.0f} s in vain for {what}"
            raise TimeoutError(msg)
        await asyncio.sleep(every_seconds)
    return time.monotonic() - began


def run_manifest(name: str, spec: Mapping[str, Any]) -> Json:
    """Return a run as somebody applies it."""
    paths = ("demonstrations", "comparisons", "prompts")
    return {
        "apiVersion": "rlhf.dev/v1alpha1",
        "kind": "RLHFRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "model": {"source": "base"},
            "data": {one: {"path": f"{one}.jsonl"} for one in paths},
            "placement": {"pool": "played"},
            "workspace": {"claimName": "workspace"},
            **spec,
        },
    }


async def apply(client: Client, names: Iterable[str], spec: Mapping[str, Any]) -> None:
    """Create runs, as fast as it goes."""
    await at_once([partial(client.send, "POST", RUNS, run_manifest(name, spec)) for name in names])


async def end_pods(client: Client, pods: Iterable[str], message: str) -> None:
    """Let pods come to their good end."""
    patch = {"metadata": {"annotations": kwok.ending("10ms", message=message)}}
    await at_once([partial(client.patch, f"{PODS}/{pod}", patch) for pod in pods])


@dataclass(frozen=True)
class Finished:
    """What a run that has ended leaves: itself, the job of its last phase, that job's pod."""

    run: Json
    job: Json
    pod: Json

    async def leave(self, client: Client, name: str) -> None:
        """Create the like of it under another name."""
        status = json.loads(json.dumps(self.run["status"]).replace(self._name, name))
        run = await self._stored(client, RUNS, self.run, name, [], status)
        owners = [_owner(run)]
        job = await self._stored(client, JOBS, self.job, name, owners, self.job["status"])
        await self._stored(client, PODS, self.pod, name, [_owner(job)], self.pod["status"])

    async def _stored(
        self,
        client: Client,
        path: str,
        like: Json,
        name: str,
        owners: list[Json],
        status: Json,
    ) -> Json:
        """Create an object with a status."""
        manager = "?fieldManager=rlhf-operator"
        made = await client.send("POST", path + manager, self._renamed(like, name, owners))
        whole = {**made, "status": status}
        return await client.send("PUT", f"{path}/{made['metadata']['name']}/status{manager}", whole)

    def _renamed(self, like: Json, name: str, owners: list[Json]) -> Json:
        text = json.dumps({key: like[key] for key in ("apiVersion", "kind", "spec")})
        known = like["metadata"]
        metadata = {
            key: known[key] for key in ("labels", "annotations", "finalizers") if key in known
        }
        metadata |= {"name": known["name"], "namespace": NAMESPACE, "ownerReferences": owners}
        renamed: Json = json.loads(
            json.dumps({**json.loads(text), "metadata": metadata}).replace(self._name, name)
        )
        return renamed

    @property
    def _name(self) -> str:
        return str(self.run["metadata"]["name"])


def _owner(obj: Json) -> Json:
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


async def left_by(client: Client, name: str) -> Finished:
    """Return what a run left that has really ended."""
    run = await client.send("GET", f"{RUNS}/{name}")
    selector = f"rlhf.dev/run={name}"
    [job], [pod] = await client.list(JOBS, selector), await client.list(PODS, selector)
    job, pod = copy.deepcopy(job), copy.deepcopy(pod)
    job |= {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob"}
    pod |= {"apiVersion": "v1", "kind": "Pod"}
    # The training operator is to leave these alone, and so is the scheduler.
    job["spec"]["runPolicy"]["managedBy"] = "kueue.x-k8s.io/multikueue"
    pod["spec"]["schedulingGates"] = [{"name": "rlhf.test/never"}]
    pod["spec"].pop("nodeName", None)
    return Finished(run, job, pod)


async def leave(client: Client, like: Finished, names: Sequence[str]) -> None:
    """Create runs that have ended."""
    await at_once([partial(like.leave, client, name) for name in names])


def json_bytes(obj: Json) -> int:
    """Return how long an object is as the API server sends it."""
    return len(json.dumps(obj, separators=(",", ":")).encode())


def stages(file: Path) -> str:
    """Return KWOK's stage for the phases that are to be short: all but PPO end after a while."""
    text = file.read_text(encoding="utf-8")
    text = text.replace("name: pytorch-pod-end", "name: short-phase-end")
    exists = "{key: '.metadata.annotations[\"kwok.rlhf.dev/end-after\"]', operator: Exists}"
    label = "{key: '.metadata.labels[\"rlhf.dev/phase\"]', operator: NotIn, values: [ppo]}"
    replaced = text.replace(
        exists,
        f"{label}\n    - "
        "{key: '.metadata.annotations[\"kwok.rlhf.dev/end-after\"]', operator: DoesNotExist}",
    )
    assert replaced != text  # noqa: S101 - our own file
    return replaced.replace(
        "    durationFrom:\n"
        "      expressionFrom: '.metadata.annotations[\"kwok.rlhf.dev/end-after\"]'\n",
        "    jitterDurationMilliseconds: 3000\n",
    )
