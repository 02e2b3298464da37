"""Readers of the public data sets, on small files of exactly their formats."""

import gzip
import json

import numpy as np
import pytest

from training.experiments.public_data.criteo_files import read_criteo_kaggle, read_criteo_terabyte
from training.experiments.public_data.run import FRAPPE_FIELDS, PUBLIC_DATA

FRAPPE_HEADER = "label,user,item,daytime,weekday,isweekend,homework,cost,weather,country,city"
FRAPPE_ROWS = [
    "1,204,4798,5041,5046,5053,5055,5058,5060,5073,5183",
    "0,204,4799,5041,5046,5053,5055,5058,5060,5073,5183",
    "0,42,1572,5042,5047,5053,5055,5058,5060,5070,5150",
]


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")


def ids(split, name):
    return split.inputs.ids[name].values.tolist()


@pytest.fixture
def frappe(tmp_path):
    for name in ("train", "valid", "test"):
        write(tmp_path / f"{name}.csv", FRAPPE_HEADER, *FRAPPE_ROWS)
    return tmp_path


def test_frappe_csv(frappe):
    write(frappe / "test.csv", FRAPPE_HEADER, FRAPPE_ROWS[0].replace("4798", "new"))
    data = PUBLIC_DATA["frappe"](frappe)
    assert [sparse.name for sparse in data.inputs.sparse] == list(FRAPPE_FIELDS)
    train = next(iter(data.train.parts()))
    assert train.label.tolist() == [1, 0, 0]
    assert ids(train, "user") == [1, 1, 2]
    assert ids(train, "item") == [1, 2, 3]
    assert train.group[0] == train.group[1] != train.group[2]
    assert data.test.group[0] == train.group[0]
    # A value that the training rows lack has the row of the unknown.
    assert ids(data.test, "item") == [0]
    assert data.inputs.sparse[1].num_rows == 4


def test_frappe_libfm_reads_as_the_csv_does(frappe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("libfm")
    lines = []
    for row in FRAPPE_ROWS:
        label, *values = row.split(",")
        lines.append(" ".join(["1" if label == "1" else "-1", *(f"{v}:1" for v in values)]))
    for part in ("train", "validation", "test"):
        write(folder / f"frappe.{part}.libfm", *lines)
    mine, theirs = PUBLIC_DATA["frappe"](folder), PUBLIC_DATA["frappe"](frappe)
    assert mine.inputs == theirs.inputs
    for name in FRAPPE_FIELDS:
        assert ids(mine.test, name) == ids(theirs.test, name)
    assert mine.test.label.tolist() == theirs.test.label.tolist()


def test_movielens_latest_in_both_formats(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "libfm").mkdir()
    for name in ("train", "valid", "test"):
        rows = ["1.0,7.0,90.0,11.0", "0.0,8.0,91.0,12.0"]
        write(tmp_path / "csv" / f"{name}.csv", "label,user_id,item_id,tag_id", *rows)
    for part in ("train", "validation", "test"):
        write(tmp_path / "libfm" / f"ml-tag.{part}.libfm", "1 7:1 90:1 11:1", "-1 8:1 91:1 12:1")
    read = PUBLIC_DATA["movielens-latest"]
    assert read(tmp_path / "csv").valid.label.tolist() == [1, 0]
    assert read(tmp_path / "csv").inputs == read(tmp_path / "libfm").inputs


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2" + FRAPPE_ROWS[0][1:], "train.csv: line 3, column label: '2'; expected 0 or 1"),
        ("1,204,4798", "train.csv: line 3, column 4: .*expected 11 fields, found 3"),
    ],
)
def test_a_wrong_line_of_csv_is_named(frappe, line, message):
    write(frappe / "train.csv", FRAPPE_HEADER, FRAPPE_ROWS[0], line)
    with pytest.raises(ValueError, match=message):
        PUBLIC_DATA["frappe"](frappe)


def test_a_wrong_header_or_a_missing_file_is_named(frappe):
    write(frappe / "train.csv", FRAPPE_HEADER.replace("label", "clicked"), *FRAPPE_ROWS)
    with pytest.raises(
        ValueError, match=r"train.csv: line 1, column header: .*label.*; expected label, u"
    ):
        PUBLIC_DATA["frappe"](frappe)
    (frappe / "valid.csv").unlink()
    with pytest.raises(ValueError, match=r"no valid.csv; the data set is train.csv, valid.csv"):
        PUBLIC_DATA["frappe"](frappe)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 7:1 90:1 11:1", "line 2, column 1: '3'; expected 1, or -1 or 0"),
        ("1 7:1 90:1", "line 2, column 4: .*expected 3 features"),
        ("1 7:1 90:5 11:1", "line 2, column 3: '90:5'; expected index:1"),
    ],
)
def test_a_wrong_line_of_libfm_is_named(tmp_path, line, message):
    for part in ("train", "validation", "test"):
        write(tmp_path / f"ml-tag.{part}.libfm", "1 7:1 90:1 11:1", line)
    with pytest.raises(ValueError, match=message):
        PUBLIC_DATA["movielens-latest"](tmp_path)


MICROVIDEO_HEADER = "user_id,item_id,cate_id,is_click,timestamp,clicked_items,clicked_categories"


def write_vectors(path, keys, values):
    import h5py

    with h5py.File(path, "w") as file:
        file["key"], file["value"] = keys, values


@pytest.fixture
def microvideo(tmp_path):
    rows = [f"0,{item},5,{item % 2},{1000 + item},," for item in range(9)]
    rows.append("1,2,5,1,2000,1^2^3,5^5^6")
    write(tmp_path / "train.csv", MICROVIDEO_HEADER, *rows)
    write(tmp_path / "test.csv", MICROVIDEO_HEADER, "0,9,5,1,3000,8^0,5^5")
    vectors = np.arange(10 * 4, dtype=np.float64).reshape(10, 4)
    write_vectors(tmp_path / "item_image_emb_dim64.h5", list(range(10)), vectors)
    return tmp_path


def test_microvideo_has_histories_and_pretrained_vectors(microvideo):
    data = PUBLIC_DATA["microvideo"](microvideo)
    names = ["user_id", "item_id", "cate_id", "clicked_items", "clicked_categories"]
    assert [sparse.name for sparse in data.inputs.sparse] == names
    assert data.inputs.sparse[3].table == "item_id"
    # The last tenth of the training rows validates.
    assert (len(data.train), len(data.valid), len(data.test)) == (9, 1, 1)
    assert data.valid.inputs.ids["clicked_items"].lengths.tolist() == [3]
    train = next(iter(data.train.parts()))
    assert train.inputs.ids["clicked_items"].lengths.tolist() == [0] * 9
    # Item 9 is in the test rows only: no trained row, and a vector all the same.
    assert ids(data.test, "item_id") == [0]
    vectors = data.pretrained["item_id_vector"]
    assert vectors[ids(data.test, "item_id_vector")[0]].tolist() == [36, 37, 38, 39]
    assert vectors.shape == (11, 4)
    assert not vectors[0].any()


def test_pretrained_vectors_reach_the_model(microvideo, capsys):
    from training.__main__ import main

    arguments = ["benchmark", "--dataset=microvideo", f"--data={microvideo}", "--seeds=1"]
    # One row to validate: its AUC is not defined, and the run says so instead of choosing by it.
    assert main([*arguments, "--recipe=wukong-tiny"]) == 1
    assert "auc" in json.loads(capsys.readouterr().out)["error"]
    rows = [f"{n % 3},{n % 10},5,{n % 2},{1000 + n},1^2,5" for n in range(80)]
    write(microvideo / "train.csv", MICROVIDEO_HEADER, *rows)
    write(microvideo / "test.csv", MICROVIDEO_HEADER, *rows[:10])
    assert main([*arguments, "--recipe=wukong-tiny"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["log_loss"] > 0


def test_a_long_history_keeps_its_newest_values(microvideo):
    import dataclasses

    from training.experiments.public_data.sequence_files import MICROVIDEO, read_sequences

    form = dataclasses.replace(MICROVIDEO, max_length=2)
    data = read_sequences("microvideo", microvideo, form)
    kept = ids(data.valid, "clicked_items")
    train = next(iter(data.train.parts()))
    assert kept == [ids(train, "item_id")[2], ids(train, "item_id")[3]]


def test_a_wrong_value_of_a_sequence_file_is_named(microvideo):
    rows = (microvideo / "test.csv").read_text().replace(",1,3000", ",maybe,3000")
    (microvideo / "test.csv").write_text(rows)
    with pytest.raises(ValueError, match=r"test.csv: line 2, column is_click: 'maybe'; expected a"):
        PUBLIC_DATA["microvideo"](microvideo)


def test_kuaivideo(tmp_path):
    header = "timestamp,user_id,item_id,is_click,is_like,is_follow,pos_items,neg_items"
    write(tmp_path / "train.csv", header, *["5,3,77,0,0,0,12^40,77^77"] * 20)
    write(tmp_path / "test.csv", header, "6,3,77,1,0,0,,77")
    write_vectors(tmp_path / "item_visual_emb_dim64.h5", [77], np.ones((1, 64)))
    data = PUBLIC_DATA["kuaivideo"](tmp_path)
    # 12 and 40 occur twenty times in histories; min_count is ten.
    assert data.inputs.sparse[1].num_rows == 4
    assert data.test.inputs.ids["pos_items"].lengths.tolist() == [0]
    assert ids(data.test, "neg_items") == ids(data.test, "item_id")


def test_taobao_ad(tmp_path):
    header = (
        "clk,btag_his,cate_his,brand_his,userid,cms_segid,cms_group_id,final_gender_code,age_level,"
        "pvalue_level,shopping_level,occupation,new_user_class_level,adgroup_id,cate_id,"
        "campaign_id,customer,brand,price,pid,btag"
    )
    row = (
        "0,1^1,8998^8998,270044,1000043,27,4,2,4,1,2,0,4,328301,6410,233148,206117,121422,0.98,1,1"
    )
    write(tmp_path / "train.csv", header, *[row] * 20)
    write(tmp_path / "test.csv", header, row)
    data = PUBLIC_DATA["taobao-ad"](tmp_path)
    assert data.test.inputs.dense.tolist() == [[pytest.approx(0.98)]]
    assert data.test.inputs.ids["cate_his"].lengths.tolist() == [2]
    assert len(data.inputs.sparse) == 19


def criteo_line(label, first_category):
    counts = ["1", "", *["5"] * 11]
    return "\t".join([str(label), *counts, first_category, "", *["80e26c9b"] * 24])


def test_criteo_kaggle(tmp_path):
    lines = [criteo_line(n % 2, f"{n:08x}") for n in range(10)]
    write(tmp_path / "train.txt", *lines)
    data = read_criteo_kaggle(tmp_path)
    assert (len(data.train), len(data.valid), len(data.test)) == (8, 1, 1)
    train = next(iter(data.train.parts()))
    assert ids(train, "C1") == [n + 1 for n in range(8)]
    assert ids(train, "C2") == [0] * 8
    assert train.inputs.dense[0, 0] == 1
    assert np.isnan(train.inputs.dense[0, 1])


def test_criteo_terabyte_tests_on_its_last_day(tmp_path):
    write(tmp_path / "day_21", *[criteo_line(0, "00000001")] * 10)
    with gzip.open(tmp_path / "day_22.gz", "wt") as file:
        file.write((criteo_line(1, "00000002") + "\n") * 10)
    write(tmp_path / "day_23", *[criteo_line(1, "00000003")] * 5)
    data = read_criteo_terabyte(tmp_path)
    assert (len(data.train), len(data.valid), len(data.test)) == (19, 1, 5)
    assert ids(data.test, "C1") == [4] * 5
    assert [len(part) for part in data.train.parts()] == [10, 9]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (criteo_line(7, "00000001"), "line 2, column label: '7'; expected 0 or 1"),
        (criteo_line(1, "xyz"), "line 2, column C1: 'xyz'; expected eight hexadecimal digits"),
        ("1\t2\t3", "line 2, column 4: .*expected 40 fields, found 3"),
        (criteo_line(1, "00000001").replace("\t5\t", "\tfive\t", 1), "line 2, column I3: 'five'"),
    ],
)
def test_a_wrong_line_of_criteo_is_named(tmp_path, line, message):
    lines = [criteo_line(0, "00000001"), line, *[criteo_line(1, "00000002")] * 8]
    write(tmp_path / "train.txt", *lines)
    with pytest.raises(ValueError, match=message):
        [list(data.train.parts()) for data in [read_criteo_kaggle(tmp_path)]]
