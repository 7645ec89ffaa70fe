"""The cache of cases: never stale, never broken, never larger than its bound."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import signal
import stat
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Lambda, RandGaussianNoise
from PIL import Image
from safetensors.torch import save_file

from monai_anomaly.data import CaseCache
from monai_anomaly.data.cache import case_cache as module
from monai_anomaly.errors import OptionError
from monai_anomaly.transforms import MarkEmptySlicesd, ResizeSlicesd, ScaleIntensityByModalityd

KEYS = [f"{number:064x}" for number in range(40)]


def tensors(value: float = 1.0, n: int = 1000) -> dict[str, torch.Tensor]:
    return {
        "image": torch.full((n,), value),
        "mask": torch.zeros(0, 1, 4, 4, dtype=torch.uint8),
        "empty": torch.tensor([True, False]),
        "affine": torch.eye(4, dtype=torch.float64) * value,
        "flag": torch.tensor(True),
    }


def same(one, other) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one)


@pytest.fixture
def cache(tmp_path) -> CaseCache:
    return CaseCache(tmp_path / "cache")


@pytest.fixture
def case(tmp_path):
    for name in ("image", "mask"):
        Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / f"{name}.bmp")
    return {"image": str(tmp_path / "image.bmp"), "mask": str(tmp_path / "mask.bmp"), "label": 1}


def chain(**options) -> Compose:
    return Compose([ScaleIntensityByModalityd("image", **options), MarkEmptySlicesd("image")])


def change_last_byte(path: str) -> None:
    """An edit that keeps the size and, put back by a tool that means well, the time."""
    before = os.stat(path)
    content = bytearray(Path(path).read_bytes())
    content[-1] ^= 255
    Path(path).write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("part", ["image", "mask"])
def test_an_edited_file_has_another_key_even_with_its_size_and_time(cache, case, part):
    key = cache.key(case, chain())
    assert len(key) == 64 and key == cache.key(dict(case), chain()) == CaseCache(cache.folder / "elsewhere").key(case, chain())
    change_last_byte(case[part])
    assert cache.key(case, chain()) != key


def test_an_edit_within_one_step_of_a_coarse_clock_is_seen(cache, case, monkeypatch):
    exact = os.stat

    def coarse(path, **options):
        """Times in steps of an hour, as if on a very old file system."""
        state = exact(path, **options)
        hours = {name: -(-getattr(state, name) // (3600 * 10**9)) * 3600 * 10**9 for name in ("st_mtime_ns", "st_ctime_ns", "st_atime_ns")}
        return os.stat_result(state[:10], hours)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", coarse)
        key = cache.key(case, chain())
        assert key == cache.key(case, chain())
        change_last_byte(case["image"])
        assert cache.key(case, chain()) != key


def test_a_file_that_is_older_is_known_by_its_times(cache, case, monkeypatch):
    monkeypatch.setattr(module, "YOUNG_NS", 0)
    key = cache.key(case, chain())
    assert key == cache.key(case, chain())
    time.sleep(0.05)  # longer than the step of any clock that counts as fine
    change_last_byte(case["image"])
    assert cache.key(case, chain()) != key


def test_another_step_option_or_case_has_another_key(cache, case, tmp_path):
    number = 1
    others = [
        chain(preset="image"), chain(ct_window="bone"), chain(ct_window=[0, 81]), Compose([ScaleIntensityByModalityd("image")]),
        Compose([*chain().transforms, ResizeSlicesd("image", 8)]), Compose([*chain().transforms, ResizeSlicesd("image", 9)]),
        Lambda(lambda value: value + number), Lambda(lambda value: value - number),
    ]  # fmt: skip
    (tmp_path / "copy.bmp").write_bytes(Path(case["image"]).read_bytes())
    cases = [case | {"image": str(tmp_path / "copy.bmp")}, case | {"label": 0}, {"image": case["image"], "label": 1}]
    keys = [cache.key(case, transform) for transform in (chain(), *others)] + [cache.key(other, chain()) for other in cases]
    assert None not in keys and len(set(keys)) == len(keys)
    changed = chain()
    changed.transforms[0].preset = "image"
    assert cache.key(case, changed) == keys[1]


def test_what_cannot_be_described_is_not_cached_and_said_once(cache, case, caplog):
    assert cache.key(case, Compose([RandGaussianNoise()])) is None and cache.key(case, Compose([RandGaussianNoise()])) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "RandGaussianNoise" in caplog.text


def test_a_file_that_is_not_there_has_no_key_and_no_warning(cache, case, tmp_path, caplog):
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path / "gone.png"), "a\0b.png", str(tmp_path / "pipe"), str(tmp_path)):
        assert cache.key(case | {"image": name}, chain()) is None
    assert not caplog.records


def test_what_is_stored_comes_back_and_is_nobodys_to_change(cache):
    assert cache.load(KEYS[0]) is None and cache.store(KEYS[0], tensors())
    loaded = cache.load(KEYS[0])
    assert same(loaded, tensors())
    loaded["image"] += 1
    assert same(CaseCache(cache.folder).load(KEYS[0]), tensors()) and same(pickle.loads(pickle.dumps(cache)).load(KEYS[0]), tensors())


def test_an_entry_is_mapped_not_read(cache):
    def anonymous_kb() -> int:
        return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))

    if not Path("/proc/self/status").exists():
        pytest.skip("asks Linux for the memory in use")
    cache.store(KEYS[0], {"image": torch.ones(32 * 2**20)})
    before = anonymous_kb()
    loaded = cache.load(KEYS[0])
    assert float(loaded["image"].sum()) == 32 * 2**20 and anonymous_kb() - before < 16 * 2**10  # of 128 MiB


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path, place=-100):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def linked(path):
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


DAMAGE = {
    "truncated": truncated,
    "a flipped bit in the pixels": flipped,
    "a flipped bit in the header": lambda path: flipped(path, 20),
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(os.urandom(5000)),
    "a header that claims 2^60 bytes": lambda path: path.write_bytes((2**60).to_bytes(8, "little") + b"{}"),
    "another's tensors": lambda path: save_file(tensors(2.0), path),
    "another's tensors of another type": lambda path: save_file({"image": torch.ones(9, dtype=torch.bfloat16)}, path),
    "another entry": lambda path: path.write_bytes((path.parent / f"{KEYS[1]}.safetensors").read_bytes()),
    "a link": linked,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_or_foreign_entry_is_absent_and_removed(cache, damage):
    cache.store(KEYS[0], tensors())
    cache.store(KEYS[1], tensors(2.0))
    path = cache.folder / f"{KEYS[0]}.safetensors"
    path.unlink() if damage is linked else None
    cache.store(KEYS[0], tensors())
    damage(path)
    fresh = CaseCache(cache.folder)
    assert fresh.load(KEYS[0]) is None and not os.path.lexists(path) and same(fresh.load(KEYS[1]), tensors(2.0))
    assert fresh.store(KEYS[0], tensors(3.0)) and same(fresh.load(KEYS[0]), tensors(3.0))


def test_a_folder_in_place_of_an_entry_stays(cache, caplog):
    cache.store(KEYS[1], tensors())
    (cache.folder / f"{KEYS[0]}.safetensors").mkdir()
    assert cache.load(KEYS[0]) is None and not cache.store(KEYS[0], tensors()) and "Nothing more is cached" in caplog.text


def sizes(folder) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def age(cache, number, seconds):
    then = time.time() - seconds
    os.utime(cache.folder / f"{KEYS[number]}.safetensors", (then, then))


def test_those_used_longest_ago_make_room(tmp_path):
    cache = CaseCache(tmp_path / "cache", max_bytes=20_000)  # entries of about 4.8 kB
    for number in range(3):
        assert cache.store(KEYS[number], tensors())
        age(cache, number, 1000 - number)
    assert cache.load(KEYS[0]) is not None  # now the youngest
    assert cache.store(KEYS[3], tensors()) and cache.store(KEYS[4], tensors())
    assert [cache.load(KEYS[number]) is not None for number in range(5)] == [True, False, True, True, True]
    for number in range(5, 40):
        cache.store(KEYS[number], tensors())
        assert sizes(cache.folder) <= 20_000


def test_a_bound_that_was_lowered_holds_after_the_next_write(tmp_path):
    large = CaseCache(tmp_path / "cache")
    for key in KEYS:
        large.store(key, tensors())
    small = CaseCache(tmp_path / "cache", max_bytes=15_000)
    assert small.store(KEYS[0], tensors()) and sizes(tmp_path / "cache") <= 15_000 and small.load(KEYS[0]) is not None


def test_a_case_larger_than_the_cache_is_not_stored(tmp_path, caplog):
    cache = CaseCache(tmp_path / "cache", max_bytes=20_000)
    cache.store(KEYS[0], tensors())
    assert not cache.store(KEYS[1], tensors(n=100_000)) and not cache.store(KEYS[2], tensors(n=200_000))
    assert cache.load(KEYS[0]) is not None and len(caplog.records) == 1 and "cache_gb" in caplog.text


@pytest.mark.parametrize("bound", [0, -1, float("nan")])
def test_a_bound_that_is_none_is_refused(tmp_path, bound):
    with pytest.raises(OptionError, match="more than 0"):
        CaseCache(tmp_path, max_bytes=bound)


def test_files_of_others_stay_and_leftovers_of_killed_runs_go(tmp_path, caplog):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    others = ["thesis.docx", "weights.safetensors", f".{KEYS[0]}.safetensors.young.part", f".{KEYS[0]}.safetensors.0123456789ab.part"]
    leftover = folder / f".{KEYS[0]}.safetensors.ba9876543210.part"
    for name in (*others, leftover.name):
        (folder / name).write_bytes(bytes(30_000))
        os.utime(folder / name, (0, 0)) if name != others[3] else None
    cache = CaseCache(folder, max_bytes=15_000)
    for key in KEYS[:8]:
        assert cache.store(key, tensors())
    assert all((folder / name).stat().st_size == 30_000 for name in others) and not leftover.exists()
    assert "chmod 700" in caplog.text and len(caplog.records) == 1 and stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.parametrize("there", [False, True])
def test_the_folder_is_private_and_says_what_it_is(tmp_path, there, caplog):
    folder = tmp_path / "a" / "cache"
    if there:
        folder.mkdir(parents=True, mode=0o755)
    cache = CaseCache(folder)
    assert folder.exists() == there
    cache.store(KEYS[0], tensors())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and not caplog.records
    assert sorted(path.name for path in folder.iterdir()) == [f"{KEYS[0]}.safetensors", "README.txt"]
    text = (folder / "README.txt").read_text()
    assert "PIXELS OF PATIENTS" in text and "delete the folder at any time" in text


def test_a_folder_that_cannot_be_made_costs_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    cache = CaseCache(tmp_path / "file" / "cache")
    assert [cache.store(key, tensors()) for key in KEYS[:3]] == [False] * 3 and cache.load(KEYS[0]) is None
    assert len(caplog.records) == 1 and "Nothing more is cached" in caplog.text


def in_a_process(work, *arguments):
    """Fork: starting Python and torch anew would take seconds."""
    process = multiprocessing.get_context("fork").Process(target=on_one_thread, args=(work, *arguments))
    process.start()
    return process


def on_one_thread(work, *arguments):
    """As PyTorch's loaders do it: the threads that torch had before the fork are not there, and it would wait for them for ever."""
    torch.set_num_threads(1)
    work(*arguments)


def use_a_read_only_folder(folder, answer):
    if os.geteuid() == 0:  # root may write everywhere
        os.setgid(65534)
        os.setuid(65534)
    cache = CaseCache(folder)
    stored = [cache.store(key, tensors()) for key in KEYS[1:4]]
    answer.put((same(cache.load(KEYS[0]) or {}, tensors()), stored, len(cache._said)))


def test_a_read_only_folder_still_gives_what_it_has():
    answer = multiprocessing.get_context("fork").SimpleQueue()
    with tempfile.TemporaryDirectory() as above:  # pytest's own folders are closed to other users
        folder = Path(above) / "cache"
        CaseCache(folder).store(KEYS[0], tensors())
        Path(above).chmod(0o755)
        folder.chmod(0o500)
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
        process = in_a_process(use_a_read_only_folder, folder, answer)
        assert answer.get() == (True, [False] * 3, 1)
        process.join()
        folder.chmod(0o700)


def write_on_a_full_disk(folder, answer):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))  # what is longer ends as on a full disk: with an OSError in the middle
    cache = CaseCache(folder)
    answer.put(
        [cache.store(KEYS[0], tensors()), cache.store(KEYS[1], tensors(n=100_000)), cache.store(KEYS[2], tensors()), len(cache._said)]
    )


def test_a_full_disk_leaves_whole_entries_and_nothing_else(tmp_path):
    answer = multiprocessing.get_context("fork").SimpleQueue()
    process = in_a_process(write_on_a_full_disk, tmp_path / "cache", answer)
    assert answer.get() == [True, False, False, 1]
    process.join()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [f"{KEYS[0]}.safetensors", "README.txt"]
    assert same(CaseCache(tmp_path / "cache").load(KEYS[0]), tensors())


def write_many(folder, rounds, answer):
    cache = CaseCache(folder, max_bytes=60_000)
    good = True
    for turn in range(rounds):
        for number in np.random.default_rng(turn).permutation(40):
            good &= cache.store(KEYS[number], tensors(float(number)))
            found = cache.load(KEYS[number])
            good &= found is None or same(found, tensors(float(number)))  # the other one may have made room
    answer.put(bool(good))


def test_two_processes_at_once_leave_whole_entries_within_the_bound(tmp_path):
    answer = multiprocessing.get_context("fork").SimpleQueue()
    processes = [in_a_process(write_many, tmp_path / "cache", 5, answer) for _ in range(2)]
    assert [answer.get() for _ in processes] == [True, True]
    for process in processes:
        process.join()
    cache = CaseCache(tmp_path / "cache", max_bytes=60_000)
    found = {number: cache.load(key) for number, key in enumerate(KEYS)}
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == sum(value is not None for value in found.values()) >= 5
    assert all(value is None or same(value, tensors(float(number))) for number, value in found.items())
    assert sizes(tmp_path / "cache") <= 60_000 + 2 * 5000
