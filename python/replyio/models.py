"""The data types that the client reads and writes.

The fields are those of the table in `src/account.rs`; a test compares the two.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
import html
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from replyio.client import Quota

__all__ = [
    "ClientOptions",
    "CompanySize",
    "ContactAccount",
    "ContactAccountFields",
    "ContactAccountStage",
    "ContactAccountUpdate",
]

CompanySizeText = Literal[
    "Empty",
    "SelfEmployed",
    "2-10",
    "11-50",
    "51-200",
    "201-500",
    "501-1000",
    "1001-5000",
    "5001-10000",
    "10001+",
]


class CompanySize(str, enum.Enum):
    """Company size range. Everywhere, you can use a plain string with the same text instead."""

    EMPTY = "Empty"
    SELF_EMPLOYED = "SelfEmployed"
    FROM_2_TO_10 = "2-10"
    FROM_11_TO_50 = "11-50"
    FROM_51_TO_200 = "51-200"
    FROM_201_TO_500 = "201-500"
    FROM_501_TO_1000 = "501-1000"
    FROM_1001_TO_5000 = "1001-5000"
    FROM_5001_TO_10000 = "5001-10000"
    FROM_10001 = "10001+"

    def __str__(self) -> str:
        """Returns the text that is sent, such as `51-200`."""
        return str.__str__(self)

    def __format__(self, spec: str) -> str:
        """Returns the text that is sent, formatted like a string."""
        return str.__format__(self, spec)


class ClientOptions(TypedDict, total=False):
    """The settings of `ReplyClient` that can differ between clients that share their connections.

    Attributes:
        timeout: The timeout of a whole call in seconds.
        attempt_timeout: The timeout of one attempt in seconds.
        max_attempts: The maximum number of attempts for each request.
        quota: The rate limit. With None, the client does not limit its requests, and waits only if the service asks.
        auth: The header that carries the key.
        act_as: The user, by id or email address, that a master or organization key acts for.
        team_id: The team that a master or organization key acts in.
    """

    timeout: float
    attempt_timeout: float
    max_attempts: int
    quota: Quota | None
    auth: Literal["auto", "x-api-key", "bearer"]
    act_as: int | str | None
    team_id: int | None


class _OptionalFields(TypedDict, total=False):
    """The fields of an update besides the name, each with a description that editors show."""

    description: str | None
    """Optional description."""
    domain_name: str | None
    """Primary domain name."""
    domain_secondary: str | None
    """Secondary domain name."""
    industry: str | None
    """Industry of the company."""
    company_size: CompanySize | CompanySizeText | str | None
    """Company size range, one of the ten values of `CompanySize`."""
    country: str | None
    """Country of the company."""
    state: str | None
    """State or province."""
    city: str | None
    """City."""
    time_zone_id: str | None
    """Time zone identifier."""
    linked_in_url: str | None
    """LinkedIn profile URL."""
    phone: str | None
    """Phone number."""
    twitter_url: str | None
    """Twitter profile URL."""
    logo_url: str | None
    """Company logo URL."""
    email: str | None
    """Contact email address."""
    owner_user_id: int
    """ID of the user who owns this contact account. Positive; cannot be cleared."""


class _RequiredName(TypedDict):
    name: str
    """Contact account name. Not blank."""


class _OptionalName(TypedDict, total=False):
    name: str
    """Contact account name. Not blank."""


class ContactAccountUpdate(_RequiredName, _OptionalFields):
    """The fields of an update that replaces an account in full. The name is required.

    Attributes:
        name: Contact account name. Not blank, required.
        description: Optional description.
        domain_name: Primary domain name.
        domain_secondary: Secondary domain name.
        industry: Industry of the company.
        company_size: Company size range, one of the ten values of `CompanySize`.
        country: Country of the company.
        state: State or province.
        city: City.
        time_zone_id: Time zone identifier.
        linked_in_url: LinkedIn profile URL.
        phone: Phone number.
        twitter_url: Twitter profile URL.
        logo_url: Company logo URL.
        email: Contact email address.
        owner_user_id: ID of the user who owns this contact account. Positive; cannot be cleared.
    """


class ContactAccountFields(_OptionalName, _OptionalFields, total=False):
    """The fields that a patch can change. None of them is required.

    Attributes:
        name: Contact account name. Not blank.
        description: Optional description.
        domain_name: Primary domain name.
        domain_secondary: Secondary domain name.
        industry: Industry of the company.
        company_size: Company size range, one of the ten values of `CompanySize`.
        country: Country of the company.
        state: State or province.
        city: City.
        time_zone_id: Time zone identifier.
        linked_in_url: LinkedIn profile URL.
        phone: Phone number.
        twitter_url: Twitter profile URL.
        logo_url: Company logo URL.
        email: Contact email address.
        owner_user_id: ID of the user who owns this contact account. Positive; cannot be cleared.
    """


@dataclasses.dataclass(frozen=True, slots=True)
class ContactAccountStage:
    """The stage of a contact account. It is read-only.

    Attributes:
        id: Unique identifier of the stage.
        name: Name of the stage.
        color_id: The number of the stage's color, or None.
        extra: Members that the API contract does not list, by their JSON names.
    """

    id: int
    name: str
    color_id: int | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any], hash=False)


@dataclasses.dataclass(frozen=True, slots=True)
class ContactAccount:
    """A contact account: a company or organization, as the service returns it.

    Accounts are immutable, and are compared and hashed by value. Dates are aware `datetime` objects in UTC. If replyio
    cannot read a value that only the service sets, such as a date without a time, the attribute is None, and `extra`
    keeps the original value.

    Attributes:
        id: Unique identifier of the contact account.
        owner_user_id: ID of the user who owns this contact account.
        name: Contact account name.
        linked_prospects_count: Number of contacts linked to this account; None if the answer has no readable value.
        created_date: Date when the account was created; None if the answer has no readable value.
        last_activity_date: Date of the last activity on this account; None if the answer has no readable value.
        description: Optional description.
        domain_name: Primary domain name.
        domain_secondary: Secondary domain name.
        industry: Industry of the company.
        company_size: Company size range; a plain `str` if the service returns a value that `CompanySize` does not have.
        country: Country of the company.
        state: State or province.
        city: City.
        time_zone_id: Time zone identifier.
        linked_in_url: LinkedIn profile URL.
        phone: Phone number.
        twitter_url: Twitter profile URL.
        logo_url: Company logo URL.
        email: Contact email address.
        stage: Current stage of the contact account.
        email_provider: E-mail provider of the account's domain. Not in every answer.
        extra: Members that the API contract does not list, and values that cannot be read, by their JSON names.
    """

    id: int
    owner_user_id: int
    name: str
    linked_prospects_count: int | None
    created_date: datetime.datetime | None
    last_activity_date: datetime.datetime | None
    description: str | None = None
    domain_name: str | None = None
    domain_secondary: str | None = None
    industry: str | None = None
    company_size: CompanySize | str | None = None
    country: str | None = None
    state: str | None = None
    city: str | None = None
    time_zone_id: str | None = None
    linked_in_url: str | None = None
    phone: str | None = None
    twitter_url: str | None = None
    logo_url: str | None = None
    email: str | None = None
    stage: ContactAccountStage | None = None
    email_provider: str | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any], hash=False)

    def to_dict(self, *, by_alias: bool = False) -> dict[str, Any]:
        """Returns the account as a dictionary.

        Args:
            by_alias: True returns the JSON form: the API's names (`linkedInUrl`) and JSON values, with the members of
                `extra` at the same level. False (the default) returns Python names and Python values.

        Returns:
            A new dictionary with every member. A member without a value is None.
        """
        if not by_alias:
            return dataclasses.asdict(self)
        wire = {_alias(name): _json_value(getattr(self, name)) for name in _MEMBER_NAMES}
        return wire | copy.deepcopy(self.extra)

    def update_fields(self) -> ContactAccountUpdate:
        """Returns the fields of an update that changes nothing.

        Read the account with `get_contact_account()`. An account from a list may lack values, and the update would
        clear these fields. If a value is one that an update cannot have, such as a company size that is not one of the
        ten, `update_contact_account()` refuses it.

        Returns:
            The writable fields that have a value, for `update_contact_account(account.id, **fields)`.
        """
        fields: Any = {name: getattr(self, name) for name in ContactAccountFields.__annotations__}
        return {name: value for name, value in fields.items() if value is not None}  # type: ignore[return-value]

    def _repr_html_(self) -> str:
        """Returns the account as an HTML table for a notebook, without empty members."""
        from replyio._replyio import exact_text

        style = "text-align:left;overflow-wrap:anywhere;white-space:pre-wrap"
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="{style}"><bdi>{html.escape(exact_text(_shown(value)))}</bdi></td></tr>'
            for name, value in ((name, getattr(self, name)) for name in (*_MEMBER_NAMES, "extra"))
            if value not in (None, {})
        )
        return f"<table><caption>ContactAccount</caption><tbody>{rows}</tbody></table>"


_MEMBER_NAMES = tuple(field.name for field in dataclasses.fields(ContactAccount) if field.name != "extra")


def _alias(name: str) -> str:
    """Returns the JSON name."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def plain(value: object) -> str:
    """Returns a value that is not text as text, a date in the form of the service."""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime.datetime) else str(value)


def _json_value(value: Any) -> Any:
    """Returns the value in its JSON form."""
    if isinstance(value, datetime.datetime):
        return plain(value)
    if isinstance(value, ContactAccountStage):
        return {"id": value.id, "name": value.name, "colorId": value.color_id} | copy.deepcopy(value.extra)
    return str(value) if isinstance(value, CompanySize) else value


def _shown(value: Any) -> str:
    """Returns the value as text for people."""
    if isinstance(value, ContactAccountStage):
        return f"{value.name} ({value.id})"
    return value.strftime("%Y-%m-%d %H:%M:%S UTC") if isinstance(value, datetime.datetime) else str(value)


_INTEGERS = ("linked_prospects_count", "stage_id", "stage_color_id")
_DATES = ("created_date", "last_activity_date")


def column_types(names: list[str], text: Any) -> dict[str, Any]:
    """Returns the pandas types of the columns, whatever they contain.

    Args:
        names: The names of the columns.
        text: The type that pandas uses for text.

    Returns:
        The type of each column, by name.
    """
    types = dict.fromkeys(names, text)
    types |= dict.fromkeys(("id", "owner_user_id"), "int64") | dict.fromkeys(_INTEGERS, "Int64")
    return types | dict.fromkeys(_DATES, "datetime64[us, UTC]")


def arrow_column(table: Any, types: dict[str, Any]) -> Callable[[str], Any]:
    """Returns a function that converts a column of an Arrow table for pandas, without a Python object for each value.

    Args:
        table: A table of pyarrow.
        types: The types in pandas.

    Returns:
        A function that takes the name of a column.
    """
    from importlib import import_module

    integers = import_module("pandas").Int64Dtype()
    return lambda name: integers.__from_arrow__(table[name]) if types[name] == "Int64" else table[name].to_pandas()
