import pytest

from rlhf_operator.api import Pool
from rlhf_operator.errors import SpecError
from rlhf_operator.render import parse_pools


def test_pools_of_the_examples_are_read(pools: dict[str, Pool]) -> None:
    clouds = {f"{cloud}-a100-80gb" for cloud in ("gke", "eks", "aks")}
    assert set(pools) == {"a100-40gb", "a100-80gb", "a100-80gb-rdma", "cpu"} | clouds
    large = pools["a100-80gb"]
    assert large.node_selector == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    assert (large.gpus_per_node, large.gpu_memory_bytes) == (8, 80 * 2**30)
    assert pools["a100-80gb-rdma"].extra_resources["rdma/hca"] == "1"
    assert pools["cpu"] == Pool(name="cpu", maximum_nodes=4)


def test_pool_without_fields_is_any_node() -> None:
    assert parse_pools({"any": ""}) == {"any": Pool(name="any")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a: [", "pools.a: not YAML; check"),
        ("- a", "pools.a=[…]: not a map of fields"),
        ("gpuPerNode: 8", "pools.a.gpuPerNode=8: Extra inputs are not permitted; known here: node"),
        ("gpusPerNode: many", "pools.a.gpusPerNode=many: "),
        ("gpusPerNode: 65", "pools.a.gpusPerNode=65: "),
    ],
)
def test_pool_that_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_pools({"a": text})
    assert str(refused.value).startswith(message)
