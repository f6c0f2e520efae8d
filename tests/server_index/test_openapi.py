"""Whatever OpenAPI allows or forbids is answered as it says: asked by schemathesis."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from index_folders import make_index, unit_vectors
from running_service import TOKEN, run_service

from server_index.service import ServiceSettings
from server_index.verify import verify


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("contract") / "index"
    make_index(folder, unit_vectors(20)).close()
    settings = ServiceSettings(folder, token=TOKEN, log=False, waiting=1000)
    with run_service(settings) as address:
        yield address, folder
    assert verify(folder) == []


@pytest.mark.parametrize(
    "route", ["/v1/search", "/v1/items", "/v1/items/delete", "/v1/space", "/healthz", "/metrics"]
)
def test_the_contract_holds(served: tuple[str, Path], route: str) -> None:
    check(served[0], route)


def test_the_contract_of_thumbnails_holds(query: Path, index_of_pictures: Path) -> None:
    settings = ServiceSettings(index_of_pictures, bundle=query, log=False, waiting=1000)
    with run_service(settings) as address:
        check(address, "/v1/thumbnail")


def check(address: str, route: str) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operation = next(iter(schema[route].values()))

    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(
        max_examples=60,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        headers = {"authorization": f"Bearer {TOKEN}"}
        case.call_and_validate(headers=headers)

    ask()
