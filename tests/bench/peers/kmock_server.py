"""A make-believe Kubernetes for kopf, on kmock: `create 100`, `update 1` and so on over standard input, its address over
standard output. Run by kopf_dispatch.py, in a process of its own, so that its work is not counted as kopf's.
"""

from __future__ import annotations

import asyncio
import sys

import kmock

KNOWN = {
    "example.org/v1/testers": "Tester",
    "v1/namespaces": "Namespace",  # this and the others kopf waits for before it begins
    "v1/events": "Event",
    "apiextensions.k8s.io/v1/customresourcedefinitions": "CustomResourceDefinition",
}
TIMED = {"finalizers": ["kopf.zalando.org/KopfFinalizerMarker"]}
"""What kopf would put there before it starts an object's timer, in a way that kmock does not understand."""
NAMESPACED = {"example.org/v1/testers", "v1/events"}
LIST = "/apis/example.org/v1/namespaces/default/testers"


async def main() -> None:
    async with kmock.KubernetesEmulator() as world, kmock.Server(world) as server:
        for resource, kind in KNOWN.items():
            world.resources[resource] = kmock.ResourceInfo(
                kind=kind,
                singular=kind.lower(),
                namespaced=resource in NAMESPACED,
                verbs={"get", "list", "watch", "create", "update", "patch", "delete"},
                shortnames=set(),
                categories=set(),
                subresources=set(),
            )
        print(str(server.url).rstrip("/"), flush=True)
        loop = asyncio.get_running_loop()
        while row := await loop.run_in_executor(None, sys.stdin.readline):
            what, count = row.split()
            for number in range(int(count)):
                await change(server, what, f"t{number:05d}")


async def change(server: kmock.Server, what: str, name: str) -> None:
    """One object is made, or its spec changed."""
    if what in ("create", "timed"):
        metadata = {"name": name, "namespace": "default"} | (TIMED | {"uid": name} if what == "timed" else {})
        body = {"apiVersion": "example.org/v1", "kind": "Tester", "metadata": metadata}
        answer = await server.client.post(LIST, json={**body, "spec": {"size": 0}})
    else:
        change = {"spec": {"size": what}}
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = await server.client.patch(f"{LIST}/{name}", json=change, headers=headers)
    assert answer.status < 300, await answer.text()


asyncio.run(main())
