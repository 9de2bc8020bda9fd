"""RunPod's GraphQL API, through the vendor's SDK: interruptible pods, a vendor-side deadline.

REST v2 has none of these. RunPod retires GraphQL early in 2027 and has been taking interruptible pods away since
2026: every refusal is passed on in its own words. This is the only file that imports `runpod`.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC
from decimal import Decimal
from typing import Any

import httpx

from orchestrator.providers.http import WORDS_SHOWN, persistently, sensible, speaks_of_capacity, user_agent
from orchestrator.providers.runpod_catalog import VCPUS_A_GPU, least_ram_gb
from orchestrator.words import web
from orchestrator.words.access import ProviderAccess
from orchestrator.words.errors import AccountRefused, Ambiguous, NoCapacity, ProviderUnavailable, Refused
from orchestrator.words.outside import quoted
from orchestrator.words.provider import MachineSpec
from orchestrator.words.secret import mask

VENDOR_URL = "https://api.runpod.io"
BASE_URL_VARIABLE = "RUNPOD_API_BASE_URL"  # the SDK reads it at every call

# An error in the answer is a definite no, unless it is the server's own trouble: then the pod may exist.
TROUBLE_WORDS = ("something went wrong", "internal server error", "timeout", "timed out", "unexpected error")
NOT_IN_SCHEMA = ("is not defined by type", "unknown field", "unknown argument")  # told before anything is run

_loading = threading.Lock()


class _NoAnswerError(Exception):
    """Nothing came back, or nothing that is an answer."""


class _SaidError(Exception):
    """The answer is an error, in RunPod's own words."""


class RunPodGraphQL:
    """What `RunPod` composes for interruptible machines."""

    def __init__(self, access: ProviderAccess) -> None:
        self._access, self._key, self._transport = access, access.api_key, access.transport
        url = access.graphql_url
        self._base = url.removesuffix("/").removesuffix("/graphql") if url else None

    @sensible
    def bids(self, gpus: int) -> dict[str, Decimal]:
        """Lowest bid per GPU and hour on Secure Cloud by GPU id, for machines with `gpus`; {}: none is sold."""
        price = f"lowestPrice(input: {{gpuCount: {gpus}, secureCloud: true}}) {{ minimumBidPrice stockStatus }}"
        try:
            query = f"query {{ gpuTypes {{ id {price} }} }}"
            data = persistently(self._access, lambda: self._ask(query))
        except Refused:
            return {}
        except ProviderUnavailable:
            if self._retired():
                return {}
            raise
        found: dict[str, Decimal] = {}
        for row in data.get("gpuTypes") or []:
            bid = (row.get("lowestPrice") or {}).get("minimumBidPrice")
            if bid:
                found[row["id"]] = Decimal(str(bid))
        return found

    def create_spot(self, spec: MachineSpec, ports: list[str], mount_path: str) -> str:
        """Rent one interruptible pod at the offer's price, its disk apart; as Provider.create."""
        fields = _pod_fields(spec, ports, mount_path)
        fields["bidPerGpu"] = _number((spec.offer.price_hour - spec.offer.disk_hour) / spec.offer.gpus)
        return self._create("podRentInterruptable", fields)

    def create_on_demand(self, spec: MachineSpec, ports: list[str], mount_path: str) -> str:
        """Rent one pod that RunPod itself ends at the spec's deadline; as Provider.create."""
        return self._create("podFindAndDeployOnDemand", _pod_fields(spec, ports, mount_path))

    def balance(self) -> Decimal | None:
        """USD of the account's credit; None: this key, or this API, does not say."""
        try:
            said = self._post("{ myself { clientBalance } }").json()["data"]["myself"]["clientBalance"]
            return Decimal(str(said))
        except (httpx.HTTPError, ValueError, LookupError, TypeError, ArithmeticError):
            return None

    def _retired(self) -> bool:
        """Whether the whole API is gone: the SDK shows no status, so a page in place of an answer says nothing."""
        try:
            return self._post("{ __typename }").status_code in {404, 410}
        except httpx.RequestError:
            return False

    def _post(self, query: str) -> httpx.Response:
        """Send one document without the SDK, whose requests go over sockets only and come back without a status."""
        headers = {"Authorization": f"Bearer {self._key.reveal()}", "User-Agent": user_agent()}
        with web.client(self._base, self._transport, timeout=30) as client:
            return client.post(f"{self._base or VENDOR_URL}/graphql", json={"query": query}, headers=headers)

    def _create(self, mutation: str, fields: dict[str, str]) -> str:
        try:
            pod = self._send_create(mutation, fields)
        except Refused as refusal:
            # A schema that lacks the fence turned the request away before running it: nothing was created.
            if "terminateAfter" not in refusal.message or not _says(refusal.message, NOT_IN_SCHEMA):
                raise
            pod = self._send_create(mutation, {k: v for k, v in fields.items() if k != "terminateAfter"})
        if pod is None:
            raise NoCapacity(f"RunPod: {mutation} gave no pod and no reason: none is free")
        if not pod.get("id"):
            raise Ambiguous(f"RunPod: {mutation} was accepted, but the answer has no id")
        return str(pod["id"])

    def _send_create(self, mutation: str, fields: dict[str, str]) -> dict[str, Any] | None:
        inputs = ", ".join(f"{name}: {value}" for name, value in fields.items())
        data = self._ask(f"mutation {{ {mutation}(input: {{{inputs}}}) {{ id }} }}", creates=True)
        pod: dict[str, Any] | None = data.get(mutation)
        return pod

    def _ask(self, query: str, *, creates: bool = False) -> dict[str, Any]:
        """Send one document and return its data. `creates`: an answer that never came is Ambiguous, not passing."""
        unsure = Ambiguous if creates else ProviderUnavailable
        try:
            answer = self._through_sdk(query) if self._transport is None else self._through_transport(query)
        except _NoAnswerError as error:
            raise unsure(
                f"RunPod (GraphQL): no usable answer: {quoted(mask(str(error), [self._key]), WORDS_SHOWN)}"
            ) from error
        except _SaidError as error:
            words = quoted(mask(str(error), [self._key]), WORDS_SHOWN)
            if _says(words, TROUBLE_WORDS):
                raise unsure(f"RunPod (GraphQL): {words}") from error
            raise (NoCapacity if speaks_of_capacity(words) else Refused)(f"RunPod (GraphQL): {words}") from error
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict):
            raise unsure("RunPod (GraphQL): an answer without data")
        return data

    def _through_sdk(self, query: str) -> Any:
        run_query, sdk_errors, network_errors = _sdk()
        os.environ[BASE_URL_VARIABLE] = self._base or VENDOR_URL  # else whoever sets the variable gets the key
        try:
            return run_query(query, api_key=self._key.reveal())
        except sdk_errors.AuthenticationError as error:
            raise _key_refused(str(error)) from error
        except sdk_errors.QueryError as error:
            raise _SaidError(str(error)) from error
        except _unsent(network_errors) as error:
            words = mask(f"{type(error).__name__}: {error}", [self._key])
            raise AccountRefused(f"RunPod (GraphQL): nothing was sent: {words}", remedy="check the API key") from error
        except (
            network_errors.RequestException,
            ValueError,
            RecursionError,
        ) as error:  # ValueError: a page that is not JSON
            raise _NoAnswerError(f"{type(error).__name__}: {error}") from error

    def _through_transport(self, query: str) -> Any:
        """As the SDK does it."""
        try:
            reply = self._post(query)
            answer = reply.json()
        except (httpx.RequestError, ValueError, RecursionError) as error:
            raise _NoAnswerError(f"{type(error).__name__}: {error}") from error
        if reply.status_code == httpx.codes.UNAUTHORIZED:
            raise _key_refused("401 Unauthorized")
        if isinstance(answer, dict) and answer.get("errors"):
            raise _SaidError(_first_message(answer["errors"]))
        return answer


def _first_message(errors: Any) -> str:
    """What the first of an answer's errors says, whatever stands where the errors should."""
    first = errors[0] if isinstance(errors, list) else errors
    return str(first.get("message", first) if isinstance(first, dict) else first)


def _key_refused(words: str) -> AccountRefused:
    return AccountRefused(f"RunPod refused the API key: {words}", remedy="make a new key")


def _pod_fields(spec: MachineSpec, ports: list[str], mount_path: str) -> dict[str, str]:
    """The input of a create, each value as a GraphQL literal: the SDK takes no variables and escapes nothing."""
    fields = {
        "name": json.dumps(spec.name),
        "imageName": json.dumps(spec.image),
        "cloudType": "SECURE",
        "gpuTypeId": json.dumps(spec.offer.type_id),
        "gpuCount": str(spec.offer.gpus),
        "containerDiskInGb": str(spec.disk_gb),
        "volumeInGb": "0",
        "ports": json.dumps(",".join(ports)),
        "env": f'[{{key: "PUBLIC_KEY", value: {json.dumps(spec.public_key)}}}]',
        "supportPublicIp": "true",
        "startSsh": "false",
        "minVcpuCount": str(VCPUS_A_GPU * spec.offer.gpus),
        "minMemoryInGb": str(least_ram_gb(spec.offer) * spec.offer.gpus),
        "terminateAfter": json.dumps(spec.deadline.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")),
    }
    if spec.min_cuda:
        fields["allowedCudaVersions"] = json.dumps(cuda_from(spec.min_cuda))
    if spec.offer.place:
        fields["dataCenterId"] = json.dumps(spec.offer.place)
    if spec.volume_id:
        fields |= {"networkVolumeId": json.dumps(spec.volume_id), "volumeMountPath": json.dumps(mount_path)}
    if spec.private_network:
        fields["globalNetwork"] = "true"
    return fields


def cuda_from(least: str) -> list[str]:
    """The versions of CUDA from that one on: this API knows no floor, and a version that no host has does no harm."""
    known = [f"{major}.{minor}" for major in (11, 12, 13, 14) for minor in range(10)]
    return known[known.index(least) :] if least in known else [least]


def _sdk() -> tuple[Callable[..., Any], Any, Any]:
    """The SDK's query function, its errors and its HTTP library's. Takes 1.5 s the first time.

    Importing it adds a handler to the root logger, which would print every library's lines a second time: taken off.
    """
    with _loading:
        before = list(logging.root.handlers)
        level = logging.root.level
        import requests
        from runpod import error
        from runpod.api.graphql import run_graphql_query

        for handler in [h for h in logging.root.handlers if h not in before]:
            logging.root.removeHandler(handler)
        logging.root.setLevel(level)
    return run_graphql_query, error, requests


def _unsent(requests: Any) -> tuple[type[Exception], ...]:
    """What the HTTP library raises about the request itself, before anything of it goes out."""
    errors = requests.exceptions
    return UnicodeEncodeError, errors.InvalidHeader, errors.InvalidURL, errors.InvalidSchema, errors.MissingSchema


def _says(words: str, texts: tuple[str, ...]) -> bool:
    lowered = words.lower()
    return any(text in lowered for text in texts)


def _number(value: Decimal) -> str:
    """A GraphQL Float; rounded up to a hundredth of a cent, so that a bid is never below the price."""
    return str(value.quantize(Decimal("0.0001"), rounding="ROUND_CEILING"))
