import pytest
from pydantic import JsonValue, ValidationError

from rlhf_trainer.config.deepspeed import TOO_DEEP, DeepSpeedConfig, is_too_large


def nested(levels: int) -> JsonValue:
    value: JsonValue = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("overrides", "too_large"),
    [
        pytest.param({}, False, id="none"),
        pytest.param({"zero_optimization": {"sub_group_size": 1e9}}, False, id="usual"),
        pytest.param({"x": nested(9)}, False, id="deep"),
        pytest.param({"x": nested(10)}, True, id="deeper"),
        pytest.param({"x": nested(5000)}, True, id="far-deeper"),
        pytest.param({"x": [0] * 999}, False, id="many"),
        pytest.param({"x": [0] * 1000}, True, id="more"),
        pytest.param({"x": [[0] * 500, [0] * 500]}, True, id="more-in-all"),
        pytest.param(TOO_DEEP, True, id="what-stands-for-them"),
    ],
)
def test_overrides_have_the_size_of_settings(
    overrides: dict[str, JsonValue], *, too_large: bool
) -> None:
    assert is_too_large(overrides) is too_large
    if not too_large:
        assert DeepSpeedConfig(overrides=overrides).overrides == overrides
        return
    with pytest.raises(ValidationError, match="more than 1000 values, or nested more than 10"):
        DeepSpeedConfig(overrides=overrides)
