"""Lambda Cloud's API v1.10, as far as it is in use: instances, types, regions, images, SSH keys, filesystems."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.rehearsal.clouds.catalogue import INSTANCE_TYPES, REGIONS
from orchestrator.rehearsal.clouds.context import Context, DoneButFailedError, ReplyCutError, ReplyLostError
from orchestrator.rehearsal.clouds.contracts import Contract
from orchestrator.rehearsal.clouds.gate import Pace, basic_user, bearer
from orchestrator.rehearsal.clouds.instances import API, ApiError, Instances, Launch, missing
from orchestrator.rehearsal.clouds.lambda_views import (
    FAMILIES,
    FIREWALL,
    file_system_json,
    firewall_json,
    image_id,
    image_json,
    instance_json,
    region_json,
    type_json,
)
from orchestrator.rehearsal.clouds.records import SshKey, Volume
from orchestrator.rehearsal.clouds.wire import Reply, Request, cut_short, dropped, json_reply, text_reply

MOST_FILE_SYSTEMS = 24
# Both rates are documented; a tenth less is asked for between launches, since clocks and loopback have jitter.
EVERY, BETWEEN_LAUNCHES = 1.0, 12.0 * 0.9
LAUNCH = "/api/v1/instance-operations/launch"


@dataclass(frozen=True)
class Call:
    """One request that passed the gate."""

    params: dict[str, str]
    body: Any


Handler = Callable[[Call], Awaitable[Any]]


class LambdaCloud:
    """The HTTP face of the instances."""

    def __init__(self, context: Context, instances: Instances) -> None:
        self._context, self._instances = context, instances
        self._contract, self._strict = Contract.lambda_cloud(), Contract.lambda_cloud(strict=True)
        self._pace = Pace(context.clock, EVERY)
        self._launches = Pace(context.clock, BETWEEN_LAUNCHES, burst=1)
        self._handlers: dict[tuple[str, str], Handler] = {
            ("GET", "/api/v1/instance-types"): self._types,
            ("GET", "/api/v1/instances"): self._list,
            ("GET", "/api/v1/instances/{id}"): self._get,
            ("POST", LAUNCH): self._launch,
            ("POST", "/api/v1/instance-operations/terminate"): self._terminate,
            ("POST", "/api/v1/instance-operations/restart"): self._restart,
            ("GET", "/api/v1/ssh-keys"): self._list_keys,
            ("POST", "/api/v1/ssh-keys"): self._add_key,
            ("DELETE", "/api/v1/ssh-keys/{id}"): self._remove_key,
            ("GET", "/api/v1/file-systems"): self._list_file_systems,
            ("POST", "/api/v1/filesystems"): self._create_file_system,
            ("DELETE", "/api/v1/filesystems/{id}"): self._delete_file_system,
            ("GET", "/api/v1/regions"): self._regions,
            ("GET", "/api/v1/images"): self._images,
            ("GET", "/api/v1/firewall-rulesets/global"): self._firewall,
        }

    # -- the pipeline ---------------------------------------------------------------------------------------------

    async def handle(self, request: Request) -> Reply:
        """Answer any request below /api/v1/."""
        try:
            return await self._dispatch(request)
        except ApiError as error:
            body = {"code": error.code, "message": error.message}
            if error.suggestion:
                body["suggestion"] = error.suggestion
            return json_reply({"error": body}, error.status)
        except DoneButFailedError:
            body = {"code": "global/internal-error", "message": "An internal server error occurred."}
            return json_reply({"error": body}, 500)
        except ReplyCutError as cut:
            return cut_short(cut.status, cut.body)
        except ReplyLostError:
            return dropped()

    async def _dispatch(self, request: Request) -> Reply:
        if self._context.records.lambda_key not in {bearer(request), basic_user(request)}:
            raise ApiError(
                401,
                "global/invalid-api-key",
                "API key was invalid, expired, or deleted.",
                "Check your API key or create a new one, then try again.",
            )
        match = self._contract.match(request.path)
        if match is None or request.method not in self._contract.methods(match.template):
            raise ApiError(404, "global/not-found", "The requested resource was not found.")
        if self._context.faults.take("rate-limited"):
            return text_reply(429, "Too many requests")  # the body of a 429 is not documented
        if self._context.faults.take("unavailable"):
            raise ApiError(503, "provider/internal-unavailable", "The provider is unavailable.")
        is_launch = match.template == LAUNCH and request.method == "POST"
        if not self._pace.allows() or (is_launch and not self._launches.allows()):
            # The specification has neither a schema nor a code for this.
            raise ApiError(429, "global/too-many-requests", "Rate limit exceeded.")
        handler = self._handlers.get((request.method, match.template))
        if handler is None:
            raise ApiError(501, "rehearsal/not-emulated", "The rehearsal does not emulate this operation.")
        body = _parsed(request.body)
        if errors := self._strict.request_errors(match.template, request.method, body):
            raise ApiError(400, "global/invalid-parameters", f"Invalid request data: {'; '.join(errors)}")
        reply = {"data": await handler(Call(match.params, body))}
        if errors := self._contract.reply_errors(match.template, request.method, 200, reply):
            self._context.breaches.append(f"{request.method} {match.template}: {'; '.join(errors)}")
            raise ApiError(500, "global/internal-error", f"The emulator's reply breaks the contract: {errors}")
        if match.template.startswith("/api/v1/instances"):
            shown = reply["data"]
            self._context.disguise(shown if isinstance(shown, list) else [shown])
        return json_reply(reply)

    # -- instances ------------------------------------------------------------------------------------------------

    async def _types(self, _call: Call) -> Any:
        return {name: type_json(kind) for name, kind in INSTANCE_TYPES.items()}

    async def _list(self, _call: Call) -> Any:
        return [instance_json(instance, self._context.records) for instance in self._instances.listing()]

    async def _get(self, call: Call) -> Any:
        return instance_json(self._instances.get(call.params["id"]), self._context.records)

    async def _launch(self, call: Call) -> Any:
        wanted = call.body
        _check_image(wanted.get("image"), wanted["region_name"])
        if wanted.get("firewall_rulesets"):
            raise missing("Firewall ruleset")  # the emulated account has none
        instance = await self._instances.launch(
            Launch(
                kind=wanted["instance_type_name"],
                region=wanted["region_name"],
                ssh_keys=tuple(wanted["ssh_key_names"]),
                name=wanted.get("name", ""),
                file_systems=tuple(wanted.get("file_system_names", ())),
                mounts={m["file_system_id"]: m["mount_point"] for m in wanted.get("file_system_mounts", ())},
                hostname=wanted.get("hostname"),
                tags={tag["key"]: tag["value"] for tag in wanted.get("tags", ())},
                user_data=wanted.get("user_data", ""),
            )
        )
        reply = {"instance_ids": [instance.id]}
        self._context.after_create(200, {"data": reply})
        return reply

    async def _restart(self, call: Call) -> Any:
        instances = [self._instances.get(identity) for identity in call.body["instance_ids"]]
        for instance in instances:
            await self._instances.restart(instance)
        return {"restarted_instances": [instance_json(i, self._context.records) for i in instances]}

    async def _terminate(self, call: Call) -> Any:
        # One unknown id spoils the whole call: nothing is terminated.
        instances = [self._instances.get(identity) for identity in call.body["instance_ids"]]
        for instance in instances:
            await self._instances.terminate(instance)
        return {"terminated_instances": [instance_json(i, self._context.records) for i in instances]}

    async def _regions(self, _call: Call) -> Any:
        return [region_json(name) for name in REGIONS]

    async def _images(self, _call: Call) -> Any:
        return [image_json(family, region) for family in FAMILIES for region in REGIONS]

    async def _firewall(self, _call: Call) -> Any:
        seen = self._context.seen(API).firewall
        return firewall_json(FIREWALL if seen is None else seen)

    # -- SSH keys -------------------------------------------------------------------------------------------------

    async def _list_keys(self, _call: Call) -> Any:
        return [_key_json(key) for key in self._context.records.ssh_keys.values()]

    async def _add_key(self, call: Call) -> Any:
        name, public = call.body["name"], call.body.get("public_key")
        if any(key.name == name for key in self._context.records.ssh_keys.values()):
            # The specification lists no global/duplicate here.
            raise ApiError(400, "global/invalid-parameters", f"An SSH key named {name} exists already.")
        private = None
        if public is None:
            public, private = await asyncio.to_thread(_generate_key, name)
        key = SshKey(id=self._context.token(16), name=name, public_key=public)
        self._context.records.ssh_keys[key.id] = key
        self._context.log(API, "add-key", None, name=name, id=key.id)
        return _key_json(key) | ({"private_key": private} if private else {})

    async def _remove_key(self, call: Call) -> Any:
        key = self._context.records.ssh_keys.pop(call.params["id"], None)
        if key is None:
            raise ApiError(404, "global/not-found", "The requested resource was not found.")
        self._context.log(API, "remove-key", None, name=key.name, id=key.id)
        return {}

    # -- filesystems ----------------------------------------------------------------------------------------------

    def _in_use(self, volume: Volume) -> bool:
        instances = self._context.records.instances.values()
        return any(i.volume_id == volume.id and i.gone is None for i in instances)

    async def _list_file_systems(self, _call: Call) -> Any:
        return [await self._file_system(volume) for volume in self._context.volumes("lambda")]

    async def _file_system(self, volume: Volume) -> dict[str, Any]:
        used = await asyncio.to_thread(self._context.hosts.volume_bytes, volume.folder)
        return file_system_json(volume, used, in_use=self._in_use(volume))

    async def _create_file_system(self, call: Call) -> Any:
        name, region = call.body["name"], call.body["region"]
        existing = self._context.volumes("lambda")
        if region not in REGIONS:
            raise ApiError(400, "global/invalid-parameters", f"Region {region} does not exist.")
        if any(volume.name == name for volume in existing):
            raise ApiError(400, "global/duplicate", f"A filesystem named {name} exists already.")
        if len(existing) >= MOST_FILE_SYSTEMS:
            raise ApiError(400, "global/quota-exceeded", "Quota exceeded.", "Contact Support to increase your quota.")
        volume = await self._context.make_volume("lambda", name, region, 0)
        self._context.log(API, "create-volume", volume, vendor=API)
        if self._context.faults.take("volume-reply-lost"):
            raise ReplyLostError
        return await self._file_system(volume)

    async def _delete_file_system(self, call: Call) -> Any:
        volume = self._context.records.volumes.get(call.params["id"])
        if volume is None or volume.gone is not None or volume.vendor != "lambda":
            raise ApiError(404, "global/object-does-not-exist", "Filesystem was not found.")
        if self._in_use(volume):
            raise ApiError(400, "filesystems/filesystem-in-use", f"Filesystem {volume.name} is in use.")
        self._context.measure(volume)
        await self._context.drop_volume(volume)
        self._context.log(API, "destroy-volume", volume)
        return {"deleted_ids": [volume.id]}


def _parsed(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        raise ApiError(400, "global/invalid-parameters", "Request body is not valid JSON.") from None


def _check_image(image: dict[str, str] | None, region: str) -> None:
    if image is None:
        return
    known = set(FAMILIES) | {image_id(family, region) for family in FAMILIES}
    if not set(image.values()) <= known:
        raise missing(f"Image {next(iter(image.values()), '')}")


def _key_json(key: SshKey) -> dict[str, Any]:
    return {"id": key.id, "name": key.name, "public_key": key.public_key}


def _generate_key(name: str) -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{public.decode()} {name}", private.decode()
