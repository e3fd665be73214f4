"""The models' own checks once more, in CEL, so that `kubectl apply` refuses what the CLI refuses.

Each rule belongs to the validator whose name it is filed under, and a test holds the two sets
equal. What CEL cannot see, or the schema says by itself, stands in `BY_SCHEMA`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_operator.api.pod_template import OWN_MOUNTS, RESERVED_PREFIX
from rlhf_trainer.config.ppo import MAXIMUM_KL_ERROR
from rlhf_trainer.config.training import LIMIT_OVER_TARGET

PHASES = ("sft", "rewardModel", "ppo", "evaluation")
"""Fields of `placement.phases` that have sizes."""


@dataclass(frozen=True)
class Rule:
    """A rule of `x-kubernetes-validations`."""

    cel: str
    """True where the object is right."""
    message: str
    """Problem and fix, as in every message of ours."""
    field: str = ""
    """The field it is about, below the object that is checked."""

    def rendered(self) -> dict[str, Any]:
        """Return it as it stands in a schema."""
        path = {"fieldPath": f".{self.field}"} if self.field else {}
        return {"rule": self.cel, "message": self.message, **path}


def exactly_one(*fields: str) -> Rule:
    """Return the rule that one of `fields` is set."""
    names = f"{', '.join(fields[:-1])} and {fields[-1]}"
    fix = "name one of the two" if len(fields) == 2 else "name one of them"  # noqa: PLR2004 -- "two"
    count = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in fields)
    return Rule(f"{count} == 1", f"{names}: exactly one must be set; {fix}")


def _own(place: str, phase: str, field: str) -> str:
    """Return the optional value of a phase's own placement."""
    return f"{place}.?phases.?{phase}.?{field}"


def _size(place: str, phase: str, field: str) -> str:
    return f"{_own(place, phase, field)}.orValue({place}.{field})"


def _at_least_one(value: str) -> str:
    return f"({value} > 0 ? {value} : 1)"


def _processes(place: str, phase: str) -> str:
    """Return the processes per node of a phase: `api.placement.placed` in CEL."""
    own_gpus = _own(place, phase, "gpusPerNode")
    for_all = f"{place}.?processesPerNode.orValue({_at_least_one(f'{place}.gpusPerNode')})"
    by_gpus = f"{own_gpus}.hasValue() ? {_at_least_one(f'{own_gpus}.orValue(0)')} : {for_all}"
    return f"{_own(place, phase, 'processesPerNode')}.orValue({by_gpus})"


def _every_phase(condition: str) -> str:
    """Join a condition over all sized phases; PHASE, NODES, GPUS and PROCESSES are filled in."""
    parts = []
    for phase in PHASES:
        part = condition.replace("PHASE", phase)
        part = part.replace("GPUS", _size("self.placement", phase, "gpusPerNode"))
        part = part.replace("NODES", _size("self.placement", phase, "nodes"))
        parts.append(f"({part})")
    return " && ".join(parts)


def _divides(batch: str, phase: str, unless: str = "") -> Rule:
    ranks = f"({_size('self.placement', phase, 'nodes')} * ({_processes('self.placement', phase)}))"
    skipped = f"has(self.{unless}) || " if unless else ""
    return Rule(
        f"{skipped}self.{batch} % {ranks} == 0",
        f"{batch}: does not divide over the processes of placement, nodes x processesPerNode; "
        "use a multiple of their number",
        batch,
    )


def _one_gpu_per_process() -> Rule:
    parts = []
    for phase in PHASES:
        gpus = _size("self", phase, "gpusPerNode")
        parts.append(f"({gpus} == 0 || {_processes('self', phase)} <= {gpus})")
    return Rule(
        " && ".join(parts),
        "processesPerNode: more than gpusPerNode; use at most one process per GPU",
    )


def _priority_in_a_queue() -> Rule:
    """Return the rule that whoever has a priority among the queued has a queue."""
    parts = []
    for phase in ("preparation", *PHASES):
        priority = _own("self", phase, "queuePriorityClassName")
        queue = _own("self", phase, "queueName")
        none = f"!{priority}.or(self.?queuePriorityClassName).hasValue()"
        parts.append(f"({none} || {queue}.hasValue())")
    return Rule(
        f"self.?queueName.hasValue() || ({' && '.join(parts)})",
        "queuePriorityClassName: there is no queue to be first in; set queueName",
    )


OWN_PATHS = ", ".join(f"'{path}'" for path in OWN_MOUNTS)

RULES: Mapping[str, Sequence[Rule]] = {
    "path_or_hub": [exactly_one("path", "hub")],
    "entry_point_with_its_kind": [
        Rule(
            "self.kind != 'EntryPoint' || has(self.entryPoint)",
            "entryPoint: required with kind EntryPoint; "
            "name package.module:function, or use kind RewardModel",
            "entryPoint",
        ),
        Rule(
            "self.kind == 'EntryPoint' || !has(self.entryPoint)",
            "entryPoint: not read with this kind; set kind EntryPoint, or remove it",
            "entryPoint",
        ),
    ],
    "ceiling_above_limit": [
        Rule(
            "!has(self.limitNats) || !has(self.ceilingNats) || self.ceilingNats >= self.limitNats",
            "ceilingNats: below limitNats; raise it or leave it out",
            "ceilingNats",
        )
    ],
    "loss_has_a_useful_gradient": [
        Rule(
            "self.placement != 'Loss' || self.estimator != 'K1'",
            "estimator K1: as a loss its gradient is zero in expectation; "
            "use K2 or K3, or placement Reward",
            "estimator",
        )
    ],
    "adaptive_coefficient_can_move": [
        Rule(
            "self.controller != 'Adaptive' || self.coefficient > 0.0",
            "coefficient: the adaptive controller multiplies it, and 0 would stay at 0; "
            "raise it, or set controller Fixed to train without a penalty",
            "coefficient",
        )
    ],
    "update_kl_has_an_epoch_to_end": [
        Rule(
            "!has(self.updateKl) || self.epochs > 1",
            "epochs: updateKl leaves out further epochs, and with 1 there are none; "
            "raise epochs, or remove updateKl",
            "epochs",
        )
    ],
    "existing_model_has_one_name": [
        Rule(
            "!has(self.from) || !has(self.model) || self.model.source == self.from.path",
            "model.source: not read, since from.path is the reward model; "
            "write the same in both, or remove one of the two",
            "model.source",
        )
    ],
    "offload_needs_sharding": [
        Rule(
            "!self.offloadOptimizer || self.zeroStage != 0",
            "offloadOptimizer true: needs zeroStage 2 or 3; raise zeroStage, or set it false",
            "offloadOptimizer",
        )
    ],
    "minibatches_divide_rollout": [
        Rule(
            "self.rolloutBatchSize % self.minibatchSize == 0",
            "minibatchSize: does not divide rolloutBatchSize; choose a divisor of it",
            "minibatchSize",
        )
    ],
    "controller_keeps_its_sign": [
        Rule(
            "self.kl.controller != 'Adaptive' || "
            f"{MAXIMUM_KL_ERROR} * double(self.rolloutBatchSize) < self.kl.horizonEpisodes",
            "kl.horizonEpisodes: a step of rolloutBatchSize could take the KL coefficient to 0 or "
            f"below; raise it above {MAXIMUM_KL_ERROR} times the batch",
            "kl.horizonEpisodes",
        )
    ],
    "fixed_controller_has_a_limit": [
        Rule(
            "self.ppo.kl.controller != 'Fixed' || has(self.guard.kl.limitNats)",
            "guard.kl.limitNats: required when ppo.kl.controller is Fixed; "
            "5 to 15 nats per response is the usual range",
            "guard.kl.limitNats",
        )
    ],
    "limit_above_target": [
        Rule(
            "self.ppo.kl.controller != 'Adaptive' || !has(self.guard.kl.limitNats) || "
            "self.guard.kl.limitNats > self.ppo.kl.targetNats",
            "guard.kl.limitNats: not above ppo.kl.targetNats, which the adaptive controller aims "
            f"at; raise it, {LIMIT_OVER_TARGET} times the target is the default",
            "guard.kl.limitNats",
        )
    ],
    "ceiling_above_derived_limit": [
        Rule(
            "has(self.guard.kl.limitNats) || !has(self.guard.kl.ceilingNats) || "
            f"self.guard.kl.ceilingNats >= {LIMIT_OVER_TARGET} * self.ppo.kl.targetNats",
            f"guard.kl.ceilingNats: below the limit, {LIMIT_OVER_TARGET} times ppo.kl.targetNats; "
            "raise it or leave it out",
            "guard.kl.ceilingNats",
        )
    ],
    "one_gpu_per_process": [_one_gpu_per_process()],
    "priority_in_a_queue": [_priority_in_a_queue()],
    "phase_deadline_within_the_run_s": [
        Rule(
            "!has(self.activeDeadlineSeconds) || !has(self.phaseDeadlineSeconds) || "
            "self.phaseDeadlineSeconds <= self.activeDeadlineSeconds",
            "phaseDeadlineSeconds: longer than activeDeadlineSeconds; lower it or leave it out",
            "phaseDeadlineSeconds",
        )
    ],
    "claim_or_size": [
        Rule(
            "!has(self.claimName) || (!has(self.size) && !has(self.storageClassName))",
            "size and storageClassName: go without claimName only; keep one of the two",
        )
    ],
    "one_source_of_a_value": [exactly_one("secretKeyRef", "configMapKeyRef")],
    "value_or_source": [exactly_one("value", "valueFrom")],
    "one_source_of_variables": [exactly_one("secretRef", "configMapRef")],
    "one_kind_of_volume": [exactly_one("persistentVolumeClaim", "secret", "configMap", "emptyDir")],
    "names_are_free": [
        Rule(
            f"!has(self.volumes) || self.volumes.all(v, !v.name.startsWith('{RESERVED_PREFIX}'))",
            f"volumes: a name begins with {RESERVED_PREFIX}; choose another name",
            "volumes",
        ),
        Rule(
            f"!has(self.volumeMounts) || self.volumeMounts.all(m, !(m.mountPath in [{OWN_PATHS}]))",
            "volumeMounts: the operator mounts something at a mountPath; choose another path",
            "volumeMounts",
        ),
    ],
    "mounts_name_volumes": [
        Rule(
            "!has(self.volumeMounts) || self.volumeMounts.all(m, "
            "has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            "volumeMounts: a name is none of volumes; add it to volumes",
            "volumeMounts",
        )
    ],
    "devices_agree_with_the_placement": [
        Rule(
            "(self.model.device != 'CUDA' && self.rewardModel.?model.?device.orValue('') != 'CUDA')"
            f" || ({_every_phase('GPUS > 0')})",
            "model.device CUDA: placement.gpusPerNode is 0; "
            "set placement.gpusPerNode, or leave the device at Auto",
            "model.device",
        ),
        Rule(
            f"self.model.device != 'CPU' || ({_every_phase('GPUS == 0')})",
            "model.device CPU: GPUs would stand idle; "
            "set placement.gpusPerNode to 0, or leave the device at Auto",
            "model.device",
        ),
    ],
    "batches_divide_over_the_processes": [
        _divides("ppo.minibatchSize", "ppo"),
        _divides("sft.batchSize", "sft", unless="sft.from"),
        _divides("rewardModel.batchSize", "rewardModel", unless="rewardModel.from"),
    ],
    "several_nodes_share_the_workspace": [
        Rule(
            "has(self.workspace.claimName) || self.workspace.accessMode == 'ReadWriteMany' || "
            f"({_every_phase('NODES == 1')})",
            "workspace.accessMode ReadWriteOnce: several nodes cannot mount it; set it to "
            "ReadWriteMany, with a storage class that can, or name a claim",
            "workspace.accessMode",
        )
    ],
}
"""Rules by the name of the validator that checks the same."""

BY_SCHEMA = frozenset({"entries_differ"})
"""Validators that the schema needs no CEL for: list-map keys."""

IMMUTABLE = (
    "model",
    "data",
    "sft",
    "rewardModel",
    "ppo",
    "evaluation",
    "deepspeed",
    "checkpoint",
    "seed",
    "workspace",
)
"""Fields of the spec that stay as they were created."""


def immutable(field: str) -> Rule:
    """Return the rule that `spec.FIELD` stays as it is."""
    return Rule("self == oldSelf", f"spec.{field} cannot change once a run exists; make a new run")


def name_rules(maximum: int, pattern: str) -> list[Rule]:
    """Return the rules on a run's name, which the schema of metadata cannot hold."""
    return [
        Rule(
            f"size(self.metadata.name) <= {maximum}",
            f"metadata.name: longer than {maximum} characters; pods and services need the rest",
        ),
        Rule(
            f"self.metadata.name.matches('{pattern}')",
            "metadata.name: not a DNS label; use lower-case letters, digits and '-', "
            "beginning with a letter and not ending with '-'",
        ),
    ]
