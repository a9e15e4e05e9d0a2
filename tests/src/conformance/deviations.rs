//! Cases in which an engine is known to deviate, as written down in `tests/conformance/<engine>.toml`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Form, Verdict};

/// What an engine is known to deviate in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviations {
    /// In the order of the file.
    #[serde(default)]
    pub deviation: Vec<Deviation>,
}

/// Cases that deviate for one reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// Names; a `*` stands for anything. Each must be met by a case, and each case that one meets must deviate.
    pub cases: Vec<String>,
    /// Of each case.
    pub forms: Vec<Form>,
    /// How.
    pub kind: Kind,
    /// Why, for people.
    pub why: String,
}

/// How an engine deviates.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// With an error, before anything came out.
    Refused,
    /// With a wrong result.
    Wrong,
    /// With whatever lies in memory: right in one run, wrong in the next.
    Chance,
}

/// A verdict that the file does not say, or says otherwise.
pub type Unexplained = String;

impl Deviations {
    /// Where they are written down for `engine`.
    pub fn path(engine: &str) -> PathBuf {
        let name = format!("conformance/{}.toml", engine.replace(':', "-"));
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    /// Reads those of `engine`; none if it has no file.
    ///
    /// # Panics
    /// If the file is damaged.
    pub fn of(engine: &str) -> Self {
        let path = Self::path(engine);
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self { deviation: Vec::new() },
            Err(e) => panic!("{}: {e}", path.display()),
        }
    }

    /// Holds every verdict against what is written down: what is new, what has gone, what nothing meets.
    pub fn check(&self, verdicts: &[(String, Form, Verdict)]) -> Vec<Unexplained> {
        let mut out = Vec::new();
        let mut met: Vec<Vec<bool>> = self.deviation.iter().map(|d| vec![false; d.cases.len()]).collect();
        for (name, form, verdict) in verdicts {
            let mut said = None;
            for (deviation, met) in self.deviation.iter().zip(&mut met) {
                if !deviation.forms.contains(form) {
                    continue;
                }
                for (pattern, met) in deviation.cases.iter().zip(met) {
                    if matches(pattern, name) {
                        *met = true;
                        said = Some(deviation);
                    }
                }
            }
            let form = form.name();
            match (verdict, said.map(|d| d.kind)) {
                (Verdict::Agrees, None)
                | (Verdict::Refused(_), Some(Kind::Refused))
                | (Verdict::Wrong(_), Some(Kind::Wrong))
                | (Verdict::Agrees | Verdict::Wrong(_), Some(Kind::Chance)) => {}
                (Verdict::Agrees, Some(_)) => out.push(format!("{name} ({form}) agrees now; take it out")),
                (Verdict::Refused(why), _) => out.push(format!("{name} ({form}) is refused: {why}")),
                (Verdict::Wrong(why), _) => out.push(format!("{name} ({form}) is wrong: {why}")),
            }
        }
        for (deviation, met) in self.deviation.iter().zip(&met) {
            for (pattern, _) in deviation.cases.iter().zip(met).filter(|(_, met)| !**met) {
                out.push(format!("no case meets {pattern:?} ({})", deviation.why));
            }
        }
        out
    }
}

/// Whether `name` is `pattern`, in which a `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| matches(rest, &name[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name) in [("a", "a"), ("a*", "a"), ("a*", "abc"), ("*@13", "x@13"), ("a*c*e", "abcde")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("a*c", "ab"), ("*@13", "x@1"), ("", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_new_what_has_gone_and_what_nothing_meets_is_told() {
        let file =
            "[[deviation]]\ncases = ['old*', 'nowhere']\nforms = ['fed']\nkind = 'refused'\nwhy = 'so'";
        let deviations: Deviations = toml::from_str(file).unwrap();
        let refused = || Verdict::Refused("no".into());
        let told = deviations.check(&[
            ("old1".into(), Form::Fed, refused()),
            ("old2".into(), Form::Fed, Verdict::Agrees),
            ("old3".into(), Form::Fed, Verdict::Wrong("off".into())),
            ("old4".into(), Form::Left, refused()),
            ("new".into(), Form::Fed, Verdict::Agrees),
        ]);
        let chance: Deviations = toml::from_str(&file.replace("refused", "chance")).unwrap();
        let by_chance = chance.check(&[
            ("old1".into(), Form::Fed, Verdict::Agrees),
            ("old2".into(), Form::Fed, Verdict::Wrong("off".into())),
            ("old3".into(), Form::Fed, refused()),
        ]);
        assert_eq!(by_chance, ["old3 (fed) is refused: no", "no case meets \"nowhere\" (so)"]);
        assert_eq!(
            told,
            [
                "old2 (fed) agrees now; take it out",
                "old3 (fed) is wrong: off",
                "old4 (left) is refused: no",
                "no case meets \"nowhere\" (so)",
            ]
        );
    }
}
