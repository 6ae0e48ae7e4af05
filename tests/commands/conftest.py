import pytest


@pytest.fixture(autouse=True)
def _cache(cache):
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run of a trained model and its text."""
    from tiny import arguments, cache_in, write_text  # here: needs the extra

    from define.__main__ import main
    from define.training import Run

    root = tmp_path_factory.mktemp("trained")
    folder, run = write_text(root / "text"), Run(root / "define")
    with cache_in(root / "cache"):
        main(arguments(folder, run.path, "--training.learning_rate", "0.03"))
    return folder, run
