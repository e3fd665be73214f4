"""What was tried so that the operator bears many runs, and what it brought."""

from recording import Lever

LEVERS: tuple[Lever, ...] = ()
