"""What the state API says when it refuses or fails: codes, messages and details."""

from __future__ import annotations

from pillion.blocks.retelling import retold
from pillion.errors import Conflict, Failure, Invalid, Unsupported
from pillion.policy.state_keys import why_illegal
from pillion.wire.error_details import Detail, bad_request, error_info, help_link, resource_info
from pillion.wire.state_json import MALFORMED

_NOT_SUPPORTED = "ERR_STATE_STORE_NOT_SUPPORTED"
_TRANSACTIONS_HELP = "https://docs.dapr.io/reference/components-reference/supported-state-stores/"


def not_configured(store: str) -> Failure:
    """No state store is there at all."""
    return Failure(
        f"state store {store} is not configured",
        code="ERR_STATE_STORE_NOT_CONFIGURED",
        reason="no-component",
        details=[error_info("DAPR_STATE_NOT_CONFIGURED", {})],
    )


def not_found(store: str, app_id: str) -> Failure:
    """No state store has this name."""
    return Invalid(
        f"state store {store} is not found",
        code="ERR_STATE_STORE_NOT_FOUND",
        reason="no-component",
        details=[error_info("DAPR_STATE_NOT_FOUND", {"appID": app_id})],
    )


def illegal_key(store: str, key: str) -> Failure:
    """A key has the separator of prefixes in it."""
    why = why_illegal(key)
    return Invalid(
        why,
        code=MALFORMED,
        reason="illegal-key",
        details=[
            error_info("DAPR_STATE_ILLEGAL_KEY"),
            resource_info("state", store),
            bad_request(key, why),
        ],
    )


def no_transactions(store: str) -> Failure:
    """The store has no transactions."""
    return Unsupported(
        f"state store {store} doesn't support transactions",
        code=_NOT_SUPPORTED,
        details=[
            error_info("DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED"),
            resource_info("state", store),
            help_link(_TRANSACTIONS_HELP, "Which state stores have transactions"),
        ],
    )


def too_many(store: str, count: int, most: int) -> Failure:
    """A transaction is longer than the store takes."""
    return Invalid(
        f"the transaction contains {count} operations, which is more than what the state store "
        f"supports: {most}",
        code="ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
        details=[
            error_info(
                "DAPR_STATE_TOO_MANY_TRANSACTIONS",
                {"currentOpsTransaction": str(count), "maxOpsPerTransaction": str(most)},
            ),
            resource_info("state", store),
        ],
    )


def unknown_operation(name: str) -> Failure:
    """An operation of a transaction is neither upsert nor delete."""
    return Invalid(
        f"operation type {name[:60]} not supported", code="ERR_NOT_SUPPORTED_STATE_OPERATION"
    )


def no_query(store: str) -> Failure:
    """The store does not answer queries."""
    return Unsupported(
        "state store does not support querying",
        code=_NOT_SUPPORTED,
        details=[
            error_info("DAPR_STATE_QUERYING_NOT_SUPPORTED"),
            resource_info("state", store),
        ],
    )


def query_failed(store: str, failure: Failure) -> Failure:
    """A query is wrong, or was not answered."""
    return _as(
        failure,
        "ERR_STATE_QUERY",
        f"state store {store} query failed: {failure.message}",
        error_info("DAPR_STATE_QUERY_FAILED"),
        resource_info("state", store),
    )


def no_encrypted_query(store: str) -> Failure:
    """The store cannot look into what is encrypted."""
    why = Unsupported("its values are encrypted, and cannot be queried")
    return query_failed(store, why)


def no_listing(store: str) -> Failure:
    """The store does not list its keys."""
    return Unsupported(
        f"state store {store} does not support listing keys",
        code=_NOT_SUPPORTED,
        details=[
            error_info("PILLION_STATE_LISTING_NOT_SUPPORTED"),
            resource_info("state", store),
        ],
    )


def no_watch(store: str) -> Failure:
    """The store does not tell of changes."""
    return Unsupported(
        f"state store {store} does not support watching keys",
        code=_NOT_SUPPORTED,
        details=[
            error_info("PILLION_STATE_WATCHING_NOT_SUPPORTED"),
            resource_info("state", store),
        ],
    )


def get_failed(store: str, key: str, failure: Failure) -> Failure:
    """A value could not be read."""
    text = f"fail to get {key} from state store {store}: {failure.message}"
    return _as(failure, "ERR_STATE_GET", text)


def bulk_get_failed(failure: Failure) -> Failure:
    """Values could not be read."""
    return _as(failure, "ERR_STATE_BULK_GET", failure.message)


def save_failed(store: str, failure: Failure) -> Failure:
    """Values could not be saved; 409 and 400 speak of the entity tag alone."""
    text = f"failed saving state in state store {store}: {_about_tag(failure)}"
    return _as(failure, "ERR_STATE_SAVE", text)


def delete_failed(key: str, failure: Failure) -> Failure:
    """A key could not be deleted."""
    text = f"failed deleting state with key {key}: {_about_tag(failure)}"
    return _as(failure, "ERR_STATE_DELETE", text)


def transaction_failed(failure: Failure) -> Failure:
    """Nothing of a transaction was done."""
    text = f"error while executing state transaction: {_about_tag(failure)}"
    return _as(failure, "ERR_STATE_TRANSACTION", text)


def list_failed(store: str, failure: Failure) -> Failure:
    """Keys could not be listed."""
    text = f"failed listing keys of state store {store}: {failure.message}"
    return _as(failure, "ERR_STATE_LIST", text)


def worst(errors: list[tuple[str, Failure]]) -> Failure:
    """Return one failure for all those of one request, each with its key.

    A tag that does not hold tells most: the caller reads again and repeats. Then one that is none.
    """
    first = min((failure for _, failure in errors), key=_rank)
    if len(errors) == 1:
        return first
    shown = "; ".join(f"{key}: {failure.message}" for key, failure in errors[:10])
    more = f"; and {len(errors) - 10} more" if len(errors) > 10 else ""
    text = f"{len(errors)} items were not saved: {shown}{more}"
    return retold(first, first.code, text)


def _rank(failure: Failure) -> int:
    if isinstance(failure, Conflict):
        return 0
    return 1 if _is_about_tag(failure) else 2


def _is_about_tag(failure: Failure) -> bool:
    return isinstance(failure, Conflict) or failure.reason == "etag-invalid"


def _about_tag(failure: Failure) -> str:
    if isinstance(failure, Conflict):
        return f"possible etag mismatch. error from state store: {failure.message}"
    if _is_about_tag(failure):
        return f"invalid etag value: {failure.message}"
    return failure.message


def _as(failure: Failure, code: str, message: str, *details: Detail) -> Failure:
    # Statuses go by class: any other mistake than a tag's is an error of the store, which is 500.
    other = isinstance(failure, Invalid) and not _is_about_tag(failure)
    return retold(failure, code, message, details, Failure if other else None)
