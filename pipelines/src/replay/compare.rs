//! Two results of a frame beside each other.

use serde_json::Value;

/// One value that is not what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Unlike {
    /// Where it stands, for example `boxes[0].score`.
    pub field: String,
    /// As recorded.
    pub then: Value,
    /// As it is now.
    pub now: Value,
    /// By how much, of numbers: as a share of the larger, or of 1 where both are smaller.
    pub by: Option<f64>,
}

/// Most that are told of one stage.
const MOST: usize = 100;

/// All values that are not what they were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unlikes {
    /// The first of them.
    pub told: Vec<Unlike>,
    /// How many there are.
    pub count: u64,
    /// By how much a number differs at most.
    pub largest: f64,
    /// Whether something differs that is no number.
    pub words: bool,
}

impl Unlikes {
    fn note(&mut self, unlike: Unlike) {
        self.count += 1;
        match unlike.by {
            Some(by) => self.largest = self.largest.max(by),
            None => self.words = true,
        }
        if self.told.len() < MOST {
            self.told.push(unlike);
        }
    }
}

/// Adds everything in which `now` is not `then`; `field` is where both stand.
pub fn compare(field: &str, then: &Value, now: &Value, out: &mut Unlikes) {
    if then == now {
        return;
    }
    match (then, now) {
        (Value::Object(a), Value::Object(b)) => {
            for (name, then) in a {
                compare(&below(field, name), then, b.get(name).unwrap_or(&Value::Null), out);
            }
            for (name, now) in b.iter().filter(|(name, _)| !a.contains_key(*name)) {
                compare(&below(field, name), &Value::Null, now, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (then, now)) in a.iter().zip(b).enumerate().filter(|(_, (then, now))| then != now) {
                compare(&format!("{field}[{at}]"), then, now, out);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            let (then, now) = (a.len().into(), b.len().into());
            out.note(Unlike { field: format!("{field}.length"), then, now, by: None });
        }
        (Value::Number(a), Value::Number(b)) => {
            let by = a.as_f64().zip(b.as_f64()).map(|(a, b)| (a - b).abs() / a.abs().max(b.abs()).max(1.0));
            out.note(Unlike { field: field.to_owned(), then: then.clone(), now: now.clone(), by });
        }
        _ => out.note(Unlike { field: field.to_owned(), then: then.clone(), now: now.clone(), by: None }),
    }
}

fn below(field: &str, name: &str) -> String {
    if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unlike(then: Value, now: Value) -> Vec<(String, Option<f64>)> {
        let mut out = Unlikes::default();
        compare("", &then, &now, &mut out);
        out.told.into_iter().map(|unlike| (unlike.field, unlike.by)).collect()
    }

    #[test]
    fn what_differs_is_told_with_its_place_and_by_how_much() {
        let then =
            json!({ "boxes": [{ "label": "person", "score": 0.5, "xyxy": [10.0, 20.0, 400.0, 50.0] }] });
        assert_eq!(unlike(then.clone(), then.clone()), []);
        let mut now = then.clone();
        now["boxes"][0]["score"] = json!(0.25);
        now["boxes"][0]["xyxy"][2] = json!(410.0);
        now["boxes"][0]["label"] = json!("car");
        let expected = [
            ("boxes[0].label".to_owned(), None),
            ("boxes[0].score".to_owned(), Some(0.25)),
            ("boxes[0].xyxy[2]".to_owned(), Some(10.0 / 410.0)),
        ];
        assert_eq!(unlike(then.clone(), now), expected);
        assert_eq!(unlike(then, json!({ "boxes": [] })), [("boxes.length".to_owned(), None)]);
        assert_eq!(
            unlike(json!({ "class": "clear" }), json!({ "skipped": "when" })),
            [("class".to_owned(), None), ("skipped".to_owned(), None)]
        );
    }

    #[test]
    fn what_comes_behind_many_small_differences_is_seen_all_the_same() {
        let boxes = |score: f64| -> Vec<Value> { (0..500).map(|_| json!({ "score": score })).collect() };
        let then = json!({ "boxes": boxes(0.5), "other": 1.0, "word": "person" });
        let mut now = json!({ "boxes": boxes(0.5 + 1e-9), "other": 1.0, "word": "person" });
        let unlike = |now: &Value| {
            let mut out = Unlikes::default();
            compare("", &then, now, &mut out);
            (out.told.len(), out.count, out.words, out.largest)
        };
        let (told, count, words, largest) = unlike(&now);
        assert_eq!((told, count, words), (MOST, 500, false));
        assert!(largest < 1e-8, "{largest}");
        now["other"] = json!(2.0);
        let (_, count, words, largest) = unlike(&now);
        assert_eq!((count, words, largest), (501, false, 0.5));
        now["word"] = json!("car");
        assert_eq!((unlike(&now).1, unlike(&now).2), (502, true));
    }
}
