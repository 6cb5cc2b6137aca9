import inspect

import dramatiq.errors
import pytest

from pipeline import errors

ALL = [error for _, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, errors.PipelineError)]
WITHOUT_DATA = [error for error in ALL if not inspect.signature(error).parameters.keys() - {"message"}]


@pytest.mark.parametrize("error", WITHOUT_DATA)
def test_the_docstring_is_the_default_message(error):
    assert str(error()) == error.__doc__.strip().splitlines()[0]
    assert str(error("something else")) == "something else"


@pytest.mark.parametrize("error", ALL)
def test_every_error_stands_in_the_tree(error):
    assert error.__name__ in errors.__doc__


def test_an_unreachable_database_is_a_connection_error_of_dramatiq():
    error = errors.DatabaseUnavailable("db.example:5432", "connection refused")

    assert isinstance(error, dramatiq.errors.ConnectionError)
    assert str(error) == "PostgreSQL does not answer at db.example:5432: connection refused"
    assert (error.endpoint, error.reason) == ("db.example:5432", "connection refused")


def test_an_outdated_schema_names_what_is_missing_and_the_command():
    error = errors.SchemaOutdated("pipeline", ["0002_add_tags"])

    assert "0002_add_tags" in str(error)
    assert "pipeline migrate" in str(error)
    assert error.missing == ("0002_add_tags",)


def test_a_changed_migration_is_named():
    assert "0001_create" in str(errors.MigrationChanged("0001_create"))
