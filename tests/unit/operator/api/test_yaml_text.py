"""Documents that JSON has no words for."""

import pytest

from rlhf_operator.api.manifest import parse_manifest
from rlhf_operator.errors import InvalidManifestError


def test_document_every_name_that_is_no_text_is_told_once(manifest_text: str) -> None:
    text = manifest_text + "  sft: &o\n    2024-01-01: x\n  rewardModel: *o\n1: y\n"
    with pytest.raises(InvalidManifestError) as caught:
        parse_manifest(text, "r.yaml", ["spec.ppo={null: 1}"])
    assert [str(problem).partition(": its")[0] for problem in caught.value.problems] == [
        "--set: spec.ppo.None",
        "r.yaml:13: spec.sft.2024-01-01",
        "r.yaml:15: 1",
    ]


def test_document_that_contains_itself_is_one_line(manifest_text: str) -> None:
    with pytest.raises(InvalidManifestError, match=r"r\.yaml:13: spec\.ppo\.x="):
        parse_manifest(manifest_text + "  ppo: &a\n    x: *a\n", "r.yaml")
