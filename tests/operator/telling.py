"""What `kubectl` tells about a run, compared with golden texts."""

import os
import re
from pathlib import Path

from runs import Run

GOLDEN = Path(__file__).parent / "lifecycle" / "golden"

UPDATE = "RLHF_TEST_UPDATE_GOLDEN"
"""Set it to write golden texts anew; then read what has changed."""

VARYING = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
    (r"\d\d:\d\d:\d\d UTC", "<time of day>"),
    (r"(Resource Version: +)\d+", r"\1<version>"),
    (r"(Gpu Seconds: +)\d+", r"\1<seconds>"),
    (r"(Avoid Node: +)\S+", r"\1<node>"),
    (r"(?m) +(\d+[smhd])+$", "  <age>"),
    (r"(?m) +$", ""),
)


def told(run: Run) -> str:
    """Return `kubectl get`, `kubectl describe` and the Events, without what differs each time."""
    kubectl, where = run.kubernetes.kubectl, ("rlhfrun", run.name, "-n", run.namespace)
    text = "\n".join(
        [
            kubectl("get", *where).rstrip(),
            "",
            kubectl("describe", *where, "--show-events=false").rstrip(),
            "",
            *(f"{one['type']} {one['reason']}: {one['message']}" for one in run.event_objects()),
            "",
        ]
    )
    uid = run.object["metadata"]["uid"]
    text = text.replace(uid, "<uid>").replace(uid[:8], "<uid-8>")
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text.rstrip() + "\n"


def assert_told(run: Run, name: str) -> None:
    """Compare with the golden text of that name."""
    path, text = GOLDEN / f"{name}.txt", told(run)
    if os.environ.get(UPDATE):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"set {UPDATE}=1 to write it anew"
