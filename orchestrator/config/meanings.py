"""What each key of a phase file and of the settings is for: an editor shows it, and docs/reference.md is made of it.

One sentence each, with its unit and with what it means to leave the key out, where that is no value. The schema adds
the default where it is one.
"""

from __future__ import annotations

MEANINGS: dict[str, dict[str, str]] = {
    "Phase": {
        "name": "Up to 20 letters, digits, `.`, `_`, `-`; other phases write their needs as NAME/STEP, and it is not "
        "`all`.",
        "title": "For people.",
        "machine": "What machine the phase needs; left out: one without GPU.",
        "volume": "Storage that outlives the machine, mounted as $WORKSPACE; left out: the machine's own disk.",
        "planned": "Your own expectation, shown beside estimate and measurement; left out: none.",
        "budget_usd": "US dollars: the phase is ended before its machines have cost this much; left out: no cap but "
        "the run's.",
        "spot": "`true`: interruptible GPU machines only, `false`: none, whatever --spot says; left out: as the run's "
        "flags say. CPU machines are never interruptible.",
        "max_usd_hour": "US dollars an hour that all machines of the phase together may cost: dearer ones are not "
        "rented; left out: no bound.",
        "timeout": "The phase is ended as failed after this long.",
        "env": "Environment of every step; shown and logged.",
        "secrets": "Names of variables of your own environment that every step of this phase gets, masked in its log.",
        "inputs": "What is fetched before the first step: from your own stores, or by https.",
        "steps": "What is done, at least one; at the same time where they do not need each other.",
        "deliverables": "What must hold at the end.",
        "artifacts": "Globs below the workspace: uploaded to every store, and verified.",
        "pack": "Folders below the workspace whose artifacts go to the stores as one object each, named as the folder "
        "with `.tar`; at home they are files again. Empty: each artifact is an object of its own.",
        "artifacts_gb": "GB of 10^9 bytes that the artifacts weigh, for the estimate.",
        "pull_to": "Folder at home that the artifacts are fetched to, each verified by sha256: below where `run` was "
        "started, in a rehearsal below the run's own folder, which its end names; left out: they are not fetched.",
    },
    "Input": {
        "from": "An object, or all below a prefix, in S3 or Google Cloud Storage: `s3://bucket/key`; or a file that "
        "needs no login: `https://host/file`.",
        "to": "Folder below the workspace that it comes into, with the names below the prefix; by https the file's own "
        "path, or its folder where it ends in `/`.",
        "gb": "GB of 10^9 bytes that it weighs, for the estimate and the room on the volume; 0: it is asked for.",
        "sha256": "Of an input that is one file, in hexadecimal: another content is refused.",
        "sample": "A small file or folder of the plan's that stands for it in a rehearsal.",
    },
    "MachineNeed": {
        "gpu": "GPU names in order of preference; what is needed is count and memory, so other types with at least "
        "the least memory named come after these. Empty: no GPU is needed.",
        "count": "GPUs of one node.",
        "nodes": "Machines; more than one needs a provider with a private network.",
        "image": "Container image (RunPod), image family or id (Lambda); left out: the provider's in the settings.",
        "disk_gb": "GB of the machine's own disk, which dies with the machine and is in its price.",
        "ports": "`22/tcp` must be there; others are opened, and nothing is started behind them.",
        "reuse": "The phase before this one, with the same volume, whose machine is taken over when it fits; left "
        "out: none.",
        "staging": "Where steps with `gpu: false` run in a phase with a volume: `cpu`, on a CPU machine of the same "
        "place; `none`, on the machine with the GPUs, which is there from the first step to the last.",
    },
    "VolumeNeed": {
        "name": "Up to 20 characters; phases that name the same volume share it, and give the same size.",
        "size_gb": "GB of 10^9 bytes, at least 10, and no less than all steps on the volume together say they write. "
        "On Lambda it is advisory: file systems grow.",
    },
    "Planned": {
        "hours": "Hours that you expect the phase to take.",
        "usd": "US dollars that you expect it to cost.",
    },
    "Step": {
        "name": "Up to 60 characters, unique in its phase.",
        "run": "The command, under `bash -eo pipefail`; a step has exactly one of `run` and `builtin`.",
        "builtin": "A step of gpuplan's own: `overlay` lays the plan's code over `cwd`; `report` writes a Markdown "
        "page of the measured figures to the one file in `creates`.",
        "text": "What a report says above the figures.",
        "cwd": "Folder below the workspace, which must be there when the step starts; left out: the workspace.",
        "env": "Variables of this step, over the phase's.",
        "secrets": "Names of variables of your own environment, beside the phase's: for this step alone.",
        "needs": "Steps that come before: of this phase by name, of another as PHASE/STEP, on the same volume.",
        "uses": "Globs of the code's files that the result depends on: a change of them repeats the step. A step that "
        "runs something of $GPUPLAN_CODE and has no `uses` depends on all of it.",
        "gpu": "`false`: it runs on a machine without GPU, where one is sold.",
        "on": "Which nodes run it: `root`, `workers` or `all`; a step that creates files runs on the root.",
        "ready": "Set: the step is a service, which runs until the steps that need it have ended.",
        "timeout": "Then the step is ended: SIGTERM, and after 5 seconds SIGKILL.",
        "retries": "How often it is tried again after a failure, up to 10.",
        "matrix": "Names and lists of values: one step for each combination, where `${{ matrix.NAME }}` is the value; "
        "`needs` with the step's name means all of them.",
        "on_oom": "The command to try once instead when memory ran out: the kernel killed the job, or it ended with "
        "75; left out: none.",
        "creates": "Globs below `cwd` that must match something at the end; a leading `../` is not allowed. Files, "
        "sizes and pieces are kept in the done-record.",
        "hub": "The step fills a folder with a repository of the model hub, which is checked file by file; left out: "
        "it does not.",
        "reads_gb": "GB of 10^9 bytes that it reads, for the estimate.",
        "writes_gb": "GB of 10^9 bytes that it writes: the disk is checked for them before it begins; for the "
        "estimate the larger of the two counts.",
        "rate": "Which of the settings' rates its bytes move at: `hub`, `volume`, `converter` or `upload`.",
        "expect": "How long it takes, for the estimate; left out: as long as its bytes take.",
    },
    "Ready": {
        "log": "Text of its output that says it is ready; exactly one of `log` and `port`.",
        "port": "TCP port of its own node on which it listens; exactly one of `log` and `port`.",
        "timeout": "Not ready by then: the step has failed.",
    },
    "HubCheckout": {
        "repo": "OWNER/NAME.",
        "dir": "Folder below the workspace.",
        "revision": "Branch, tag or commit; a branch becomes a commit when the step begins.",
        "include": "Patterns as those of `hf download`; empty: every file.",
        "exclude": "Patterns of files that are left out.",
    },
    "Deliverable": {
        "name": "For the table; unique in its phase.",
        "machine": "`reachable`: every machine of the phase answers, and lists the GPUs that were rented with it.",
        "file": "Glob below the workspace: at least one file matches.",
        "min_bytes": "With `file`: every match has at least so many bytes.",
        "same": "Two or more files with one sha256.",
        "checkpoint": "Folder that some step's `hub` fills: every shard that its index names is there, with the hub's "
        "size and sha256.",
        "step": "That step of this phase succeeded.",
        "stdout": "With `step`: and a line of its standard output holds this text; the last such line is shown.",
        "matches": "With `step`: or matches this regular expression (Python's re.search).",
        "metric": "With `step`: and it measured this figure, between `min` and `max`, on each node that it ran on.",
        "min": "With `metric`: the least that will do; left out: no bound.",
        "max": "With `metric`: the most that will do; left out: no bound.",
        "device": "With `metric`: where the figure must have been measured, `gpu` or `cpu`; left out: anywhere.",
        "pulled": "Glob below the workspace: those artifacts are at home below `pull_to`, whole.",
        "uploaded": "Glob below the workspace: those artifacts are verified in every store.",
    },
    "Settings": {
        "plan": "What the plan is called: its volumes belong to that name; empty: as its folder. Two plans in folders "
        "of one name need it, and so does a team whose folders differ.",
        "providers": "In order of preference; the first that serves every phase is taken.",
        "images": "Provider: image of its machines.",
        "cpu_images": "Provider: image of its machines without GPU, without torch; none: that of the others.",
        "cuda": "Provider: the CUDA version, such as \"12.8\", that its image needs of a machine's driver: only such "
        "machines are asked for.",
        "stores": "Where artifacts go: `s3://bucket/prefix`, `gs://bucket/prefix`, or `{url: s3://bucket/prefix, "
        "endpoint_url: https://HOST}` for another store that speaks like S3.",
        "rates": "MB of 10^6 bytes a second, for estimates, until a real run has measured them.",
        "rates_low": "The lowest rates that are known of: the far end of an estimate where no run has measured.",
        "budget_usd": "US dollars of a run and of those that go on with it (RUN.2, ...): machines, and the volumes "
        "that they make or use; null: no cap.",
        "volume_days": "Days, written into a kept volume's name; once they are past, `status`, `down` and each run's "
        "end say so, and `reap` asks whether to delete it.",
        "step_seconds": "Estimate of a step that says nothing of itself.",
        "boot_seconds": "Estimate of a machine's boot.",
        "max_replacements": "Machines that one phase may lose before it gives up.",
        "deadman_minutes": "Minutes without a heartbeat after which a machine's dead-man's switch acts.",
        "readiness_seconds": "How long a machine may take to have an address.",
        "unreachable_minutes": "Minutes that a machine may be silent that its provider says is there, before it is "
        "ended and replaced.",
        "hub_url": "The model hub: https, or an address on this computer, because HF_TOKEN goes there.",
        "notify": "Who is told of a run: addresses of apprise (`ntfy://topic`), or names of variables that hold one.",
        "notify_on": "Of what they are told; `budget`: 50, 80 and 100 % of it are spent.",
        "code": "Folder below the plan's that is laid on every machine; empty: nothing of yours is.",
        "code_mb": "MB of 10^6 bytes that the code may weigh.",
        "requirements": "Files of the code that name Python packages for every machine.",
        "requirements_gpu": "Files of the code with more packages, for machines with a GPU.",
        "setup": "Command that runs once on every machine, in the code's folder, before its first step.",
        "defaults": "What every phase has that does not say otherwise.",
        "publish": "What `gpuplan publish` offers to others, which it asks about; left out: nothing.",
    },
    "Publish": {
        "upstream": "The repository, https://github.com/OWNER/REPO, that the pull request goes to.",
        "base": "Branch, tag or commit of upstream that the branch begins at.",
        "branch": "Name of the branch.",
        "title": "Of the commit and of the pull request.",
        "files": "What the branch has beside upstream's files.",
        "pull_request": "File beside the plan: the pull request's text, with placeholders.",
        "announcement": "File beside the plan: a text to post by hand, with placeholders; left out: none.",
        "models": "What is uploaded to the model hub.",
    },
    "PublishedFile": {
        "artifact": "An artifact of the run that was pulled, by its path in the workspace; left out: `code` is set.",
        "code": "Glob of the run's code files, ** is all of them; left out: `artifact` is set.",
        "to": "Path in the repository; empty: an artifact's own name. For code the folder that the files are laid "
        "into; empty: the top.",
    },
    "PublishedModel": {
        "artifacts": "Artifacts of the run, by their paths in the workspace; on the hub by their last names.",
        "repo": "OWNER/NAME on the hub; NAME alone is one of whoever publishes.",
        "card": "File beside the plan: the model card's text, with placeholders.",
        "base_model": "OWNER/NAME of the model that it was made from.",
        "license": "Licence of what is uploaded, as the hub names it.",
    },
    "Rates": {
        "hub": "MB/s of downloads from the model hub.",
        "volume": "MB/s of reading and writing the volume.",
        "converter": "MB/s of the converter's source; it writes beside reading.",
        "upload": "MB/s to one store.",
        "home": "MB/s from the store to this computer, when no machine is left.",
    },
    "Defaults": {
        "volume": "Of every phase without a volume of its own.",
        "env": "For every phase; a phase's and a step's own variables win.",
        "image": "Of every phase whose `machine` has none.",
        "inputs": "Of every phase that names none.",
    },
}  # fmt: skip
