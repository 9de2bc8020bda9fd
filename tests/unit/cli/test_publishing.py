"""`gpuplan publish`: what is shown, asked and sent, with real git, and a gh and an hf of our own in PATH."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from orchestrator.ledger import open_ledger
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.spec import RunSpec
from tests.unit.cli.publisher import Made, Publisher


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def publish(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Publisher:
    return Publisher(made, tmp_path / "p", monkeypatch, capsys)


def rehearsed(publish: Publisher) -> None:
    """Make the run one of a rehearsal."""
    folder = publish.home / "runs" / publish.run
    spec = RunSpec.load(folder)
    spec.model_copy(update={"world": spec.world.model_copy(update={"dry_run": True})}).save(folder)


def test_nothing_is_sent_before_somebody_agreed(publish: Publisher):
    """All that would go out is shown with its digests; without a terminal that is exit code 2, and nobody was asked."""
    code, out, said = publish()
    assert code == 2
    assert "branch feature/toy upon 8d624a7" not in out, "the mirror's commit has another id than upstream's"
    for words in (
        "branch feature/toy upon ",
        "converter/README.md",
        "Generates 52.5 on 1x RTX 4090 (NVIDIA GeForce RTX 4090) tokens/s",
        "announcement, for you to post",
        "model toy-model of your own account: 1 file, 1 kB",
    ):
        assert words in out, words
    assert "nobody is there to be asked" in said
    assert publish.calls == []
    assert publish.branches(publish.fork) == publish.branches(publish.mirror) == ["main"]


def test_what_was_agreed_to_is_forked_pushed_and_drafted(publish: Publisher):
    """With --agree DIGEST: to the fork that GitHub names, as a draft, with the text that was shown; no model."""
    branch, _ = publish.digests()
    code, out, said = publish("--agree", branch)
    assert (code, said) == (0, "")
    assert publish.branches(publish.fork) == ["feature/toy", "main"]
    assert publish.branches(publish.mirror) == ["main"]
    create = publish.called("gh")[-1]
    assert create[:10] == ["pr", "create", "--draft", "--repo", "b4rtaz/distributed-llama", "--head",
                           "ada:feature/toy", "--title", "Add a toy", "--body-file"]  # fmt: skip
    sent = publish.calls[-1]["sent"]
    assert "Generates 52.5 on 1x RTX 4090 (NVIDIA GeForce RTX 4090) tokens/s, on a CPU not measured." in sent
    assert "pull request opened as a draft: https://github.com/b4rtaz/distributed-llama/pull/7" in out
    assert ["api", "--method", "POST", "repos/b4rtaz/distributed-llama/forks", "--jq", ".full_name"] in publish.called(
        "gh"
    )
    assert publish.called("hf") == []


def test_the_branch_is_upstreams_files_with_ours_laid_over_them(publish: Publisher):
    """Byte for byte, executable where it was, ignored by upstream or not, in one commit of the user's upon the base."""
    publish("--agree", publish.digests()[0])

    def shown(path: str) -> str:
        return publish.git(publish.fork, "show", f"feature/toy:{path}")

    assert shown("converter/README.md") == "Ours."
    assert shown("toy.m") == "ignored by upstream"
    assert shown("docs/WRITEUP.md") == "# Toy"
    assert shown("src/README.md").startswith("The real project has its C++ sources here.")
    assert "100755" in publish.git(publish.fork, "ls-tree", "feature/toy", "run.sh")
    assert publish.git(publish.fork, "log", "-1", "--format=%an <%ae> %s", "feature/toy") == (
        "Ada <ada@example.org> Add a toy"
    )
    assert publish.git(publish.fork, "rev-parse", "feature/toy^") == publish.git(
        publish.mirror, "rev-parse", "8d624a7^{commit}"
    )


def test_again_finds_what_is_there(publish: Publisher):
    """The same content is already there, from another home too; the user's open pull request is not made twice."""
    publish("--agree", publish.digests()[0])
    pushed = publish.git(publish.fork, "rev-parse", "feature/toy")
    mine = {"url": "https://github.com/b4rtaz/distributed-llama/pull/7", "headRepositoryOwner": {"login": "Ada"}}
    theirs = {"url": "https://github.com/b4rtaz/distributed-llama/pull/1", "headRepositoryOwner": {"login": "eve"}}
    publish.answers("gh.list", json.dumps([theirs, mine]))
    shutil.rmtree(publish.home / "runs" / publish.run / "publish")
    publish.env(GIT_COMMITTER_DATE="2001-01-01T00:00:00Z")  # the commit that is made now has another id
    code, out, _ = publish("--agree", publish.digests()[0])
    assert code == 0
    assert "already there, as it is here" in out
    assert "pull request already there: https://github.com/b4rtaz/distributed-llama/pull/7" in out
    assert publish.git(publish.fork, "rev-parse", "feature/toy") == pushed
    assert [argv[:2] for argv in publish.called("gh")].count(["pr", "create"]) == 1


def test_another_branch_of_that_name_stays_as_it_is(publish: Publisher):
    """Exit code 3, with what to do; nothing is overwritten and no pull request is opened."""
    publish.git(publish.fork, "update-ref", "refs/heads/feature/toy", "refs/heads/main")
    before = publish.git(publish.fork, "rev-parse", "feature/toy")
    code, _, said = publish("--agree", publish.digests()[0])
    assert code == 3
    assert "has a branch feature/toy with something else" in said
    assert publish.git(publish.fork, "rev-parse", "feature/toy") == before
    assert not [argv for argv in publish.called("gh") if argv[:2] == ["pr", "create"]]


def test_ones_own_repository_is_not_forked(publish: Publisher):
    """Whoever owns upstream pushes there."""
    publish.answers("gh.user", "B4rtaz")
    code, _, said = publish("--agree", publish.digests()[0])
    assert (code, said) == (0, "")
    assert publish.branches(publish.mirror) == ["feature/toy", "main"]
    assert not [argv for argv in publish.called("gh") if "POST" in argv]


@pytest.mark.parametrize("asked", ["gh.user", "gh.create", "gh.list"])
def test_what_gh_says_when_it_fails_is_told(publish: Publisher, asked: str):
    """Exit code 3 and its words, without what commands a terminal and without a secret."""
    publish.fails(asked, "\x1b[31mHTTP 403: hf_abcdefgh may not\x1b[0m")
    code, out, said = publish("--agree", publish.digests()[0])
    assert code == 3
    assert "failed with exit code 1: HTTP 403: *** may not" in said
    assert "\x1b" not in said + out


def test_without_gh_it_says_what_to_type(publish: Publisher):
    """Exit code 2 with the commands; nothing was pushed, and what it says to type works."""
    branch, _ = publish.digests()
    publish.without("gh")
    code, _, said = publish("--agree", branch)
    assert code == 2
    assert "gh is not in PATH: nothing was sent" in said
    assert "push git@github.com:YOU/distributed-llama.git feature/toy" in said
    assert publish.branches(publish.fork) == ["main"]
    bare = publish.home / "runs" / publish.run / "publish/repository.git"
    publish.git(bare, "push", "--quiet", publish.fork.as_uri(), "feature/toy")
    assert publish.branches(publish.fork) == ["feature/toy", "main"]


def test_a_digest_stands_for_what_was_shown(publish: Publisher):
    """A text that was changed since is another digest: exit code 2, nothing is sent."""
    branch, model = publish.digests()
    (publish.plan / "texts/body.md").write_text("Something else.\n")
    code, _, said = publish("--agree", branch)
    assert code == 2
    assert f"nothing that would be sent now has the digest {branch}" in said
    assert publish.calls == []
    assert publish.digests()[1] == model


def test_models_go_up_with_their_card_last(publish: Publisher):
    """By hf, which alone gets the token; the card has front matter, sha256 and size; git and gh get no key of ours."""
    branch, model = publish.digests()
    code, out, said = publish("--agree", model, "--agree", branch)
    assert (code, said) == (0, "")
    first, card = [call for call in publish.calls if call["name"] == "hf"]
    assert first["argv"][:2] == card["argv"][:2] == ["upload", "toy-model"]
    assert (first["argv"][3], first["sent"]) == ("model.bin", "m" * 1000)
    assert card["argv"][3] == "README.md"
    assert card["sent"].startswith(
        "---\nlicense: mit\nbase_model: zai-org/Toy\n---\n\n# toy-model, made of zai-org/Toy"
    )
    assert "| model.bin | 1 kB | " in card["sent"]
    assert {call["env"]["HF_TOKEN"] for call in publish.calls if call["name"] == "hf"} == {"hf_abcdefgh"}
    assert {call["env"]["HF_TOKEN"] for call in publish.calls if call["name"] == "gh"} == {None}
    assert {call["env"]["RUNPOD_API_KEY"] for call in publish.calls} == {None}
    assert not [call for call in publish.calls if "hf_abcdefgh" in " ".join(call["argv"])]
    assert "uploaded to toy-model of your own account: 1 file, 1 kB, and its card" in out


def test_a_model_without_hf_or_token_is_not_half_published(publish: Publisher):
    """Exit code 2 before anything is sent, the branch neither."""
    both = [word for one in publish.digests() for word in ("--agree", one)]
    publish.env(HF_TOKEN="")
    code, _, said = publish(*both)
    assert (code, "HF_TOKEN is not set: nothing was sent" in said) == (2, True)
    publish.env(HF_TOKEN="hf_abcdefgh")
    publish.without("hf")
    code, _, said = publish(*both)
    assert (code, "hf upload toy-model" in said) == (2, True)
    assert publish.calls == []
    assert publish.branches(publish.fork) == ["main"]


def test_a_model_that_is_not_what_the_run_made_is_not_uploaded(publish: Publisher):
    """Exit code 3 for one with other bytes; one that is not there is not offered."""
    _, model = publish.digests()
    file = next((publish.home / "pulled").rglob("model.bin"))
    file.write_text("n" * 1000)
    code, _, said = publish("--agree", model)
    assert (code, "is not what the run made" in said) == (3, True)
    file.unlink()
    code, out, said = publish("--agree", model)
    assert (code, "not offered, out/model.bin is not at home" in out) == (2, True)
    assert publish.calls == []


def test_what_hf_says_when_it_fails_is_told(publish: Publisher):
    """Exit code 3; no card is sent for a model that is not there."""
    publish.fails("hf.upload", "403 Forbidden")
    code, _, said = publish("--agree", publish.digests()[1])
    assert (code, "hf upload toy-model failed with exit code 1: 403 Forbidden" in said) == (3, True)
    assert len(publish.called("hf")) == 1


def test_a_rehearsal_is_published_to_the_stand_in_alone(publish: Publisher):
    """Without --dry-run: exit code 2; with it the branch is in the mirror, and no GPU's figure is in any text."""
    rehearsed(publish)
    code, _, said = publish()
    assert (code, "was a rehearsal: what it measured is no GPU's" in said) == (2, True)
    document = publish.document()
    assert document["body"].startswith("> A rehearsal: a CPU stood in for the GPUs")
    assert "Generates not measured tokens/s" in document["body"]
    assert "memory not measured" in document["body"]
    assert "52.5" not in json.dumps(document)
    assert "Read 100 on AMD EPYC (cpu)" in document["body"]
    stand_in = publish.home / "runs" / publish.run / "publish-rehearsed/git/distributed-llama.git"
    assert publish.git(stand_in, "show", "feature/toy:docs/WRITEUP.md") == "# Toy"
    assert publish.calls == []
    assert publish.branches(publish.mirror) == ["main"]
    code, out, _ = publish("--dry-run")
    assert (code, "already in the stand-in" in out) == (0, True)


def test_a_run_that_did_not_succeed_has_nothing_to_publish(publish: Publisher):
    """Exit code 2, with how it ended."""
    ledger = open_ledger(publish.home, None, lambda: 0.0)
    ledger.runs.change({"id": publish.run}, outcome=Outcome.OVER_BUDGET)
    ledger.close()
    code, _, said = publish("--dry-run")
    assert (code, "has no result to publish: over budget" in said) == (2, True)


def test_a_secret_in_the_code_stops_it(publish: Publisher):
    """Exit code 2 with the file and the secret's name, before anything is shown."""
    (publish.home / "runs" / publish.run / "code/run.sh").write_text("curl -H 'Authorization: rp-secret-1'\n")
    code, out, said = publish()
    assert (code, out) == (2, "")
    assert "run.sh holds the secret RUNPOD_API_KEY: nothing is published" in said


def test_git_must_know_who_the_user_is(publish: Publisher):
    """Exit code 2 with the two settings; git's guess from the computer's name is nobody's identity."""
    (publish.folder / "gitconfig").write_text("")
    code, _, said = publish()
    assert (code, "git does not know who you are" in said, "user.email" in said) == (2, True, True)


def test_a_folder_has_all_of_it_without_a_network(publish: Publisher, tmp_path: Path):
    """--out: files and texts where upstream is not at home, a bundle that git reads where it is; nobody is asked."""
    publish.env(GIT_CONFIG_KEY_0=f"url.{(tmp_path / 'nowhere').as_uri()}.insteadOf")
    code, _, said = publish("--out", "offer")
    assert (code, said) == (0, "")
    offer = publish.folder / "offer"
    assert (offer / "files/converter/README.md").read_text() == "Ours.\n"
    assert "Generates 52.5" in (offer / "pull_request.md").read_text()
    assert (offer / "models/toy-model/README.md").read_text().startswith("---\nlicense: mit\n")
    assert publish("--out", "offer")[0] == 2, "a folder with something in it is left alone"
    publish.env(GIT_CONFIG_KEY_0=f"url.{publish.mirror.as_uri()}.insteadOf")
    publish.digests()
    publish.env(GIT_CONFIG_KEY_0=f"url.{(tmp_path / 'nowhere').as_uri()}.insteadOf")
    assert publish("--out", "bundled")[0] == 0
    publish.git(publish.fork, "fetch", "--quiet", str(publish.folder / "bundled/branch.bundle"), "feature/toy:mine")
    assert publish.git(publish.fork, "show", "mine:docs/WRITEUP.md") == "# Toy"
    assert publish.calls == []


def test_upstream_that_does_not_answer_or_has_no_such_commit_is_said(publish: Publisher, tmp_path: Path):
    """Exit code 3 with git's words, or with what upstream lacks."""
    settings = publish.plan / "gpuplan.yaml"
    settings.write_text(settings.read_text().replace("8d624a7", "abcdef1"))
    code, _, said = publish()
    assert (code, "has no branch, tag or commit abcdef1" in said) == (3, True)
    publish.env(GIT_CONFIG_KEY_0=f"url.{(tmp_path / 'nowhere').as_uri()}.insteadOf")
    code, _, said = publish()
    assert (code, "git fetch" in said, "nowhere" in said) == (3, True, True)


def test_a_link_of_upstreams_leads_nothing_out(publish: Publisher, tmp_path: Path):
    """Where upstream has a link for a folder of ours, the branch has the folder; nothing is written behind the link."""
    target = tmp_path / "target"
    target.mkdir()
    link = publish.git(publish.mirror, "hash-object", "-w", "--stdin", text=str(target))
    tree = publish.git(publish.mirror, "mktree", text=f"120000 blob {link}\tconverter\n")
    commit = publish.git(publish.mirror, "commit-tree", tree, "-m", "a link")
    publish.git(publish.mirror, "update-ref", "refs/heads/main", commit)
    settings = publish.plan / "gpuplan.yaml"
    settings.write_text(settings.read_text().replace("8d624a7", "main"))
    branch, _ = publish.digests()
    assert publish("--agree", branch)[0] == 0
    assert publish.git(publish.fork, "show", "feature/toy:converter/README.md") == "Ours."
    assert list(target.iterdir()) == []


def test_a_branch_is_asked_for_anew_and_named_to_gh(publish: Publisher):
    """base: main follows upstream's main, and the pull request is for it."""
    settings = publish.plan / "gpuplan.yaml"
    settings.write_text(settings.read_text().replace("8d624a7", "main"))
    publish("--agree", publish.digests()[0])
    assert publish.called("gh")[-1][7:9] == ["--base", "main"]
    assert publish.git(publish.fork, "rev-parse", "feature/toy^") == publish.git(publish.mirror, "rev-parse", "main")


def test_a_person_is_asked_for_each(publish: Publisher, monkeypatch: pytest.MonkeyPatch):
    """One question for the branch, one for each model; a no to one leaves the other."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("n\ny\n"))
    code, out, _ = publish()
    assert code == 0
    assert "open a draft pull request at b4rtaz/distributed-llama?" in out
    assert len(publish.called("hf")) == 2
    assert publish.called("gh") == []
    monkeypatch.setattr("sys.stdin", Terminal("n\nn\n"))
    code, out, _ = publish()
    assert (code, out.rstrip().endswith("nothing was sent")) == (0, True)
