"""`dllama compare`: a `.m` file beside its original."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dllama_glm.cli.main import run as dllama
from dllama_glm.verify.compare import main
from dllama_glm.verify.compare.figures import Tally, Text

from tests.payload.converter.converter_files import GOLDEN, MODELS, PAYLOAD, convert

BASE = MODELS / "zai-org" / "GLM-4.5-Air-Base"
OTHER = MODELS / "PrimeIntellect" / "INTELLECT-3"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model as f32.m and q40.m, and two prompts."""
    folder = tmp_path_factory.mktemp("compare")
    for kind in ("f32", "q40"):
        convert(BASE, kind, folder / f"{kind}.m")
    (folder / "prompts").write_text("The capital of France is\n\nWhat is artificial intelligence?\n")
    return folder


def test_an_unquantised_file_is_its_original(room: Path, capsys: pytest.CaptureFixture[str]):
    """F32: logits within 1e-4, the same perplexity, every greedy token equal; one flat JSON document says so."""
    words = ["compare", str(room / "f32.m"), str(BASE), "--prompts", str(room / "prompts"), "--tokens", "8", "--json"]
    assert dllama(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert (found["weight_type"], found["prompts"], found["equal_greedy"]) == ("f32", 2, 1.0)
    assert found["max_abs_error"] < 1e-4
    assert found["relative_error"] < 1e-5 < found["bound"]
    assert found["perplexity"] == pytest.approx(found["original_perplexity"], rel=1e-5)


def test_a_quantised_file_is_near_and_bounded(room: Path, capsys: pytest.CaptureFixture[str]):
    """Q40 with the built-in prompts: within its own bound, whose figures are printed, and beyond that of F32."""
    assert main([str(room / "q40.m"), str(BASE), "--tokens", "4"]) == 0
    text = capsys.readouterr().out
    assert "8 prompts" in text
    assert "within the bound: relative error of the logits at most 0.5" in text
    words = ["--prompts", str(room / "prompts"), "--tokens", "4", "--bound", "0.001"]
    assert main([str(room / "q40.m"), str(BASE), *words]) == 3
    assert "BEYOND the bound: relative error of the logits at most 0.001" in capsys.readouterr().out


def test_another_models_file_is_beyond_the_bound(room: Path, capsys: pytest.CaptureFixture[str]):
    """The weights of a model of the same shapes: exit code 3, and hardly a token in common."""
    words = [str(room / "q40.m"), str(OTHER), "--prompts", str(room / "prompts"), "--tokens", "8", "--json"]
    assert main(words) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["relative_error"] > 0.5


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "usage:"),
        (["--tokens", "0"], 2, "0 is not a whole number from 1 up"),
        (["--prompts", "nowhere"], 2, "nowhere cannot be read"),
        (["--tokens", "3000"], 2, "and is continued by 3000; the model has 2048 positions"),
    ],
)
def test_wrong_use_is_said_before_anything_is_loaded(
    words: list[str], code: int, said: str, room: Path, capsys: pytest.CaptureFixture[str]
):
    """One sentence and exit code 2."""
    assert main([str(room / "q40.m"), str(BASE), *words] if words else []) == code
    assert said in capsys.readouterr().err


def test_a_folder_without_a_tokenizer_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Both are asked with the checkpoint's own tokenizer: without one nothing can be asked."""
    convert(GOLDEN / "mistral", "q40", tmp_path / "x.m")
    assert main([str(tmp_path / "x.m"), str(GOLDEN / "mistral")]) == 1
    assert "has neither tokenizer.json nor tokenizer.model" in capsys.readouterr().err


def test_weights_that_transformers_would_make_up_are_refused(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A shard whose names transformers does not know would give random numbers: refused, with the first such tensor."""
    for file in BASE.iterdir():
        (tmp_path / file.name).write_bytes(
            file.read_bytes().replace(b"mlp.shared_experts.up", b"mlp.shared_experts.xx")
        )
    assert main([str(room / "q40.m"), str(tmp_path), "--prompts", str(room / "prompts")]) == 1
    assert "transformers finds no weights for model.layers." in capsys.readouterr().err


def _elsewhere(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Compare in another process, after some code, which tells at the end whether torch is loaded."""
    program = f"{code}; from dllama_glm.verify.compare import main; code = main({list(words)!r}); "
    program += "print('torch' in sys.modules, code)"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=PAYLOAD, capture_output=True, text=True, check=True, timeout=120
    )


def test_without_transformers_it_says_what_to_install(room: Path):
    """Where transformers is not installed: one sentence and exit code 1."""
    without = (
        "import sys, importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda name, *rest: None if name == 'transformers' else find(name, *rest)"
    )
    run = _elsewhere(without, str(room / "q40.m"), str(BASE))
    assert run.stdout == "False 1\n"
    assert "with transformers, and transformers cannot be imported here: pip install torch transformers" in run.stderr


def test_torch_is_loaded_only_to_compute(room: Path):
    """A refusal does not wait for it."""
    run = _elsewhere("import sys", str(room / "q40.m"), str(BASE), "--prompts", "nowhere")
    assert run.stdout == "False 2\n"


def test_the_figures_are_what_they_say():
    """Two positions and three tokens by hand: errors, perplexities and the share of equal best tokens."""
    theirs = np.log(np.array([[0.5, 0.25, 0.25], [0.2, 0.6, 0.2]], np.float32))
    ours = np.log(np.array([[0.25, 0.5, 0.25], [0.2, 0.6, 0.2]], np.float32))
    tally = Tally()
    tally.add(Text((0, 1), (1,)), np.vstack([ours, ours[:1]]), np.vstack([theirs, theirs[:1]]))
    found = tally.figures()
    assert (found.prompts, found.positions) == (1, 3)
    assert found.max_abs_error == pytest.approx(np.log(2))
    assert found.mean_abs_error == pytest.approx(4 * np.log(2) / 9)
    assert (found.perplexity, found.original_perplexity) == (pytest.approx(2), pytest.approx(4))
    assert found.equal_greedy == 1.0
    shifted = Tally()
    shifted.add(Text((0, 1), (1,)), theirs[[0, 1, 1]] + 7, theirs[[0, 1, 1]])
    assert shifted.figures().relative_error == pytest.approx(0, abs=1e-6)
