"""Plans for machines that are not here, made by the trainer's own planner."""

import json

import pytest

from training.__main__ import main

GB = 2**30


def planned(capsys, *flags, code=0):
    assert main(["plan", "--recipe=wukong-small", *flags]) == code
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_eight_gpus_are_planned_for_on_a_cpu(capsys):
    found = planned(capsys, "--devices=cuda", "--ranks=8", "--hbm=80GB", "--rows-times=1000")
    assert found["fits"]
    assert found["hbm_bytes"] == 80 * GB
    assert len(found["hbm_bytes_by_rank"]) == 8
    assert {table["kernel"] for table in found["tables"]} == {"fused"}
    for table in found["tables"]:
        cells = sum(rows * columns for rows, columns in table["shards"])
        assert cells == table["rows"] * table["columns"]
        assert table["hbm_bytes"] >= 4 * cells
    assert found["step_milliseconds"] > found["dense_milliseconds"] > 0


def test_a_table_larger_than_the_devices_goes_to_the_hosts_memory(capsys):
    found = planned(capsys, "--hbm=1GB", "--ddr=64GB", "--rows-times=100000")
    items = next(table for table in found["tables"] if table["table"] == "item_id")
    assert "uvm" in items["kernel"]
    assert items["ddr_bytes"] > 8 * GB


def test_what_does_not_fit_is_refused_with_the_planners_reason(capsys):
    found = planned(capsys, "--ranks=2", "--hbm=1GB", "--ddr=1GB", "--rows-times=1000000", code=1)
    assert "wukong-small on 2 x cuda" in found["error"]
    assert "insufficient storage" in found["error"]


@pytest.mark.parametrize("size", ["80", "GB", "0GB", "-1GB", "80 parsecs"])
def test_a_size_without_sense_is_a_usage_error(size, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", f"--hbm={size}"])
    assert ended.value.code == 2
    assert "a size such as 80GB" in capsys.readouterr().err


def test_the_trainer_plans_with_the_same_code(built):
    """The plan for this process is the plan that its session has."""
    from training.inputs import inputs_of
    from training.machine import Machine
    from training.plan import planned as plan_of
    from training.recipes import recipe_of
    from training.session import Session
    from training.worker import process_group

    inputs, recipe = inputs_of(built.schema), recipe_of("wukong-tiny")
    told = plan_of(inputs, recipe, Machine(device="cpu", ranks=1), teraflops=1)["tables"]
    with process_group():
        session = Session(inputs, recipe, None)
        made = session.model.plan.plan["embeddings"]
    assert {table["table"]: table["sharding_type"] for table in told} == {
        name: parameter.sharding_type for name, parameter in made.items()
    }
