"""Providers by name, and where their keys come from."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.providers import PROVIDERS, ProviderAccess, access_from_env, gpu_names, open_provider
from orchestrator.providers.existing_host import parse_host
from orchestrator.words.errors import UsageError
from orchestrator.words.provider import MACHINE_PREFIX, MachineStatus
from orchestrator.words.secret import Secret


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_each_name_opens_its_adapter(name: str):
    """A provider's name in the table is the name that it goes by."""
    access = ProviderAccess(api_key=Secret("k"), base_url="me@192.0.2.7:2222" if name == "ssh-host" else None)
    assert name == open_provider(name, access).name


def test_a_wrong_name_lists_the_right_ones():
    """The error says which names there are."""
    with pytest.raises(UsageError, match="lambda, runpod, ssh-host"):
        open_provider("aws", ProviderAccess())


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    """A key is read from its variable; without it the error says which, and where to get one."""
    monkeypatch.setenv("RUNPOD_API_KEY", " k ")
    monkeypatch.delenv("LAMBDA_API_KEY", raising=False)
    assert Secret("k") == access_from_env("runpod").api_key
    with pytest.raises(UsageError, match=r"LAMBDA_API_KEY is not set\n.*https://cloud\.lambda\.ai"):
        access_from_env("lambda")
    assert not access_from_env("ssh-host").api_key


def test_nothing_heavy_is_loaded_before_a_provider_is_opened():
    """Listing providers costs no HTTP client and no SDK."""
    code = "import sys, orchestrator.providers; print([m for m in ('httpx', 'runpod', 'boto3') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "address"),
    [("root@h:2222", "root@h:2222"), ("me@192.0.2.7", "me@192.0.2.7:22"), ("me@[::1]:22", "me@::1:22")],
)
def test_an_address_is_read(text: str, address: str):
    """The port may be left out."""
    assert address == str(parse_host(text))


@pytest.mark.parametrize("text", ["", "host", "@host:1", "me@host:0", "me@host:99999", "me@host:22:22", "me@h x"])
def test_what_is_no_address_is_refused(text: str):
    """The error shows how it is written."""
    with pytest.raises(UsageError, match="user@host:port"):
        parse_host(text)


def test_an_existing_host_is_neither_made_nor_ended():
    """It is offered at price 0 under every GPU's name, is READY at once, and given back without a trace."""
    provider = open_provider("ssh-host", ProviderAccess(base_url="me@192.0.2.7:2222"))
    offers = provider.offers(gpus=2, spot=False)
    assert {0} == {o.price_hour for o in offers}
    assert "A100-80GB" in {o.gpu for o in offers}
    assert [o.gpu for o in provider.offers(gpus=0, spot=False)] == [""]
    from tests.unit.providers.vendor_replay import spec

    created = provider.create(spec(offer=offers[0]))
    assert created.startswith(MACHINE_PREFIX)
    (view,) = provider.machines()
    assert (view.status, str(view.address)) == (MachineStatus.READY, "me@192.0.2.7:2222")
    fresh = open_provider("ssh-host", ProviderAccess(base_url="me@192.0.2.7:2222"))
    assert fresh.machine(created) == view
    provider.destroy(created)
    provider.destroy(created)
    assert provider.machine(created) is None
    assert provider.machines() == []
    assert provider.end_bill_script() == ""


@pytest.mark.parametrize(
    ("vendor_id", "memory", "name"),
    [
        ("NVIDIA H100 80GB HBM3", 80, "H100-80GB"),
        ("NVIDIA H100 PCIe", 80, "H100-80GB"),
        ("NVIDIA GeForce RTX 6090", 48, "RTX-6090-48GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 96, "RTX-PRO-6000-BLACKWELL-SERVER-EDITION-96GB"),
    ],
)
def test_runpod_names(vendor_id: str, memory: int, name: str):
    """Known cards have gpuplan's name, new ones a name made of their words and memory."""
    assert name == gpu_names.from_runpod(vendor_id, memory)


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("A100 (40 GB SXM4)", ("A100-40GB", 40)),
        ("A10 (24 GB PCIe)", ("A10-24GB", 24)),
        ("8x H100 (80 GB SXM5)", ("H100-80GB", 80)),
        ("RTX A6000 (48 GB)", ("RTX-A6000", 48)),
        ("Tesla V100 (16 GB)", ("V100-16GB", 16)),
        ("B200 (180 GB SXM6)", ("B200-180GB", 180)),
    ],
)
def test_lambda_names(description: str, name: tuple[str, int]):
    """Model and memory, whatever the form factor."""
    assert name == gpu_names.from_lambda(description)
