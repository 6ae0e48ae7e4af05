import pytest

from define.training import Training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"length": 0}, "length=0"),
        ({"evaluation_batch_size": 0}, "evaluation_batch_size=0"),
        ({"validations": 0}, "validations=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"unit_rate": -1.0}, "unit_rate=-1.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan must be above 0"),
        ({"clip": float("nan")}, "clip=nan must be at least 0"),
        ({"clip": -0.1}, "clip=-0.1"),
        ({"patience": -1}, "patience=-1"),
        ({"activation_regularization": -2.0}, "activation_regularization=-2.0"),
        ({"batch_size": 20, "devices": 3}, "devices=3 must divide batch_size=20"),
        ({"devices": 0}, "devices=0"),
        ({"float32_matmul_precision": "low"}, "float32_matmul_precision='low' must be one of"),
    ],
)
def test_a_setting_out_of_its_range_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        Training(**change)
