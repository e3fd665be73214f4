"""The init container of the example's training operator: a worker waits for its master's name."""

import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

TEMPLATE = Path(__file__).parents[3] / "examples" / "training-operator" / "init-container.yaml"

GIVEN = {"InitContainerImage": "alpine:3", "MaxTries": "3", "MasterAddr": "a-master-0"}
"""What the training operator fills in."""

GETENT = """\
#!/bin/sh
echo "$*" >> asked
[ "$(wc -l < asked)" -gt {misses} ]
"""

SLEEP = """\
#!/bin/sh
echo "$*" >> slept
"""


def wait_for_master(folder: Path, misses: int) -> int:
    """Run the container's command where a name is found after `misses` failures; return its end.

    Nobody sleeps, and no other program that looks up names is there.
    """
    text = TEMPLATE.read_text("utf-8")
    for name, value in GIVEN.items():
        text = text.replace(f"{{{{.{name}}}}}", value)
    (container,) = YAML(typ="safe", pure=True).load(text)
    programs = folder / "bin"
    programs.mkdir()
    for name in ("sh", "seq", "wc"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    for name, script in {"getent": GETENT.format(misses=misses), "sleep": SLEEP}.items():
        (programs / name).write_text(script, "utf-8")
        (programs / name).chmod(0o755)
    (folder / "slept").touch()
    ended = subprocess.run(
        container["command"], cwd=folder, env={"PATH": str(programs)}, timeout=30, check=False
    )
    return ended.returncode


@pytest.mark.parametrize(
    ("misses", "code", "asked", "slept"),
    [(0, 0, 1, 0), (2, 0, 3, 2), (3, 1, 3, 3)],
    ids=["there", "there-later", "never-there"],
)
def test_worker_asks_for_its_master_by_getent_until_the_name_is_known(
    tmp_path: Path, misses: int, code: int, asked: int, slept: int
) -> None:
    assert wait_for_master(tmp_path, misses) == code
    assert (tmp_path / "asked").read_text("utf-8") == "hosts a-master-0\n" * asked
    assert (tmp_path / "slept").read_text("utf-8") == "2\n" * slept
