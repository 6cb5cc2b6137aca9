"""Business tables: made once, whoever asks."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine, func, inspect, select
from sqlalchemy.orm import Session

from actors.models import CATALOGUE, SCHEMA, ErpTable, Product, create_tables


def test_four_processes_may_create_the_tables_at_once(database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(create_tables, [database_url] * 4)) == [None] * 4


def test_creating_the_tables_again_keeps_what_is_in_them(erp: Engine, database_url: str) -> None:
    with Session(erp) as session, session.begin():
        session.scalars(select(Product).where(Product.article == "A-1001")).one().stock = 3

    create_tables(database_url)

    with Session(erp) as session:
        assert session.scalars(select(Product.stock).where(Product.article == "A-1001")).one() == 3
        assert session.scalars(select(func.count()).select_from(Product)).one() == len(CATALOGUE)


def test_sqlalchemys_spelling_of_the_address_works_too(database_url: str) -> None:
    create_tables(database_url.replace("postgresql://", "postgresql+psycopg2://"))


def test_every_model_has_its_table(erp: Engine) -> None:
    tables = inspect(erp).get_table_names(schema=SCHEMA)

    assert {f"{SCHEMA}.{table}" for table in tables} == set(ErpTable.metadata.tables)
