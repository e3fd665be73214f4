"""Everything that can be known about a run's data without a tokenizer.

`python -m rlhf_trainer.data.check --config FILE --data-root DIR` prints one JSON document for `rlhf
validate`: `{"problems": [line, …], "summary": {…}}`. It exits with 0, with 20 if there is a
problem, or with 1 if a source could not be reached. Preparation does the same check before it
tokenises.

Decided here: what is read, how it is split, which cross-checks are made. That an unmet agreement
gate ends a run is decided by Preparation; here it is only reported. Imports neither torch nor
transformers.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Generic

from pydantic import ValidationError

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.data import AgreementStatistic, DataConfig, DatasetSource, MinimumAgreement
from rlhf_trainer.contract.outcomes import Outcome
from rlhf_trainer.data.adapter_folders import is_adapter
from rlhf_trainer.data.agreement import Agreement, measure_agreement
from rlhf_trainer.data.formats import R
from rlhf_trainer.data.holdout import held_out, holdout_key
from rlhf_trainer.data.loading import COMPARISONS, DEMONSTRATIONS, PROMPTS, Kind, Loaded, load
from rlhf_trainer.data.problems import Problem, shortened
from rlhf_trainer.data.records import Comparison, Demonstration, Prompt, Text, content
from rlhf_trainer.errors import InvalidError, PhaseError


@dataclass(frozen=True)
class Split(Generic[R]):
    """One of the three data sets: what is trained on, and what is held out."""

    train: list[R]
    held_out: list[R]
    """Ordered by hash: its first records are a sample, however the file was sorted.

    Of prompts that are the same, one.
    """
    problems: list[Problem]
    format: str
    ignored_fields: tuple[str, ...]
    num_repeated: int = 0
    """Held-out records that were left out, as they repeat others."""

    @cached_property
    def num_trained_on(self) -> int:
        """Held-out records that are trained on, too: only a named held-out set can have any."""
        trained = set(map(content, self.train))
        return sum(content(record) in trained for record in self.held_out)

    def summary(self) -> dict[str, object]:
        """Return what people want to know of it."""
        return {
            "train": len(self.train),
            "heldOut": len(self.held_out),
            "heldOutRepeated": self.num_repeated or None,
            "heldOutTrainedOn": self.num_trained_on or None,
            "format": self.format,
            "ignoredFields": list(self.ignored_fields),
        }


@dataclass(frozen=True)
class Gate:
    """Whether annotators agree enough to go on."""

    statistic: AgreementStatistic
    value: float
    at_least: float

    @property
    def passed(self) -> bool:
        """Whether the value reaches the limit."""
        return self.value >= self.at_least

    def to_json(self) -> dict[str, object]:
        """Return the fields in camelCase."""
        return {
            "statistic": self.statistic.value,
            "value": self.value,
            "atLeast": self.at_least,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class CheckedData:
    """The validated records of a run; to be used only if there are no problems."""

    demonstrations: Split[Demonstration]
    comparisons: Split[Comparison]
    prompts: Split[Prompt]
    agreement: Agreement
    gate: Gate | None
    """None without a gate, or where its statistic is undefined."""
    problems: list[Problem]

    def summary(self) -> dict[str, object]:
        """Return counts, formats and agreement, as JSON."""
        return {
            "demonstrations": self.demonstrations.summary(),
            "comparisons": self.comparisons.summary(),
            "prompts": self.prompts.summary(),
            "agreement": self.agreement.to_json(),
            "agreementGate": self.gate.to_json() if self.gate else None,
        }


def check_data(config: TrainingConfig, data_root: Path) -> CheckedData:
    """Read, validate and split the data of `config`, and measure agreement.

    Raises:
        PhaseError: the hub cannot be reached.
    """
    demonstrations = _load_split(DEMONSTRATIONS, config.data, data_root)
    comparisons = _load_split(COMPARISONS, config.data, data_root)
    prompts = _each_once(_load_split(PROMPTS, config.data, data_root))
    agreement = measure_agreement([*comparisons.train, *comparisons.held_out])
    gate = _gate(config.data.comparisons.minimum_agreement, agreement)
    # Of a phase whose place a model takes nothing is trained, and nothing held against it.
    trains_sft = config.sft.from_ is None
    trains_reward_model = config.reward_model.from_ is None
    problems = [
        *_missing_models(config, data_root),
        *demonstrations.problems,
        *comparisons.problems,
        *prompts.problems,
        *(_trained_on(DEMONSTRATIONS, config.data, demonstrations) if trains_sft else ()),
        *(_trained_on(COMPARISONS, config.data, comparisons) if trains_reward_model else ()),
    ]
    if not comparisons.problems and gate is None:
        problems += _undefined_gate(config.data.comparisons.minimum_agreement, agreement)
    if not prompts.problems:
        problems += _too_few_prompts(config, prompts)
    return CheckedData(demonstrations, comparisons, prompts, agreement, gate, problems)


def _load_split(kind: Kind[R], data: DataConfig, data_root: Path) -> Split[R]:
    source: DatasetSource = getattr(data, kind.name)
    held_out_source: DatasetSource | None = getattr(data.held_out, kind.name)
    loaded = load(kind, source, f"spec.data.{kind.name}", data_root)
    if held_out_source is None:
        return _split_by_hash(kind, loaded, data.held_out.fraction)
    named = load(kind, held_out_source, f"spec.data.heldOut.{kind.name}", data_root)
    return Split(
        loaded.records,
        sorted(named.records, key=holdout_key),
        [*loaded.problems, *named.problems],
        loaded.format,
        tuple(sorted({*loaded.ignored_fields, *named.ignored_fields})),
    )


def _split_by_hash(kind: Kind[R], loaded: Loaded[R], fraction: float) -> Split[R]:
    keys = [holdout_key(record) for record in loaded.records]
    sides = list(zip(loaded.records, held_out(keys, fraction), strict=True))
    train = [record for record, is_held_out in sides if not is_held_out]
    kept = sorted((record for record, is_held_out in sides if is_held_out), key=holdout_key)
    problems = loaded.problems
    if not problems and not train:
        problems = [
            Problem(
                "spec.data.heldOut.fraction",
                str(fraction),
                f"holds out all {len(kept)} {kind.name}, which are of one prompt or few",
                f"lower it, or name spec.data.heldOut.{kind.name}",
            )
        ]
    return Split(train, kept, problems, loaded.format, loaded.ignored_fields)


def _each_once(prompts: Split[Prompt]) -> Split[Prompt]:
    """Leave out held-out prompts that repeat one: a win rate's interval takes each for another."""
    different: dict[Text, Prompt] = {}
    for record in prompts.held_out:
        different.setdefault(record.prompt, record)
    num_repeated = len(prompts.held_out) - len(different)
    return replace(prompts, held_out=list(different.values()), num_repeated=num_repeated)


def _trained_on(kind: Kind[R], data: DataConfig, split: Split[R]) -> Iterator[Problem]:
    """Tell of a held-out set that is the training set, or a part of it: it would prove nothing.

    Of prompts it is only counted: nothing of them but questions is learnt.
    """
    source: DatasetSource | None = getattr(data.held_out, kind.name)
    if source is None or split.problems or split.num_trained_on < len(split.held_out):
        return
    yield Problem(
        f"spec.data.heldOut.{kind.name}",
        shortened(source.path or source.hub),
        f"all {len(split.held_out)} {kind.name} are trained on, too",
        f"name others, or none to hold out a part of spec.data.{kind.name}",
    )


def _gate(minimum: MinimumAgreement | None, agreement: Agreement) -> Gate | None:
    if minimum is None:
        return None
    value = agreement.value(minimum.statistic)
    return None if value is None else Gate(minimum.statistic, value, minimum.at_least)


def _undefined_gate(minimum: MinimumAgreement | None, agreement: Agreement) -> Iterator[Problem]:
    if minimum is None:
        return
    fix = "add `annotations` to the comparisons"
    if agreement.items:
        # Kappa needs two categories, and Cohen's pairs of raters that share two items.
        defined = AgreementStatistic.FLEISS_KAPPA
        if agreement.value(defined) is None:
            defined = AgreementStatistic.PERCENT_AGREEMENT
        fix = f"use {defined.value}"
    yield Problem(
        "spec.data.comparisons.minimumAgreement.statistic",
        minimum.statistic.value,
        f"undefined on {agreement.items} comparisons with two annotators or more",
        f"{fix}, or remove the gate",
    )


def _too_few_prompts(config: TrainingConfig, prompts: Split[Prompt]) -> Iterator[Problem]:
    wanted, found = config.evaluation.prompt_count, len(prompts.held_out)
    if found < wanted:
        repeated = f" ({prompts.num_repeated} more repeat them)" if prompts.num_repeated else ""
        yield Problem(
            "spec.evaluation.promptCount",
            str(wanted),
            f"only {found} different prompts are held out{repeated}",
            "lower it, raise spec.data.heldOut.fraction, or name spec.data.heldOut.prompts",
        )


def _missing_models(config: TrainingConfig, data_root: Path) -> Iterator[Problem]:
    existing = {
        "spec.sft.from": config.sft.from_,
        "spec.rewardModel.from": config.reward_model.from_,
    }
    for setting, model in existing.items():
        if model is not None and not _holds_model(data_root / model.path):
            yield Problem(
                f"{setting}.path",
                shortened(model.path),
                f"holds no model (config.json) below the data root {data_root}",
                "name the folder of a model that transformers saved",
            )


def _holds_model(folder: Path) -> bool:
    try:
        return is_adapter(folder) or (folder / "config.json").is_file()
    except OSError:
        # A folder that may not be entered, or a name too long: nothing that could be loaded.
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the data that a configuration file names; print what was found as JSON."""
    parser = argparse.ArgumentParser(prog="rlhf_trainer.data.check", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the trainer's JSON file")
    parser.add_argument("--data-root", type=Path, required=True, help="what paths are relative to")
    options = parser.parse_args(arguments)
    problems: list[str]
    summary: dict[str, object] = {}
    outcome = Outcome.INVALID
    try:
        checked = check_data(_read_config(options.config), options.data_root)
    except ValidationError as error:
        problems = list(_config_problems(error))
    except PhaseError as error:
        problems, outcome = [error.message], error.outcome
    else:
        problems, summary = [str(problem) for problem in checked.problems], checked.summary()
        outcome = Outcome.INVALID if problems else Outcome.COMPLETED
    json.dump({"problems": problems, "summary": summary}, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return outcome.exit_code


def _read_config(file: Path) -> TrainingConfig:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise InvalidError(
            "--config", str(file), str(error.strerror), "name a readable file"
        ) from error
    return TrainingConfig.model_validate_json(text)


def _config_problems(error: ValidationError) -> Iterator[str]:
    for item in error.errors(include_url=False):
        place = ".".join(["spec", *map(str, item["loc"])])
        yield str(
            Problem(place, shortened(item["input"]), item["msg"], "correct it in the manifest")
        )


if __name__ == "__main__":
    sys.exit(main())
