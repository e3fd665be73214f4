import pytest

from rlhf_trainer.contract import Phase
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.launch.topology import Topology

JOB = {
    "PET_NNODES": "2",
    "PET_NODE_RANK": "1",
    "PET_MASTER_ADDR": "run-i1-ppo-a1-master-0",
    "PET_MASTER_PORT": "23456",
    "PET_NPROC_PER_NODE": "4",
}


def test_read_job_of_several_nodes_meets_at_the_master() -> None:
    topology = Topology.read(JOB, Phase.PPO, None)
    assert topology == Topology(2, 1, 4, "run-i1-ppo-a1-master-0", 23456, 1800)
    assert list(topology.local_ranks) == [4, 5, 6, 7]


def test_read_one_node_meets_on_itself() -> None:
    topology = Topology.read({**JOB, "PET_NNODES": "1", "PET_NODE_RANK": "0"}, Phase.PPO, None)
    assert (topology.nodes, topology.node_rank, topology.processes) == (1, 0, 4)
    assert topology.address == "127.0.0.1"
    assert topology.port != 23456


def test_read_without_a_job_has_one_rank() -> None:
    assert list(Topology.read({}, Phase.PPO, None).local_ranks) == [0]


def test_read_processes_given_go_before_the_job_s() -> None:
    assert Topology.read(JOB, Phase.PPO, 2).processes == 2


def test_read_preparation_has_one_rank_whatever_is_asked_for() -> None:
    topology = Topology.read({**JOB, "PET_NPROC_PER_NODE": "auto"}, Phase.PREPARATION, 8)
    assert (topology.nodes, list(topology.local_ranks)) == (1, [0])


def test_read_join_timeout_is_spelled_as_for_torchrun() -> None:
    environment = {**JOB, "PET_RDZV_CONF": "is_host=1, timeout=60"}
    assert Topology.read(environment, Phase.PPO, None).join_seconds == 60


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("PET_NNODES", "1:2", "not a whole number from 1"),
        ("PET_NODE_RANK", "", "not a whole number from 0"),
        ("PET_NPROC_PER_NODE", "auto", "not a whole number from 1"),
        ("PET_MASTER_ADDR", "", "not set"),
        ("PET_RDZV_CONF", "timeout=soon", "not a whole number from 1"),
    ],
)
def test_read_wrong_variable_is_invalid(name: str, value: str, problem: str) -> None:
    with pytest.raises(InvalidError, match=problem):
        Topology.read({**JOB, name: value}, Phase.PPO, None)
