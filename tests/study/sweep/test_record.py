import gzip
import json

import pytest

from apatite.core.errors import ConfigError, DataError
from apatite.study.sweep.record import (
    Record,
    is_flat,
    json_path,
    outcomes_of,
    read_record,
    read_records,
    table_path,
    write_record,
)


def record(name="vit-a", **changes):
    values = {
        "name": name,
        "kind": "vit",
        "tier": "own",
        "axes": {"network": "vit", "patch": "2x4x8", "labels": 20, "upsampling": None},
        "steps": 40,
        "seconds": {"finetune": 1.5},
        "num_parameters": 12,
        "curve": ((10, 0.25), (40, 0.5)),
        "patch_mm": (2.0, 4.0, 16.0),
        "spacing_mm": (0.5, 1.0, 2.0),
        "crop": (8, 16, 24),
        "splits": {"test": {"series": 3, "patients": 2, "positive": 1}},
    }
    return Record(**(values | changes))


def test_a_record_reads_back_with_its_outcomes_by_split(tmp_path, make_outcome):
    raw, calibrated = [make_outcome("a", 3, 1, 2)], [make_outcome("a", 2, 0, 3, hu_gate=130.0, low_mm3=0.1)]
    test = [make_outcome("b", 1, 1, 1)]
    outcomes = {"development": {"raw": raw, "calibrated": calibrated}, "test": {"raw": test}}
    write_record(tmp_path, record(), outcomes)
    (found,) = read_records(tmp_path)
    assert found == record(source=tmp_path)
    assert outcomes_of(found, "development") == {"raw": raw, "calibrated": calibrated}
    assert outcomes_of(found, "test") == {"raw": test}
    assert read_records(tmp_path / "rows") == [found]


def test_a_record_of_before_there_were_other_networks_is_one_of_the_first(tmp_path):
    for name, kind, network in (
        ("vit-a", "vit", "vit"),
        ("nnunet-a", "nnunet", None),
        ("pretrain-a", "pretrain", None),
    ):
        write_record(tmp_path, record(name, kind=kind, axes={"patch": 4}))
        path = json_path(tmp_path, name)
        values = json.loads(path.read_text())
        for later in ("step_s", "health", "label_means", "label_names"):
            del values[later]
        path.write_text(json.dumps(values))
        found = read_record(tmp_path, name)
        assert found.axes == {"network": network, "patch": 4} and found.label_names == {}


def test_the_same_row_is_the_same_bytes(tmp_path, make_outcome):
    outcomes = {"test": {"raw": [make_outcome("b", 1, 1, 1)]}}
    for part in ("one", "two"):
        write_record(tmp_path / part, record(), outcomes)
    for path in (json_path, table_path):
        one, two = (path(tmp_path / part, "vit-a").read_bytes() for part in ("one", "two"))
        assert one == two
    assert "source" not in json.loads(json_path(tmp_path / "one", "vit-a").read_text())
    assert b"2026" not in gzip.decompress(table_path(tmp_path / "one", "vit-a").read_bytes())


def test_pretraining_has_no_outcomes(tmp_path):
    write_record(tmp_path, record("pretrain-a", kind="pretrain", patch_mm=None))
    assert outcomes_of(read_record(tmp_path, "pretrain-a"), "test") == {}
    assert not table_path(tmp_path, "pretrain-a").exists()


def test_what_is_no_record_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_record(tmp_path, "none")
    assert read_records(tmp_path) == []
    with pytest.raises(DataError, match="not read from a folder"):
        outcomes_of(record(), "test")
    path = json_path(tmp_path, "bad")
    path.parent.mkdir()
    path.write_text('{"name": "bad", "kindd": "vit"}')
    with pytest.raises(ConfigError, match="kindd"):
        read_records(tmp_path)
    path.write_text("[1]")
    with pytest.raises(DataError, match="no record"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        # Of 100 steps the last 20 begin at 80; the look at 80 counts, the steep part before does not.
        (((40, 0.1), (80, 0.500), (90, 0.505), (100, 0.509)), True),
        (((40, 0.1), (80, 0.500), (90, 0.505), (100, 0.510)), False),
        (((75, 0.500), (90, 0.505), (100, 0.509)), True),
        (((75, 0.480), (90, 0.505), (100, 0.509)), False),
        # A peak in between is movement, too.
        (((80, 0.500), (90, 0.520), (100, 0.500)), False),
        # At nothing there is no end in sight.
        (((80, 0.0), (90, 0.0), (100, 0.0)), False),
        (((80, 0.1), (90, 0.099), (100, 0.1)), False),
        # Two looks show nothing.
        (((80, 0.5), (100, 0.5)), False),
        (((100, 0.5),), False),
        ((), False),
    ],
)
def test_a_curve_is_flat_when_it_moves_by_less_than_a_hundredth_at_its_end(curve, expected):
    assert is_flat(curve, 100) is expected
