"""What a RunPod machine runs to end its own bill."""

from __future__ import annotations

# The pod's own key and id are in the environment of its first process only: an SSH session does not see them.
# Whether that key may end the pod is reported both ways, so this is a bonus: the reaper is what is relied on.
_SCRIPT = r"""python3 - <<'GPUPLAN_END_BILL'
import json, os, sys, urllib.request
env = {}
try:
    with open("/proc/1/environ", "rb") as first:
        pairs = first.read().split(b"\0")
    env = dict(p.decode("utf-8", "replace").split("=", 1) for p in pairs if b"=" in p)
except OSError:
    pass
env.update((k, v) for k, v in os.environ.items() if v)
pod, key = env.get("RUNPOD_POD_ID"), env.get("RUNPOD_API_KEY")
if not pod or not key:
    sys.exit("no RUNPOD_POD_ID or RUNPOD_API_KEY here: this machine cannot end its own bill")
base = env.get("RUNPOD_API_BASE_URL", "").rstrip("/")
graphql, rest = (base + "/graphql", base + "/v2") if base else (@GRAPHQL@, @REST@)
mutation = "mutation { podTerminate(input: {podId: %s}) }" % json.dumps(pod)
def send(method, url, body):
    headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json", "User-Agent": "gpuplan"}
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read()
failures = []
tries = (("POST", graphql, json.dumps({"query": mutation}).encode()), ("DELETE", rest + "/pods/" + pod, None))
for method, url, body in tries:
    try:
        answer = send(method, url, body)
        if method == "POST" and json.loads(answer).get("errors"):
            raise ValueError(json.loads(answer)["errors"][0].get("message", "refused"))
        sys.exit(0)
    except (OSError, ValueError) as error:
        failures.append("%s %s: %s" % (method, url, error))
sys.exit("; ".join(failures))
GPUPLAN_END_BILL
"""


def end_bill_script(graphql_url: str, rest_url: str) -> str:
    """Shell text that ends the pod it runs in; exit 0: accepted. `RUNPOD_API_BASE_URL` overrides both URLs."""
    return _SCRIPT.replace("@GRAPHQL@", repr(graphql_url)).replace("@REST@", repr(rest_url.rstrip("/")))
