"""What can go wrong in the harness, by remedy."""


class HarnessError(Exception):
    """Something that was started or asked for did not work; the message says what and why."""

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(f"{problem}; {fix}" if fix else problem)


class UnavailableError(HarnessError):
    """This machine cannot do what was asked: tests that need it are skipped with this message."""


class CommandError(HarnessError):
    """A command that the harness ran has failed; carries what it wrote to standard error."""

    def __init__(self, argv: list[str], code: int, output: str) -> None:
        self.code = code
        self.output = output
        super().__init__(f"`{' '.join(argv)}` exited {code}: {output.strip()[-2000:]}")
