"""RunPod's GraphQL: for what REST v2 lacks (interruptible pods, terminateAfter, the balance), and for the SDK 1.12."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

from graphql import DocumentNode, ExecutionResult, GraphQLError, GraphQLSchema, build_schema, execute, parse, validate

from orchestrator.rehearsal.clouds import account
from orchestrator.rehearsal.clouds.catalogue import GPUS, PLACES
from orchestrator.rehearsal.clouds.context import Context, DoneButFailedError, ReplyCutError, ReplyLostError
from orchestrator.rehearsal.clouds.contracts import SPECS
from orchestrator.rehearsal.clouds.gate import bearer, front_door, nameless
from orchestrator.rehearsal.clouds.graphql_requests import cpu_request, gpu_request
from orchestrator.rehearsal.clouds.graphql_views import data_center_view, gpu_view, pod_view, volume_view
from orchestrator.rehearsal.clouds.placement import ProblemError
from orchestrator.rehearsal.clouds.pods import Pods
from orchestrator.rehearsal.clouds.records import Pod
from orchestrator.rehearsal.clouds.wire import Reply, Request, cut_short, dropped, json_reply, text_reply

API = "runpod-graphql"


@dataclass(frozen=True)
class Caller:
    """Who asks: the account, one of its pods (only about itself), or nobody (the catalogue alone)."""

    account: bool
    pod: Pod | None
    base_url: str


@cache
def _schema() -> GraphQLSchema:
    return build_schema((SPECS / "runpod.graphql").read_text())


@lru_cache(maxsize=256)
def _read(source: str) -> tuple[DocumentNode, list[GraphQLError]]:
    """A document, and what is wrong with it by the schema. GraphQLError: it cannot be parsed."""
    document = parse(source)
    return document, validate(_schema(), document)


class RunPodGraphql:
    """Executes real GraphQL: fields, aliases, fragments and variables as any server would."""

    def __init__(self, context: Context, pods: Pods) -> None:
        self._context, self._pods = context, pods
        self._root: dict[str, Callable[..., Any]] = {
            "myself": self._myself,
            "pod": self._pod,
            "gpuTypes": self._gpu_types,
            "dataCenters": lambda _info: [data_center_view(place) for place in PLACES.values()],
            "podFindAndDeployOnDemand": self._deploy,
            "podRentInterruptable": self._deploy,
            "deployCpuPod": self._deploy_cpu,
            "podStop": self._stop,
            "podResume": self._resume,
            "podTerminate": self._terminate,
        }

    async def handle(self, request: Request) -> Reply:
        """Answer POST /graphql."""
        faults = self._context.faults
        if nameless(request) or faults.take("front-door"):
            return front_door()
        if faults.take("graphql-gone"):
            return json_reply({"errors": [{"message": "this API has been retired"}]}, 410)
        if request.method != "POST":
            return Reply(status=405, headers={"Allow": "POST"})
        caller = self._caller(request)
        if caller is None:
            return json_reply({"errors": [{"message": "Unauthorized"}]}, 401)
        if faults.take("rate-limited"):
            return json_reply({"errors": [{"message": "rate limit exceeded"}]}, 429)
        if faults.take("unavailable"):
            # A gateway's page, which the SDK takes for broken JSON.
            return text_reply(503, "<html>503 Service Temporarily Unavailable</html>")
        try:
            status, reply = await self._execute(request.body, caller)
        except ReplyLostError:
            return dropped()
        except ReplyCutError as cut:
            return cut_short(cut.status, cut.body)
        except DoneButFailedError:
            return json_reply({"errors": [{"message": "Something went wrong."}]}, 500)
        return json_reply(reply, status)

    def _caller(self, request: Request) -> Caller | None:
        key, base_url = bearer(request), request.base_url
        if key is None or key == self._context.records.runpod_key:
            return Caller(account=key is not None, pod=None, base_url=base_url)
        pods = self._context.records.pods.values()
        pod = next((p for p in pods if p.api_key == key and p.gone is None), None)
        return Caller(account=False, pod=pod, base_url=base_url) if pod else None

    async def _execute(self, raw: bytes, caller: Caller) -> tuple[int, dict[str, Any]]:
        try:
            wanted = json.loads(raw)
            source = wanted["query"]
            if not isinstance(source, str):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            return 400, _invalid("GraphQL operations must contain a non-empty `query`.", "BAD_REQUEST")
        try:
            document, errors = _read(source)
        except GraphQLError as error:
            return 400, _invalid(error.message, "GRAPHQL_PARSE_FAILED")
        if errors:
            return 400, {"errors": [_error(error, "GRAPHQL_VALIDATION_FAILED") for error in errors]}
        result = execute(
            _schema(),
            document,
            root_value=self._root,
            context_value=caller,
            variable_values=wanted.get("variables"),
            operation_name=wanted.get("operationName"),
            field_resolver=_resolve,
        )
        done = result if isinstance(result, ExecutionResult) else await result
        for failure in done.errors or []:
            if isinstance(failure.original_error, (ReplyLostError, ReplyCutError, DoneButFailedError)):
                raise failure.original_error
        if done.data is None and done.errors and all(error.path is None for error in done.errors):
            # Variables that do not fit their types: a request error too.
            return 400, {"errors": [_error(error, "BAD_USER_INPUT") for error in done.errors]}
        reply: dict[str, Any] = {"data": done.data}
        if done.errors:
            # Business errors come with HTTP 200: seen live.
            reply["errors"] = [_error(error, "RUNPOD") for error in done.errors]
        return 200, reply

    # -- queries --------------------------------------------------------------------------------------------------

    def _view(self, pod: Pod) -> dict[str, Any]:
        return pod_view(pod, self._context.clock.now())

    def _myself(self, info: Any) -> dict[str, Any]:
        _require_account(info.context)
        records = self._context.records
        open_spans = [span for pod in records.pods.values() for span in pod.spans if span.end is None]
        return {
            "id": "user_rehearsal",
            "email": "me@example.com",
            "pubKey": "\n".join(records.account_keys),
            "clientBalance": float(account.left(self._context)),
            "currentSpendPerHr": float(sum((span.price_hour for span in open_spans), Decimal(0))),
            "spendLimit": 80,
            "pods": [self._view(pod) for pod in self._pods.listing()],
            "networkVolumes": [volume_view(volume) for volume in self._context.volumes("runpod")],
        }

    def _pod(self, info: Any, input: dict[str, Any] | None = None) -> dict[str, Any] | None:  # noqa: A002 - the API's word
        try:
            return self._view(self._own(info.context, (input or {}).get("podId") or ""))
        except ProblemError:
            return None  # what an unknown pod answers is not documented; SDKs take null for it

    def _gpu_types(self, _info: Any, input: dict[str, Any] | None = None) -> list[dict[str, Any]]:  # noqa: A002
        wanted = input or {}
        ids = {wanted["id"]} if wanted.get("id") else set(wanted.get("ids") or GPUS)
        return [gpu_view(gpu, self._context.seen("runpod").bids) for gpu in GPUS.values() if gpu.id in ids]

    # -- mutations ------------------------------------------------------------------------------------------------

    async def _deploy(self, info: Any, input: dict[str, Any]) -> dict[str, Any] | None:  # noqa: A002
        _require_account(info.context)
        return await self._create(gpu_request(input, API, info.context.base_url))

    async def _deploy_cpu(self, info: Any, input: dict[str, Any]) -> dict[str, Any] | None:  # noqa: A002
        _require_account(info.context)
        return await self._create(cpu_request(input, API, info.context.base_url))

    async def _create(self, request: Any) -> dict[str, Any] | None:
        if self._context.faults.take("graphql-null"):
            return None
        pod = await self._pods.create(request)
        self._context.after_create(200, {"data": {"id": pod.id}})
        return self._view(pod)

    async def _stop(self, info: Any, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        pod = self._own(info.context, input["podId"])
        await self._pods.act(pod, "stop", API)
        return self._view(pod)

    async def _resume(self, info: Any, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        pod = self._own(info.context, input["podId"])
        await self._pods.act(pod, "start", API)
        return self._view(pod)

    async def _terminate(self, info: Any, input: dict[str, Any]) -> None:  # noqa: A002
        await self._pods.terminate(self._own(info.context, input["podId"]), API)

    def _own(self, caller: Caller, pod_id: str) -> Pod:
        """The account's pod; a pod's own key (RUNPOD_API_KEY on the machine) is good for that pod alone."""
        if caller.pod is not None and caller.pod.id == pod_id:
            return caller.pod
        _require_account(caller)
        return self._pods.get(pod_id)


def _require_account(caller: Caller) -> None:
    if not caller.account:
        raise ProblemError(403, "Unauthorized")


def _resolve(source: Any, info: Any, **arguments: Any) -> Any:
    value = source.get(info.field_name)
    return value(info, **arguments) if callable(value) else value


def _invalid(message: str, code: str) -> dict[str, Any]:
    return {"errors": [{"message": message, "extensions": {"code": code}}]}


def _error(error: GraphQLError, code: str) -> dict[str, Any]:
    row = dict(error.formatted)
    row["extensions"] = {"code": code}
    return row
