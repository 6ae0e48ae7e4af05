import os
import re
import signal
import stat
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from define.files import atomic_write, check_place, checksum, new_folder, write_bytes, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "numbers.json"
    write_text(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    with atomic_write(path) as draft:
        draft.write_bytes(b"new")
        assert path.read_bytes() == b"\xc3\xa9\n" and draft.parent == tmp_path
    assert path.read_bytes() == b"new" and names(tmp_path) == ["numbers.json"]
    with pytest.raises(RuntimeError), atomic_write(path) as draft:
        draft.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"new" and names(tmp_path) == ["numbers.json"]


def test_synced_before_and_after_it_is_renamed(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def sync(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def rename(*paths):
        done.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    write_bytes(tmp_path / "file", b"1")
    assert done == ["file", "rename", "folder"]


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_the_mode_is_what_the_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file") as draft:
            private = tmp_path / "private"
            private.write_bytes(b"1")
            private.chmod(0o600)
            private.replace(draft)  # as a library does that writes safely by itself
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_folder_that_is_not_there_is_named(tmp_path):
    file = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError, match=f"^{file} cannot be written: {file.parent} is no"):
        write_text(file, "")


def test_a_place_that_may_not_be_written_is_named(tmp_path, monkeypatch):
    check_place(tmp_path / "new" / "folder")
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    with pytest.raises(PermissionError, match=f"may not write to {tmp_path}"):
        check_place(tmp_path / "new" / "folder")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_bytes(tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"1"


def test_what_is_no_regular_file(tmp_path):
    write_text(os.devnull, "nothing")
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path, "nothing")
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "file", "nothing")
    assert names(tmp_path) == []


def test_a_full_disk_leaves_the_old_file(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "file"
    write_bytes(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            write_bytes(path, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


WRITER = """
import sys
from define.files import atomic_write
with atomic_write(sys.argv[1]) as draft:
    draft.write_bytes(b"half")
    print(draft, flush=True)
    sys.stdin.read()
"""


def test_drafts_of_killed_processes_are_removed_and_others_stay(tmp_path):
    path = tmp_path / "a+b.txt"
    command = [sys.executable, "-c", WRITER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as alive:
        drafts = [process.stdout.readline().strip() for process in (killed, alive)]
        killed.kill()
        killed.wait()
        assert all(map(os.path.exists, drafts))
        write_bytes(path, b"1")
        assert [os.path.exists(draft) for draft in drafts] == [False, True]
        # Another machine's is left alone for a day; then nobody writes it any more.
        other = tmp_path / re.sub(r"\.[0-9a-f]+-", ".00000000-", os.path.basename(drafts[0]))
        other.write_bytes(b"half")
        write_bytes(path, b"2")
        assert other.exists()
        os.utime(other, (0, 0))
        (tmp_path / "other.partial").touch()
        write_bytes(path, b"3")
        assert not other.exists() and (tmp_path / "other.partial").exists()
        alive.stdin.close()
    assert path.read_bytes() == b"half" and names(tmp_path) == ["a+b.txt", "other.partial"]


def test_checksum(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert checksum(tmp_path / "file").startswith("ba7816bf8f01cfea")


def test_a_new_folder_takes_no_place_of_a_link(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="exists already"), new_folder(tmp_path / "out"):
        pytest.fail("what would be lost is not begun")


def test_what_safetensors_says_of_a_full_disk_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="out cannot be written"):
        with new_folder(tmp_path / "out") as draft:
            draft.mkdir()
            save_file({"a": torch.ones(2)}, draft / "nowhere" / "model.safetensors")
    assert not names(tmp_path)
