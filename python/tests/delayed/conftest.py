import pytest

import dagmar


@pytest.fixture(scope="package")
def client(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("runs"))
        with dagmar.Client(threads_per_worker=2) as client:
            yield client
