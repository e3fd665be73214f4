"""PPO against the reward model, with a KL penalty to the SFT model (InstructGPT, section 3.5).

A step is: collect, ask the guard, learn. Its record says what the policy after `step` updates
measured, and the update that followed; a last rollout measures, and so certifies, the final policy.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn, assert_never

from rlhf_trainer.algorithms.kl import AdaptiveKLController
from rlhf_trainer.algorithms.schedule import learning_rate_factor
from rlhf_trainer.config.guard import GuardAction
from rlhf_trainer.config.ppo import KLController
from rlhf_trainer.data.order import BatchStream, Tail
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.saving import copy_model
from rlhf_trainer.errors import DivergedError, Facts, GuardStopError
from rlhf_trainer.guard import Action, Breach, GuardRules, GuardState, NonFinite, Verdict, observe
from rlhf_trainer.phases.comparison import Comparison
from rlhf_trainer.phases.context import PhaseContext, PhaseReport
from rlhf_trainer.phases.first_pass import FirstPass
from rlhf_trainer.phases.ppo_adapters import AdapterNetworks
from rlhf_trainer.phases.ppo_collect import StepMeasurement, collect
from rlhf_trainer.phases.ppo_full import FullNetworks
from rlhf_trainer.phases.ppo_networks import Networks
from rlhf_trainer.phases.ppo_targets import learning_targets
from rlhf_trainer.phases.ppo_update import Updater
from rlhf_trainer.phases.recovery import NOT_THE_MODEL, PhaseState, Recovery
from rlhf_trainer.phases.supervised import require_finite
from rlhf_trainer.phases.text import load_tokenizer
from rlhf_trainer.rollout.experience import Experience

REDUCED_LEARNING_RATE = 0.5
"""What the guard's ReduceLearningRate multiplies the learning rate with."""


def run(context: PhaseContext, ranks: Ranks) -> PhaseReport:
    """Train the policy until its episodes are used up or the guard stops it, and export it."""
    ppo = _PPO(context, ranks)
    try:
        return ppo.run()
    except DivergedError as error:
        raise DivergedError(error.message, reason=error.reason, facts=ppo.facts()) from error


def _networks(context: PhaseContext, ranks: Ranks, eos_token: int) -> Networks:
    kind = FullNetworks if context.config.model.lora is None else AdapterNetworks
    return kind(context, ranks, eos_token)


class PPOState(PhaseState):
    """What PPO has to know to go on."""

    stream: dict[str, int]
    guard: GuardState
    kl_coefficient: float
    learning_rate_scale: float


class _PPO:
    """The state of one PPO phase, and its loop."""

    def __init__(self, context: PhaseContext, ranks: Ranks) -> None:
        self.context, self.ranks, self.telemetry = context, ranks, context.telemetry
        self.config, self.settings = context.config, context.config.ppo
        prepared = context.prepared()
        self.tokenizer = load_tokenizer(prepared.tokenizer)
        self.prompts = prepared.prompts()
        self.stream = BatchStream(
            len(self.prompts),
            self.settings.rollout_batch_size,
            seed=self.config.seed,
            tail=Tail.NEXT_EPOCH,
        )
        self.networks = _networks(context, ranks, prepared.special_tokens().eos)
        self.first_pass = FirstPass(self.networks)
        self.updater = Updater(
            self.networks, self.first_pass, self.settings, ranks, self.telemetry, self.config.seed
        )
        self.comparison = Comparison(context, ranks, self.networks.scorer, self.tokenizer)
        self.rules, self.guard = GuardRules.from_config(self.config), GuardState()
        self.recovery = Recovery(context, ranks, self.networks.engines())
        self.checkpoints = self.recovery.checkpoints
        self.kl_coefficient = self.settings.kl.coefficient
        self.learning_rate_scale = 1.0
        self.step = 0
        self._resume()

    def run(self) -> PhaseReport:
        """Collect, ask the guard, learn; once more without learning; export."""
        num_steps = self.settings.total_steps
        self.telemetry.set("total_steps", num_steps)
        while True:
            experience = self._collect()
            measured = self._measure(experience)
            verdict = self._ask_guard(measured)
            if verdict.action is Action.STOP:
                self.first_pass.forget()
                self._stop(verdict.breaches[0], measured)
            self._evaluate()
            if self.step == num_steps:
                break
            self._learn(experience)
            self._adapt_kl_coefficient(measured.kl_nats)
            self.telemetry.finish_step(self.step, event=verdict.message)
            self.step += 1
            self._checkpoint()
        return self._finish(measured, verdict)

    def _collect(self) -> Experience:
        rows = self.stream.next_batch()
        one_minibatch = self.settings.minibatch_size == self.settings.rollout_batch_size
        self.first_pass.begin(
            keep=one_minibatch and not self._is_last() and not self._is_evaluated()
        )
        return collect(
            self.context,
            self.networks,
            self.first_pass,
            [self.prompts[row] for row in rows],
            self.step,
            ranks=self.ranks,
        )

    def _measure(self, experience: Experience) -> StepMeasurement:
        measured = StepMeasurement.of(experience, self.tokenizer)
        self.telemetry.set("step", self.step)
        for name, value in asdict(measured).items():
            self.telemetry.set(name, value)
        self.telemetry.set("kl_limit_nats", self.rules.kl.limit_nats)
        self.telemetry.set("kl_coefficient", self.kl_coefficient)
        if self.settings.kl.controller is KLController.ADAPTIVE:
            self.telemetry.set("kl_target_nats", self.settings.kl.target_nats)
        require_finite("reward", measured.reward_score, self.step)
        return measured

    def _ask_guard(self, measured: StepMeasurement) -> Verdict:
        """Hold the measurement against the guard's rules; certify the checkpoint it belongs to."""
        self.guard, verdict = observe(self.rules, self.guard, self.step, measured.for_guard)
        if isinstance(verdict, NonFinite):
            raise DivergedError(verdict.message, reason="NonFinite")
        for breach in verdict.breaches:
            labels = {"signal": breach.signal.value, "action": breach.action.value}
            self.telemetry.increment("guard_breaches", **labels)
            self.telemetry.note(breach.message)
        # A checkpoint that only an interruption made certifies nothing: which policy a stop exports
        # must not depend on whether a node was drained.
        if verdict.within_limit and (self.recovery.is_due(self.step) or self._is_last()):
            self.checkpoints.certify(self.step)
        self.telemetry.set("certified_step", self.checkpoints.certified_step)
        if verdict.action is Action.REDUCE_LEARNING_RATE:
            self.learning_rate_scale *= REDUCED_LEARNING_RATE
        return verdict

    def _learn(self, experience: Experience) -> None:
        settings = self.settings
        factor = self.learning_rate_scale * learning_rate_factor(
            self.step,
            settings.total_steps,
            schedule=settings.schedule,
            warmup_steps=settings.warmup_steps,
            final=settings.final_learning_rate_fraction,
        )
        with self.telemetry.stage("update"):
            targets = learning_targets(experience, self.kl_coefficient, settings)
            self.updater.update(
                self.step,
                experience,
                targets,
                kl_coefficient=self.kl_coefficient,
                learning_rate_factor=factor,
            )

    def _adapt_kl_coefficient(self, kl_nats: float) -> None:
        kl = self.settings.kl
        match kl.controller:
            case KLController.ADAPTIVE:
                controller = AdaptiveKLController(kl.target_nats, kl.horizon_episodes)
                self.kl_coefficient = controller.next_coefficient(
                    self.kl_coefficient, kl_nats, self.settings.rollout_batch_size
                )
            case KLController.FIXED:
                pass
            case _:
                assert_never(kl.controller)

    def _resume(self) -> None:
        state = self.recovery.resume(PPOState)
        if state is None:
            return
        self.step = state.step
        self.stream.restore(state.stream)
        self.guard = state.guard
        self.kl_coefficient = state.kl_coefficient
        self.learning_rate_scale = state.learning_rate_scale

    def _checkpoint(self) -> None:
        state = PPOState(
            step=self.step,
            certified_step=self.checkpoints.certified_step,
            stream=self.stream.state(),
            guard=self.guard,
            kl_coefficient=self.kl_coefficient,
            learning_rate_scale=self.learning_rate_scale,
        )
        if self._is_last():
            self.recovery.save(state, self._add_policy)
        else:
            self.recovery.at_boundary(state, self.facts(), self._add_policy)

    def _is_last(self) -> bool:
        return self.step == self.settings.total_steps

    def _add_policy(self, folder: Path) -> None:
        """Add the policy as plain transformers reads it: what a stop from outside leaves to use."""
        self.networks.add_policy(self.context.prepared().tokenizer, folder)

    def _is_evaluated(self) -> bool:
        every = self.config.evaluation.every_steps
        return every is not None and self.step > 0 and self.step % every == 0

    def _evaluate(self) -> None:
        if not self._is_evaluated():
            return
        with self.telemetry.stage("evaluation"), self.networks.sampler() as policy:
            sft = self.networks.reference_sampler()
            result = self.comparison.compare(sft, policy, self.networks.reference_log_probs)
        self.telemetry.set("win_rate", result.win_rate)
        self.telemetry.note(f"step {self.step}: win rate against SFT {result.win_rate:.3f}")

    def _stop(self, breach: Breach, measured: StepMeasurement) -> NoReturn:
        certified = self._whole(self.checkpoints.certified_step)
        self._export(certified)
        self.telemetry.finish_step(self.step, event=breach.message)
        exported = f"the policy of step {certified}" if certified else "the SFT model"
        raise GuardStopError(
            f"{breach.message}; exported {exported}, the newest whole one inside the limit",
            reason=breach.reason.value,
            facts=replace(
                self.facts(measured, model_path=self.context.paths.model), certified_step=certified
            ),
        )

    def _whole(self, step: int) -> int:
        """Return `step`, or that of the SFT model where the checkpoint's policy is damaged."""
        folder = self.context.paths.checkpoint(step)
        problem = self.recovery.flaw(folder, ignore=NOT_THE_MODEL) if step else None
        if problem is None:
            return step
        self.telemetry.note(f"the policy of step {step} is not exported: {problem}")
        return 0

    def _export(self, step: int) -> None:
        """Export the policy of a checkpoint; step 0 is the SFT model."""
        source = self.context.paths.checkpoint(step) if step else self.context.sft_model()
        if self.ranks.is_main:
            beat = self.telemetry.heartbeat
            copy_model(source, self.context.paths.model, beat, ignore=NOT_THE_MODEL)
        self.ranks.barrier()

    def facts(
        self, measured: StepMeasurement | None = None, model_path: Path | None = None
    ) -> Facts:
        """Return what is known of the phase when it ends before its time."""
        metrics = {"klLimitNats": self.rules.kl.limit_nats, "klCoefficient": self.kl_coefficient}
        return Facts(
            step=self.step,
            certified_step=self.checkpoints.certified_step,
            model_path=model_path,
            metrics=metrics | (measured.headline() if measured else {}),
        )

    def _finish(self, measured: StepMeasurement, verdict: Verdict) -> PhaseReport:
        """Export the final policy, or the newest certified one if a stop was near."""
        sentence = (
            f"{self.step} steps: reward {measured.reward_score:+.2f}, "
            f"KL {measured.kl_nats:.2f} nats (limit {self.rules.kl.limit_nats:g})"
        )
        exported = self.step
        if not verdict.within_limit:
            sentence += "; the final policy is outside the limit"
            if self.config.guard.kl.action is GuardAction.STOP:
                # Whoever is to enforce it: nobody is given a policy outside the limit.
                exported = self._whole(self.checkpoints.certified_step)
                sentence += f", so that of step {exported} was exported"
        self._export(exported)
        self.telemetry.finish_step(self.step, event=verdict.message)
        return PhaseReport(
            sentence,
            dict(self.facts(measured).metrics),
            step=self.step,
            model_path=self.context.paths.model,
            certified_step=self.checkpoints.certified_step,
        )
