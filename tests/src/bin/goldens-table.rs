//! Prints the README's table of goldens: every case on every engine that runs here, as Markdown.

use tapetum_tests::goldens;

fn main() {
    let engines = goldens::engines();
    let names: Vec<_> = engines.iter().map(|b| b.name()).collect();
    println!("| case | network | folds | convolutions | allowed | {} |", names.join(" | "));
    println!("|---|---|---|---|---|{}", "---|".repeat(names.len()));
    let mut failed = false;
    for case in goldens::all() {
        let outcomes: Vec<_> = engines.iter().map(|b| goldens::check(&case, *b)).collect();
        let cells: Vec<String> = outcomes
            .iter()
            .map(|o| match o {
                Ok(o) => format!("{:.1e}", o.error),
                Err(why) => format!("**{why}**"),
            })
            .collect();
        failed |= outcomes.iter().any(Result::is_err);
        let Some(Ok(first)) = outcomes.first() else {
            println!("| {} | – | – | – | {:.0e} | {} |", case.name, case.facts.rel_tol, cells.join(" | "));
            continue;
        };
        println!(
            "| {} | {} {} | {} | {} → {} | {:.0e} | {} |",
            case.name,
            first.fused.description.network,
            first.fused.description.variant,
            first.fused.folds.applied.len(),
            first.convs[0],
            first.convs[1],
            case.facts.rel_tol,
            cells.join(" | ")
        );
    }
    std::process::exit(i32::from(failed));
}
