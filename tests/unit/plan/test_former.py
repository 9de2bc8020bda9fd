"""What version 0.1.0 recorded on volumes still counts for the shipped plan."""

from __future__ import annotations

from orchestrator.config import load_plan
from orchestrator.plan import accepted_keys
from orchestrator.transport.code import Code
from orchestrator.world.opening import code_source

# The keys that commit e31c1e2 wrote for downloads and conversions (its own plan and code).
RECORDED = {
    "day1/download-glm": "2f2583f660a53552bf1d38df7ef8946d",
    "day1/download-intellect3": "73e7914c2592863bf4482cdb200bb115",
    "day2-3/convert-glm": "a45218b3d61e0f522073cf7d77883bd2",
    "day2-3/convert-glm-tokenizer": "1bba3b581d2e290cbc73768cf7881d01",
}


def test_downloads_and_conversions_of_version_0_1_0_are_not_repeated():
    """The shipped plan accepts the keys under which its first version recorded what takes hours and dollars."""
    plan = load_plan(None, environ={})
    accepted = accepted_keys(plan, Code(code_source(plan)).files)
    assert {step: key in accepted[step] for step, key in RECORDED.items()} == dict.fromkeys(RECORDED, True)
