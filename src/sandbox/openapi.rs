//! The content of `/openapi.json`: the sandbox's description of itself, generated from the table of fields.

use serde_json::{Map, Value, json};

use super::accounts::sortable;
use super::page::{DEFAULT_TOP, DIRECTIONS, MAXIMUM_TOP};
use super::{Auth, SandboxOptions, answer};
use crate::account::{CompanySize, Kind, MEMBERS, Member};

/// Text with a character that is not white space, by Unicode's own list: regex engines differ on `\S`.
const NOT_BLANK: &str = "[^\\t-\\r\\u0020\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";

/// Returns the description, with an account as the example.
pub(super) fn description(options: &SandboxOptions, example: Option<&Map<String, Value>>) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Contact accounts of Reply.io, as the sandbox answers them",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{"url": "/v3"}],
        "security": security(options),
        "paths": {
            "/contact-accounts": {"get": list()},
            "/contact-accounts/{id}": {
                "parameters": [id(example)],
                "get": get(),
                "put": update(options, example),
            },
        },
        "components": {
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": schemas(options),
        },
    })
}

/// A JSON object with more members.
fn with(object: Value, more: Value) -> Value {
    match (object, more) {
        (Value::Object(mut members), Value::Object(more)) => {
            members.extend(more);
            Value::Object(members)
        }
        (object, _) => object,
    }
}

fn security(options: &SandboxOptions) -> Value {
    match options.auth {
        Auth::Both => json!([{"apiKey": []}, {"bearer": []}]),
        Auth::ApiKey => json!([{"apiKey": []}]),
        Auth::Bearer => json!([{"bearer": []}]),
    }
}

fn id(example: Option<&Map<String, Value>>) -> Value {
    let parameter = json!({
        "name": "id", "in": "path", "required": true, "description": "Contact account ID",
        "schema": whole_number(i64::MIN),
    });
    match example.and_then(|account| account.get("id")) {
        Some(id) => with(parameter, json!({"example": id})),
        None => parameter,
    }
}

fn get() -> Value {
    json!({
        "operationId": "getContactAccount",
        "summary": "Get a contact account",
        "responses": responses(&["400", "403", "404"], "ContactAccountDetails", "The account", &json!({})),
    })
}

fn update(options: &SandboxOptions, example: Option<&Map<String, Value>>) -> Value {
    let schema = json!({"schema": reference("ContactAccountUpdate")});
    let content = match example.filter(|account| owner_is_known(options, account)) {
        Some(example) => {
            let writable = MEMBERS.iter().filter(|member| member.writable);
            let example: Value = writable
                .filter_map(|member| Some((member.wire.to_owned(), example.get(member.wire)?.clone())))
                .collect();
            with(schema, json!({"example": example}))
        }
        None => schema,
    };
    let links = json!({
        "read it": {"operationId": "getContactAccount", "parameters": {"id": "$response.body#/id"}},
        "update it again": {"operationId": "updateContactAccount", "parameters": {"id": "$response.body#/id"}},
    });
    let responses = responses(&["400", "403", "404", "413"], "ContactAccount", "The account after the update", &links);
    json!({
        "operationId": "updateContactAccount",
        "summary": "Update a contact account",
        "description": "Replaces the account in full: an optional field that is left out is cleared.",
        "requestBody": {"required": true, "content": {"application/json": content}},
        "responses": responses,
    })
}

fn owner_is_known(options: &SandboxOptions, account: &Map<String, Value>) -> bool {
    let owner = account.get("ownerUserId").and_then(Value::as_i64).unwrap_or_default();
    options.owners.as_ref().is_none_or(|owners| owners.contains(&owner))
}

fn list() -> Value {
    let parameter = |name: &str, schema: Value| json!({"name": name, "in": "query", "schema": schema});
    let names: Vec<&str> = sortable().map(|member| member.wire).collect();
    let links = json!({
        "read the first": {"operationId": "getContactAccount", "parameters": {"id": "$response.body#/items/0/id"}},
        "update the first": {"operationId": "updateContactAccount", "parameters": {"id": "$response.body#/items/0/id"}},
    });
    let responses = responses(&["400", "403"], "ContactAccountPage", "A page of accounts", &links);
    json!({
        "operationId": "listContactAccounts",
        "summary": "List contact accounts",
        "parameters": [
            parameter("top", json!({"type": "integer", "minimum": 1, "maximum": MAXIMUM_TOP, "default": DEFAULT_TOP})),
            parameter("skip", json!({"type": "integer", "minimum": 0, "default": 0})),
            parameter("search", json!({"type": "string"})),
            parameter("sort_by", json!({"type": "string", "enum": names})),
            parameter("sort_direction", json!({"type": "string", "enum": DIRECTIONS})),
        ],
        "responses": responses,
    })
}

/// Returns the answers of an operation: its own, those that every operation has, and its possible problems.
fn responses(problems: &[&'static str], schema: &str, description: &str, links: &Value) -> Value {
    let content = json!({"application/json": {"schema": reference(schema)}});
    let always = json!({
        "200": {"description": description, "content": content, "links": links},
        "401": {
            "description": "The key is missing, wrong or revoked",
            "headers": {"WWW-Authenticate": {"required": true, "schema": {"const": "Bearer"}}},
        },
        "429": with(problem("The quota is used up", &[]), json!({"headers": {
            "Retry-After": {
                "required": true,
                "description": "Seconds until the window resets",
                "schema": {"type": "integer", "minimum": 1},
            },
        }})),
    });
    let described = |status: &&'static str| {
        let problem = match *status {
            "400" => problem("The request is not valid", &[answer::INVALID_INPUT, answer::INVALID_PAGINATION]),
            "403" => problem("A scope or access to the account is missing", &[answer::FORBIDDEN]),
            "404" => problem("There is no such account", &[answer::NOT_FOUND]),
            _ => problem("The body is too long", &[]),
        };
        ((*status).to_owned(), problem)
    };
    with(always, problems.iter().map(described).collect())
}

fn problem(description: &str, codes: &[&str]) -> Value {
    let code = if codes.is_empty() { json!({"code": false}) } else { json!({"code": {"enum": codes}}) };
    json!({
        "description": description,
        "content": {
            "application/problem+json": {"schema": {"allOf": [reference("Problem"), {"properties": code}]}},
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn whole_number(minimum: i64) -> Value {
    json!({"type": "integer", "format": "int64", "minimum": minimum, "maximum": i64::MAX})
}

fn schemas(options: &SandboxOptions) -> Value {
    let brief = |member: &&Member| member.wire != "emailProvider";
    json!({
        "ContactAccountUpdate": {
            "type": "object",
            "properties": properties(MEMBERS.iter().filter(|member| member.writable), |member| sent(member, options)),
            "required": ["name"],
            "additionalProperties": false,
        },
        "ContactAccount": {
            "type": "object",
            "description": "A contact account representing a company or organization",
            "properties": properties(MEMBERS.iter().filter(brief), answered),
            "required": always_answered(),
        },
        "ContactAccountDetails": {
            "type": "object",
            "description": "A contact account with what only a read of one account adds",
            "properties": properties(MEMBERS.iter(), answered),
            "required": always_answered(),
        },
        "ContactAccountPage": {
            "type": "object",
            "properties": {
                "items": {"type": "array", "maxItems": MAXIMUM_TOP, "items": reference("ContactAccount")},
                "hasMore": {"type": "boolean"},
            },
            "required": ["items", "hasMore"],
            "additionalProperties": false,
        },
        "ContactAccountStage": {
            "type": "object",
            "properties": {
                "id": {"type": "integer"}, "name": {"type": "string"}, "colorId": {"type": ["integer", "null"]},
            },
            "required": ["id", "name"],
        },
        "Problem": {
            "type": "object",
            "description": "Problem details (RFC 9457)",
            "properties": {
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "code": {"type": "string"},
                "errors": {"type": "array", "items": reference("ProblemError"), "minItems": 1},
                "extensions": {"type": "object"},
            },
            "required": ["title", "status", "detail", "extensions"],
        },
        "ProblemError": {
            "type": "object",
            "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            "required": ["pointer", "detail"],
        },
    })
}

fn properties<'a>(members: impl Iterator<Item = &'a Member>, schema: impl Fn(&Member) -> Value) -> Value {
    let described =
        |member: &Member| (member.wire.to_owned(), with(schema(member), json!({"description": member.doc})));
    members.map(described).collect()
}

fn always_answered() -> Vec<&'static str> {
    MEMBERS.iter().filter(|member| member.always_answered).map(|member| member.wire).collect()
}

/// A member in the form of an update.
fn sent(member: &Member, options: &SandboxOptions) -> Value {
    match (member.kind, &options.owners) {
        (Kind::Integer, Some(owners)) => json!({"enum": owners}),
        (Kind::Integer, None) => whole_number(1),
        _ if member.wire == "name" => json!({"type": "string", "pattern": NOT_BLANK}),
        _ => answered(member),
    }
}

/// A member in the form of an answer.
fn answered(member: &Member) -> Value {
    let null = !member.always_answered;
    match member.kind {
        Kind::Integer => json!({"type": "integer"}),
        Kind::DateTime => json!({"type": "string", "format": "date-time"}),
        Kind::Stage => json!({"anyOf": [reference("ContactAccountStage"), {"type": "null"}]}),
        Kind::CompanySize => {
            let sizes = CompanySize::DOCUMENTED.iter().map(|size| json!(size));
            json!({"type": ["string", "null"], "enum": sizes.chain([Value::Null]).collect::<Vec<_>>()})
        }
        Kind::Text if null => json!({"type": ["string", "null"]}),
        Kind::Text => json!({"type": "string"}),
    }
}
