"""The harness for people: `python -m rlhf_harness up`, then `kubectl` against a real cluster."""

import argparse
import logging
import sys
from collections.abc import Sequence

from rlhf_harness import built_images, cluster, state, trial
from rlhf_harness.binaries import SETS, Tools
from rlhf_harness.building import ensure_built
from rlhf_harness.cluster import Cluster
from rlhf_harness.errors import HarnessError
from rlhf_harness.options import ClusterOptions


def main() -> int:
    """Do what the command line says; the exit code."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if arguments.command == "build":
            ensure_built(Tools(), *arguments.sets)
        elif arguments.command == "up":
            _up(arguments)
        elif arguments.command == "cluster":
            sys.stdout.write(trial.start())
        elif arguments.command == "images":
            _images(arguments.names)
        elif arguments.command == "down":
            _down(arguments.name, everything=arguments.all)
        else:
            _status()
    except HarnessError as failed:
        sys.stderr.write(f"error: {failed}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rlhf_harness", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the programs, once per pin")
    build.add_argument("sets", nargs="*", default=list(SETS), help=f"of {', '.join(SETS)}")
    up = commands.add_parser("up", help="start a cluster")
    up.add_argument("name", nargs="?", default="default")
    up.add_argument("--nodes", type=int, default=0, help="real nodes (default 0)")
    up.add_argument("--kwok", type=int, default=0, help="nodes on which pods are only played")
    down = commands.add_parser("down", help="end a cluster and give everything back")
    down.add_argument("name", nargs="?", default="default")
    down.add_argument("--all", action="store_true", help="every cluster of this user")
    commands.add_parser("cluster", help="start one to try the project in, or bring it up to date")
    images = commands.add_parser("images", help="build the project's images")
    images.add_argument("names", nargs="*", default=built_images.NAMES, help="operator, trainer")
    commands.add_parser("status", help="list clusters and what of them runs")
    return parser


def _up(arguments: argparse.Namespace) -> None:
    started = Cluster(ClusterOptions(name=arguments.name))
    try:
        started.up()
        for _ in range(arguments.nodes):
            started.add_node()
        if arguments.kwok:
            started.add_kwok(arguments.kwok)
    except BaseException:
        started.down()
        raise
    sys.stdout.write(f"export KUBECONFIG={started.kubernetes.kubeconfig}\n")


def _down(name: str, *, everything: bool) -> None:
    with state.locked():
        found = state.load_all() if everything else [state.load(name)]
        for current in found:
            if current is None:
                raise HarnessError(f"there is no cluster {name!r}", "see `status`")
            cluster.end(current)


def _images(names: Sequence[str]) -> None:
    if unknown := sorted(set(names) - set(built_images.NAMES)):
        raise HarnessError(
            f"no image {', '.join(unknown)}", f"name {', '.join(built_images.NAMES)}"
        )
    recipes = [built_images.Recipe(name) for name in names]
    for recipe in recipes:
        built_images.build(recipe)
    sys.stdout.write(built_images.summary(recipes))


def _status() -> None:
    for current in state.load_all():
        running = [name for name, process in current.processes.items() if process.alive]
        words = "left behind" if current.stale else f"runs {', '.join(running) or 'nothing yet'}"
        sys.stdout.write(f"{current.name}: {words}\n  KUBECONFIG={current.kubeconfig}\n")


if __name__ == "__main__":
    sys.exit(main())
