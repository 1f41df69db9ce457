"""SQL of row-level security: the functions that name the collections of a transaction, and the condition of policies.

Both have a form for one PostgreSQL server and a form for Citus. One server computes a sub-select of a policy once per
statement, and a plain expression for every row. Citus permits no sub-selects in policies of distributed tables, and it
passes a setting to its nodes only if a `SET LOCAL` statement sets it.
"""

from dataclasses import dataclass

COLLECTIONS_SETTING, ALL_COLLECTIONS_SETTING = "registry.collections", "registry.everything"
"""Settings of a transaction that the policies read: comma-separated collection ids; `on` for all collections."""
_LIST = f"current_setting('{COLLECTIONS_SETTING}', true)"
_EXTENDED = f"concat_ws(',', nullif({_LIST}, ''), id::text)"
_FIRST, _ANY = f"nullif(split_part({_LIST}, ',', 1), '')::uuid", f"string_to_array({_LIST}, ',')::uuid[]"
_ALL = f"current_setting('{ALL_COLLECTIONS_SETTING}', true)"


@dataclass(frozen=True, slots=True)
class RowSecurity:
    """One form of the functions and policies.

    Attributes:
        functions: statements that create or replace the functions `allow_collection` and `allow_all_collections`.
        condition: the condition on a row of a table with a column `collection_id`. The first collection is compared
            separately because most transactions access a single one.
    """

    functions: tuple[str, str]
    condition: str


def _create(signature: str, language: str, body: str) -> str:
    return f"CREATE OR REPLACE FUNCTION public.{signature} RETURNS text LANGUAGE {language} AS $$ {body} $$"


def _set_on_nodes(statement: str) -> str:
    """Returns the body of a function that executes a SET LOCAL statement here and on every node of the transaction."""
    return (
        "BEGIN PERFORM set_config('citus.propagate_set_commands', 'local', true); "
        f"EXECUTE {statement}; RETURN 'on'; END"
    )


def _once(expression: str) -> str:
    """Returns a sub-select, which PostgreSQL computes once per statement."""
    return f"(SELECT {expression})"


def _condition(first: str, every: str, permitted: str) -> str:
    is_permitted = f"collection_id = {first} OR {every} IS NOT DISTINCT FROM 'on'"
    return f"{is_permitted} OR collection_id = ANY ({permitted})"


_ONE, _EVERY = "allow_collection(id uuid)", "allow_all_collections()"
SINGLE_SERVER = RowSecurity(
    (
        _create(_ONE, "sql", f"SELECT set_config('{COLLECTIONS_SETTING}', {_EXTENDED}, true)"),
        _create(_EVERY, "sql", f"SELECT set_config('{ALL_COLLECTIONS_SETTING}', 'on', true)"),
    ),
    _condition(_once(_FIRST), _once(_ALL), f"{_once(_ANY)}::uuid[]"),
)
CITUS = RowSecurity(
    (
        _create(_ONE, "plpgsql", _set_on_nodes(f"format('SET LOCAL {COLLECTIONS_SETTING} = %L', {_EXTENDED})")),
        _create(_EVERY, "plpgsql", _set_on_nodes(f"'SET LOCAL {ALL_COLLECTIONS_SETTING} = ''on'''")),
    ),
    _condition(_FIRST, _ALL, _ANY),
)
