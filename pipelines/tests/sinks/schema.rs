//! The part of JSON Schema that our schemas use. A keyword that is not known here is an error, so that none is ignored.

use serde_json::Value;

/// What is wrong with `value` by `schema`, a part of the document `root`.
pub fn faults(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let Some(rules) = schema.as_object() else {
        return if schema == &Value::Bool(false) { vec![format!("{at}: not allowed")] } else { vec![] };
    };
    let mut found = vec![];
    let mut check = |holds: bool, what: String| {
        if !holds {
            found.push(format!("{at}: {what}, is {value}"));
        }
    };
    let sub = |schema: &Value, value: &Value, at: &str| faults(root, schema, value, at);
    let fits = |schema: &Value| sub(schema, value, at).is_empty();
    let mut inner = vec![];
    for (keyword, rule) in rules {
        match keyword.as_str() {
            "$schema" | "title" | "description" | "$defs" | "then" | "else" | "pattern" => {}
            "$ref" => {
                let path = rule.as_str().unwrap().strip_prefix('#').unwrap();
                inner.extend(sub(root.pointer(path).unwrap(), value, at));
            }
            "type" => {
                let types: Vec<_> = rule.as_array().map_or(vec![rule], |all| all.iter().collect());
                check(types.iter().any(|t| is(value, t.as_str().unwrap())), format!("type {rule}"));
            }
            "enum" => check(rule.as_array().unwrap().contains(value), format!("one of {rule}")),
            "const" => check(rule == value, format!("must be {rule}")),
            "minimum" => {
                check(value.as_f64().is_none_or(|v| v >= rule.as_f64().unwrap()), format!("≥ {rule}"))
            }
            "minItems" => {
                check(
                    value.as_array().is_none_or(|v| v.len() as u64 >= rule.as_u64().unwrap()),
                    keyword.clone(),
                );
            }
            "maxItems" => {
                check(
                    value.as_array().is_none_or(|v| v.len() as u64 <= rule.as_u64().unwrap()),
                    keyword.clone(),
                );
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    inner.extend(sub(rule, item, &format!("{at}/{i}")));
                }
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    let missing = value.is_object() && value.get(name.as_str().unwrap()).is_none();
                    check(!missing, format!("{name} is missing"));
                }
            }
            "properties" | "additionalProperties" => {
                let known = rules.get("properties").and_then(Value::as_object);
                for (name, member) in value.as_object().into_iter().flatten() {
                    let known = known.and_then(|known| known.get(name));
                    let rule = if keyword == "properties" { known } else { known.is_none().then_some(rule) };
                    inner.extend(rule.iter().flat_map(|rule| sub(rule, member, &format!("{at}/{name}"))));
                }
            }
            "oneOf" => {
                let n = rule.as_array().unwrap().iter().filter(|s| fits(s)).count();
                check(n == 1, format!("fits {n} of oneOf"));
            }
            "anyOf" => check(rule.as_array().unwrap().iter().any(fits), "fits none of anyOf".into()),
            "if" => {
                let then = rules.get(if fits(rule) { "then" } else { "else" });
                inner.extend(then.iter().flat_map(|then| sub(then, value, at)));
            }
            unknown => panic!("{at}: schema keyword {unknown} is not known to the test"),
        }
    }
    found.extend(inner);
    found
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    }
}
