"""Every mistake in a manifest gives one line with its place, value and fix."""

from pathlib import Path

import pytest

from rlhf_operator.api.manifest import load_manifest, parse_manifest
from rlhf_operator.errors import InvalidManifestError

HEAD = """\
apiVersion: rlhf.dev/v1alpha1
kind: RLHFRun
metadata: {name: demo}
spec:
  model: {source: base}
  data:
    demonstrations: {path: demonstrations.jsonl}
    comparisons: {path: comparisons.jsonl}
    prompts: {path: prompts.jsonl}
"""

MISTAKES = {
    "above its bound": (
        "  ppo: {clipRange: 1.5}\n",
        (
            "r.yaml:10: spec.ppo.clipRange=1.5: must be below 1; "
            "use a number above 0, below 1 (default 0.2)"
        ),
    ),
    "below its bound": (
        "  ppo:\n    kl:\n      coefficient: -1\n",
        (
            "r.yaml:12: spec.ppo.kl.coefficient=-1: must be at least 0; "
            "use a number from 0, up to 100 (default 0.02)"
        ),
    ),
    "zero where more is needed": (
        "  sft: {epochs: 0}\n",
        (
            "r.yaml:10: spec.sft.epochs=0: must be at least 1; "
            "use a whole number from 1, up to 1000 (default 1)"
        ),
    ),
    "misspelt field": (
        "  ppo: {learningRte: 1e-4}\n",
        "r.yaml:10: spec.ppo.learningRte=0.0001: unknown field; did you mean learningRate?",
    ),
    "field by its Python name": (
        "  sft: {batch_size: 4}\n",
        "r.yaml:10: spec.sft.batch_size=4: unknown field; did you mean batchSize?",
    ),
    "field at the wrong place": (
        "  ppo: {targetNats: 4}\n",
        "r.yaml:10: spec.ppo.targetNats=4: unknown field; did you mean spec.ppo.kl.targetNats?",
    ),
    "misspelt field of a list's entry": (
        "  podTemplate:\n    env:\n    - {name: A, value: b, valuex: c}\n",
        "r.yaml:12: spec.podTemplate.env.0.valuex=c: unknown field; did you mean value?",
    ),
    "misspelt field beside spec": (
        "statusx: {}\n",
        "r.yaml:10: statusx={}: unknown field; did you mean status?",
    ),
    "field that nobody knows": (
        "  checkpoint: {zzz: 1}\n",
        "r.yaml:10: spec.checkpoint.zzz=1: unknown field; known here: everySteps, keepLast",
    ),
    "name that is a date": (
        "  ppo:\n    2024-01-01: x\n",
        "r.yaml:11: spec.ppo.2024-01-01: its name is not text; put the name in quotes",
    ),
    "name that is a number, in a list's entry": (
        "  podTemplate:\n    env:\n    - name: A\n      3: b\n",
        "r.yaml:13: spec.podTemplate.env.0.3: its name is not text; put the name in quotes",
    ),
    "number in quotes": (
        '  ppo: {learningRate: "1e-4"}\n',
        (
            "r.yaml:10: spec.ppo.learningRate=1e-4: in quotes, so it is text and not a number; "
            "remove the quotes"
        ),
    ),
    "word for a number": (
        "  seed: lucky\n",
        (
            "r.yaml:10: spec.seed=lucky: not a whole number; "
            "use a whole number from 0, below 2147483648 (default 0)"
        ),
    ),
    "exponent for a whole number": (
        "  ppo: {totalEpisodes: 1e3}\n",
        "r.yaml:10: spec.ppo.totalEpisodes=1000.0: has a decimal point or exponent; write 1000",
    ),
    "fraction for a whole number": (
        "  checkpoint: {keepLast: 1.5}\n",
        (
            "r.yaml:10: spec.checkpoint.keepLast=1.5: not a whole number; "
            "use a whole number from 1, up to 1000 (default 2)"
        ),
    ),
    "yes for true": (
        "  ppo: {whitenRewards: yes}\n",
        (
            "r.yaml:10: spec.ppo.whitenRewards=yes: neither true nor false; "
            "use true or false (default false)"
        ),
    ),
    "not a number": (
        "  ppo: {temperature: .nan}\n",
        (
            "r.yaml:10: spec.ppo.temperature=nan: not finite; "
            "use a number above 0, up to 10 (default 1.0)"
        ),
    ),
    "choice in lower case": (
        "  ppo: {critic: separate}\n",
        (
            "r.yaml:10: spec.ppo.critic=separate: not one of the choices; "
            "did you mean Separate? use Separate or SharedTrunk (default Separate)"
        ),
    ),
    "list for a map": (
        "  ppo: [1]\n",
        (
            "r.yaml:10: spec.ppo=[…]: not a map; "
            "use a map with schedule, finalLearningRateFraction or warmupSteps"
        ),
    ),
    "text for a map": (
        "  sft: {from: models/sft}\n",
        "r.yaml:10: spec.sft.from=models/sft: not a map; use a map with path",
    ),
    "empty text": (
        "  sft: {from: {path: ''}}\n",
        'r.yaml:10: spec.sft.from.path="": must not be empty; use text of at most 1024 characters',
    ),
    "minibatch that does not divide": (
        "  ppo:\n    rolloutBatchSize: 100\n    minibatchSize: 64\n",
        (
            "r.yaml:12: spec.ppo.minibatchSize=64: does not divide rolloutBatchSize=100; "
            "choose a divisor of it"
        ),
    ),
    "batch too large for the controller's horizon": (
        "  ppo: {rolloutBatchSize: 2048, kl: {horizonEpisodes: 320}}\n",
        (
            "r.yaml:10: spec.ppo.kl.horizonEpisodes=320: a step of rolloutBatchSize=2048 could "
            "take the KL coefficient to 0 or below; raise it above 409.6, 0.2 times the batch"
        ),
    ),
    "fixed controller without a limit": (
        "  ppo: {kl: {controller: Fixed}}\n",
        (
            "r.yaml:4: spec.guard.kl.limitNats=null: required when ppo.kl.controller is Fixed; "
            "5 to 15 nats per response is the usual range"
        ),
    ),
    "managed key of DeepSpeed": (
        "  deepspeed: {overrides: {bf16: {enabled: true}}}\n",
        (
            "r.yaml:10: spec.deepspeed.overrides=bf16: set by other fields of the manifest; "
            "remove it from overrides"
        ),
    ),
    "another stage for DeepSpeed": (
        "  deepspeed: {overrides: {zero_optimization: {stage: 1}}}\n",
        (
            "r.yaml:10: spec.deepspeed.overrides.zero_optimization.stage=1: zeroStage is 0; "
            "set zeroStage, and leave the stage out of overrides"
        ),
    ),
    "override of DeepSpeed that is no map": (
        "  deepspeed: {overrides: {zero_optimization: true}}\n",
        (
            "r.yaml:10: spec.deepspeed.overrides.zero_optimization=True: not a map; "
            "give its keys, such as reduce_bucket_size"
        ),
    ),
    "more processes than GPUs": (
        "  placement: {gpusPerNode: 2, processesPerNode: 4}\n",
        (
            "r.yaml:10: spec.placement.processesPerNode=4: more than gpusPerNode=2; "
            "use at most one process per GPU"
        ),
    ),
    "batch that does not divide over the processes": (
        "  placement: {processesPerNode: 3}\n",
        (
            "r.yaml:4: spec.ppo.minibatchSize=64: does not divide over 3 processes (1 nodes x 3); "
            "use a multiple of 3"
        ),
    ),
    "section that nobody knows": (
        "  reference: 1\n",
        (
            "r.yaml:10: spec.reference=1: unknown field; "
            "known here: model, data, sft, rewardModel, ppo, evaluation, deepspeed, checkpoint, …"
        ),
    ),
    "phase deadline beyond the run's": (
        "  runPolicy:\n    activeDeadlineSeconds: 60\n    phaseDeadlineSeconds: 90\n",
        (
            "r.yaml:12: spec.runPolicy.phaseDeadlineSeconds=90: "
            "longer than activeDeadlineSeconds=60; lower it or leave it out"
        ),
    ),
    "duplicate key": (
        "  seed: 1\n  ppo: {}\n  seed: 2\n",
        "r.yaml:12: seed: appears twice in the same map; keep one of the two",
    ),
    "broken YAML": (
        "  ppo: {clipRange: 0.1\n",
        (
            "r.yaml:11: manifest: not YAML (expected ',' or '}', but got '<stream end>'); "
            "check indentation, colons and quotes near this line"
        ),
    ),
    "tab": (
        "  ppo:\n\tclipRange: 0.1\n",
        (
            "r.yaml:11: manifest: not YAML (found character '\\t' that cannot start any token); "
            "check indentation, colons and quotes near this line"
        ),
    ),
    "control character": (
        "  seed: \x07\n",
        "r.yaml:10: manifest: not YAML (a control character); remove it",
    ),
    "true for a whole number": (
        "  seed: true\n",
        (
            "r.yaml:10: spec.seed=true: not a whole number; "
            "use a whole number from 0, below 2147483648 (default 0)"
        ),
    ),
    "word for a number of any kind": (
        "  ppo: {clipRange: small}\n",
        (
            "r.yaml:10: spec.ppo.clipRange=small: not a number; "
            "use a number above 0, below 1 (default 0.2)"
        ),
    ),
    "too many entries": (
        f"  deepspeed: {{overrides: {{{', '.join(f'a{i}: 1' for i in range(65))}}}}}\n",
        (
            "r.yaml:10: spec.deepspeed.overrides={…}: "
            "too many entries; use a map of at most 64 entries"
        ),
    ),
    "field of the status": (
        "  observedGeneration: 1\n",
        (
            "r.yaml:10: spec.observedGeneration=1: unknown field; "
            "known here: model, data, sft, rewardModel, ppo, evaluation, deepspeed, checkpoint, …"
        ),
    ),
    "second document": (
        "---\nkind: RLHFRun\n",
        "r.yaml:10: manifest: a second document begins here; keep one RLHFRun per file",
    ),
}

REPLACED = {
    "CUDA without GPUs": (
        ("source: base", "source: base, device: CUDA"),
        (
            "r.yaml:5: spec.model.device=CUDA: placement.gpusPerNode is 0; "
            "set spec.placement.gpusPerNode, or leave the device at Auto"
        ),
    ),
    "missing field": (
        ("{source: base}", "{}"),
        (
            "r.yaml:5: spec.model.source: missing; add it: text of at most 1024 characters "
            "(Folder below the data root, or hub id, of the pretrained model)"
        ),
    ),
    "neither path nor hub": (
        ("{path: prompts.jsonl}", "{split: test}"),
        (
            "r.yaml:9: spec.data.prompts.path=null, hub=null: exactly one must be set; "
            "name one of the two"
        ),
    ),
    "path beside hub": (
        ("{path: prompts.jsonl}", "{path: p.jsonl, hub: org/p}"),
        (
            "r.yaml:9: spec.data.prompts.path='p.jsonl', hub='org/p': exactly one must be set; "
            "keep one of the two"
        ),
    ),
    "other kind": (
        ("kind: RLHFRun", "kind: Pod"),
        "r.yaml:2: kind=Pod: not one of the choices; use RLHFRun",
    ),
    "other version": (
        ("v1alpha1", "v1"),
        (
            "r.yaml:1: apiVersion=rlhf.dev/v1: not one of the choices; "
            "did you mean rlhf.dev/v1alpha1? use rlhf.dev/v1alpha1"
        ),
    ),
    "capital letters in a name": (
        ("name: demo", "name: Demo"),
        (
            "r.yaml:3: metadata.name=Demo: not a DNS label; "
            "use lower-case letters, digits and '-', "
            "beginning with a letter and not ending with '-'"
        ),
    ),
    "long name": (
        ("name: demo", f"name: {'a' * 31}"),
        f"r.yaml:3: metadata.name={'a' * 31}: has 31 characters; use at most 30",
    ),
    "number for a name": (
        ("name: demo", "name: 7"),
        "r.yaml:3: metadata.name=7: not text; put it in quotes",
    ),
}


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(InvalidManifestError) as caught:
        parse_manifest(text, "r.yaml", overrides)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(("added", "line"), MISTAKES.values(), ids=MISTAKES)
def test_parse_manifest_added_mistake_is_one_line(added: str, line: str) -> None:
    assert problems(HEAD + added) == [line]


@pytest.mark.parametrize(("change", "line"), REPLACED.values(), ids=REPLACED)
def test_parse_manifest_changed_field_is_one_line(change: tuple[str, str], line: str) -> None:
    assert problems(HEAD.replace(*change)) == [line]


def test_parse_manifest_gpus_beside_a_cpu_model_is_refused() -> None:
    text = HEAD.replace("source: base", "source: base, device: CPU")
    assert problems(text + "  placement: {gpusPerNode: 8}\n") == [
        (
            "r.yaml:5: spec.model.device=CPU: 8 GPUs per node would stand idle; "
            "set spec.placement.gpusPerNode to 0, or leave the device at Auto"
        )
    ]


def test_parse_manifest_several_mistakes_are_told_in_the_order_of_lines() -> None:
    text = HEAD + "  seed: -1\n  ppo:\n    bogus: 1\n    epochs: 0\n"
    places = [line.split(": ")[0] for line in problems(text)]
    assert places == ["r.yaml:10", "r.yaml:12", "r.yaml:13"]


@pytest.mark.parametrize("text", ["", "- 1\n", "text\n"], ids=["empty", "list", "scalar"])
def test_parse_manifest_no_map_is_refused(text: str) -> None:
    (line,) = problems(text)
    assert line.startswith("r.yaml:1: manifest=")
    assert "not a map of fields" in line


def test_parse_manifest_numbers_are_yaml_1_2() -> None:
    run = parse_manifest(HEAD + "  ppo: {learningRate: 1e-5, temperature: 1}\n", "r.yaml")
    assert run.spec.ppo.learning_rate == 1e-5
    assert run.spec.ppo.temperature == 1.0


def test_parse_manifest_copied_from_a_cluster_ignores_status_and_foreign_metadata() -> None:
    text = HEAD.replace("name: demo", "name: demo, namespace: team, uid: abc, labels: {a: b}")
    run = parse_manifest(text + "status: {phase: PPO, bogus: 1}\n", "r.yaml")
    assert run.metadata.uid == "abc"
    assert run.key == ("team", "demo")
    assert run.status.phase == "Pending"


def test_parse_manifest_training_half_is_what_the_trainer_reads() -> None:
    run = parse_manifest(HEAD + "  seed: 3\n  placement: {processesPerNode: 2}\n", "r.yaml")
    training = run.spec.training()
    assert training.seed == 3
    assert not hasattr(training, "placement")
    assert type(training).model_validate_json(training.model_dump_json(by_alias=True)) == training


def test_load_manifest_is_parsed_under_its_name(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(HEAD)
    assert load_manifest(file).metadata.name == "demo"
    with pytest.raises(InvalidManifestError, match=r"--set: spec\.seed=-1"):
        load_manifest(file, ["spec.ppo.epochs=2", "spec.seed=-1"])


def test_load_manifest_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifestError, match=r"cannot be read \(No such file"):
        load_manifest(tmp_path / "none.yaml")


def test_load_manifest_other_encoding_is_told(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(b"name: \xff\xfe")
    with pytest.raises(InvalidManifestError, match="not UTF-8 text"):
        load_manifest(file)
