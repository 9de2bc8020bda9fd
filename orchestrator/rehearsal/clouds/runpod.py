"""RunPod's REST API v2: pods, network volumes, catalogue, billing and the account's SSH keys."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.rehearsal.clouds import runpod_billing, runpod_catalog
from orchestrator.rehearsal.clouds.catalogue import PLACES, volume_price_hour
from orchestrator.rehearsal.clouds.context import Context, DoneButFailedError, ReplyCutError, ReplyLostError
from orchestrator.rehearsal.clouds.contracts import Contract
from orchestrator.rehearsal.clouds.gate import Quota, bearer, front_door, nameless, windows
from orchestrator.rehearsal.clouds.placement import PodRequest, ProblemError
from orchestrator.rehearsal.clouds.pods import Pods
from orchestrator.rehearsal.clouds.records import Pod, Volume
from orchestrator.rehearsal.clouds.runpod_views import log_events, pod_json, volume_json
from orchestrator.rehearsal.clouds.wire import Reply, Request, cut_short, dropped, json_reply

API = "runpod"
MOST_LINES = 5000  # of a log
LARGEST_BODY = 102_400
_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 413: "Payload Too Large", 422: "Unprocessable Entity",
    429: "Too Many Requests", 500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable",
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One request that passed the gate."""

    params: dict[str, str]
    query: Mapping[str, str]
    body: Any
    base_url: str


Handler = Callable[[Call], Awaitable[tuple[int, Any]]]


class RunPodRest:
    """The HTTP face of the pods and volumes."""

    def __init__(self, context: Context, pods: Pods) -> None:
        self._context, self._pods = context, pods
        self._contract = Contract.runpod()
        self._quota = Quota(context.clock, windows(context.seen("runpod").quotas))
        self._handlers: dict[tuple[str, str], Handler] = {
            ("GET", "/v2/account/ssh-keys"): self._get_keys,
            ("PUT", "/v2/account/ssh-keys"): self._put_keys,
            ("GET", "/v2/pods"): self._list_pods,
            ("POST", "/v2/pods"): self._create_pod,
            ("GET", "/v2/pods/{id}"): self._get_pod,
            ("PATCH", "/v2/pods/{id}"): self._update_pod,
            ("DELETE", "/v2/pods/{id}"): self._delete_pod,
            ("POST", "/v2/pods/{id}/action"): self._act,
            ("GET", "/v2/pods/{id}/logs"): self._logs,
            ("GET", "/v2/network-volumes"): self._list_volumes,
            ("POST", "/v2/network-volumes"): self._create_volume,
            ("GET", "/v2/network-volumes/{id}"): self._get_volume,
            ("PATCH", "/v2/network-volumes/{id}"): self._update_volume,
            ("DELETE", "/v2/network-volumes/{id}"): self._delete_volume,
            ("GET", "/v2/catalog/gpus"): self._read(lambda c: runpod_catalog.gpus(c.query)),
            ("GET", "/v2/catalog/gpus/{id}"): self._read(lambda c: runpod_catalog.gpu(c.params["id"], c.query)),
            ("GET", "/v2/catalog/cpus"): self._read(lambda c: runpod_catalog.cpus(c.query)),
            ("GET", "/v2/catalog/cpus/{id}"): self._read(lambda c: runpod_catalog.cpu(c.params["id"], c.query)),
            ("GET", "/v2/catalog/datacenters"): self._read(lambda c: runpod_catalog.data_centers(c.query)),
            ("GET", "/v2/catalog/datacenters/{id}"): self._read(
                lambda c: runpod_catalog.data_center(c.params["id"], c.query)
            ),
            ("GET", "/v2/billing/pods"): self._read(self._pod_billing),
            ("GET", "/v2/billing/network-volumes"): self._read(self._volume_billing),
        }

    # -- the pipeline ---------------------------------------------------------------------------------------------

    async def handle(self, request: Request) -> Reply:
        """Answer any request below /v2/."""
        faults = self._context.faults
        if nameless(request) or faults.take("front-door"):
            return front_door()
        try:
            self._authenticate(request)
        except ProblemError as problem:
            return self._problem(problem)
        exceeded, headers = self._quota.count(), self._quota.headers()
        if faults.take("rate-limited"):
            exceeded, headers["Retry-After"] = "minute", "2"
        if exceeded:
            headers.setdefault("Retry-After", str(self._quota.reset_in(exceeded)))
            return self._problem(ProblemError(429, f"rate limit exceeded for the {exceeded} window"), headers)
        try:
            if faults.take("unavailable"):
                raise ProblemError(503, "upstream unavailable")
            return await self._dispatch(request, headers)
        except ProblemError as problem:
            return self._problem(problem, headers)
        except DoneButFailedError:
            return self._problem(ProblemError(500, "Something went wrong. Please try again later."), headers)
        except ReplyCutError as cut:
            return cut_short(cut.status, cut.body)
        except ReplyLostError:
            return dropped()

    def _authenticate(self, request: Request) -> None:
        key = bearer(request)
        if key is None:
            raise ProblemError(401, "missing bearer token")
        if key == self._context.records.runpod_key:
            return
        if any(key == pod.api_key for pod in self._context.records.pods.values()):
            # A pod's own key: most reports say that REST refuses it (some say not).
            raise ProblemError(403, "access denied")
        raise ProblemError(401, "invalid bearer token")

    async def _dispatch(self, request: Request, headers: dict[str, str]) -> Reply:
        match = self._contract.match(request.path)
        if match is None:
            raise ProblemError(404, "resource not found")
        allowed = self._contract.methods(match.template)
        if request.method not in allowed:
            headers["Allow"] = ", ".join(allowed)
            raise ProblemError(405, "The requested method is not allowed for this path.")
        handler = self._handlers.get((request.method, match.template))
        if handler is None:
            raise ProblemError(501, "the rehearsal does not emulate this operation")
        body = _parsed(request.body)
        if errors := self._contract.request_errors(match.template, request.method, body):
            raise ProblemError(422, "Request validation failed.", errors)
        status, reply = await handler(Call(match.params, request.query, body, request.base_url))
        self._judge(match.template, request.method, status, reply)
        if match.template in {"/v2/pods", "/v2/pods/{id}"} and request.method == "GET":
            self._context.disguise(reply.get("pods", [reply]))
        if reply is None:
            return Reply(status=status, headers=headers)
        if isinstance(reply, str):  # of a stream that in truth stays open
            return Reply(status=status, headers={**headers, "Content-Type": "text/event-stream"}, body=reply.encode())
        return json_reply(reply, status, headers)

    def _judge(self, template: str, method: str, status: int, reply: Any) -> None:
        if errors := self._contract.reply_errors(template, method, status, reply):
            self._context.breaches.append(f"{method} {template} {status}: {'; '.join(errors)}")
            raise ProblemError(500, f"the emulator's reply breaks the contract: {'; '.join(errors)}")

    def _problem(self, problem: ProblemError, headers: dict[str, str] | None = None) -> Reply:
        body: dict[str, Any] = {
            "title": _TITLES.get(problem.status, "Error"),
            "status": problem.status,
            "detail": problem.detail,
        }
        if problem.errors:
            body["errors"] = problem.errors
        return json_reply(body, problem.status, headers, "application/problem+json")

    @staticmethod
    def _read(view: Callable[[Call], dict[str, Any]]) -> Handler:
        async def handler(call: Call) -> tuple[int, Any]:
            return 200, view(call)

        return handler

    # -- pods -----------------------------------------------------------------------------------------------------

    def _show(self, pod: Pod) -> dict[str, Any]:
        return pod_json(pod, self._context.clock.now())

    async def _list_pods(self, _call: Call) -> tuple[int, Any]:
        return 200, {"pods": [self._show(pod) for pod in self._pods.listing()]}

    async def _create_pod(self, call: Call) -> tuple[int, Any]:
        pod = await self._pods.create(pod_request(call.body, call.base_url))
        shown = self._show(pod)
        self._context.after_create(201, shown)
        return 201, shown

    async def _get_pod(self, call: Call) -> tuple[int, Any]:
        return 200, self._show(self._pods.get(call.params["id"]))

    async def _update_pod(self, call: Call) -> tuple[int, Any]:
        pod = self._pods.get(call.params["id"])
        await self._pods.update(pod, call.body, API)
        return 200, self._show(pod)

    async def _delete_pod(self, call: Call) -> tuple[int, Any]:
        await self._pods.terminate(self._pods.get(call.params["id"]), API)
        return 204, None

    async def _act(self, call: Call) -> tuple[int, Any]:
        pod = self._pods.get(call.params["id"])
        await self._pods.act(pod, call.body["action"], API)
        return (204, None) if call.body["action"] == "terminate" else (200, self._show(pod))

    async def _logs(self, call: Call) -> tuple[int, Any]:
        tail = call.query.get("tail", "100")
        if not (tail.isascii() and tail.isdecimal()) or int(tail) > MOST_LINES:
            raise ProblemError(422, f"tail must be 0 to {MOST_LINES}")
        pod = self._pods.get(call.params["id"])
        return 200, log_events(pod, int(tail), call.query.get("source", ""))

    # -- volumes --------------------------------------------------------------------------------------------------

    async def _list_volumes(self, _call: Call) -> tuple[int, Any]:
        return 200, {"networkVolumes": [volume_json(volume) for volume in self._context.volumes("runpod")]}

    async def _create_volume(self, call: Call) -> tuple[int, Any]:
        wanted = call.body
        place = PLACES.get(wanted["dataCenter"])
        if place is None:
            raise ProblemError(400, f"data center {wanted['dataCenter']!r} not found")
        usual = self._context.seen("runpod").volume_tier or (place.volumes or ("",))[-1]  # not seen: the dearest
        kind = wanted.get("type") or usual
        if self._context.faults.take("volume-dear"):
            kind = "HIGH_PERFORMANCE"
        if kind not in place.volumes:
            raise ProblemError(400, f"data center {place.id} does not support {kind or 'network'} volumes")
        volume = await self._context.make_volume("runpod", wanted["name"], place.id, wanted["size"], kind)
        self._context.log(API, "create-volume", volume, vendor=API)
        if self._context.faults.take("volume-reply-lost"):
            raise ReplyLostError
        return 201, volume_json(volume)

    async def _get_volume(self, call: Call) -> tuple[int, Any]:
        return 200, volume_json(self._pods.volume(call.params["id"]))

    async def _update_volume(self, call: Call) -> tuple[int, Any]:
        volume = self._pods.volume(call.params["id"])
        size = call.body.get("size", volume.size_gb)
        if size < volume.size_gb:
            raise ProblemError(400, "network volume size cannot be reduced")
        volume.name = call.body.get("name", volume.name)
        if size > volume.size_gb:
            volume.size_gb = size
            volume.charge(volume_price_hour(size, volume.type), self._context.clock.now())
        self._context.log(API, "update-volume", volume)
        return 200, volume_json(volume)

    async def _delete_volume(self, call: Call) -> tuple[int, Any]:
        volume = self._pods.volume(call.params["id"])
        self._refuse_if_used(volume)
        await self._context.drop_volume(volume)
        self._context.log(API, "destroy-volume", volume)
        return 204, None

    def _refuse_if_used(self, volume: Volume) -> None:
        users = [p.name for p in self._context.records.pods.values() if p.volume_id == volume.id and p.gone is None]
        if users:
            # Neither the status nor the words are documented, and the specification lists no 409 here.
            raise ProblemError(400, f"network volume is attached to {', '.join(users)}")

    # -- account --------------------------------------------------------------------------------------------------

    async def _get_keys(self, _call: Call) -> tuple[int, Any]:
        return 200, {"keys": self._context.records.account_keys}

    async def _put_keys(self, call: Call) -> tuple[int, Any]:
        self._context.records.account_keys = list(call.body["keys"])
        self._context.log(API, "replace-account-keys", None)
        return 200, {"keys": self._context.records.account_keys}

    def _pod_billing(self, call: Call) -> dict[str, Any]:
        return runpod_billing.pod_billing(self._context.records.pods.values(), call.query, self._context.clock.now())

    def _volume_billing(self, call: Call) -> dict[str, Any]:
        volumes = [volume for volume in self._context.records.volumes.values() if volume.vendor == "runpod"]
        return runpod_billing.volume_billing(volumes, call.query, self._context.clock.now())


def _parsed(raw: bytes) -> Any:
    if len(raw) > LARGEST_BODY:
        raise ProblemError(413, f"request body exceeds {LARGEST_BODY} bytes")
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        raise ProblemError(400, "request body is not valid JSON") from None


def pod_request(body: dict[str, Any], base_url: str) -> PodRequest:
    """A CreatePodRequest that the schema has passed. ProblemError for what this account does not have."""
    if "templateId" in body:
        raise ProblemError(404, "template not found")  # the emulated account has no templates
    gpu, cpu, mounts = body.get("gpu") or {}, body.get("cpu") or {}, body.get("mounts") or {}
    network = (mounts.get("network") or [{}])[0]
    persistent = mounts.get("persistent")
    return PodRequest(
        name=body["name"],
        image=body["image"],
        api=API,
        args=body.get("args", ""),
        disk=body.get("disk", 50),
        ports=tuple(body.get("ports", ())),
        env=dict(body.get("env", {})),
        registry=body.get("registry"),
        cloud=body.get("cloud", "SECURE"),
        places=tuple(body.get("dataCenterIds", ())),
        gpu_id=gpu.get("id"),
        gpu_count=gpu.get("count"),
        cuda_allowed=tuple(gpu.get("allowedCudaVersions", ())),
        cuda_minimum=gpu.get("minCudaVersion"),
        gpu_vcpus=gpu.get("minVcpuCountPerGpu"),
        gpu_ram_gb=gpu.get("minRamPerGpu"),
        cpu_id=cpu.get("id"),
        vcpu=cpu.get("vcpuCount", 0),
        volume_id=network.get("volumeId"),
        mount_path=network.get("path", ""),
        persistent=(persistent["size"], persistent["path"]) if persistent else None,
        global_networking=body.get("globalNetworking", False),
        start_ssh=body.get("startSsh", False),
        start_jupyter=body.get("startJupyter", False),
        base_url=base_url,
    )
