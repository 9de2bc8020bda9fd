"""A run as it was asked for, before provider and place are chosen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.flags import RunOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.plan import PhaseRun
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home


def _check_faults(options: RunOptions, resolved: Sequence[PhaseRun]) -> None:
    if options.faults:
        from orchestrator.cli.disasters import require_real

        require_real(options.faults, resolved)


def draft(home: Home, plan: Plan, asked: tuple[str, ...], options: RunOptions) -> RunSpec:
    """The run as it was asked for; provider and place are chosen in `begin`."""
    from orchestrator.plan import forced, resolve
    from orchestrator.words.spec import RunSpec, WorldSpec
    from orchestrator.words.store_url import of_user

    if options.dry_run:
        from orchestrator.rehearsal.needs import require_installed

        require_installed()
    resolved = resolve(plan, asked)
    _check_faults(options, resolved)
    name = home.new_run()
    folder = home.run_folder(name)
    kept = os.environ.get("GPUPLAN_REHEARSAL", "") if options.dry_run else ""
    place = Path(kept).parent if kept else options.cloud or folder / "rehearsal"
    cloud = str(place.resolve()) if options.dry_run else ""
    stores = tuple(of_user(url, os.environ) for url in options.stores or plan.settings.stores)
    if options.dry_run and not stores and any(p.phase.artifacts for p in resolved):
        stores = ("s3://gpuplan-rehearsal/artifacts",)
    return RunSpec(
        run=name,
        owner=home.owner(),
        plan=plan,
        asked=tuple(p.phase.name for p in resolved),
        whole_plan=len(resolved) == len(plan.phases),
        asked_provider=options.provider or "",
        wait_s=options.wait_s,
        hold_s=options.hold_s,
        world=WorldSpec(
            provider="ssh-host" if options.ssh_host else options.provider or "",
            dry_run=options.dry_run,
            cloud=cloud,
            keep_cloud=options.cloud is not None or bool(kept),
            rehearsal=kept,
            faults=options.faults,
            network=options.network,
            clock_skew_s=options.clock_skew_s,
            ssh_host=options.ssh_host,
            ssh_key=str(options.ssh_key.absolute()) if options.ssh_key else "",
            host_key=options.host_key,
        ),
        place=options.move or None,
        moves_to=options.move,
        spot=options.spot,
        spot_or_demand=options.spot_or_demand,
        force=forced(resolved, options.force),
        deadman_minutes=options.deadman_minutes,
        stores=stores,
        pull_root=str(folder / "pulled") if options.dry_run else str(Path.cwd()),
        created_at=home.timeline(),
        tags=options.tags,
    )
