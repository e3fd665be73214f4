"""`--set`, as part of a manifest."""

from collections.abc import Callable

import pytest

from rlhf_operator.api import RLHFRun
from rlhf_operator.api.manifest import parse_manifest
from rlhf_operator.errors import InvalidManifestError
from rlhf_trainer.config.sft import ModelFrom


@pytest.mark.parametrize(
    ("override", "line"),
    [
        pytest.param(
            "spec.ppo.clipRange=2",
            "--set: spec.ppo.clipRange=2: must be below 1; "
            "use a number above 0, below 1 (default 0.2)",
            id="out of bounds",
        ),
        pytest.param(
            "spec.ppo.clipRnge=0.1",
            "--set: spec.ppo.clipRnge=0.1: unknown field; did you mean clipRange?",
            id="unknown",
        ),
        pytest.param(
            "clipRange=0.1",
            "--set=clipRange=0.1: not an override; "
            "write spec.FIELD=VALUE, such as spec.ppo.learningRate=1e-4",
            id="no path",
        ),
        pytest.param(
            "spec.seed",
            "--set=spec.seed: not an override; "
            "write spec.FIELD=VALUE, such as spec.ppo.learningRate=1e-4",
            id="no value",
        ),
        pytest.param(
            "spec.model.source=7",
            "--set: spec.model.source=7: not text; put it in double quotes, and the whole option "
            "in single ones",
            id="number for text",
        ),
        pytest.param(
            "spec.model.lora={targetModules: [true]}",
            "--set: spec.model.lora.targetModules.0=true: not text; "
            "put it in double quotes, and the whole option in single ones",
            id="boolean for text in a list",
        ),
        pytest.param(
            "spec.ppo={a: 1",
            "--set: spec.ppo={a: 1: not YAML (expected ',' or '}', but got '<stream end>'); "
            "quote the value",
            id="broken value",
        ),
        pytest.param(
            "spec.model.source.path=x",
            "--set: spec.model.source.path=x: spec.model.source is not a map; "
            "set one of its fields in the manifest first",
            id="through a value",
        ),
    ],
)
def test_override_that_is_bad_is_one_line(
    build_run: Callable[..., RLHFRun], override: str, line: str
) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        build_run(override)
    assert [str(problem) for problem in caught.value.problems] == [line]


def test_overrides_reach_present_absent_and_null_places(
    build_run: Callable[..., RLHFRun],
) -> None:
    run = build_run(
        "spec.seed=2",
        "spec.guard=null",
        "spec.guard.kl.limitNats=9",
        "spec.model.source='7'",
        "metadata.name=x",
    )
    assert (run.spec.seed, run.spec.guard.kl.limit_nats) == (2, 9.0)
    assert (run.spec.model.source, run.metadata.name) == ("7", "x")


def test_override_leaves_the_aliases_of_a_map_as_they_are(manifest_text: str) -> None:
    text = manifest_text + "  sft: &o {learningRate: 1e-5}\n  rewardModel: *o\n"
    spec = parse_manifest(text, "r.yaml", ["spec.sft.learningRate=2e-5"]).spec
    assert (spec.sft.learning_rate, spec.reward_model.learning_rate) == (2e-5, 1e-5)
    spec = parse_manifest(text, "r.yaml", ["spec.rewardModel.learningRate=2e-5"]).spec
    assert (spec.sft.learning_rate, spec.reward_model.learning_rate) == (1e-5, 2e-5)


def test_override_leaves_the_aliases_of_a_source_as_they_are(manifest_text: str) -> None:
    held_out = "    heldOut: {demonstrations: &j {path: h.jsonl}, prompts: *j}\n"
    overrides = ["spec.data.heldOut.prompts.path=q.jsonl"]
    found = parse_manifest(manifest_text + held_out, "r.yaml", overrides).spec.data.held_out
    assert found.demonstrations is not None
    assert found.prompts is not None
    assert (found.demonstrations.path, found.prompts.path) == ("h.jsonl", "q.jsonl")


def test_override_leaves_what_is_merged_elsewhere_as_it_is(manifest_text: str) -> None:
    text = f"""{manifest_text}
  sft: &m {{epochs: 2, from: {{path: a}}}}
  rewardModel:
    <<: *m
    epochs: 3
"""
    spec = parse_manifest(text, "r.yaml", ["spec.rewardModel.from.path=b"]).spec
    a, b = ModelFrom(path="a"), ModelFrom(path="b")
    assert (spec.sft.from_, spec.reward_model.from_) == (a, b)
    spec = parse_manifest(text, "r.yaml", ["spec.sft.from.path=b", "spec.sft.epochs=9"]).spec
    assert (spec.sft.from_, spec.reward_model.from_) == (b, a)
    assert (spec.sft.epochs, spec.reward_model.epochs) == (9, 3)


def test_override_keeps_the_lines_of_its_neighbours(manifest_text: str) -> None:
    text = manifest_text + "  ppo:\n    kl:\n      targetNats: 4\n      coefficient: -1\n"
    with pytest.raises(InvalidManifestError, match=r"^r\.yaml:15: spec\.ppo\.kl\.coefficient=-1"):
        parse_manifest(text, "r.yaml", ["spec.ppo.kl.targetNats=5"])
