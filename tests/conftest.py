"""What several test files need."""

import os
import signal
import sys
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

import cxrlib  # noqa: F401  before torch, which tests import first: one thread a process, as everywhere here

# Read when transformers and huggingface_hub are first imported, so they are set before anything of cxrlib is. No test
# may ask the network: what is not on this machine is refused at once instead of after minutes of retries.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"


@pytest.fixture
def cxr_data():
    """The folder with real radiographs, `$CXR_DATA`; without it the test is skipped."""
    if not os.environ.get("CXR_DATA"):
        pytest.skip("CXR_DATA is not set: no real radiographs here (docs/data.md)")
    folder = Path(os.environ["CXR_DATA"])
    if not (folder / "nih" / "images_1024").is_dir():
        pytest.skip(f"{folder}/nih/images_1024 is not there: no real radiographs here (docs/data.md)")
    return folder


@pytest.fixture
def label_tables():
    """The published label tables that no package has; unless all are here the test is skipped."""
    from cxrlib.releases import catalogue

    missing = [name for name in catalogue.names() if not catalogue.available(name)]
    if missing:
        pytest.skip(f"tables of {', '.join(missing)} are not here: cxr fetch says where from")


@pytest.fixture(scope="session")
def explorer_folder(tmp_path_factory):
    """The explorer, built once for all tests of a worker."""
    from cxrlib.site import explorer

    folder = tmp_path_factory.mktemp("explorer") / "explorer"
    explorer.build(folder)
    return folder


@pytest.fixture(scope="session")
def built_site(tmp_path_factory):
    """The site, built once for all tests of a run, whatever the number of workers: a `site_pages.BuiltSite`."""
    import pickle

    from filelock import FileLock
    from site_pages import BuiltSite

    from cxrlib.base import paths
    from cxrlib.site import building

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "built_site"
    done = folder / "pages.pickle"
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            pages, warnings = building.build_site(paths.ROOT, folder / "site", folder / "work")
            done.write_bytes(pickle.dumps((pages, warnings)))
    return BuiltSite(folder / "site", *pickle.loads(done.read_bytes()))


def pytest_collection_modifyitems(items):
    """Tests in a browser, and of the whole site, take minutes together: they are `slow`."""
    for item in items:
        if "browser" in item.path.parts or "built_site" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


def pytest_configure():
    """Let tests find papermill and dvc where this Python's are, and let Ctrl+C reach what they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background commands without it
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


# Files whose tests share what one of them made or started, such as a pipeline that has run, or a cluster: each file
# goes to one worker.
_WHOLE_FILES = (
    "test_pipeline.py",
    "test_notebooks.py",
    "test_mining.py",
    "test_archive_edition.py",
    "test_lab_browser.py",
    "test_explorer.py",
    "test_explorer_browser.py",
    "test_site.py",
    "test_slurm.py",
)


class _Scheduling(LoadScopeScheduling):
    """Whole files to one worker where tests share what they make, every other test to whichever is free.

    `--dist loadgroup` would say so by marks, but xdist 3.8 does not group anything under pytest 9.
    """

    def _split_scope(self, nodeid):
        file = nodeid.split("::")[0]
        return file if file.endswith(_WHOLE_FILES) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Return the scheduler of `pytest -n`."""
    return _Scheduling(config, log)
