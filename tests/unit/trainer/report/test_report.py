import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rlhf_trainer.contract import HistoryRecord, Outcome, Phase, Progress, Result
from rlhf_trainer.report import write_report
from rlhf_trainer.report.reading import read_run

ADDRESS_ATTRIBUTES = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Page(HTMLParser):
    """What a test wants to know of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.by_id: dict[str, str] = {}
        self._open: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self._open.append((tag, dict(attrs).get("id")))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if any(tag in ("style", "script") for tag, _ in self._open):
            return
        self.words += data
        for _, name in self._open:
            if name:
                self.by_id[name] = self.by_id.get(name, "") + data

    def said(self, name: str) -> str:
        return " ".join(self.by_id[name].split())


def report(run: Any) -> tuple[str, Page]:
    text = write_report(run.workspace.root).read_text(encoding="utf-8")
    return text, Page(text)


def test_report_refers_to_nothing_outside_of_itself(any_run: Any) -> None:
    text, page = report(any_run)
    for tag, attributes in page.tags:
        assert not ADDRESS_ATTRIBUTES & attributes.keys(), (tag, attributes)
        assert tag not in ("link", "iframe", "img", "object", "embed", "base"), tag
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|import\(", text)


def test_report_top_tells_status_reason_kl_win_rate_reward_and_next_step(made_up: Any) -> None:
    made_up.preparation()
    made_up.sft()
    made_up.reward_model()
    made_up.ppo()
    made_up.evaluation()
    made_up.run_file(outcome="Completed")
    text, page = report(made_up)
    top = text[: text.index('<section class="group">')]
    assert "<h1>movie-reviews</h1>" in top
    assert page.said("status") == "Succeeded"
    assert page.said("reason").startswith("The judge prefers the policy to SFT on 83.2% of 256")
    assert "KL to the SFT policy" in page.said("leading")
    assert "limit 10" in page.said("leading")
    assert "target 4" in page.said("leading")
    assert "nats per response" in page.said("leading")
    assert "83.2%" in top
    assert "95% interval 78.1% to 87.3%" in top
    assert "+0.98" in top
    assert "from_pretrained" in page.said("next")
    assert "iteration-1/ppo/attempt-1/model" in page.said("next")


def test_report_stopped_on_kl_says_why_and_marks_it(made_up: Any) -> None:
    made_up.breach()
    made_up.run_file(outcome="Stopped")
    _, page = report(made_up)
    assert page.said("status") == "Stopped by the guard"
    assert page.said("reason").startswith("KL was 24.6 nats per response at step 4, above")
    assert "stopped at step 4" in page.said("leading")
    assert "step 2 kept" in page.said("leading")
    assert "--set spec.ppo.kl.coefficient=0.02" in page.said("next")


def test_report_failed_gate_shows_accuracy_against_the_gate(made_up: Any) -> None:
    made_up.reward_model(best=0.551)
    made_up.run_file(outcome="GateFailed")
    _, page = report(made_up)
    assert page.said("status") == "Gate not passed"
    assert "rewardModel.minimumAccuracy=0.62" in page.said("reason")
    assert "gate 62%" in page.said("leading")
    assert "not measured" in page.words


@pytest.mark.parametrize(
    "title",
    [
        "Reward",
        "Entropy",
        "Response length",
        "Distinct-2",
        "Policy loss",
        "Value loss",
        "Clip fraction",
        "KL coefficient",
        "Learning rate",
        "Time per step",
        "Accuracy on held-out comparisons",
        "Loss",
    ],
)
def test_report_has_the_curve(make: Any, tmp_path: Path, title: str) -> None:
    text, _ = report(make["finished"](tmp_path / "run"))
    assert f"<h3>{title}</h3>" in text


def test_report_shows_samples_with_the_judge_s_choice(made_up: Any) -> None:
    made_up.evaluation()
    text, page = report(made_up)
    assert "Of these 10 samples the judge prefers PPO in 8, SFT in 2." in page.said("samples")
    assert "2 more" in page.said("samples")
    assert text.count('class="chosen"') == 10


def test_report_counts_the_same_response_twice_as_a_tie(made_up: Any) -> None:
    """Whatever rounding made of its score in another batch, as win rates do."""
    made_up.evaluation()
    sample = {"prompt": "a", "sft": "same", "ppo": "same", "sftScore": 0.5, "ppoScore": 0.5000001}
    made_up.attempt(Phase.EVALUATION).samples.write_text(json.dumps(sample), encoding="utf-8")
    text, _ = report(made_up)
    assert 'class="chosen"' not in text


EVIL = '<script>alert("x")</script>&\'"><img src=x onerror=alert(1)>{{ 7*7 }}'


def test_report_escapes_what_others_wrote(made_up: Any) -> None:
    made_up.name = EVIL
    made_up.spec["model"]["source"] = EVIL
    record = HistoryRecord(
        step=1,
        time=1.0,
        values={"kl_nats": 1.0, "reward_score": 0.5},
        stage_seconds={EVIL: 1.0},
        event=EVIL,
    )
    paths = made_up.attempt(Phase.PPO)
    paths.root.mkdir(parents=True)
    paths.history.write_text(record.model_dump_json(by_alias=True) + "\n", encoding="utf-8")
    made_up.end(Phase.PPO, Outcome.CRASHED, EVIL, model_path=EVIL)
    made_up.evaluation()
    sample = {"prompt": EVIL, "sft": EVIL, "ppo": EVIL, "sftScore": 0.0, "ppoScore": 0.0}
    made_up.attempt(Phase.EVALUATION).samples.write_text(json.dumps(sample), encoding="utf-8")
    made_up.run_file(stop={"message": EVIL, "phase": "PPO"}, outcome=EVIL)
    text, page = report(made_up)
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert page.words.count(EVIL) >= 9
    assert "<script>alert" not in text
    for _, attributes in page.tags:
        if attributes.get("data-hover"):
            json.loads(attributes["data-hover"] or "")


def test_report_without_run_json_is_built_from_the_attempts(made_up: Any) -> None:
    made_up.sft()
    made_up.ppo()
    made_up.evaluation()
    _, page = report(made_up)
    assert page.said("status") == "Succeeded"
    assert "limit 10" in page.said("leading")
    assert "configuration" not in page.by_id


def test_report_takes_the_configuration_of_an_attempt_without_run_json(made_up: Any) -> None:
    made_up.sft()
    made_up.attempt(Phase.SFT).config.write_text(json.dumps(made_up.spec), encoding="utf-8")
    _, page = report(made_up)
    assert "limitNats: 10" in page.by_id["configuration"]


def test_report_leaves_out_what_may_hold_secrets(made_up: Any) -> None:
    made_up.spec["podTemplate"] = {"env": [{"name": "TOKEN", "value": "hunter2"}]}
    made_up.run_file()
    text, page = report(made_up)
    assert "hunter2" not in text
    assert "limitNats: 10" in page.by_id["configuration"]


def test_report_empty_workspace_says_that_nothing_has_begun(made_up: Any) -> None:
    _, page = report(made_up)
    assert page.said("status") == "In progress"
    assert page.said("reason") == "No phase has begun yet."
    assert "Nothing has been measured yet." in page.said("leading")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"status": {"phases": 3}}'])
def test_report_broken_files_count_as_missing(made_up: Any, content: bytes) -> None:
    made_up.ppo()
    paths = made_up.attempt(Phase.PPO)
    made_up.workspace.run.write_bytes(content)
    for path in (paths.result, paths.progress, paths.samples, paths.config):
        path.write_bytes(content)
    with paths.history.open("ab") as file:
        file.write(b'{"step": 26, "ti')
    _, page = report(made_up)
    assert page.said("status") == "In progress"
    assert "KL to the SFT policy" in page.said("leading")


def test_report_running_phase_says_how_far_it_is(made_up: Any) -> None:
    made_up.sft()
    paths = made_up.attempt(Phase.PPO)
    paths.root.mkdir(parents=True)
    progress = Progress(step=12, total_steps=25, text="KL 4.31 of 10")
    paths.progress.write_text(progress.model_dump_json(by_alias=True), encoding="utf-8")
    _, page = report(made_up)
    assert page.said("status") == "In progress"
    assert page.said("reason") == "PPO is at step 12 of 25: KL 4.31 of 10."
    assert f"--workspace {made_up.workspace.root}" in page.said("next")


def test_report_phase_that_will_be_tried_again_is_in_progress(made_up: Any) -> None:
    made_up.end(Phase.PPO, Outcome.CRASHED, "rank 1: was killed by SIGKILL")
    made_up.run_file(phases=[{"iteration": 1, "phase": "PPO", "state": "BackingOff"}])
    _, page = report(made_up)
    assert page.said("status") == "In progress"
    assert page.said("reason") == (
        "PPO is to be tried again; it ended: rank 1: was killed by SIGKILL."
    )


@pytest.mark.parametrize(
    ("outcome", "badge", "advice"),
    [
        (Outcome.INVALID, "Invalid input", "rlhf validate rlhfrun.yaml"),
        (Outcome.OUT_OF_MEMORY, "Out of memory", "--set spec.ppo.tokensPerMicroBatch=2048"),
        (Outcome.DIVERGED, "Diverged", "--set spec.ppo.learningRate=0.0002"),
        (Outcome.CRASHED, "Crashed", "rlhf run rlhfrun.yaml --workspace"),
        (Outcome.PREEMPTED, "Interrupted", "rlhf run rlhfrun.yaml --workspace"),
        (Outcome.STOPPED, "Stopped by the guard", "--set spec.ppo.learningRate=0.0002"),
    ],
)
def test_report_says_what_to_do_next(
    made_up: Any, outcome: Outcome, badge: str, advice: str
) -> None:
    made_up.ppo()
    made_up.end(Phase.PPO, outcome, "it ended so")
    made_up.run_file(outcome=outcome.value)
    _, page = report(made_up)
    assert page.said("status") == badge
    assert page.said("reason") == "It ended so."
    assert advice in page.said("next")


@pytest.mark.parametrize(
    ("outcome", "first"),
    [
        ("Invalid", "Correct what is named above"),
        ("RetriesExhausted", "Read the end of the log"),
        ("DeadlineExceeded", "Raise the deadline that is named above"),
    ],
)
def test_report_ended_run_is_to_begin_anew(made_up: Any, outcome: str, first: str) -> None:
    made_up.ppo()
    made_up.end(Phase.PPO, Outcome.CRASHED, "it ended so")
    made_up.run_file(outcome=outcome)
    _, page = report(made_up)
    assert first in page.said("next")
    assert "To run it again, use --fresh, or another --workspace." in page.said("next")
    assert "go on where it left off" not in page.said("next")
    if outcome != "Invalid":
        assert f"--workspace {made_up.workspace.root}-2" in page.said("next")


@pytest.mark.parametrize(
    ("folder", "named"), [("", "."), ("iteration-1", ".."), ("", "../run/"), ("/", "run")]
)
def test_report_names_the_workspace_in_full(
    made_up: Any, monkeypatch: pytest.MonkeyPatch, folder: str, named: str
) -> None:
    made_up.breach()
    root = made_up.workspace.root
    monkeypatch.chdir(root.parent if folder == "/" else root / folder)
    page = Page(write_report(Path(named)).read_text(encoding="utf-8"))
    assert f"--workspace {root}-2" in page.said("next")


def test_report_joins_attempts_where_the_later_one_began(made_up: Any) -> None:
    for attempt, steps in ((1, range(8)), (2, range(5, 11))):
        paths = made_up.attempt(Phase.PPO, attempt)
        paths.root.mkdir(parents=True)
        records = (
            HistoryRecord(step=step, time=1.0, values={"kl_nats": float(attempt)}) for step in steps
        )
        lines = "".join(record.model_dump_json(by_alias=True) + "\n" for record in records)
        paths.history.write_text(lines, encoding="utf-8")
        result = Result(
            phase=Phase.PPO,
            outcome=Outcome.PREEMPTED if attempt == 1 else Outcome.COMPLETED,
            message="x",
            duration_seconds=10.0,
        )
        paths.result.write_text(result.to_json(), encoding="utf-8")
    ppo = read_run(made_up.workspace.root).phase(Phase.PPO)
    assert ppo is not None
    assert [kl for _, kl in ppo.points("kl_nats")] == [1.0] * 5 + [2.0] * 6
    assert [step for step, _ in ppo.points("kl_nats")] == list(range(11))
    assert (ppo.attempts, ppo.duration_seconds, ppo.outcome) == (2, 20.0, Outcome.COMPLETED)


def test_report_shows_the_newest_iteration(made_up: Any) -> None:
    made_up.breach()
    paths = made_up.workspace.attempt(2, Phase.SFT, 1)
    paths.root.mkdir(parents=True)
    result = Result(phase=Phase.SFT, outcome=Outcome.COMPLETED, message="learned")
    paths.result.write_text(result.to_json(), encoding="utf-8")
    _, page = report(made_up)
    assert "iteration 2" in page.words
    assert "stopped at step 4" not in page.words


def test_report_draws_around_values_that_are_no_numbers(made_up: Any) -> None:
    records = made_up.ppo_records([0.0, 1.0, math.nan, 2.0])
    paths = made_up.attempt(Phase.PPO)
    paths.root.mkdir(parents=True)
    with paths.history.open("w", encoding="utf-8") as file:
        for record in records:
            text = json.dumps(record.model_dump(by_alias=True)).replace("NaN", '"NaN"')
            file.write(text + "\n")
    made_up.end(Phase.PPO, Outcome.DIVERGED, "KL was nan at step 2", step=2)
    text, page = report(made_up)
    assert "diverged at step" in page.said("leading")
    assert "\N{MULTIPLICATION SIGN}" in page.said("leading")
    assert not re.search(r'(points|x|y|cx|cy|x1|y1)="[^"]*nan', text)
