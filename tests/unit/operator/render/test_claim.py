from collections.abc import Callable
from typing import Any

import pytest

from rlhf_operator.api import RLHFRun
from rlhf_operator.render import workspace_claim

Build = Callable[..., RLHFRun]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("claim", ()),
        (
            "claim-shared-deleted",
            (
                (
                    "spec.workspace={size: 500Gi, storageClassName: nfs, accessMode: ReadWriteMany,"
                    " retention: Delete}"
                ),
            ),
        ),
    ],
)
def test_claim_is_the_golden_one(
    cluster_run: Build,
    assert_golden: Callable[[str, dict[str, Any] | None], None],
    name: str,
    overrides: tuple[str, ...],
) -> None:
    assert_golden(name, workspace_claim(cluster_run(*overrides)))


def test_claim_for_an_existing_volume_names_no_class(cluster_run: Build) -> None:
    claim = workspace_claim(cluster_run("spec.workspace.storageClassName=''"))
    assert claim is not None
    assert claim["spec"]["storageClassName"] == ""


def test_named_claim_is_used_and_none_is_made(cluster_run: Build) -> None:
    run = cluster_run("spec.workspace.claimName=shared")
    assert workspace_claim(run) is None
    assert run.claim_name == "shared"


def test_runs_of_one_name_have_folders_of_their_own(cluster_run: Build) -> None:
    assert cluster_run().root_folder == "demo-4c440fa5"
