"""The command line: which commands there are, and how errors become messages and exit codes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rlhf_operator.api.manifest import load_manifest
from rlhf_operator.cli.exit_codes import INTERRUPTED, exit_code_of
from rlhf_operator.cli.plan import BUILT_IN_POOLS, Asked, plan_manifest
from rlhf_operator.cli.run import run_manifest
from rlhf_operator.cli.starter import write_starter
from rlhf_operator.cli.trainer import AGREEMENT, REPORT, stream
from rlhf_operator.cli.validate import validate_manifest
from rlhf_operator.errors import OperatorError

app = typer.Typer(
    help="RLHF as one resource: SFT, reward model, PPO and evaluation from one manifest.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Manifest = Annotated[Path, typer.Argument(metavar="FILE", help="Manifest of an RLHFRun.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a field, such as spec.ppo.learningRate=1e-4; may be repeated.",
    ),
]


@app.command()
def run(
    file: Manifest,
    workspace: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the run's results. Default: runs/NAME."),
    ] = None,
    overrides: Overrides = None,
    *,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove what the workspace holds and begin anew.")
    ] = False,
) -> None:
    """Run a manifest on this machine, or go on where it was interrupted.

    Exits with the run's outcome: 0 completed, 10 stopped by the guard, 11 a gate failed, 20
    invalid, 21 out of memory, 30 diverged, 40 retries exhausted, 41 deadline exceeded, 42
    workspace in use, 130 interrupted (the same command goes on).
    """
    wanted = load_manifest(file, overrides or ())
    root = workspace or Path("runs") / wanted.metadata.name
    try:
        raise typer.Exit(run_manifest(wanted, file.absolute().parent, root, fresh=fresh))
    except KeyboardInterrupt:
        # Before the phases are driven, or after: while they are, a signal is a pause.
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def validate(file: Manifest, overrides: Overrides = None) -> None:
    """Check a manifest and the data it names, every record; print each problem on a line."""
    raise typer.Exit(validate_manifest(file, overrides or ()))


@app.command()
def plan(
    file: Manifest,
    overrides: Overrides = None,
    *,
    pools: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Node pools, as the chart's values declare them. "
            f"Default: {', '.join(BUILT_IN_POOLS)}, with 8 GPUs per node.",
        ),
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            metavar="GIB", min=1, help="Memory of each GPU, in GiB. Default: what its pool says."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print bytes as JSON, every moment of every phase.")
    ] = False,
) -> None:
    """Predict how much memory a run needs, by phase and by what it is for.

    Reads the models' config.json; no data, no weights. Exits with 20 if a phase cannot fit its
    GPUs, and names the smallest change that makes it fit.
    """
    asked = Asked(pools, gpu_memory, as_json=as_json)
    raise typer.Exit(plan_manifest(load_manifest(file, overrides or ()), file, asked))


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the run.")] = "my-run",
    file: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="Where to write it.")
    ] = Path("rlhfrun.yaml"),
) -> None:
    """Write a commented manifest to start from."""
    write_starter(name, file)


@app.command()
def report(
    workspace: Annotated[Path, typer.Argument(metavar="WORKSPACE", help="Folder of a run.")],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write it. Default: WORKSPACE/report.html."),
    ] = None,
) -> None:
    """Write the HTML report of a run and print its path."""
    elsewhere = [] if output is None else [f"--output={output}"]
    raise typer.Exit(stream(REPORT, str(workspace), *elsewhere))


@app.command()
def agreement(
    file: Annotated[Path, typer.Argument(help="Comparisons with each annotator's choice.")],
    split: Annotated[
        str | None, typer.Option(help="Split of a folder saved by `datasets`. Default: train.")
    ] = None,
) -> None:
    """Print how far annotators agree: percent agreement, Cohen's and Fleiss' kappa."""
    chosen = [] if split is None else [f"--split={split}"]
    raise typer.Exit(stream(AGREEMENT, str(file), *chosen))


def main() -> None:
    """Run the command line; an error becomes its message and exit code."""
    try:
        app()
    except OperatorError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(exit_code_of(error))
