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
    assert found["step_milliseconds"] > found["milliseconds"]["dense_compute"] > 0


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


def test_activations_do_not_call_for_pieces(capsys):
    """Pieces would make the weights smaller, which fit, and not the activations."""
    found = planned(capsys, "--devices=cuda", "--ranks=8", "--hbm=1GB", "--batch-size=65536")
    assert found["dense_activation_bytes_by_rank"] > 0.15 * found["hbm_bytes"]
    assert found["dense"] == "ddp"


def test_the_data_sheets_memory_and_bandwidths_are_planned_with(capsys):
    slow = planned(capsys, "--gpu=a100", "--ranks=16", "--batch-size=65536")
    fast = planned(capsys, "--gpu=h100", "--ranks=16", "--batch-size=65536")
    assert (slow["hbm_bytes"], slow["ranks_per_host"]) == (80 * 10**9, 8)
    lookups = [one["milliseconds"]["lookup_compute"] for one in (slow, fast)]
    assert lookups[0] / lookups[1] == pytest.approx(3_350 / 2_039, rel=0.01)
    exchanged = [one["milliseconds"]["dense_communication"] for one in (slow, fast)]
    assert exchanged[0] / exchanged[1] == pytest.approx(2)
    assert fast["teraflops"] == pytest.approx(0.58 * 989)
    network = planned(
        capsys, "--gpu=h100", "--ranks=16", "--batch-size=65536", "--network-bandwidth=1GB"
    )
    part = network["milliseconds"]["dense_communication"]
    assert part == pytest.approx(exchanged[1] * 50e9 / GB)


def test_a_bandwidth_needs_the_device_that_it_is_of(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--hbm-bandwidth=1TB"])
    assert "gpu: none; a bandwidth replaces" in capsys.readouterr().err


def test_an_epoch_is_its_steps(capsys):
    found = planned(capsys, "--gpu=h200", "--batch-size=1000", "--examples=1001", "--rows=1000000")
    assert found["step_milliseconds"] == pytest.approx(sum(found["milliseconds"].values()))
    assert found["epoch"]["steps"] == 2
    hours = 2 * found["step_milliseconds"] / 3.6e6
    assert found["epoch"]["device_hours"] == pytest.approx(8 * hours)
    rows = sum(table["rows"] for table in found["tables"])
    assert 1_000_000 <= rows < 1_010_000


def test_the_planner_knows_how_long_bags_are():
    from features.datasets.catalog import schema_of
    from training.config.recipe import ShardingConfig
    from training.distributed.planner_inputs import constraints
    from training.model.inputs import inputs_of
    from training.model.ranker import embedding_tables
    from training.recipes import recipe_of

    inputs = inputs_of(schema_of("movielens-100k"))
    lengths = {sparse.name: sparse.max_length for sparse in inputs.sparse}
    tables = embedding_tables(inputs, recipe_of("wukong-small").model)
    found = constraints(tables, ShardingConfig(), world_size=8, device="cuda", lengths=lengths)
    items = next(table for table in tables if table.name == "item_id")
    factors = dict(zip(items.feature_names, found["item_id"].pooling_factors, strict=True))
    assert factors["item_id"] == 1.0
    assert max(factors.values()) == 20.0


def test_a_table_that_its_recipe_splits_is_spread_over_more_ranks_than_columns(capsys):
    found = planned(capsys, "--gpu=h100", "--ranks=64", "--rows=1000000000", "--batch-size=65536")
    items = next(table for table in found["tables"] if table["table"] == "item_id")
    assert len(items["ranks"]) > 2


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
