"""The one error of this package: something a person has to fix, in one line with the fix."""

from rich.console import Console


class ExampleError(Exception):
    """A file is missing, damaged or cannot be fetched; the message says what to do."""

    def __init__(self, *, what: str, problem: str, fix: str) -> None:
        self.what = what
        self.problem = problem
        self.fix = fix
        super().__init__(f"{what}: {problem}; {fix}")


def report(error: ExampleError) -> None:
    """Print the error on standard error, on one line however long."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(str(error), markup=False)
