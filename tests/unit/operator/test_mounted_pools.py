"""Pools are followed as their ConfigMap is changed, and one that cannot be read changes nothing."""

from pathlib import Path

import pytest

from rlhf_operator.pools import MountedPools


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Mount one pool as a kubelet does: its key is a link into a hidden folder."""
    mount(tmp_path, "1", small="maximumNodes: 2")
    (tmp_path / "small").symlink_to("..data/small")
    return tmp_path


def mount(folder: Path, name: str, **pools: str) -> None:
    """Put a new version of the ConfigMap in the place of the old one, all at once."""
    version = folder / f"..{name}"
    version.mkdir()
    for pool, text in pools.items():
        (version / pool).write_text(text, encoding="utf-8")
    (folder / "..new").symlink_to(version.name)
    (folder / "..new").rename(folder / "..data")


def test_new_version_of_the_config_map_is_taken(folder: Path) -> None:
    pools = MountedPools(folder)
    assert {name: pool.maximum_nodes for name, pool in pools().items()} == {"small": 2}
    mount(folder, "2", small="maximumNodes: 3")
    assert {name: pool.maximum_nodes for name, pool in pools().items()} == {"small": 3}


def test_what_cannot_be_read_leaves_the_pools_as_they_were(folder: Path) -> None:
    pools = MountedPools(folder)
    mount(folder, "2", small="maximumNodes: many")
    assert pools()["small"].maximum_nodes == 2
    mount(folder, "3", small="maximumNodes: 5")
    assert pools()["small"].maximum_nodes == 5


def test_pool_that_is_gone_is_no_pool_any_more(folder: Path) -> None:
    pools = MountedPools(folder)
    (folder / "large").write_text("maximumNodes: 9", encoding="utf-8")
    (folder / ".hidden").write_text("maximumNodes: 9", encoding="utf-8")
    assert set(pools()) == {"small", "large"}
    (folder / "large").unlink()
    assert set(pools()) == {"small"}


def test_files_are_not_read_again_while_nothing_changes(folder: Path) -> None:
    pools = MountedPools(folder)
    assert pools() is pools()
