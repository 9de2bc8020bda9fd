"""What a right configuration means and where it comes from; a wrong one makes ConfigErrors and nothing else."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.config import ConfigErrors, find_plan, load_file, load_plan
from orchestrator.config.prices import load_prices
from orchestrator.words import files
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Phase, Plan, Settings

MINIMAL = "name: one\nsteps: [{name: a, run: echo}]\n"


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_shipped_plan_is_right_and_in_order():
    """The plan that gpuplan ships with has no mistake and four phases in the order of the days."""
    plan = load_plan(environ={})
    assert [phase.name for phase in plan.phases] == ["day1", "day2-3", "day4-5", "day6-7"]
    assert sum(phase.planned.hours for phase in plan.phases if phase.planned) == 66
    assert sum(phase.planned.usd for phase in plan.phases if phase.planned) == 155
    assert plan.settings.providers == ("runpod", "lambda")
    assert len(plan.notes.notes) > 15


def test_plan_survives_being_frozen():
    """A plan written as JSON into a run's folder is read back equal."""
    plan = load_plan(environ={})
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_a_text_is_a_file_of_the_plans_own(tmp_path: Path):
    """A link that leads out of the plan's folder is refused: what it would publish is somebody's private file."""
    (tmp_path / "secret").write_text("private")
    folder = tmp_path / "plan"
    folder.mkdir()
    publish = "publish: {upstream: https://github.com/o/r, base: main, branch: b, title: t, files: [{code: '**'}], "
    write(folder, one=MINIMAL, gpuplan=f"{publish}pull_request: body.md}}\n")
    (folder / "body.md").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigErrors, match=r"body\.md: publish: pull_request names it, .* a link that leads out of"):
        load_plan(folder, environ={})
    (folder / "body.md").unlink()
    (folder / "inside.md").write_text("${run}")
    (folder / "body.md").symlink_to("inside.md")
    assert load_plan(folder, environ={}).settings.publish
    (folder / "inside.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigErrors, match="cannot be read"):
        load_plan(folder, environ={})


def test_texts_stay_as_written(tmp_path: Path):
    """`no`, `1.10`, `012`, `1_0`, `~x` and numbers stay texts where a text is expected."""
    text = (
        "name: '1'\nsteps:\n - {name: no, run: 1.10, env: {A: no, B: 012, C: 1_0, D: 1.0, E: true, F: '', G: 0x1f}}\n"
    )
    (step,) = load_plan(write(tmp_path, one=text), environ={}).phases[0].steps
    assert step.name == "no"
    assert step.run == "1.10"
    assert step.env == {"A": "no", "B": "012", "C": "1_0", "D": "1.0", "E": "true", "F": "", "G": "0x1f"}


def test_on_is_a_key_and_not_a_truth_value(tmp_path: Path):
    """The key `on`, which YAML 1.1 reads as true, is the key that the file says."""
    text = "name: one\nmachine: {nodes: 2}\nsteps: [{name: a, run: echo, on: all}]\n"
    assert load_plan(write(tmp_path, one=text), environ={}).phases[0].steps[0].on == "all"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1.5s", 1.5),
        ("45", 45),
        ("1d1h1m1s", 90061),
        ("0.5", 0.5),
    ],
)
def test_durations(written: str, seconds: float, tmp_path: Path):
    """Durations are written with units or as plain seconds."""
    assert load_plan(write(tmp_path, one=f"{MINIMAL}timeout: {written}\n"), environ={}).phases[0].timeout == seconds


def test_money_is_exact(tmp_path: Path):
    """Dollars are Decimal, exactly as written."""
    assert load_plan(write(tmp_path, one=MINIMAL + "budget_usd: 0.10\n"), environ={}).phases[0].budget_usd == Decimal(
        "0.10"
    )


def test_null_means_left_out_where_something_may_be_missing(tmp_path: Path):
    """`null` and `~` unset a key that may be missing."""
    plan = load_plan(write(tmp_path, one=MINIMAL + "volume: null\nbudget_usd: ~\n"), environ={})
    assert plan.phases[0].volume is None
    assert plan.phases[0].budget_usd is None


def test_anchors_and_block_texts(tmp_path: Path):
    """An alias repeats a value, and a block text keeps its lines."""
    text = "name: one\nenv: &e {A: b}\nsteps:\n - name: a\n   env: *e\n   run: |\n     echo 1\n     echo 2\n"
    (step,) = load_plan(write(tmp_path, one=text), environ={}).phases[0].steps
    assert step.env == {"A": "b"}
    assert step.run == "echo 1\necho 2\n"


def test_flag_over_environment_over_project_over_default(tmp_path: Path):
    """Each setting comes from the strongest source that has it; rates are joined key by key."""
    write(
        tmp_path, one=MINIMAL, gpuplan="budget_usd: 1\nvolume_days: 1\nstep_seconds: 1\nrates: {hub: 10, volume: 20}\n"
    )
    environ = {
        "GPUPLAN_BUDGET_USD": "2",
        "GPUPLAN_VOLUME_DAYS": "2",
        "GPUPLAN_STORES": "s3://a/b, gs://c",
        "GPUPLAN_RATES_HUB": "30",
    }
    got = load_plan(
        tmp_path, environ=environ, overrides={"budget_usd": 3, "providers": ["lambda"], "stores": None}
    ).settings
    assert (got.budget_usd, got.volume_days, got.step_seconds, got.boot_seconds) == (3, 2, 1, 180)
    assert (got.rates.hub, got.rates.volume, got.rates.converter) == (30, 20, 400)
    assert got.stores == ("s3://a/b", "gs://c")
    assert got.providers == ("lambda",)


def test_flag_reaches_inside(tmp_path: Path):
    """`rates.hub` as a flag changes one rate and leaves the others."""
    got = load_plan(write(tmp_path, one=MINIMAL), environ={}, overrides={"rates.hub": "77"}).settings
    assert (got.rates.hub, got.rates.volume) == (77, 400)


def test_empty_variable_counts_as_unset(tmp_path: Path):
    """GPUPLAN_BUDGET_USD="" is no budget of nothing."""
    assert load_plan(write(tmp_path, one=MINIMAL), environ={"GPUPLAN_BUDGET_USD": ""}).settings.budget_usd == 150


def test_config_replaces_the_projects_file(tmp_path: Path):
    """With an explicit configuration the project's own file is not read."""
    write(tmp_path, one=MINIMAL, gpuplan="budget_usd: 1\n")
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "mine.yaml").write_text("volume_days: 3\n")
    got = load_plan(tmp_path, config=other / "mine.yaml", environ={}).settings
    assert (got.budget_usd, got.volume_days) == (150, 3)


def test_project_with_a_phases_folder(tmp_path: Path):
    """A project's folder, its phases/ folder, and configs/default.yaml beside it make one plan."""
    (tmp_path / "phases").mkdir()
    (tmp_path / "configs").mkdir()
    write(tmp_path / "phases", one=MINIMAL)
    write(tmp_path / "configs", default="budget_usd: 4\n")
    for folder in (tmp_path, tmp_path / "phases"):
        plan = load_plan(folder, environ={})
        assert plan.name == tmp_path.name
        assert plan.settings.budget_usd == 4
    assert find_plan(tmp_path) == tmp_path
    assert find_plan(tmp_path / "configs") == tmp_path


def test_natural_order_and_needs_order(tmp_path: Path):
    """day2 comes before day10, and a phase that needs a later file's step comes after it."""
    volume = "volume: {name: v, size_gb: 10}\n"
    write(
        tmp_path,
        day10=f"name: day10\n{volume}steps: [{{name: a, run: echo}}]\n",
        day2=f"name: day2\n{volume}steps: [{{name: a, run: echo}}]\n",
        day1=f"name: day1\n{volume}steps: [{{name: a, run: echo, needs: [day2/a]}}]\n",
    )
    assert [phase.name for phase in load_plan(tmp_path, environ={}).phases] == ["day2", "day1", "day10"]


@pytest.mark.parametrize("name", ["small", "failing", "slow"])
def test_plans_of_the_other_tests_are_right(name: str):
    """The plans that whole runs are tested with have no mistake themselves."""
    assert load_plan(Path(__file__).parents[2] / "plans" / name, environ={}).name == name


def test_example_is_right_and_says_every_key():
    """configs/example.yaml is a right phase, and every key of a phase and of its parts stands in it."""
    path = files.configs() / "example.yaml"
    phase = load_file(path)
    assert isinstance(phase, Phase)
    text = path.read_text()
    for model in (Phase, type(phase.machine), type(phase.steps[0]), type(phase.deliverables[0])):
        for key in model.model_fields:
            assert f"{key}:" in text, key


def test_one_file_is_checked_with_its_neighbours():
    """A single shipped phase is checked together with the phases that it needs; a settings file as settings."""
    phase = load_file(files.phases() / "day4-5.yaml")
    assert isinstance(phase, Phase)
    assert phase.name == "day4-5"
    assert isinstance(load_file(files.configs() / "default.yaml"), Settings)


def test_a_file_of_that_name_is_settings(tmp_path: Path):
    """gpuplan.yaml is read as settings, also where a phase could have all of its keys."""
    (tmp_path / "gpuplan.yaml").write_text("budget_usd: 5\n")
    assert isinstance(load_file(tmp_path / "gpuplan.yaml"), Settings)


def test_one_wrong_file_tells_only_its_own_mistakes(tmp_path: Path):
    """The mistakes of neighbours are theirs."""
    write(
        tmp_path,
        a="name: a\nsteps: [{name: x, run: echo, tiemout: 3}]\n",
        b="name: b\nstpes: 1\nsteps: [{name: y, run: echo}]\n",
    )
    with pytest.raises(ConfigErrors) as caught:
        load_file(tmp_path / "b.yaml")
    assert [error.where for error in caught.value.errors] == [f"{tmp_path}/b.yaml:2:1"]


def test_no_plan_there(tmp_path: Path):
    """A folder that is missing or empty is told as such."""
    with pytest.raises(UsageError, match="there is no folder"):
        load_plan(tmp_path / "nowhere", environ={})
    with pytest.raises(UsageError, match="there is no phase file in"):
        load_plan(tmp_path, environ={})


def test_files_that_cannot_be_read(tmp_path: Path):
    """Bytes that are no UTF-8, and a folder in a file's place, are mistakes with a place."""
    (tmp_path / "one.yaml").write_bytes(b"name: \xff\n")
    (tmp_path / "two.yaml").mkdir()
    with pytest.raises(ConfigErrors) as caught:
        load_plan(tmp_path, environ={})
    text = str(caught.value)
    assert "one.yaml:1:1: not UTF-8 text (byte 6)" in text
    assert "two.yaml: cannot be read: Is a directory" in text


@pytest.mark.parametrize(
    "text",
    [
        "name: one\nsteps: " + "[" * 3000,
        "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a]\n"
        + "".join(f"{chr(99 + i)}: &{chr(99 + i)} [{', '.join(['*' + chr(98 + i)] * 9)}]\n" for i in range(12)),
        "name: one\ntitle: \x00\n",
    ],
    ids=["deep", "aliases", "control character"],
)
def test_hostile_files_are_refused_in_one_line(text: str, tmp_path: Path):
    """Nesting without end, aliases that multiply, and control characters end in one mistake, not in a crash."""
    with pytest.raises(ConfigErrors) as caught:
        load_plan(write(tmp_path, one=text), environ={})
    (error,) = caught.value.errors
    assert error.where is not None
    assert error.where.startswith(f"{tmp_path}/one.yaml:")


def test_a_wrong_part_keeps_no_other_from_being_checked(tmp_path: Path):
    """What is wrong is left out with what cannot do without it, and the rest is checked in the same go."""
    text = (
        "name: one\nvolume: {name: v, size_gb: ten}\nmachine: {gpu: [L4], count: 0, nodes: many}\n"
        "steps:\n - {name: a, run: echo, retries: x, creates: [/y]}\n - {name: b, run: echo, needs: [c]}\n"
    )
    with pytest.raises(ConfigErrors) as caught:
        load_plan(write(tmp_path, one=text), environ={})
    assert [str(error.where).rpartition("one.yaml:")[2] for error in caught.value.errors] == [
        *("2:28", "3:29", "3:39", "5:34", "5:47", "6:33"),
    ]


def test_price_list_is_read_like_everything_else(tmp_path: Path):
    """A price list says `0.10` exactly, and what is wrong in one is told with its place."""
    good = (
        "read_on: 2026-11-24\nprovider: runpod\ngpus: {L4: 0.10}\nspot_share: 0.5\ncpu: 0.16\nvolume_gb_month: 0.07\n"
        "cpu_disk_gb: 80\ndisk_gb_month: 0.1\n"
    )
    path = tmp_path / "prices.yaml"
    path.write_text(good)
    prices = load_prices(path)
    assert (prices.read_on, prices.gpus) == ("2026-11-24", {"L4": Decimal("0.10")})
    path.write_text(good.replace("L4: 0.10", "L5: 0.10, L40: free").replace("cpu:", "cqu:"))
    with pytest.raises(ConfigErrors) as caught:
        load_prices(path)
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "prices.yaml:1:1: cpu is missing\n"
        "prices.yaml:3:23: a number is expected, not free\n"
        "prices.yaml:5:1: unknown key cqu\n  did you mean cpu?"
    )
    path.write_text(good.replace("L4: 0.10", "L5: 0.10"))
    with pytest.raises(ConfigErrors, match=r"prices\.yaml:3:12: unknown GPU L5"):
        load_prices(path)


def test_an_address_that_is_told_is_never_shown(tmp_path: Path):
    """A wrong one is an error that does not quote it; kinds of notices are checked by their names."""
    write(tmp_path, one=MINIMAL, gpuplan="notify: ['slack:/a-token']\nnotify_on: [done, nope]\n")
    with pytest.raises(ConfigErrors) as caught:
        load_plan(tmp_path, environ={})
    assert "a-token" not in str(caught.value)
    assert "gpuplan.yaml:2:19" in str(caught.value)
    write(tmp_path, gpuplan="notify: [HOOK, 'ntfy://topic']\nnotify_on: [done]\n")
    settings = load_plan(tmp_path, environ={"GPUPLAN_NOTIFY_ON": "started,budget"}).settings
    assert (settings.notify, list(settings.notify_on)) == (
        ("HOOK", "ntfy://topic"), ["started", "budget"],
    )  # fmt: skip


PIECES = [
    "name: one",
    "steps:",
    "- {name: a, run: echo}",
    "  needs: [b]",
    "volume: {name: v, size_gb: x}",
    "? [a]",
    "&a *a",
    "machine: [",
    "deliverables: {a: b}",
    "- - -",
    "!!int 3",
    "'",
    "ready: {port: 0}",
    "\t",
    "%YAML 1.3",
]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=8))
def test_whatever_the_file_says_only_config_errors_come_out(tmp_path: Path, lines: list[str]):
    """No text makes anything but a plan or ConfigErrors."""
    (tmp_path / "one.yaml").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    with contextlib.suppress(ConfigErrors):
        assert load_plan(tmp_path, environ={}).phases
