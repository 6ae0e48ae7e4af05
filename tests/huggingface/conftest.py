from importlib.util import find_spec

import pytest

if find_spec("transformers") is None:  # a file that is not imported says what it lacks
    MODELS = {}
else:
    from tiny_models import MODELS
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@pytest.fixture(params=list(MODELS))
def kind(request):
    return request.param
