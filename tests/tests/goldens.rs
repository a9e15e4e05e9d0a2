//! Every golden × every engine.

use tapetum_tests::goldens::{self, UNSUPPORTED};

#[test]
fn every_golden_on_every_engine() {
    let mut failures = Vec::new();
    for case in goldens::all() {
        for backend in goldens::engines() {
            let outcome = goldens::check(&case, backend);
            let excuse = UNSUPPORTED.iter().find(|(b, c, _)| *b == backend.name() && *c == case.name);
            match (outcome, excuse) {
                (Ok(o), None) => println!(
                    "{:32} {:6} error {:.1e} (allowed {:.0e}), proof {:.1e}, convolutions {} -> {}",
                    case.name,
                    backend.name(),
                    o.error,
                    case.facts.rel_tol,
                    o.proof,
                    o.convs[0],
                    o.convs[1]
                ),
                (Err(why), None) => failures.push(format!("{} on {}: {why}", case.name, backend.name())),
                (Err(why), Some((.., reason))) => {
                    println!("{}: not on {}: {reason} ({why})", case.name, backend.name())
                }
                (Ok(_), Some(_)) => {
                    failures.push(format!(
                        "{} passes {} now; remove it from UNSUPPORTED",
                        backend.name(),
                        case.name
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
