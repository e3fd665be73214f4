"""What to do after a run has ended as it has: a sentence and a command. Pure."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.ppo import PPOConfig
from rlhf_trainer.config.reward_model import RewardModelConfig
from rlhf_trainer.config.sft import SFTConfig
from rlhf_trainer.contract import Phase
from rlhf_trainer.data.sources import DEFAULT_SPLIT
from rlhf_trainer.report.facts import RunFacts
from rlhf_trainer.report.story import Story

_MANIFEST = "rlhfrun.yaml"
"""What `rlhf init` calls a manifest: the workspace does not know its name."""

_SAME_OPTIONS = f"{_MANIFEST} stands for this run's manifest; repeat the --set options of this run."
"""The workspace does not know them either: it keeps what came of both."""

_KL_COEFFICIENT = 0.02
"""InstructGPT's; suggested where there was none."""

_FEWEST_TOKENS = 16

_RUN_AGAIN = "To run it again, use --fresh, or another --workspace."
"""A run that has ended is never run again in its workspace: the operator says so in these words."""


@dataclass(frozen=True)
class Advice:
    """What to do next."""

    text: str
    command: str = ""
    """To copy; may be empty."""


def advise(facts: RunFacts, story: Story) -> Advice:
    """Return what to do next."""
    advice = _advice(facts, story)
    if _MANIFEST in advice.command:
        return replace(advice, text=f"{advice.text} {_SAME_OPTIONS}")
    return advice


def _advice(facts: RunFacts, story: Story) -> Advice:
    phase = story.deciding.phase if story.deciding else Phase.PREPARATION
    advisers: dict[str, Callable[[RunFacts, Phase], Advice]] = {
        "Completed": _load,
        "Stopped": _after_a_stop,
        "GateFailed": _after_a_gate,
        "Invalid": _check,
        "OutOfMemory": _use_less_memory,
        "Diverged": _take_smaller_steps,
        "Crashed": _read_the_log,
        "RetriesExhausted": _begin_anew,
        "DeadlineExceeded": _take_more_time,
    }
    return advisers.get(story.outcome, _go_on)(facts, phase)


def _load(facts: RunFacts, _phase: Phase) -> Advice:
    ppo = facts.phase(Phase.PPO)
    path = ppo.result.model_path if ppo and ppo.result else None
    if path is None:
        return Advice("The run is complete.")
    command = f'AutoModelForCausalLM.from_pretrained("{facts.workspace / path}")'
    return Advice("Load the policy with plain transformers.", command)


def _after_a_stop(facts: RunFacts, phase: Phase) -> Advice:
    stopped = facts.phase(phase)
    result = stopped.result if stopped else None
    certified, path = (result.certified_step, result.model_path) if result else (None, None)
    kept = ""
    if certified is not None:
        which = f"of step {certified}" if certified else "of SFT (step 0)"
        place = f" in {path}" if path else ""
        kept = f"The policy {which}, the newest inside the limit, is kept{place}. "
    if facts.config is not None and facts.config.ppo.kl.coefficient == 0:
        setting = ("spec.ppo.kl.coefficient", f"{_KL_COEFFICIENT}")
        return Advice(f"{kept}Begin again with a KL penalty.", _again(facts, *setting))
    return _smaller_steps(facts, phase, kept)


def _after_a_gate(facts: RunFacts, phase: Phase) -> Advice:
    config = facts.config
    if phase is Phase.PREPARATION:
        return _measure_agreement(config)
    if phase is Phase.REWARD_MODEL:
        epochs = 2 * config.reward_model.epochs if config else 2
        text = "Add comparisons or train longer; below the gate, PPO would optimise noise."
        return Advice(text, _again(facts, "spec.rewardModel.epochs", str(epochs)))
    if config is None:
        return Advice("Train longer.")
    episodes = str(2 * config.ppo.total_episodes)
    return Advice("Train longer.", _again(facts, "spec.ppo.totalEpisodes", episodes))


def _measure_agreement(config: TrainingConfig | None) -> Advice:
    text = "Have the comparisons annotated again with clearer instructions, or lower the gate."
    source = config.data.comparisons if config else None
    # Of a data set on the hub, or of a split that is not the usual one, the command knows nothing.
    if source is None or source.path is None or source.split != DEFAULT_SPLIT:
        return Advice(text)
    text += " How far the annotators agree, by each measure; run it in the manifest's folder:"
    return Advice(text, shlex.join(["rlhf", "agreement", source.path]))


def _check(_facts: RunFacts, _phase: Phase) -> Advice:
    text = f"Correct what is named above, and check it before you run. {_RUN_AGAIN}"
    return Advice(text, _rlhf("validate"))


def _use_less_memory(facts: RunFacts, phase: Phase) -> Advice:
    text = "Work through fewer tokens at once; results do not depend on it, in bfloat16 a little."
    if facts.config is None:
        return Advice(text)
    name, settings = _settings(facts.config, phase)
    tokens = max(_FEWEST_TOKENS, settings.tokens_per_micro_batch // 2)
    return Advice(text, _again(facts, f"spec.{name}.tokensPerMicroBatch", str(tokens)))


def _take_smaller_steps(facts: RunFacts, phase: Phase) -> Advice:
    return _smaller_steps(facts, phase)


def _read_the_log(facts: RunFacts, phase: Phase) -> Advice:
    crashed = facts.phase(phase)
    log = f", {crashed.log}" if crashed and crashed.log else ""
    return Advice(f"Read the end of the log{log}; then go on where it left off.", _resume(facts))


def _begin_anew(facts: RunFacts, phase: Phase) -> Advice:
    crashed = facts.phase(phase)
    log = f", {crashed.log}" if crashed and crashed.log else ""
    text = f"Read the end of the log{log}, and remove the cause. {_RUN_AGAIN}"
    return Advice(text, _run(_fresh(facts)))


def _take_more_time(facts: RunFacts, _phase: Phase) -> Advice:
    text = f"Raise the deadline that is named above, or do less. {_RUN_AGAIN}"
    return Advice(text, _run(_fresh(facts)))


def _go_on(facts: RunFacts, _phase: Phase) -> Advice:
    text = "Should it be interrupted, go on where it left off: nothing complete is repeated."
    return Advice(text, _resume(facts))


def _smaller_steps(facts: RunFacts, phase: Phase, kept: str = "") -> Advice:
    text = f"{kept}Begin again with smaller steps"
    if facts.config is None:
        return Advice(f"{text}: a third of the phase's learningRate.", _run(_fresh(facts)))
    name, settings = _settings(facts.config, phase)
    rate = f"{settings.learning_rate / 3:.1g}"
    return Advice(f"{text}.", _again(facts, f"spec.{name}.learningRate", rate))


def _settings(
    config: TrainingConfig, phase: Phase
) -> tuple[str, SFTConfig | RewardModelConfig | PPOConfig]:
    """Return the part of the spec that a phase's memory and steps depend on, and its name."""
    match phase:
        case Phase.SFT:
            return "sft", config.sft
        case Phase.REWARD_MODEL:
            return "rewardModel", config.reward_model
        case _:
            return "ppo", config.ppo


def _rlhf(*words: str) -> str:
    return shlex.join(["rlhf", *words, _MANIFEST])


def _resume(facts: RunFacts) -> str:
    return _run(facts.workspace)


def _again(facts: RunFacts, setting: str, value: str) -> str:
    """Run anew: what is trained by cannot be changed in a workspace that has begun."""
    return f"{_run(_fresh(facts))} --set {setting}={value}"


def _fresh(facts: RunFacts) -> Path:
    return facts.workspace.parent / f"{facts.workspace.name}-2"


def _run(workspace: Path) -> str:
    return f"{_rlhf('run')} --workspace {shlex.quote(str(workspace))}"
