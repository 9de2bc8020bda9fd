"""What every cloud must do, run on the emulated ones: over HTTP, and in this process."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest

from orchestrator.plan import with_disk
from orchestrator.words.errors import (
    AccountRefused,
    Ambiguous,
    GpuplanError,
    NoCapacity,
    ProviderUnavailable,
    Refused,
)
from orchestrator.words.provider import Capability, MachineSpec, MachineStatus
from orchestrator.words.secret import Secret
from orchestrator.world.host_keys import fingerprint
from tests.contracts.contract_clouds import Cloud, FirstContact

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def gone(on: Cloud, machine_id: str) -> bool:
    return on.provider.machine(machine_id) is None and machine_id not in {m.id for m in on.provider.machines()}


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_offers_are_cheapest_first(on: Cloud, gpus: int):
    """Each offer has the number of GPUs asked for, a place and a price; they are in order of price."""
    offers = on.provider.offers(gpus=gpus, spot=False)
    assert offers
    assert {(on.provider.name, gpus)} == {(o.provider, o.gpus) for o in offers}
    assert sorted(o.price_hour for o in offers) == [o.price_hour for o in offers]
    assert all(o.place and o.price_hour > 0 for o in offers)
    assert all(bool(o.gpu) == bool(gpus) and (o.memory_gb > 0) == bool(gpus) for o in offers)


def test_a_machines_life(on: Cloud):
    """Created, booting, ready at an address and at the offer's price with the disk; destroyed, and gone everywhere."""
    spec = on.spec()
    machine_id = on.provider.create(spec)
    seen = on.until(lambda: on.provider.machine(machine_id), "it is known")
    assert seen.status in {MachineStatus.BOOTING, MachineStatus.READY}
    view = on.ready(machine_id)
    price_hour = with_disk(spec.offer, spec.disk_gb).price_hour
    assert (spec.name, spec.offer.place, price_hour) == (view.name, view.place, view.price_hour)
    assert view.address is not None
    assert [machine_id] == [m.id for m in on.named(spec.name)]
    on.provider.destroy(machine_id)
    on.until(lambda: gone(on, machine_id), "it is gone")
    on.provider.destroy(machine_id)


def test_the_machine_takes_our_key(on: Cloud):
    """SSH answers at the address to the user and the key that the machine was created with.

    Where the machine's log shows its host key through the account, it is the one that is met, and no other.
    """
    view, keys = on.ready(on.provider.create(on.spec())), FirstContact()
    transport = on.ssh(view, keys)
    assert transport.run("echo here").stdout == b"here\n"
    transport.close()
    shown = on.provider.shows_host_key(view.id, fingerprint(keys.get(str(view.address).partition("@")[2]) or ""))
    assert shown is (True if on.provider.name == "runpod" else None)
    if shown:
        assert on.provider.shows_host_key(view.id, "SHA256:" + "A" * 43) is False


def test_a_volume_follows_its_machines(on: Cloud):
    """A volume is listed where it was made, attached at create, kept while in use, and outlives the machine."""
    offer = on.offer()
    name = f"gpuplan-abcd1234-v{time.time_ns():x}"
    volume_id = on.provider.create_volume(name, 100, offer.place)
    volume = on.until(lambda: next((v for v in on.provider.volumes() if v.id == volume_id), None), "it is listed")
    assert (name, offer.place) == (volume.name, volume.place)
    machine_id = on.provider.create(on.spec(offer=offer, volume_id=volume_id, volume_name=name))
    on.ready(machine_id)
    with pytest.raises(ProviderUnavailable):
        on.provider.destroy_volume(volume_id)
    on.provider.destroy(machine_id)
    on.until(lambda: gone(on, machine_id), "the machine is gone")
    assert volume_id in {v.id for v in on.provider.volumes()}
    on.until(lambda: on.ends_volume(volume_id), "the volume may be destroyed")
    on.until(lambda: volume_id not in {v.id for v in on.provider.volumes()}, "it is gone")
    on.provider.destroy_volume(volume_id)


def test_a_volume_elsewhere_is_refused(on: Cloud):
    """A machine cannot have a volume of another place; nothing is created."""
    offer = on.offer()
    other = next(o for o in on.provider.offers(gpus=1, spot=False) if o.place != offer.place)
    name = f"gpuplan-abcd1234-v{time.time_ns():x}"
    volume_id = on.provider.create_volume(name, 100, other.place)
    spec = on.spec(offer=offer, volume_id=volume_id, volume_name=name)
    with pytest.raises(Refused):
        on.provider.create(spec)
    assert on.named(spec.name) == []


def test_a_wrong_request_is_refused_and_makes_nothing(on: Cloud):
    """A type that is not sold is a definite no."""
    spec = on.spec(offer=replace(on.offer(), type_id="no such type:4"))
    with pytest.raises(Refused):
        on.provider.create(spec)
    assert on.named(spec.name) == []


def test_the_unknown_is_not_there(on: Cloud):
    """An unknown id is None to look at, and done to end."""
    assert on.provider.machine("0920582c7ff041399e34823a0be62549") is None
    on.provider.destroy("0920582c7ff041399e34823a0be62549")
    on.provider.destroy_volume("398578a2336b49079e74043f0bd2cfe8")


def test_a_wrong_key_is_the_accounts_fault(on: Cloud):
    """Reads, creates and ends are refused with the vendor's words."""
    stranger = on.reopen(api_key=Secret("wrong-key"))
    spec = on.spec()
    for call in (stranger.machines, lambda: stranger.create(spec), lambda: stranger.destroy("x")):
        with pytest.raises(AccountRefused, match="401"):
            call()


@pytest.mark.parametrize("fault", ["create-reply-lost", "create-reply-cut", "create-500"])
def test_a_create_without_a_reply_is_found_by_name(on: Cloud, fault: str):
    """The result is Ambiguous, and the list has exactly one machine of that name."""
    spec = on.spec()
    on.rehearsal.arm(fault)
    with pytest.raises(Ambiguous):
        on.provider.create(spec)
    assert len(on.until(lambda: on.named(spec.name), "it is listed")) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("create-refused-capacity", NoCapacity),
        ("create-refused-payment", AccountRefused),
        ("create-refused-pool", Refused),
    ],
)
def test_a_refused_create_made_nothing(on: Cloud, fault: str, error: type[Exception]):
    """Each refusal has its kind, and nothing is listed."""
    spec = on.spec()
    on.rehearsal.arm(fault)
    with pytest.raises(error):
        on.provider.create(spec)
    assert on.named(spec.name) == []


def test_a_create_is_sent_once(on: Cloud):
    """The log of the cloud has one creation for each call, whatever became of its reply."""
    spec = on.spec()
    on.rehearsal.arm("create-reply-lost")
    with pytest.raises(Ambiguous):
        on.provider.create(spec)
    on.until(lambda: on.named(spec.name), "it is listed")
    assert [spec.name] == [e["name"] for e in on.rehearsal.log() if e.get("name") == spec.name and _creates(e)]


def _creates(entry: dict[str, object]) -> bool:
    return "create" in str(entry["action"]) or "launch" in str(entry["action"])


def test_a_machine_that_lags_in_the_list_appears(on: Cloud):
    """A fresh machine may be missing from GET and list; within the time that the adapter states it is there."""
    on.rehearsal.arm("list-lag")
    began = on.now()
    machine_id = on.provider.create(on.spec())
    on.until(lambda: on.provider.machine(machine_id), "it appears")
    assert (on.now() - began).total_seconds() < on.provider.list_lag_s * on.access.time_scale + 5


@pytest.mark.parametrize("fault", ["delete-still-listed", "delete-500", "delete-refused", "delete-404"])
def test_gone_is_what_the_cloud_shows(on: Cloud, fault: str):
    """A destroy whose answer means little is repeated until GET and list agree."""
    machine_id = on.provider.create(on.spec())
    on.ready(machine_id)
    on.rehearsal.arm(fault)

    def ended() -> bool:
        try:
            on.provider.destroy(machine_id)
        except ProviderUnavailable:
            return False
        return gone(on, machine_id)

    on.until(ended, "it is gone")


def test_a_pre_empted_machine_is_stopped_or_gone(on: Cloud):
    """A machine that the cloud took away is no longer READY, whether it is still shown or not."""
    spec = on.spec()
    machine_id = on.provider.create(spec)
    on.ready(machine_id)
    on.rehearsal.arm("preempt@contract-step")
    on.rehearsal.step_started("contract-step", spec.name)

    def taken() -> bool:
        view = on.provider.machine(machine_id)
        return view is None or view.status in {MachineStatus.STOPPED, MachineStatus.FAILED}

    on.until(taken, "it is taken away")


@pytest.mark.parametrize("fault", ["boot-error", "status-unknown"])
def test_what_will_not_become_ready_is_failed(on: Cloud, fault: str):
    """ERROR, unhealthy, and words that are new are failures, not waits."""
    on.rehearsal.arm(fault)
    machine_id = on.provider.create(on.spec())
    statuses = set()

    def failed() -> bool:
        view = on.provider.machine(machine_id)
        statuses.add(view.status if view else None)
        return MachineStatus.FAILED in statuses

    on.until(failed, f"it failed: {statuses}")


@pytest.mark.parametrize("fault", ["boot-no-address", "boot-never"])
def test_without_an_address_it_is_booting(on: Cloud, fault: str):
    """A machine that runs without an address for SSH is not ready."""
    on.rehearsal.arm(fault)
    machine_id = on.provider.create(on.spec())
    on.wait(200 * on.access.time_scale)  # longer than a boot takes
    view = on.provider.machine(machine_id)
    assert view is not None
    assert (view.status, view.address) == (MachineStatus.BOOTING, None)


def test_a_passing_fault_is_said_to_pass(on: Cloud):
    """A 503 is asked again by itself; three of them in a row are told as what may pass."""
    on.rehearsal.arm("unavailable@2")
    assert on.provider.machines() == []
    on.rehearsal.arm("unavailable@3")
    with pytest.raises(ProviderUnavailable):
        on.provider.machines()


def test_a_rate_limit_is_waited_out_or_says_for_how_long(on: Cloud):
    """A paced cloud answers in the end; another hands on the vendor's own wait."""
    on.rehearsal.arm("rate-limited")
    if on.provider.name == "lambda":
        assert on.provider.machines() == []
        return
    with pytest.raises(ProviderUnavailable) as raised:
        on.provider.machines()
    assert raised.value.retry_after is not None


def test_two_machines_have_a_private_network(on: Cloud):
    """Machines created for it have private addresses that differ."""
    spec = on.spec(private_network=True)
    ids = [on.provider.create(replace(spec, name=f"{spec.name}{n}")) for n in "ab"]
    for machine_id in ids:
        on.ready(machine_id)

    def address(machine_id: str) -> str | None:
        found = on.provider.machine(machine_id)
        return found.private_ip if found else None

    assert len({on.until(partial(address, machine_id), "a private address") for machine_id in ids}) == 2


def test_billing_is_at_most_what_we_would_accrue(on: Cloud):
    """Where the cloud reports bills, a machine's is above nothing and not above its price for its time."""
    spec = on.spec()
    began = on.now()
    machine_id = on.provider.create(spec)
    on.ready(machine_id)
    on.wait(1.1)
    on.provider.destroy(machine_id)
    on.until(lambda: gone(on, machine_id), "it is gone")
    spent = Decimal((on.now() - began).total_seconds() + 1) * spec.offer.price_hour / 3600
    if Capability.BILLING not in on.provider.capabilities:
        assert on.provider.billed([machine_id]) == {}
        return
    assert 0 < on.provider.billed([machine_id])[machine_id] <= spent


def spot_spec(on: Cloud) -> MachineSpec:
    if Capability.SPOT not in on.provider.capabilities:
        assert on.provider.offers(gpus=1, spot=True) == []
        pytest.skip("this cloud sells no interruptible machines")
    return on.spec(offer=on.offer(spot=True))


def test_an_interruptible_machine_costs_its_bid(on: Cloud):
    """It is cheaper than on demand, bid and billed at its offer's price, its disk apart, and ends like any other."""
    spec = spot_spec(on)
    spec = replace(spec, offer=with_disk(spec.offer, spec.disk_gb))
    assert spec.offer.spot
    assert spec.offer.price_hour < on.offer().price_hour
    machine_id = on.provider.create(spec)
    view = on.ready(machine_id)
    assert (spec.name, spec.offer.price_hour) == (view.name, view.price_hour)
    on.provider.destroy(machine_id)
    on.until(lambda: gone(on, machine_id), "it is gone")


def test_the_vendors_own_deadline_is_a_second_fence(on: Cloud):
    """Asked for it, RunPod ends a machine at its deadline, and not before, although nobody destroys it."""
    if on.provider.name != "runpod":
        pytest.skip("this cloud has no deadline of its own")
    fenced = on.reopen(vendor_deadline=True)
    spec = on.spec(deadline=on.now() + timedelta(seconds=400 * on.access.time_scale))
    machine_id = fenced.create(spec)

    def done() -> list[str]:
        on.provider.machines()  # in this process a cloud lives on when it is asked
        return [entry["action"] for entry in on.rehearsal.log() if entry.get("name") == spec.name]

    on.until(lambda: "expire-machine" in done(), "RunPod ended it")
    on.until(lambda: gone(on, machine_id), "it is gone")
    assert "destroy-machine" not in done()
    assert on.now().timestamp() >= int(spec.deadline.timestamp())  # it is told in whole seconds


@pytest.mark.parametrize(
    ("fault", "error"),
    [("create-reply-lost", Ambiguous), ("graphql-null", NoCapacity), ("create-refused-capacity", NoCapacity)],
)
def test_interruptible_creates_fail_like_others(on: Cloud, fault: str, error: type[GpuplanError]):
    """Lost replies are Ambiguous and found by name; refusals make nothing."""
    spec = spot_spec(on)
    on.rehearsal.arm(fault)
    with pytest.raises(error):
        on.provider.create(spec)
    if error is Ambiguous:
        assert len(on.until(lambda: on.named(spec.name), "it is listed")) == 1
    else:
        assert on.named(spec.name) == []


def test_the_end_bill_script_ends_the_machine(on: Cloud):
    """Run on the machine itself, it makes the machine go away; a cloud that cannot has no script."""
    script = on.provider.end_bill_script()
    if not script:
        pytest.skip("this cloud's machines cannot end their own bill")
    machine_id = on.provider.create(on.spec())
    transport = on.ssh(on.ready(machine_id))
    try:
        transport.run(script, timeout_s=30)
    except GpuplanError:
        pass  # the machine went away under the connection
    on.until(lambda: gone(on, machine_id), "it is gone")
    transport.close()
