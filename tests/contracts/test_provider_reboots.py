"""What every cloud that can reboot a machine must do, run on the emulated ones: over HTTP, and in this process."""

from __future__ import annotations

import pytest

from orchestrator.transport.keys import make_host_key
from orchestrator.words.errors import ConnectionLost, Refused
from orchestrator.words.provider import Address, Capability, MachineView
from tests.contracts.contract_clouds import Cloud, FirstContact

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.fixture
def rebooting(on: Cloud) -> str:
    """A machine that is ready, on a cloud that can reboot one."""
    assert Capability.REBOOT in on.provider.capabilities
    key = make_host_key()[0] if Capability.HOST_KEY in on.provider.capabilities else None
    return on.ready(on.provider.create(on.spec(host_key=key))).id


def again(on: Cloud, before: MachineView) -> MachineView:
    """Wait until a machine that is being rebooted is ready: elsewhere on RunPod, where it was on Lambda."""
    on.wait(100 * on.access.time_scale)  # longer than a reboot takes
    view = on.ready(before.id)
    assert (view.address == before.address) == (on.provider.name == "lambda")
    assert (view.name, view.price_hour, view.place) == (before.name, before.price_hour, before.place)
    return view


def test_a_reboot_starts_the_same_machine_again(on: Cloud, rebooting: str):
    """It is the same one, at its price: RunPod says since when it runs and has another port, Lambda neither."""
    before = on.ready(rebooting)
    on.provider.reboot(rebooting)
    view = again(on, before)
    assert len(on.provider.machines()) == 1
    if on.provider.name == "runpod":
        assert before.started is not None
        assert view.started is not None
        assert view.started > before.started
    else:
        assert view.started is None


def test_a_reboot_ends_what_runs(on: Cloud, rebooting: str):
    """Its processes are gone; RunPod wipes its own disk and makes another host key, Lambda leaves both."""
    before, keys = on.ready(rebooting), FirstContact()
    transport = on.ssh(before, keys)
    pid = transport.run("touch ~/mine; setsid sleep 300 > /dev/null 2>&1 & echo $!").stdout.strip().decode()
    transport.close()
    on.provider.reboot(rebooting)
    view, others = again(on, before), FirstContact()
    transport = on.ssh(view, others)
    kept = on.provider.name == "lambda"
    assert transport.run("test -e ~/mine").exit == (0 if kept else 1)
    assert transport.run(f"kill -0 {pid}").exit != 0
    transport.close()
    first, second = (k.get(str(v.address).partition("@")[2]) for k, v in ((keys, before), (others, view)))
    assert (first == second) == kept


def hung(on: Cloud, machine_id: str, fault: str) -> Address | None:
    """Have a machine hang by that fault; where it was before."""
    before = on.ready(machine_id)
    on.rehearsal.arm(f"{fault}@contract-step")
    on.rehearsal.step_started("contract-step", before.name)

    def hangs() -> bool:
        return f"fault {fault}" in {e["action"] for e in on.rehearsal.log()}

    on.until(hangs, "it hangs")
    on.wait(2 * on.access.time_scale)
    return before.address


@pytest.mark.parametrize("fault", ["hang", "hang-for-good"])
def test_a_machine_that_hangs_is_called_healthy(on: Cloud, rebooting: str, fault: str):
    """It is READY at its address and answers nobody; a reboot that is accepted brings it back, or does not."""
    address = hung(on, rebooting, fault)
    before = on.ready(rebooting)
    assert before.address == address
    on.provider.reboot(rebooting)
    view = again(on, before)
    transport = on.ssh(view)
    if fault == "hang":
        assert transport.run("echo here").stdout == b"here\n"
    else:
        with pytest.raises(ConnectionLost):
            transport.run("echo here")
    transport.close()


def test_a_reboot_that_is_refused_changes_nothing(on: Cloud, rebooting: str):
    """A definite no, with the vendor's 409: of a machine that boots, and of one that hangs so."""
    booting = on.provider.create(on.spec())
    on.until(lambda: on.provider.machine(booting), "it is known")
    with pytest.raises(Refused, match="409"):
        on.provider.reboot(booting)
    address = hung(on, rebooting, "hang-refused")
    with pytest.raises(Refused, match="409"):
        on.provider.reboot(rebooting)
    assert on.ready(rebooting).address == address
    with pytest.raises(Refused, match="404"):
        on.provider.reboot("0920582c7ff041399e34823a0be62549")
