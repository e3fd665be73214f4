"""A run as the API server tells it, made into the model; what cannot be read is said, not lost."""

from pydantic import ValidationError

from rlhf_operator.api import RLHFRun, RunKey
from rlhf_operator.api.problems import problem_of
from rlhf_operator.cluster.kinds import Json
from rlhf_operator.errors import SpecError

FINALIZER = "rlhf.dev/operator"
"""Holds a run until nothing of it is alive."""


def read_run(raw: Json) -> RLHFRun | SpecError:
    """Return the run, or what is wrong with it; fields that this version knows not are ignored."""
    try:
        return RLHFRun.model_validate(raw, extra="ignore")
    except ValidationError as error:
        return problem_of(error.errors(include_url=False)[0], RLHFRun, lambda _: "")


class RunReader:
    """Reads runs, and keeps those that go on: most passes find a run as the last one left it."""

    def __init__(self) -> None:
        self._known: dict[RunKey, tuple[Json, RLHFRun]] = {}

    def read(self, key: RunKey, raw: Json) -> RLHFRun | SpecError:
        """Return the run, or what is wrong with it; `raw` is never changed in place."""
        known_raw, known = self._known.get(key, (None, None))
        if known is not None and raw is known_raw:
            return known
        run = read_run(raw)
        if isinstance(run, SpecError) or run.status.outcome is not None:
            self.forget(key)
        else:
            if known is not None and _asks_for_the_same(known, run):
                # Whoever has judged this spec knows it by its identity.
                run = run.model_copy(update={"spec": known.spec})
            self._known[key] = raw, run
        return run

    def forget(self, key: RunKey) -> None:
        """Drop what is known of a run."""
        self._known.pop(key, None)


def _asks_for_the_same(one: RLHFRun, other: RLHFRun) -> bool:
    """Return whether two states of a run have one spec; defaults can change without an edit."""
    same = (one.metadata.uid, one.metadata.generation) == (
        other.metadata.uid,
        other.metadata.generation,
    )
    return same and one.spec == other.spec


def is_held(raw: Json) -> bool:
    """Return whether our finalizer holds the run."""
    return FINALIZER in (raw["metadata"].get("finalizers") or ())


def is_deleting(raw: Json) -> bool:
    """Return whether the run has been deleted and is only held."""
    return bool(raw["metadata"].get("deletionTimestamp"))


def with_hold(raw: Json, *, held: bool) -> Json:
    """Return the patch by which our finalizer holds the run, or does not any more."""
    others = [name for name in raw["metadata"].get("finalizers") or () if name != FINALIZER]
    return {
        "metadata": {
            "finalizers": [*others, FINALIZER] if held else others,
            "resourceVersion": raw["metadata"]["resourceVersion"],
        }
    }
