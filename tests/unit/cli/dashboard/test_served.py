"""The dashboard over real HTTP: who may come in, what is shown, what its buttons do."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from orchestrator.cli.dashboard import log_search
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import MachineRow, RunRow, StepRow
from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, RunState, StepState
from orchestrator.world.home import Home
from tests.unit.cli.dashboard.served import Served, serving
from tests.unit.report.written import HOSTILE, Elements, Written

RUN = "1102-tes1"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    made = Written(tmp_path_factory.mktemp("desk"))
    log = made.desk.home.run_folder(RUN) / "logs/train/train.log"
    log.write_text("".join(f"epoch {n}\n" for n in range(3000)) + f"{HOSTILE}\n")
    return made


@pytest.fixture(scope="module")
def ledger(written: Written) -> Ledger:
    return written.desk.home.open_ledger(2)


@pytest.fixture(scope="module")
def served(written: Written, ledger: Ledger) -> Iterator[Served]:
    with serving(written.desk.home, ledger) as found:
        yield found


@pytest.fixture(scope="module")
def guest(served: Served) -> httpx.Client:
    return served.guest()


def under_way(written: Written, ledger: Ledger, run: str, state: RunState = RunState.RUNNING) -> None:
    """A run that nobody drives, with a machine that costs and a step that runs."""
    now = ledger.now()
    spec = written.desk.bench.spec.model_copy(update={"run": run})
    folder = written.desk.home.run_folder(run)
    folder.mkdir()
    spec.save(folder)
    outcome = Outcome.FAILED if state == RunState.DONE else None
    ledger.runs.put(RunRow(id=run, state=state, outcome=outcome, created_at=now, plan="toy"))
    phases = written.desk.bench.ledger().phases.all(run=RUN)
    row = phases[1]
    ledger.phases.put(type(row)(run=run, name=row.name, state=PhaseState.RUNNING, started_at=now))
    step = StepRow(run=run, phase="train", id="train/train", state=StepState.RUNNING, started_at=now)
    ledger.steps.put(step)
    (folder / "logs/train").mkdir(parents=True)
    (folder / "logs/train/train.log").write_text("epoch 1\n")
    ledger.machines.put(
        MachineRow(
            name=f"gpuplan-{run}", run=run, phase="train", request="r", node=0, provider="runpod", type_id="t",
            gpu="H100-80GB", gpus=1, place="EU", price_hour=Decimal("2.5"), state=MachineState.REACHABLE, sent_at=now,
            reachable_at=now,
        )
    )  # fmt: skip


def make_another_versions(written: Written, run: str) -> None:
    """It can be looked at, and not gone on with."""
    file = written.desk.home.run_folder(run) / "run.json"
    file.write_text(file.read_text().replace("{", '{"of_another_version": 1,', 1))


def test_the_link_lets_one_browser_in(written: Written, ledger: Ledger):
    """It is used once; without its cookie nobody comes in, and the cookie is no script's and no other site's."""
    with serving(written.desk.home, ledger) as served:
        assert served.client().get("/").status_code == 403
        assert served.client().get("/?token=guess").status_code == 403
        client = served.client()
        answer = client.get(served.link)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert re.search(r"HttpOnly; Path=/; SameSite=strict", answer.headers["set-cookie"])
        assert client.get("/").status_code == 200
        again = served.client().get(served.link)
        assert (again.status_code, "has been used" in again.text) == (403, True)
        assert served.client(cookie="gpuplan-1=x; ;;=").get("/").status_code == 403


@pytest.mark.parametrize(
    ("headers", "method", "path"),
    [
        ({"Host": "evil.test"}, "GET", "/"),  # a name that leads here: DNS rebinding
        ({"Host": "127.0.0.1:1"}, "GET", "/"),
        ({"Origin": "http://evil.test"}, "GET", "/events"),
        ({"Origin": "null"}, "POST", f"/runs/{RUN}/down"),
        ({}, "POST", f"/runs/{RUN}/down"),
        ({"Sec-Fetch-Site": "cross-site"}, "GET", f"/runs/{RUN}"),
    ],
)
def test_no_other_site_asks_anything(guest: httpx.Client, headers: dict[str, str], method: str, path: str):
    """Another name of this computer, another site's page, a form that says nothing of where it is from."""
    answer = guest.request(method, path, headers=headers)
    assert answer.status_code == 403
    assert not set(answer.headers) & {"access-control-allow-origin", "set-cookie"}


def test_it_listens_on_this_computer_alone(served: Served):
    """Another address of it finds no door."""
    port = int(served.url.rpartition(":")[2])
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), 2):
        pass


def test_every_answer_is_locked_down(guest: httpx.Client):
    """Nothing is kept, framed, guessed at, or fetched from elsewhere; scripts are the one file of ours."""
    for path in ("/", f"/runs/{RUN}", "/dashboard.js", "/nowhere"):
        headers = guest.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "server" not in headers


def test_the_first_page_says_what_costs_money(guest: httpx.Client, written: Written, ledger: Ledger):
    """The sum an hour, each machine with its run and price; and a line for every run."""
    under_way(written, ledger, "1103-cost")
    page = guest.get("/").text
    assert "$2.50" in page
    text = Elements(page).text
    assert "train#1" in text or "gpuplan-1103-cost" in text
    assert "H100 80GB in EU" in text
    assert [run in text for run in (RUN, "1103-cost")] == [True, True]
    ledger.machines.move({"name": "gpuplan-1103-cost"}, MachineState.DESTROYING)
    ledger.machines.move({"name": "gpuplan-1103-cost"}, MachineState.DESTROYED, gone_at=ledger.now())


def test_a_runs_page_has_its_steps_and_evidence(guest: httpx.Client):
    """The same picture as status: state, time, deliverables with what was seen, machines."""
    text = Elements(guest.get(f"/runs/{RUN}").text).text
    for said in ("succeeded", "1h 12m", "$0.81 of $20.00", "fetch", "The capital of France is Paris.", "train#1"):
        assert said in text


@pytest.mark.parametrize(
    "path",
    ["/runs/nope", "/runs/%2e%2e", "/runs/nope/logs", f"/runs/{RUN}/rm", "/x", f"/runs/{RUN}/logs?step=../../run"],
)
def test_what_is_not_there_is_said(guest: httpx.Client, path: str):
    """A page with what is there instead, and 404."""
    answer = guest.get(path)
    assert answer.status_code == 404
    assert "<main" in answer.text or answer.text == "Not Found"


def test_logs_are_searched(guest: httpx.Client):
    """The lines with a text, capital or small, with their numbers; in one step or in all; the last thousand of many."""
    one = guest.get(f"/runs/{RUN}/logs", params={"step": "train/train", "q": "EPOCH 2999"}).text
    assert re.search(r"1 of 3001 lines have", one)
    assert re.search(r'<span class="at">3000</span> epoch 2999\n', one)
    many = guest.get(f"/runs/{RUN}/logs", params={"step": "train/train"}).text
    assert f"3001 of 3001 lines; the last {log_search.MOST_LINES} are shown" in many
    every = Elements(guest.get(f"/runs/{RUN}/logs", params={"q": "a"}).text).text
    assert "measure 1 The capital of France" in every
    nothing = guest.get(f"/runs/{RUN}/logs", params={"q": "<b>no such text"}).text
    assert "0 of" in nothing
    assert "<b>" not in nothing


def test_what_a_machine_printed_is_text(guest: httpx.Client):
    """The end of a script, an image, control characters."""
    page = guest.get(f"/runs/{RUN}/logs", params={"step": "train/train", "q": "evil"}).text
    assert "&lt;/script&gt;&lt;img src=http://evil.test/x" in page
    assert Elements(page).tags.isdisjoint({"img", "b"})
    assert not set(page) & {"\x1b", "\x07", "\u202e"}


def test_a_report_is_a_link_away(guest: httpx.Client):
    """The page that `gpuplan report` writes, with its own stricter policy."""
    answer = guest.get(f"/runs/{RUN}/report")
    assert "This file asks nothing of a network." in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]


def test_the_gpus_of_a_run_are_drawn(guest: httpx.Client):
    """An image a machine, with its colours in it, that can fetch nothing; one that is not there is said."""
    page = guest.get(f"/runs/{RUN}").text
    (address,) = re.findall(r'<img class="chart" src="([^"]+)" alt="GPU memory and utilisation of train#1', page)
    image = guest.get(address)
    assert image.headers["content-type"].startswith("image/svg+xml")
    assert "default-src 'none'" in image.headers["content-security-policy"]
    assert "prefers-color-scheme: dark" in image.text
    assert image.text.count("<path") > 4
    assert guest.get(f"/runs/{RUN}/gpus/7.svg").status_code == 404


def events(client: httpx.Client, path: str, count: int) -> list[dict[str, str]]:
    """So many parts of a stream."""
    found = list[dict[str, str]]()
    with client.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
                if len(found) == count:
                    return found
    return found


def test_what_changes_is_sent(served: Served, guest: httpx.Client, written: Written, ledger: Ledger):
    """All parts at first, then those that are other ones."""
    under_way(written, ledger, "1104-live")
    first = events(guest, "/runs/1104-live/events", 7)
    assert [one["id"] for one in first] == ["head", "actions", "steps", "deliverables", "machines", "gpus", "events"]
    assert "epoch 1" in first[2]["html"]
    with guest.stream("GET", "/runs/1104-live/events") as answer:
        lines = answer.iter_lines()
        seen = 0
        for line in lines:
            seen += line.startswith("data: ")
            if seen == 7:
                break
        log = written.desk.home.run_folder("1104-live") / "logs/train/train.log"
        log.write_text("epoch 1\nepoch 2 </script>\n")
        found = next(json.loads(line[6:]) for line in lines if line.startswith("data: ") and "epoch 2" in line)
    assert found["id"] == "steps"
    assert "epoch 2 &lt;/script&gt;" in found["html"]


def test_a_button_asks_first(guest: httpx.Client, written: Written, ledger: Ledger):
    """What would end and what it costs; nothing has happened by asking."""
    under_way(written, ledger, "1105-asks")
    page = guest.get("/runs/1105-asks/down")
    text = Elements(page.text).text
    assert "End 1105-asks?" in text
    assert "H100 80GB in EU, $2.50/h" in text
    assert "Volumes are kept" in text
    assert "No, leave it" in text
    assert ledger.runs.get(id="1105-asks").stop == ""
    assert "rented for what is not done yet" in guest.get("/runs/1105-asks/resume").text


def test_a_button_is_the_command(served: Served, guest: httpx.Client, written: Written, ledger: Ledger):
    """`gpuplan resume RUN` is begun; what it says, with its exit code, is on the run's page."""
    run = "1106-acts"
    under_way(written, ledger, run, RunState.DONE)
    page = guest.get(f"/runs/{run}").text
    assert f'href="/runs/{run}/resume"' in page
    assert f'href="/runs/{run}/down"' not in page
    make_another_versions(written, run)
    answer = guest.post(f"/runs/{run}/resume", headers={"Origin": served.url})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run}")
    give_up = time.monotonic() + 60
    while "exit code" not in (text := guest.get(f"/runs/{run}").text) and time.monotonic() < give_up:
        assert "goes on" in text
        time.sleep(0.2)
    assert f"gpuplan resume {run} ended with exit code 2." in text
    assert "of another version of gpuplan" in text


def test_a_held_ledger_is_read_all_the_same(guest: httpx.Client, written: Written):
    """While another process holds the database whoever reads goes on reading."""
    with contextlib.closing(sqlite3.connect(written.desk.home.path / "gpuplan.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        assert guest.get("/").status_code == 200


def test_two_hundred_runs_are_a_page(tmp_path: Path):
    """In a second or two, newest first."""
    home = Home(tmp_path / "many")
    home.make()
    ledger = home.open_ledger()
    for number in range(200):
        ledger.runs.put(
            RunRow(id=f"r{number:03}", state=RunState.DONE, outcome=Outcome.SUCCEEDED, created_at=float(number + 1))
        )
    with serving(home, ledger) as served:
        began = time.process_time()
        page = served.guest().get("/").text
        assert time.process_time() - began < 5
    assert re.findall(r'href="/runs/(r\d+)"', page)[:2] == ["r199", "r198"]
    assert page.count('data-label="run"') == 200
