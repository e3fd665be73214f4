"""How long a lease lasts, and what follows from it."""

from dataclasses import dataclass

LEASE_SECONDS = 15.0
"""Default of Kubernetes' own components, as are the fractions below:
https://pkg.go.dev/k8s.io/client-go/tools/leaderelection.
"""


@dataclass(frozen=True)
class Timing:
    """The times of an election; they are compared with a clock that only goes forwards."""

    lease_seconds: float = LEASE_SECONDS
    """For how long others leave a lease alone once they have seen it renewed."""

    @property
    def renew_deadline_seconds(self) -> float:
        """Return for how long its holder relies on it: shorter, so that two never do."""
        return self.lease_seconds * 2 / 3

    @property
    def retry_seconds(self) -> float:
        """Return the pause between two looks."""
        return self.lease_seconds * 2 / 15
