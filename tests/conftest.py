import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_of_this_session(tmp_path_factory):
    """Keeps what tests draw and unpack out of the user's cache, and shares it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_DML_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
