"""temporary pages"""
import json, sys
from orchestrator.report import documents

def preview(p, spec, *, err):
    out = sys.stderr if err else sys.stdout
    for ph in p.phases:
        print(ph.phase, ph.needs, ph.offer and ph.offer.type_id, ph.price_hour, ph.planned, ph.estimated_hours, ph.estimated_usd, file=out)
    print(p.estimated_usd, spec.provider, spec.place, file=out)

def end(ledger, spec, folder, *, err):
    out = sys.stderr if err else sys.stdout
    d = documents.status(ledger, spec.run)
    for p in d["phases"]:
        for x in p["deliverables"]:
            print(p["phase"], "OK " if x["ok"] else "BAD", x["name"], x["detail"], file=out)
    print(json.dumps(documents.bill(ledger, spec.run, spec.plan).document(), indent=1), file=out)
status = bill = None
