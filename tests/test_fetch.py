"""Fetching tables: from a local server, with what goes wrong said in a sentence and never a traceback."""

import functools
import hashlib
import http.server
import threading

import pytest
import yaml

from cxrlib.base import paths
from cxrlib.commands import fetch
from cxrlib.releases import fetching, owner_tables

CONTENT = {"a.csv": b"image_id\n1\n", "b.csv": b"image_id\n2\n"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def owner(tmp_path):
    """Serve the owner's files; return the address."""
    folder = tmp_path / "owner"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Let $CXR_DATA and the root be empty folders; return where labels go."""
    data = tmp_path / "data"
    monkeypatch.setenv("CXR_DATA", str(data))
    monkeypatch.setattr(paths, "ROOT", tmp_path / "root")
    return data / "labels"


@pytest.fixture
def sources(monkeypatch):
    """Put two fetched files and one by hand in the place of the real list."""

    def put(address):
        def pinned(name):
            return fetching.File(f"{address}/{name}", hashlib.sha256(CONTENT[name]).hexdigest())

        files = {
            "set/a.csv": pinned("a.csv"),
            "set/b.csv": pinned("b.csv"),
            "hand.csv": fetching.File(None, "0" * 64, "ask the owner"),
        }
        monkeypatch.setattr(fetching, "FILES", files)
        monkeypatch.setattr(
            fetching, "WANTED", {"google_four_readers": ("set/a.csv", "set/b.csv"), "siim": ("hand.csv",)}
        )
        return files

    return put


def test_fetches_says_the_terms_and_does_it_once(owner, home, sources, capsys):
    sources(owner)
    assert fetch.main(["google_four_readers"]) == 0
    said = capsys.readouterr().out
    assert "0 of 2 files are here" in said and "set/a.csv is fetched" in said
    assert said.index("Terms: research and educational purposes only") < said.index("is fetched")
    assert {p.name: p.read_bytes() for p in (home / "set").iterdir()} == CONTENT
    sources("http://127.0.0.1:9")  # nobody there, and nobody is asked
    assert fetch.main(["google_four_readers"]) == 0
    assert capsys.readouterr().out == "google_four_readers: 2 of 2 files are here.\n"


def test_without_cxr_data_they_go_below_the_root(owner, home, sources, tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_DATA", "")
    sources(owner)
    with pytest.raises(SystemExit, match="this is no clone of the repository: set CXR_DATA"):
        fetch.main(["google_four_readers"])
    (tmp_path / "root").mkdir(exist_ok=True)
    (tmp_path / "root" / "dvc.yaml").write_text("")
    assert fetch.main(["google_four_readers"]) == 0
    place = tmp_path / "root" / "data" / "sources" / "labels" / "set" / "a.csv"
    assert place.exists() and paths.source_path("labels/set/a.csv") == place == owner_tables.find_labels("set/a.csv")
    monkeypatch.setenv("CXR_DATA", str(tmp_path / "data"))  # set later: they are still found
    assert fetch.main(["google_four_readers", "--list"]) == 0


def test_list_fetches_nothing(owner, home, sources, capsys):
    sources(owner)
    assert fetch.main(["--list"]) == 1
    said = capsys.readouterr().out
    assert "set/a.csv is missing." in said and "hand.csv is missing." in said and not home.exists()


def test_no_network_is_one_sentence_a_file(home, sources, capsys):
    files = sources("http://127.0.0.1:9")
    assert fetch.main(["google_four_readers"]) == 1
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if "could not be fetched" in line]
    assert len(lines) == 2
    for line, name in zip(lines, ("a.csv", "b.csv"), strict=True):
        pinned = files[f"set/{name}"]
        assert "127.0.0.1:9 does not answer" in line and pinned.address in line and pinned.sha256 in line
        assert str(home / "set" / name) in line and line.endswith(").")


def test_a_file_that_is_gone(owner, home, sources, capsys, tmp_path):
    sources(owner)
    (tmp_path / "owner" / "b.csv").unlink()
    assert fetch.main(["google_four_readers"]) == 1
    said = capsys.readouterr().out
    assert "set/a.csv is fetched" in said and "set/b.csv could not be fetched (404" in said


def test_a_wrong_sha256_is_not_kept(owner, home, sources, capsys, tmp_path):
    sources(owner)
    (tmp_path / "owner" / "b.csv").write_text("image_id\n3\n")
    assert fetch.main(["google_four_readers"]) == 1
    said = capsys.readouterr().out
    assert "b.csv is now another file than the one pinned" in said and "not kept" in said
    assert [p.name for p in (home / "set").iterdir()] == ["a.csv"]


def test_another_file_that_lies_there_is_not_overwritten(owner, home, sources, capsys):
    files = sources(owner)
    (home / "set").mkdir(parents=True)
    (home / "set" / "a.csv").write_text("mine")
    assert fetch.main(["google_four_readers"]) == 1
    said = capsys.readouterr().out
    assert (
        "a.csv is not the file that this project was tested with" in said and "remove it and run this again" in said
    )
    assert files["set/a.csv"].address in said and (home / "set" / "a.csv").read_text() == "mine"
    (home / "hand.csv").write_text("mine")
    assert fetch.main(["siim"]) == 0  # the owner's file may be a later one: said, and used
    assert "used all the same" in capsys.readouterr().out


def test_by_hand(home, sources, capsys):
    sources("http://127.0.0.1:9")
    assert fetch.main(["siim"]) == 1
    said = capsys.readouterr().out
    assert f"hand.csv is not fetched: ask the owner, and put it into {home} (SHA-256 {'0' * 64})." in said


def test_a_folder_that_cannot_be_written(owner, home, sources, capsys):
    sources(owner)
    home.parent.mkdir()
    home.write_text("a file where the folder should be")
    assert fetch.main(["google_four_readers"]) == 1
    assert "could not be written to" in capsys.readouterr().out


def test_names(home, capsys):
    with pytest.raises(SystemExit) as stopped:
        fetch.main(["gogle"])
    assert (
        stopped.value.code == 2 and "no label set 'gogle'; there are google_four_readers" in capsys.readouterr().err
    )
    assert fetch.main(["nih_reports"]) == 0
    assert "in the torchxrayvision package; nothing to fetch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"address": "https://a/b.csv", "sha256": "ab12"}, "'sha256' is 'ab12'; write 64 hexadecimal digits"),
        ({"address": "https://a/b.csv", "sha256": "g" * 64}, "'sha256' is 'ggg"),
        ({"address": "https://a/b.csv", "sha256": 10**63}, "'sha256' is 1000"),
        ({"address": "https://a/b.csv"}, "has an 'address' and lacks 'sha256'"),
        ({"address": "https://a/b.csv", "sha256": "0" * 64, "by_hand": "ask"}, "needs either 'address' or 'by_hand'"),
        ({"sha256": "0" * 64}, "needs either 'address' or 'by_hand'"),
        ({"adress": "https://a/b.csv"}, "has an unknown key 'adress'; known are address, sha256, by_hand"),
        ({"by_hand": ["ask"]}, "'by_hand' is \\['ask'\\], which is no text"),
        (None, "is None; write its fields below it: address, sha256, by_hand"),
    ],
)
def test_an_address_that_is_wrong_is_one_sentence(tmp_path, entry, message):
    path = tmp_path / "addresses.yaml"
    path.write_text(yaml.safe_dump({"set/b.csv": entry}))
    with pytest.raises(ValueError, match=rf"addresses\.yaml, entry 'set/b\.csv':? {message}"):
        fetching.read_addresses(path)


def test_the_owners_whole_file_does_as_well(home):
    path = "openi_gold/openi_gold_dev.csv"
    assert fetching.state(path) == "missing"
    (home / "openi_gold").mkdir(parents=True)
    (home / "openi_gold" / "openi_gld_std14.csv").write_text("whole")
    assert fetching.state(path) == "here"


def test_every_file_of_the_catalogue_is_in_the_list():
    wanted = [path for files in fetching.WANTED.values() for path in files]
    assert sorted(wanted) == sorted(fetching.FILES) and len(set(wanted)) == len(wanted)
    for path, file in fetching.FILES.items():
        assert (file.address is None) == bool(file.by_hand), path
        if file.address:
            commit = file.address.split("/")[5]
            assert file.address.startswith("https://raw.githubusercontent.com/") and len(commit) == 40, path
            assert len(file.sha256) == 64, path
    pins = [file.sha256 for file in fetching.FILES.values() if file.sha256]
    assert len(set(pins)) == len(pins)


def test_the_files_here_are_the_pinned_ones(label_tables):
    assert {path: fetching.state(path) for path in fetching.FILES} == dict.fromkeys(fetching.FILES, "here")
    assert fetch.main(["--list"]) == 0
