import pytest
from tiny_models import MODELS
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()


@pytest.fixture(params=list(MODELS))
def kind(request):
    return request.param
