"""What is finished, how it is known, and what is made of it."""

from __future__ import annotations

import json
import logging
import math
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.bulk import N_PICTURES, contents, save_model, write_mixed
from support.bundles import run_bundle
from support.runs import rows
from support.tiny import blob

from monai_anomaly.data import find_cases
from monai_anomaly.errors import AnomalyError, DataError, OptionError
from monai_anomaly.evaluation import Entry, Ledger, RecordSeries, SliceScore
from monai_anomaly.writers import SaveHeatmaps


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture
def data(tmp_path) -> Path:
    return write_mixed(tmp_path / "data")


@pytest.fixture
def score(model, tmp_path):
    """Run inference.json; what it logged goes to caplog."""

    def run(data: Path, out: str = "out", **flags) -> Path:
        run_bundle(
            "inference", **{"dataset_dir": str(data), "model": str(model), "output_dir": str(tmp_path / out), "batch_size": 4, **flags}
        )
        return tmp_path / out

    return run


@pytest.fixture
def drawn(monkeypatch) -> list[str]:
    """The heat maps that were written, by name."""
    names: list[str] = []
    write = SaveHeatmaps.__call__

    def note(self, engine):
        output = engine.state.output
        scored = output["score"].isfinite()
        names.extend(
            f"{self.cases[c]['series']}_{k:04}" for c, k in zip(output["case"][scored].tolist(), output["slice_index"][scored].tolist())
        )
        write(self, engine)

    monkeypatch.setattr(SaveHeatmaps, "__call__", note)
    return names


@pytest.fixture
def stop_after(monkeypatch):
    """Interrupt the run after so many series have been recorded."""

    def stop(count: int) -> None:
        write, left = Ledger.write, [count]

        def counting(self, number, entry):
            write(self, number, entry)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(Ledger, "write", counting)

    yield stop
    monkeypatch.undo()


def counts(out: Path) -> dict:
    told = json.loads((out / "metrics.json").read_text())
    found = told["counts"]
    assert found["series_found"] == sum(found[f"series{part}"] for part in ("", "_empty", "_refused", "_left"))
    assert told["complete"] == (found["series_left"] == 0)
    assert len(rows(out / "images.csv")) == found["slices_scored"] and len(rows(out / "series.csv")) == found["series"]
    assert len(rows(out / "patients.csv")) == found["patients"] and len(rows(out / "refused.csv")) == len(told["refused"])
    return found


def picture(path: Path, seed: int = 5) -> Path:
    Image.fromarray(blob(np.random.default_rng(seed))[0]).save(path)
    return path


def small_ledger(folder: Path, model: Path, n: int = 3, **settings) -> Ledger:
    names = [folder / f"{k}.png" for k in range(n)]
    for name in names:
        name.exists() or picture(name)
    cases = [{"image": str(name), "series": f"s{k}"} for k, name in enumerate(names)]
    return Ledger(folder / "finished", cases, model, settings or {"pooling": "max"}, "cpu")


def test_every_number_comes_back_to_the_last_bit(tmp_path, model):
    rng = np.random.default_rng(0)
    numbers = [struct.unpack("<d", rng.bytes(8))[0] for _ in range(300)]
    numbers = [x if math.isfinite(x) else 0.1 for x in numbers] + [float(np.float32(x)) for x in rng.random(50)] + [5e-324, -0.0, 1 / 3]
    slices = tuple(SliceScore(1, k, k % 3 - 1, x, -x) for k, x in enumerate(numbers))
    findings = {"n_found": 1, "listed": [{"peak": numbers[7], "area_px": None, "voxels": 3}]}
    ledger = small_ledger(tmp_path, model)
    ledger.open()
    ledger.write(1, Entry(slices, 2, "", findings))
    ledger.write(2, Entry((), 0, "cut off"))
    told = small_ledger(tmp_path, model).read()
    assert told == {1: Entry(slices, 2, "", findings), 2: Entry((), 0, "cut off")}
    assert math.copysign(1, told[1].slices[-2].score) == -1
    ledger.write(0, Entry((SliceScore(0, 0, -1, math.nan, 0.0),)))
    assert math.isnan(ledger.read()[0].slices[0].score)


def test_a_series_is_finished_as_long_as_its_files_are_the_same(tmp_path, model):
    ledger = small_ledger(tmp_path, model)
    ledger.open()
    for number in range(3):
        ledger.write(number, Entry((SliceScore(number, 0, -1, 0.5, 0.0),)))
    assert small_ledger(tmp_path, model).finished == {0, 1, 2}
    state = os.stat(tmp_path / "0.png")
    os.utime(tmp_path / "0.png", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    (tmp_path / "1.png").unlink()
    again = small_ledger(tmp_path, model)  # which draws 1.png anew
    assert again.finished == {2} and again.changed == {0: [0], 1: [0]} and set(again.read()) == {2}
    for change in ({"label": 1}, {"mask": str(tmp_path / "2.png")}, {"image": [again.cases[2]["image"]] * 2}):
        assert (
            Ledger(tmp_path / "finished", [*again.cases[:2], {**again.cases[2], **change}], model, {"pooling": "max"}, "cpu").finished
            == set()
        )
    (tmp_path / "1.png").unlink()
    cases = again.cases
    assert Ledger(tmp_path / "finished", cases, model, {"pooling": "max"}, "cpu").finished == {2}  # of a file that is gone nothing is known


def test_it_names_no_place_and_no_file(data, score):
    out = score(data)
    told = b"".join(content for name, content in contents(out / "finished").items())
    assert b"finished" not in told and str(data.parent).encode() not in told and b"IM0000" not in told


def test_a_damaged_record_is_scored_again(data, score, drawn, caplog):
    out = score(data)
    before = contents(out)
    damages = {"d0": b"", "d1": b"[1]", "a0": b'{"source": 3}', "a8": b"\xff\xfe{"}
    paths = {(out / "finished" / "series" / f"{name}.json"): damage for name, damage in damages.items()}
    paths |= dict.fromkeys((out / "finished" / "series").glob("s-*.json"), b"[" * 100000)
    for path, damage in paths.items():
        path.write_bytes(damage)
    drawn.clear()
    score(data)
    assert {name.rpartition("_")[0] for name in drawn} >= {path.stem for path in paths} and contents(out) == before
    assert caplog.text.count("this series is scored again") >= len(paths) == 6


def test_another_model_or_option_is_refused_and_nothing_is_overwritten(data, score, tmp_path):
    out = score(data)
    before = contents(out)
    other = save_model(tmp_path / "other.pt", seed=1)
    cases = [
        ({"model": str(other)}, "model_sha256"),
        ({"batch_size": 5, "smoothing_mm": 2.0, "min_volume_ml": 0.5}, "batch_size was 4 and is 5; min_volume_ml.*; smoothing_mm"),
        ({"false_alarm_rate": 0.1, "ct_window": "bone"}, "ct_window was brain and is bone; false_alarm_rate was None"),
        ({"maps": [2, 3], "pooling": "mean"}, "maps.*; pooling was max and is mean"),
    ]
    for flags, said in cases:
        with pytest.raises(OptionError, match=f"(?s){said}.*choose another --output_dir"):
            score(data, **flags)
        assert contents(out) == before
    assert score(data, out="elsewhere", batch_size=5).is_dir()
    # What the model itself would choose is no other option.
    score(data, pooling="max", maps=[1, 2, 3])
    assert contents(out) == before


def test_other_versions_only_give_a_warning(data, score, caplog):
    out = score(data)
    run = out / "finished" / "run.json"
    told = json.loads(run.read_text())
    told["made_by"]["torch"] = "1.0"
    run.write_text(json.dumps(told))
    before = contents(out)
    score(data)
    assert "torch was 1.0 and is" in caplog.text and "last digits" in caplog.text and contents(out) == before


@pytest.mark.parametrize("damage", ["", "[]", "{}", "[" * 100_000, '{"model_sha256": 1, "settings": {}, "made_by": 3}'])
def test_a_damaged_name_of_the_run_is_an_error(tmp_path, model, damage):
    small_ledger(tmp_path, model).open()
    (tmp_path / "finished" / "run.json").write_text(damage)
    with pytest.raises(AnomalyError, match=r"remove .*finished"):
        small_ledger(tmp_path, model)
    assert (tmp_path / "finished" / "run.json").read_text() == damage


def test_records_of_which_nothing_says_what_they_are_of_count_for_nothing(data, score, drawn):
    out = score(data)
    before, first = contents(out), list(drawn)
    (out / "finished" / "run.json").unlink()
    foreign = json.loads((out / "finished" / "series" / "a0.json").read_text())
    foreign["slices"]["score"] = [1e6]
    (out / "finished" / "series" / "a0.json").write_text(json.dumps(foreign))
    drawn.clear()
    score(data)
    assert drawn == first and contents(out) == before


def test_when_everything_is_scored_it_says_so_and_the_tables_are_made_again(data, score, drawn, caplog):
    caplog.set_level(logging.INFO)
    out = score(data)
    before, stamps = contents(out), {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    for path in out.glob("*.csv"):
        path.unlink()
    drawn.clear()
    score(data)
    assert contents(out) == before and not drawn and {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == stamps
    assert "Everything is already scored: all 14 series" in caplog.text


def test_a_series_is_finished_only_when_all_else_about_it_is_on_disk(data, score, tmp_path, monkeypatch):
    """Killed a moment before, it would be scored again; killed a moment after, nothing of it may be missing."""
    out, seen = tmp_path / "out", []
    write = Ledger.write

    def look(self, number, entry):
        name = self.cases[number]["series"]
        assert all((out / "heatmaps" / f"{name}_{row.slice_index:04}.png").is_file() for row in entry.slices)
        assert name not in ("d0", "d1") or (out / "volumes" / f"{name}.nii.gz").is_file()
        assert (entry.findings is None) == bool(entry.refused)
        seen.append(name)
        write(self, number, entry)

    monkeypatch.setattr(Ledger, "write", look)
    score(data)
    assert len(seen) == len(set(seen)) == 14


def test_an_interrupted_run_goes_on_with_what_is_left(data, score, stop_after, drawn, caplog):
    caplog.set_level(logging.INFO)
    whole = contents(score(data, out="whole"))
    out = data.parent / "out"
    for count, finished in ((1, 1), (7, 7)):
        stop_after(count)
        with pytest.raises(KeyboardInterrupt):
            score(data)
        assert len(list((out / "finished" / "series").iterdir())) >= finished
    done = {path.stem for path in (out / "finished" / "series").iterdir()}
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    drawn.clear()
    score(data)
    again = {name.rpartition("_")[0] for name in drawn} & done
    assert len(again) < 4 and again <= {f"a{k}" for k in range(9)} | {f"m{k}" for k in range(9)}, (
        "of finished ones only pictures of a cut batch"
    )
    assert contents(out) == whole and {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert f"{len(done)} of 14 series are finished and are not scored again; {14 - len(done)} are left." in caplog.text


def test_the_tables_can_be_looked_at_while_it_runs(data, score, stop_after, monkeypatch):
    monkeypatch.setattr("monai_anomaly.evaluation.record_series.WRITING_SHARE", 1e9)
    stop_after(9)
    with pytest.raises(KeyboardInterrupt):
        score(data)
    found = counts(data.parent / "out")
    assert (
        0 < found["series_left"] < 14
        and found["series"] > 0
        and not json.loads((data.parent / "out" / "metrics.json").read_text())["complete"]
    )


def test_tables_in_between_take_a_small_share_of_the_time(data, score, monkeypatch):
    """By a clock that the test turns: a batch takes a second, and so do the tables."""
    now, written = [0.0], []
    monkeypatch.setattr("monai_anomaly.evaluation.record_series.time", SimpleNamespace(monotonic=lambda: now[0]))
    write, take = RecordSeries._write, RecordSeries.__call__

    def slow_write(self):
        now[0] += 1
        written.append(now[0])
        return write(self)

    def slow_take(self, engine):
        now[0] += 1
        take(self, engine)

    monkeypatch.setattr(RecordSeries, "_write", slow_write)
    monkeypatch.setattr(RecordSeries, "__call__", slow_take)
    score(data, batch_size=1)
    n_batches = 10 + 5 + 6 + 5 + 8
    assert now[0] == n_batches + len(written) and written[0] == 1 and len(written) == 1 + n_batches // 20 + 1


def test_new_cases_are_scored_in_addition_and_vanished_ones_are_not_in_the_tables(data, score, drawn, caplog):
    caplog.set_level(logging.INFO)
    out = score(data)
    picture(data / "zz_new.png")
    drawn.clear()
    score(data)
    assert "zz_new_0000" in drawn and len(drawn) <= 4 and not any(name.startswith(("ct", "d0", "d1", "s-")) for name in drawn)
    assert counts(out)["series_found"] == 15 and "zz_new" in {row["series"] for row in rows(out / "images.csv")}
    (data / "d0.nii.gz").unlink()
    drawn.clear()
    score(data)
    assert not any("d0" in row["series"] for name in ("images", "series", "findings") for row in rows(out / f"{name}.csv"))
    assert counts(out)["series_found"] == 14 and "1 finished series are not in the data any more" in caplog.text
    assert list((out / "volumes").glob("d0*"))
    fresh = score(data, out="fresh")
    for name in ("images.csv", "series.csv", "patients.csv", "findings.csv", "refused.csv"):
        assert (out / name).read_bytes() == (fresh / name).read_bytes()


def test_from_its_first_moment_on_a_run_says_what_is_left(data, score, monkeypatch):
    """The tables of an earlier run in the folder say that all is complete."""
    out = score(data)
    picture(data / "zz_new.png")
    monkeypatch.setattr(RecordSeries, "__call__", lambda self, engine: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        score(data)
    assert counts(out)["series_left"] == 1


def test_a_broken_file_is_counted_once_and_scored_when_it_is_replaced(data, score, drawn, caplog):
    caplog.set_level(logging.INFO)
    out = score(data)
    for _ in range(2):
        (refused,) = rows(out / "refused.csv")
        assert "m_broken.png" in refused["where"] and counts(out)["series_refused"] == 1
        drawn.clear()
        score(data)
        assert not drawn
    picture(data / "m_broken.png")
    score(data)
    assert "m_broken_0000" in drawn and counts(out)["series_refused"] == 0 and "The files of 1 series have changed" in caplog.text
    assert contents(out) == contents(score(data, out="fresh"))


def test_of_a_series_that_changed_nothing_old_remains(data, score):
    """Pictures and a volume of slices that are not there any more would pass for the new ones."""
    out = score(data)
    assert len(list((out / "heatmaps").glob("d1_*.png"))) == 5 and (out / "volumes" / "d1.nii.gz").is_file()
    (data / "d1.nii.gz").write_bytes((data / "d1.nii.gz").read_bytes()[:-2000])
    picture(data / "a0.png", seed=8)
    score(data)
    assert not list((out / "heatmaps").glob("d1_*.png")) and not (out / "volumes" / "d1.nii.gz").exists()
    assert contents(out) == contents(score(data, out="fresh"))


@pytest.mark.parametrize("flags", [{"num_workers": 2}, {"smoothing_mm": 2.0, "min_volume_ml": 0.01}])
def test_divided_among_processes_and_put_together_the_files_are_the_same(data, score, caplog, flags):
    """Each share by itself, as after the others have died."""
    whole = contents(score(data, out="whole", **flags))
    for rank in (2, 0):
        out = score(data, rank=rank, processes=3, **flags)
        assert counts(out)["series_left"] > 0 and "start it once more" in caplog.text
    assert contents(score(data, **flags)) == whole


def test_an_empty_series_is_finished_too(tmp_path, score):
    data = tmp_path / "data"
    data.mkdir()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(data / "black.png")
    picture(data / "other.png")
    found = counts(score(data))
    assert (found["series"], found["series_empty"], found["empty_slices"], found["slices_scored"]) == (1, 1, 1, 1)


def test_counts_are_those_of_the_data(data, score):
    found = counts(score(data))
    cases = find_cases(data).cases
    assert found["series_found"] == len(cases) == 14 and found["series_refused"] == 1 and found["patients"] == found["series"] == 13
    # Nine pictures, NIfTI volumes of five and six slices of which one each is empty, DICOM series of five and eight.
    assert (
        found["slices_scored"] == N_PICTURES + 4 + 5 + 5 + 8
        and found["empty_slices"] == 2
        and found["files_found"] == N_PICTURES + 1 + 2 + 13
    )


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_scored(data, score, tmp_path, drawn):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match="finished"):
        score(data)
    assert not drawn
