//! Prints docs/conformance.md's table for the engines that run here: per operator case, in each form, what came of it.

use tapetum_tests::conformance::{self, Deviations, Form, Verdict, judge};
use tapetum_tests::goldens::engines;

fn main() {
    let Some(folder) = conformance::folder() else {
        eprintln!("{} must name the folder that scripts/fetch-onnx-cases prints", conformance::FOLDER);
        std::process::exit(2);
    };
    let operators = conformance::of_the_goldens();
    let (cases, left) = conformance::read(&folder, &operators);
    println!("operators: {}", operators.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    let untested = operators.iter().filter(|o| !cases.iter().any(|c| c.operators.contains(*o)));
    println!("without a case: {}", untested.map(String::as_str).collect::<Vec<_>>().join(", "));
    println!("cases: {}; left out: {left:?}", cases.len());
    println!("\n| engine | form | cases | agree | refused | wrong |\n|---|---|---|---|---|---|");
    let mut unexplained = 0;
    for engine in engines() {
        let mut verdicts = Vec::new();
        for form in Form::ALL {
            let (mut refused, mut wrong, first) = (0, 0, verdicts.len());
            for case in cases.iter().filter(|case| case.has(form)) {
                let verdict = judge(case, form, engine);
                refused += usize::from(matches!(verdict, Verdict::Refused(_)));
                wrong += usize::from(matches!(verdict, Verdict::Wrong(_)));
                verdicts.push((case.name.clone(), form, verdict));
            }
            let (name, all) = (engine.full_name(), verdicts.len() - first);
            let agree = all - refused - wrong;
            println!("| {name} | {} | {all} | {agree} | {refused} | {wrong} |", form.name());
        }
        unexplained += Deviations::of(engine.name()).check(&verdicts).len();
    }
    println!("\n{unexplained} not as written down in tests/conformance");
    std::process::exit(i32::from(unexplained > 0));
}
