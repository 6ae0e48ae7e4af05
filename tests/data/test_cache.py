import logging
import os
import signal
from pathlib import Path

import forked
import pytest

from define.data import Text, cache


@pytest.fixture
def old(folder):
    """The text has been there for a while."""
    for file in folder.iterdir():
        os.utime(file, (0, 0))
    return folder


def words(folder):
    corpus = Text(folder, min_count=1).open()
    return corpus.decode(corpus.split("train").tolist())


def test_a_text_of_equal_size_and_time_is_not_taken_for_the_one_before(old, monkeypatch):
    path = old / "train.txt"
    monkeypatch.setattr(cache, "_YOUNG", 0)  # as if it had been read after two seconds
    before = words(old)
    status = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text().replace("cat", "dog"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    now = path.stat()
    assert (now.st_size, now.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert words(old) == before.replace("cat", "dog") != before


def test_a_text_that_changes_right_after_it_was_read(old):
    before = words(old)  # its time of change is that of now
    path = old / "train.txt"
    status = path.stat()
    with path.open("r+") as file:
        file.seek(path.read_text().index("cat"))
        file.write("dog")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert words(old) == before.replace("cat", "dog")


def test_a_large_text_is_read_once(old, monkeypatch):
    monkeypatch.setattr(cache, "_YOUNG", 0)
    first = words(old)
    read = []
    monkeypatch.setattr(cache, "checksum", lambda path: read.append(path.name) or "")
    assert words(old) == first and "train.txt" not in read


@pytest.mark.parametrize("name", ["ids.int32", "vocabulary.txt"])
@pytest.mark.parametrize("bit", [0, 77])
def test_a_flipped_bit_is_noticed_and_mended(folder, cache, caplog, name, bit):
    before = words(folder)
    [path] = cache.glob(f"train-*/{name}")
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert words(folder) == before
    assert "is damaged and is built again" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "null", "[]", '{"files": []}', '{"files": {"a": 1}}'])
def test_a_damaged_note_is_noticed_and_mended(folder, cache, content):
    before = words(folder)
    [path] = cache.glob("train-*/source.json")
    path.write_text(content)
    for memory in cache.glob("sources/*"):
        memory.write_text(content)
    assert words(folder) == before


@pytest.mark.parametrize("name", ["characters", "replaced", "digest"])
def test_a_flipped_bit_in_a_note_is_noticed_and_mended(folder, cache, name):
    before = words(folder), Text(folder, min_count=1).open().statistics("train")
    [path] = cache.glob("train-*/source.json")
    content = path.read_text()
    path.write_text(content.replace(name, name.replace("e", "d")))
    assert path.read_text() != content
    assert (words(folder), Text(folder, min_count=1).open().statistics("train")) == before
    assert path.read_text() == content


def test_files_of_a_cache_are_never_executed(folder, cache, tmp_path):
    words(folder)
    code = f"cos\nsystem\n(S'touch {tmp_path / 'planted'}'\ntR.".encode()
    for path in [*cache.glob("*/*")]:
        path.write_bytes(code)
        words(folder)
    assert not (tmp_path / "planted").exists()


def as_nobody(folder):
    """The ids of a text as another user reads them, or why they cannot be kept."""
    os.setgid(65534)
    os.setuid(65534)
    try:
        return Text(folder, cache=folder / "cache").open().split("train").tolist()
    except PermissionError as error:
        return str(error)


@pytest.fixture
def shared():
    """A folder that all users reach: that of a test is its user's alone."""
    if os.name == "nt" or os.getuid() != 0:
        pytest.skip("only root can be another user")
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "train.txt").write_text("a b a\n")
        (folder / "cache").mkdir()
        (folder / "cache").chmod(0o777)
        yield folder


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o666])
def test_a_lock_of_another_user(shared, mode):
    there = Text(shared, cache=shared / "cache").open()
    expected = there.split("train").tolist()
    [found] = (shared / "cache").glob("train-*/ids.int32")
    for path in (*found.parent.iterdir(), found.parent):
        path.unlink() if path.is_file() else path.rmdir()
    [lock] = (shared / "cache").glob("*.lock")
    assert lock.stat().st_mode & 0o777 == 0o666
    lock.chmod(mode)
    assert forked.result(as_nobody, shared) == expected
    # Built by nobody, it serves others too.
    assert Text(shared, cache=shared / "cache").open().split("train").tolist() == expected


def test_a_cache_that_cannot_be_written(shared):
    (shared / "cache").chmod(0o755)
    said = forked.result(as_nobody, shared)
    assert "name another folder for ids of texts in $DEFINE_CACHE" in said
    # One that is there already is read.
    expected = Text(shared, cache=shared / "cache").open().split("train").tolist()
    assert forked.result(as_nobody, shared) == expected


def test_no_home(folder, monkeypatch):
    for name in ("DEFINE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(FileNotFoundError, match=r"no home folder .* \$DEFINE_CACHE"):
        Text(folder).open().split("train")


def test_a_full_disk_keeps_nothing_of_a_text(folder, cache):
    resource = pytest.importorskip("resource")
    (folder / "train.txt").write_text("the cat sat on the mat\n" * 130)  # 3,640 bytes of ids
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            words(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(cache.glob("train-*/ids.int32"))
    assert words(folder).split() == (folder / "train.txt").read_text().split()


def dying(folder):
    cache.cached(folder, "train", {"text": 1}, lambda _: os._exit(7))


def test_what_a_killed_build_left_is_removed_by_the_build_of_another_text(tmp_path):
    assert forked.exit_code(dying, tmp_path) == 7
    (left,) = tmp_path.glob("*.tmp")

    def build(folder):
        assert not left.exists() and folder.exists()

    cache.cached(tmp_path, "train", {"text": 2}, build)
    assert not list(tmp_path.glob("*.tmp"))
