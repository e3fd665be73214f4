"""Every check of the models, broken once: on the real API server, and in the CLI."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from minimal import Json, changed
from rlhf_harness.errors import CommandError
from rlhf_harness.kubernetes import Kubernetes

from rlhf_operator.api.crd.rules import RULES, Rule, name_rules
from rlhf_operator.api.manifest import parse_manifest
from rlhf_operator.api.run import MAXIMUM_NAME_LENGTH, NAME_PATTERN
from rlhf_operator.errors import InvalidManifestError


class Broken(NamedTuple):
    changes: Mapping[str, Any]
    server: str
    """What the API server says, besides the field."""
    cli: str


def rule_of(name: str, number: int = 0) -> str:
    return RULES[name][number].message


TOO_MANY = {"spec.placement.gpusPerNode": 1, "spec.placement.processesPerNode": 2}
MOUNT = {"name": "cache", "mountPath": "/cache"}
CACHE = {"name": "cache", "emptyDir": {}}

BY_RULE = {
    "path and hub": Broken(
        {"spec.data.prompts": {"path": "a", "hub": "b"}},
        rule_of("path_or_hub"),
        "exactly one must be set; keep one of the two",
    ),
    "neither path nor hub": Broken(
        {"spec.data.heldOut": {"prompts": {}}}, rule_of("path_or_hub"), "name one of the two"
    ),
    "entry point without its kind": Broken(
        {"spec.evaluation.judge.entryPoint": "a.b:c"},
        rule_of("entry_point_with_its_kind", 1),
        "not read with kind RewardModel",
    ),
    "kind without its entry point": Broken(
        {"spec.evaluation.judge.kind": "EntryPoint"},
        rule_of("entry_point_with_its_kind"),
        "required with kind EntryPoint",
    ),
    "offload without sharding": Broken(
        {"spec.deepspeed": {"zeroStage": 0, "offloadOptimizer": True}},
        rule_of("offload_needs_sharding"),
        "needs zeroStage 2 or 3",
    ),
    "ceiling below limit": Broken(
        {"spec.guard.kl": {"limitNats": 8, "ceilingNats": 7}},
        rule_of("ceiling_above_limit"),
        "ceilingNats=7.0: below limitNats=8.0",
    ),
    "limit at the target": Broken(
        {"spec.guard.kl.limitNats": 6},
        rule_of("limit_above_target"),
        "limitNats=6.0: not above ppo.kl.targetNats=6.0",
    ),
    "ceiling below derived limit": Broken(
        {"spec.guard.kl.ceilingNats": 14.5},
        rule_of("ceiling_above_derived_limit"),
        "ceilingNats=14.5: below the limit of 15.0",
    ),
    "fixed controller without limit": Broken(
        {"spec.ppo.kl.controller": "Fixed"},
        rule_of("fixed_controller_has_a_limit"),
        "limitNats=null: required when",
    ),
    "k1 as a loss": Broken(
        {"spec.ppo.kl.placement": "Loss"},
        rule_of("loss_has_a_useful_gradient"),
        "gradient is zero in expectation",
    ),
    "adaptive controller of nothing": Broken(
        {"spec.ppo.kl.coefficient": 0},
        rule_of("adaptive_coefficient_can_move"),
        "kl.coefficient=0: the adaptive controller multiplies it",
    ),
    "limit on the KL of one epoch": Broken(
        {"spec.ppo.updateKl": {"limitNatsPerToken": 0.1}},
        rule_of("update_kl_has_an_epoch_to_end"),
        "ppo.epochs=1: updateKl leaves out further epochs",
    ),
    "reward model of two names": Broken(
        {"spec.rewardModel": {"from": {"path": "a"}, "model": {"source": "b"}}},
        rule_of("existing_model_has_one_name"),
        "rewardModel.model.source=b: not read, since from.path=a is the reward model",
    ),
    "minibatch": Broken(
        {"spec.ppo.minibatchSize": 60},
        rule_of("minibatches_divide_rollout"),
        "minibatchSize=60: does not divide",
    ),
    "batch too large for the controller's horizon": Broken(
        {"spec.ppo.kl.horizonEpisodes": 102},
        rule_of("controller_keeps_its_sign"),
        "kl.horizonEpisodes=102: a step of rolloutBatchSize=512 could take",
    ),
    "two ranks per gpu": Broken(
        TOO_MANY, rule_of("one_gpu_per_process"), "processesPerNode=2: more than gpusPerNode=1"
    ),
    "two ranks per gpu in one phase": Broken(
        {"spec.placement": {"gpusPerNode": 2, "phases": {"sft": {"processesPerNode": 4}}}},
        rule_of("one_gpu_per_process"),
        "placement.phases.sft.processesPerNode=4: more than gpusPerNode=2",
    ),
    "priority in no queue": Broken(
        {"spec.placement.queuePriorityClassName": "high"},
        rule_of("priority_in_a_queue"),
        "placement.queuePriorityClassName=high: there is no queue",
    ),
    "priority of one phase in no queue": Broken(
        {
            "spec.placement.phases": {
                "sft": {"queueName": "research", "queuePriorityClassName": "high"},
                "ppo": {"queuePriorityClassName": "high"},
            }
        },
        rule_of("priority_in_a_queue"),
        "placement.phases.ppo.queuePriorityClassName=high: there is no queue",
    ),
    "phase deadline": Broken(
        {"spec.runPolicy": {"activeDeadlineSeconds": 5, "phaseDeadlineSeconds": 6}},
        rule_of("phase_deadline_within_the_run_s"),
        "longer than activeDeadlineSeconds=5",
    ),
    "claim and size": Broken(
        {"spec.workspace": {"claimName": "a", "size": "1Gi"}},
        rule_of("claim_or_size"),
        "size=1Gi: goes without claimName only",
    ),
    "claim and class": Broken(
        {"spec.workspace": {"claimName": "a", "storageClassName": ""}},
        rule_of("claim_or_size"),
        'storageClassName="": goes without claimName only',
    ),
    "value and source": Broken(
        {"spec.podTemplate.env": [{"name": "A"}]},
        rule_of("value_or_source"),
        "value and valueFrom: exactly one",
    ),
    "two sources of a value": Broken(
        {"spec.podTemplate.env": [{"name": "A", "valueFrom": {}}]},
        rule_of("one_source_of_a_value"),
        "secretKeyRef and configMapKeyRef: exactly one",
    ),
    "two sources of variables": Broken(
        {"spec.podTemplate.envFrom": [{"secretRef": {"name": "a"}, "configMapRef": {"name": "a"}}]},
        rule_of("one_source_of_variables"),
        "secretRef and configMapRef: exactly one",
    ),
    "volume of no kind": Broken(
        {"spec.podTemplate.volumes": [{"name": "cache"}]},
        rule_of("one_kind_of_volume"),
        "exactly one must be set; name one of them",
    ),
    "reserved volume": Broken(
        {"spec.podTemplate.volumes": [{"name": "rlhf-shm", "emptyDir": {}}]},
        rule_of("names_are_free"),
        "volumes=rlhf-shm: begins with rlhf-",
    ),
    "reserved path": Broken(
        {
            "spec.podTemplate.volumes": [CACHE],
            "spec.podTemplate.volumeMounts": [{**MOUNT, "mountPath": "/data"}],
        },
        rule_of("names_are_free", 1),
        "volumeMounts=/data: the operator mounts something there",
    ),
    "mount of nothing": Broken(
        {"spec.podTemplate.volumeMounts": [MOUNT]},
        rule_of("mounts_name_volumes"),
        "volumeMounts=cache: no such volume here",
    ),
    "cuda without gpus": Broken(
        {"spec.model.device": "CUDA"},
        rule_of("devices_agree_with_the_placement"),
        "device=CUDA: placement.gpusPerNode is 0",
    ),
    "reward model on cuda without gpus": Broken(
        {"spec.rewardModel.model": {"source": "a", "device": "CUDA"}},
        rule_of("devices_agree_with_the_placement"),
        "rewardModel.model.device=CUDA: placement.gpusPerNode is 0",
    ),
    "cuda without gpus in one phase": Broken(
        {
            "spec.model.device": "CUDA",
            "spec.placement": {"gpusPerNode": 1, "phases": {"evaluation": {"gpusPerNode": 0}}},
        },
        rule_of("devices_agree_with_the_placement"),
        "device=CUDA: placement.gpusPerNode is 0",
    ),
    "cpu with gpus": Broken(
        {"spec.model.device": "CPU", "spec.placement.gpusPerNode": 2},
        rule_of("devices_agree_with_the_placement", 1),
        "2 GPUs per node would stand idle",
    ),
    "ppo batch over ranks": Broken(
        {
            "spec.placement.gpusPerNode": 6,
            "spec.sft.from": {"path": "a"},
            "spec.rewardModel.from": {"path": "a"},
        },
        rule_of("batches_divide_over_the_processes"),
        "ppo.minibatchSize=64: does not divide over 6 processes (1 nodes x 6)",
    ),
    "sft batch over ranks": Broken(
        {"spec.sft.batchSize": 33, "spec.placement.processesPerNode": 2},
        rule_of("batches_divide_over_the_processes", 1),
        "sft.batchSize=33: does not divide over 2 processes (1 nodes x 2)",
    ),
    "reward model batch over its own ranks": Broken(
        {"spec.placement.phases.rewardModel": {"gpusPerNode": 3}},
        rule_of("batches_divide_over_the_processes", 2),
        "rewardModel.batchSize=64: does not divide over 3 processes (1 nodes x 3)",
    ),
    "several nodes on one volume": Broken(
        {"spec.placement.phases.ppo": {"nodes": 2}},
        rule_of("several_nodes_share_the_workspace"),
        "accessMode=ReadWriteOnce: 2 nodes cannot mount it",
    ),
    "long name": Broken(
        {"metadata.name": "a" * 31},
        name_rules(MAXIMUM_NAME_LENGTH, NAME_PATTERN)[0].message,
        "has 31 characters; use at most 30",
    ),
    "name of a subdomain": Broken(
        {"metadata.name": "1.a"},
        name_rules(MAXIMUM_NAME_LENGTH, NAME_PATTERN)[1].message,
        "not a DNS label",
    ),
}

BY_SCHEMA = {
    "out of bounds": Broken(
        {"spec.ppo.clipRange": 1}, "should be less than 1", "clipRange=1: must be below 1"
    ),
    "not one of the choices": Broken(
        {"spec.model.dtype": "fp16"}, 'Unsupported value: "fp16"', "not one of the choices"
    ),
    "number in quotes": Broken(
        {"spec.ppo.learningRate": "1e-5"}, "must be of type number", "in quotes"
    ),
    "fraction for a whole number": Broken(
        {"spec.seed": 1.5}, "must be of type integer", "not a whole number"
    ),
    "missing field": Broken({"spec.model": {}}, "Required value", "spec.model.source: missing"),
    "unknown field": Broken(
        {"spec.ppo.learningRte": 1}, 'unknown field "spec.ppo.learningRte"', "unknown field"
    ),
    "unknown stage": Broken(
        {"spec.deepspeed.zeroStage": 1}, "Unsupported value: 1", "unsupported ZeRO stage"
    ),
    "managed key of deepspeed": Broken(
        {"spec.deepspeed.overrides": {"fp16": {"enabled": True}}},
        "must not validate the schema (not)",
        "fp16: set by other fields",
    ),
    "enforced twice": Broken(
        {"spec.guard.kl.enforcedBy": ["Trainer", "Trainer"]},
        'Duplicate value: "Trainer"',
        "somebody is named twice",
    ),
    "enforced by nobody": Broken(
        {"spec.guard.kl.enforcedBy": []},
        "should have at least 1 items",
        "has 0 entries; use at least 1",
    ),
    "variable twice": Broken(
        {"spec.podTemplate.env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        "Duplicate value",
        "env=A: appears twice",
    ),
    "pool that is no label": Broken(
        {"spec.placement.pool": "A100"}, "should match", "does not match"
    ),
    "size that is none": Broken({"spec.workspace.size": "many"}, "should match", "does not match"),
}

BROKEN = BY_RULE | BY_SCHEMA

FINE = {
    "minimal": {},
    "null is left out": {"spec.ppo.scoreClip": None},
    "whole number for a real one": {"spec.ppo.kl.targetNats": 6},
    "exponent": {"spec.ppo.learningRate": 1e-5},
    "pools and phases": {
        "spec.placement": {
            "pool": "a100-80gb", "nodes": 2, "gpusPerNode": 8,
            "phases": {"preparation": {"pool": "cpu"}, "ppo": {"nodes": 4}},
        },
        "spec.workspace": {"claimName": "shared"},
    },
    "fewer gpus in one phase": {
        "spec.placement": {
            "gpusPerNode": 8, "processesPerNode": 8, "phases": {"evaluation": {"gpusPerNode": 1}}
        }
    },
    "overlay": {
        "spec.podTemplate": {
            "labels": {"team": "nlp"}, "annotations": {"a/b": "c"},
            "env": [
                {"name": "NCCL_DEBUG", "value": "INFO"},
                {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "t"}}},
            ],
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "settings"}}],
            "volumes": [CACHE], "volumeMounts": [MOUNT], "imagePullSecrets": [{"name": "pull"}],
        }
    },
    "deepspeed overrides": {"spec.deepspeed": {"zeroStage": 3, "overrides": {"a": {"b": [1]}}}},
    "limit above the target": {"spec.guard.kl.limitNats": 6.1},
    "limit below the target that nothing aims at": {
        "spec.ppo.kl.controller": "Fixed", "spec.guard.kl.limitNats": 5,
    },
    "limit on the KL of two epochs": {
        "spec.ppo": {"epochs": 2, "updateKl": {"limitNatsPerToken": 0.1}},
    },
    "no penalty": {
        "spec.ppo.kl": {"controller": "Fixed", "coefficient": 0}, "spec.guard.kl.limitNats": 5,
    },
    "existing reward model held its own way": {
        "spec.rewardModel": {"from": {"path": "a"}, "model": {"source": "a", "dtype": "Float32"}},
    },
    "judge of one's own": {
        "spec.evaluation.judge": {"kind": "EntryPoint", "entryPoint": "a.b:c"},
    },
    "operator alone": {"spec.guard.kl.enforcedBy": ["Operator"]},
}  # fmt: skip


def refusal(api: Kubernetes, run: Json) -> str:
    """Return why the API server does not take a run."""
    with pytest.raises(CommandError) as refused:
        api.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(run))
    return str(refused.value)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_broken_run_is_refused_by_the_api_server(api: Kubernetes, broken: Broken) -> None:
    assert broken.server in refusal(api, changed(broken.changes))


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_broken_run_is_refused_by_the_cli(broken: Broken) -> None:
    with pytest.raises(InvalidManifestError) as refused:
        parse_manifest(json.dumps(changed(broken.changes)), "run.yaml")
    assert broken.cli in str(refused.value)


@pytest.mark.parametrize("changes", FINE.values(), ids=FINE)
def test_fine_run_is_taken_by_both(api: Kubernetes, changes: Mapping[str, Any]) -> None:
    run = changed(changes)
    api.check(run)
    # The API server leaves a null out where the CLI wants to hear nothing.
    parse_manifest(json.dumps(run), "run.yaml")


def test_null_for_a_default_is_left_out_by_the_server_and_refused_by_the_cli(
    api: Kubernetes,
) -> None:
    run = changed({"spec.ppo.clipRange": None})
    api.check(run)
    with pytest.raises(InvalidManifestError, match="clipRange=null: not a number"):
        parse_manifest(json.dumps(run), "run.yaml")


def test_every_rule_is_broken_once() -> None:
    rules = [rule for group in RULES.values() for rule in group]
    rules += name_rules(MAXIMUM_NAME_LENGTH, NAME_PATTERN)
    broken = {case.server for case in BY_RULE.values()}
    assert [rule.message for rule in rules if rule.message not in broken] == []


def test_rule_is_a_sentence_with_a_fix() -> None:
    rules: list[Rule] = [rule for group in RULES.values() for rule in group]
    assert [rule.message for rule in rules if "; " not in rule.message] == []
