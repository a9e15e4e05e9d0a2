//! ONNX's operator cases on every engine, each held to what is written down for that engine.

use tapetum_models::{fold, onnx};
use tapetum_runtime::backend::by_name;
use tapetum_tests::conformance::{self, Case, Deviations, Form, Verdict, judge};
use tapetum_tests::goldens::engines;

/// The cases that concern us; `None`, and said, where no folder is named.
fn cases(what: &str) -> Option<Vec<Case>> {
    let Some(folder) = conformance::folder() else {
        let why = format!("{what}: {} names no folder (scripts/fetch-onnx-cases)", conformance::FOLDER);
        tapetum_parts::missing("onnx-cases", why);
        return None;
    };
    Some(conformance::read(&folder, &conformance::of_the_goldens()).0)
}

#[test]
fn every_operator_case_on_every_engine() {
    let Some(cases) = cases("ONNX's operator cases on every engine") else { return };
    let mut failures = Vec::new();
    for engine in engines() {
        let mut verdicts = Vec::new();
        for case in &cases {
            for form in Form::ALL.into_iter().filter(|form| case.has(*form)) {
                verdicts.push((case.name.clone(), form, judge(case, form, engine)));
            }
        }
        let told = Deviations::of(engine.name()).check(&verdicts);
        failures.extend(told.into_iter().map(|f| format!("{}: {f}", engine.name())));
    }
    assert!(failures.is_empty(), "{} not as written down:\n{}", failures.len(), failures.join("\n"));
}

/// Our own folds are an engine, too: what they compute from constants stands in the model for good.
#[test]
fn folds_compute_what_the_operators_say() {
    let Some(cases) = cases("ONNX's operator cases through the folds") else { return };
    let tract = by_name("tract").unwrap();
    let (mut failures, mut folded) = (Vec::new(), 0);
    for case in cases.iter().filter(|case| case.has(Form::Inside)) {
        for (set, (_, want)) in case.data.iter().enumerate() {
            let mut graph = case.all_constant(set);
            let report = fold::fold_all(&mut graph).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            // What the folds left alone is the engines' own business.
            if graph.nodes.iter().any(|n| case.operators.contains(&n.op) && n.op != "Neg") {
                continue;
            }
            assert!(!report.applied.is_empty(), "{}", case.name);
            folded += 1;
            let mut bytes = Vec::new();
            onnx::write(&graph, &mut bytes).unwrap();
            match conformance::run(&bytes, &[], want, tract) {
                Verdict::Agrees => {}
                other => failures.push(format!("{}: {other:?}", case.name)),
            }
        }
    }
    println!("{folded} cases computed by the folds");
    assert!(folded > 50, "only {folded} cases were computed by the folds");
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
