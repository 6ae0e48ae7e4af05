import math

import pytest
from tiny import arguments
from yaml import safe_load

from define.__main__ import main
from define.recipes.settings import open_run
from define.training import Constant, Cosine, InverseSquareRoot, StepDecay


def test_rate_rises_linearly_and_falls_by_a_cosine():
    schedule = Cosine(warmup=0.2, final=0.1)
    factors = [schedule.factor(step, 10) for step in range(11)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    cosine = [math.cos(math.pi * step / 8) for step in range(9)]
    assert factors[2:] == pytest.approx([0.1 + 0.9 * (1 + c) / 2 for c in cosine])
    assert factors[-1] == pytest.approx(0.1)
    assert schedule.factor(12, 10) == pytest.approx(0.1)


def test_constant_rates():
    for schedule in (Constant(), Cosine(warmup=0.0, final=1.0), StepDecay(milestones=())):
        assert [schedule.factor(step, 3) for step in range(4)] == [1.0] * 4


def test_inverse_square_root_as_published():
    schedule = InverseSquareRoot(warmup_steps=100)
    for step in (1, 2, 99, 100, 101, 5000):  # the published formula counts from 1
        published = min(step**-0.5, step * 100**-1.5)
        assert schedule.factor(step - 1, 7) == pytest.approx(published / 100**-0.5)
    assert max(schedule.factor(step, 7) for step in range(1000)) == schedule.factor(99, 7) == 1


def test_steps_of_table_1a():
    """A tenth from epoch 15 of 20 on, 30 steps an epoch."""
    factors = [StepDecay().factor(step, 600) for step in range(600)]
    assert factors == [1.0] * 450 + [pytest.approx(0.1)] * 150


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(warmup=1.0), "warmup=1.0"),
        (lambda: Cosine(final=1.5), "final=1.5"),
        (lambda: InverseSquareRoot(0), "warmup_steps=0"),
        (lambda: StepDecay(milestones=(0.5, 0.2)), r"milestones=\(0.5, 0.2\)"),
        (lambda: StepDecay(milestones=(1.0,)), r"milestones=\(1.0,\)"),
        (lambda: StepDecay(gamma=0.0), "gamma=0.0"),
    ],
)
def test_a_value_out_of_its_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("words", "schedule"),
    [
        ((), Cosine()),
        (("--training.schedule.warmup", "0.3"), Cosine(warmup=0.3)),
        (("--training.schedule", "Constant"), Constant()),
        (
            ("--training.schedule", "InverseSquareRoot", "--training.schedule.warmup_steps", "8"),
            InverseSquareRoot(8),
        ),
        (
            ("--training.schedule", "StepDecay", "--training.schedule.milestones", "[0.2,0.4]"),
            StepDecay((0.2, 0.4)),
        ),
    ],
)
def test_a_schedule_of_the_command_line_comes_back_from_the_run(words, schedule, folder, tmp_path):
    run = tmp_path / "run"
    main(arguments(folder, run, "--training.length", "250", *words))
    name = safe_load((run / "config.yaml").read_text())["training"]["schedule"]["class_path"]
    assert name == f"define.training.{type(schedule).__name__}"
    assert open_run(run)[0].training.schedule == schedule
