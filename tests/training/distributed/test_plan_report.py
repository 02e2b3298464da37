"""Plans for machines that are not here, made by the trainer's own planner."""

import json
import re

import pytest

from training.__main__ import main

GB = 2**30


def planned(capsys, *flags, code=0, recipe="wukong-small"):
    assert main(["plan", f"--recipe={recipe}", *flags]) == code
    *printed, line = capsys.readouterr().out.splitlines()
    return {**json.loads(line), "printed": "\n".join(printed)}


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


def test_all_sharding_types_and_the_hosts_memory_are_weighed_on_cuda(capsys):
    found = planned(
        capsys, "--devices=cuda", "--ranks=16", "--ranks-per-host=8", "--hbm=80GB", "--rows-times=9"
    )
    rows, columns = {"row_wise", "table_row_wise"}, {"column_wise", "table_column_wise"}
    assert found["considered"].keys() == {"table_wise", "grid_shard"} | rows | columns
    kernels = ["fused", "fused_uvm", "fused_uvm_caching"]
    assert list(found["considered"].values()) == [kernels] * 6


def test_on_the_cpu_a_table_stays_whole_unless_its_recipe_splits_it(capsys):
    found = planned(capsys, "--devices=cpu", "--ranks=2")
    assert found["considered"].keys() <= {"table_wise", "column_wise", "row_wise"}
    assert found["dense"] == "ddp"


def test_a_dense_part_that_outgrows_its_share_is_planned_in_pieces(capsys):
    small = planned(capsys, "--devices=cuda", "--ranks=8", "--hbm=80GB")
    assert (small["dense"], small["reserved_share"]) == ("ddp", 0.15)
    # 0.15 of 4 MB is less than the weights, gradients and moments of wukong-small.
    large = planned(capsys, "--devices=cuda", "--ranks=8", "--hbm=4MB", "--batch-size=8")
    assert large["dense"] == "fsdp2"
    assert large["dense_bytes_by_rank"] < small["dense_bytes_by_rank"]
    assert large["reserved_share"] > 0.15
    assert "(fsdp2)" in large["printed"]
    forced = planned(
        capsys, "--devices=cuda", "--ranks=8", "--hbm=80GB", "--dense-parallelism=fsdp2"
    )
    assert forced["dense"] == "fsdp2"


def test_a_dense_part_that_does_not_fit_in_pieces_either_is_refused_with_its_bytes(capsys):
    found = planned(capsys, "--devices=cuda", "--ranks=2", "--hbm=1MB", code=1)
    assert re.search(
        r"dense part of wukong-small with fsdp2: [\d,]+ bytes on each of 2 ranks", found["error"]
    )
    assert "a device has 1,048,576" in found["error"]


def test_tables_that_adam_trains_are_planned_as_part_of_the_dense_part(capsys):
    found = planned(capsys, "--devices=cuda", "--hbm=80GB", recipe="wukong-frappe")
    assert found["tables"] == []
    assert found["dense_bytes_by_rank"] > found["dense_activation_bytes_by_rank"]
    assert "none is sharded" in found["printed"]


def test_hosts_that_are_not_alike_are_refused(capsys):
    found = planned(capsys, "--ranks=8", "--ranks-per-host=3", code=1)
    assert found["error"] == "ranks_per_host: 3; a divisor of 8"


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
    from training.distributed.device import Machine
    from training.distributed.plan_report import planned as plan_of
    from training.distributed.process_group import process_group
    from training.model.inputs import inputs_of
    from training.recipes import recipe_of
    from training.trainer.session import Session

    inputs, recipe = inputs_of(built.schema), recipe_of("wukong-tiny")
    figures = plan_of(inputs, recipe, Machine(device="cpu", ranks=1), teraflops=1)
    tables = figures["tables"]
    with process_group():
        session = Session(inputs, recipe, None)
        made = session.model.plan.plan["embeddings"]
        dense = session.plan.dense
    assert {table["table"]: table["sharding_type"] for table in tables} == {
        name: parameter.sharding_type for name, parameter in made.items()
    }
    assert (figures["dense"], figures["dense_bytes_by_rank"]) == ("ddp", dense.bytes_by_rank)
