//! The matrix as Markdown.

use std::fmt::Write;

use super::{Matrix, ModelRows, Row};

/// `matrix` as a text with tables.
pub fn markdown(matrix: &Matrix) -> String {
    let mut out = format!("# {} on {}\n\n", cell(&matrix.pipeline), cell(&matrix.source));
    let m = &matrix.machine;
    let gpus: String = m.gpus.iter().map(|gpu| format!(", {gpu}")).collect();
    let machine = cell(&format!("{} ({}, {} cores{gpus})", m.cpu, m.arch, m.cores));
    writeln!(
        out,
        "{machine}; tapetum {}, {}. Reference: fp32 on {}.",
        matrix.tapetum,
        matrix.date,
        cell(&matrix.reference)
    )
    .ok();
    for engine in &matrix.engines {
        let told = match (&engine.engine_version, &engine.why_not) {
            (_, Some(why)) => format!("not measured: {}", line(why)),
            (version, None) => version.clone().unwrap_or_default(),
        };
        write!(out, "\n- {}: {}", engine.engine, cell(&told)).ok();
    }
    out.push('\n');
    for model in &matrix.models {
        of_model(&mut out, model);
    }
    peaks(&mut out, matrix);
    rates(&mut out, matrix);
    out.push_str(
        "\nTimes are of one run of the model, all candidates in turn, or those of one engine after those of another where a model is \
         so large that all at once would not fit into memory. Memory is what a session added to the process (peak: at \
         most while it was loaded and first run); a GPU's own is not in it. GFLOP/s: two operations per multiply-accumulate, at \
         the median time; \"of peak\" is the share of a matrix product in fp32 on the same engine with as many threads. In fp32 \
         a share above 100 % says that the product was held up more than the model, as on a busy machine.\n",
    );
    out
}

fn of_model(out: &mut String, model: &ModelRows) {
    let macs = model.macs.map(|macs| format!(", {:.1} M multiply-accumulates", macs as f64 / 1e6));
    writeln!(out, "\n## {}\n", cell(&model.name)).ok();
    writeln!(
        out,
        "Ran {} times on the source; judged and timed on {} inputs{}.\n",
        model.runs,
        model.judged,
        macs.unwrap_or_default()
    )
    .ok();
    out.push_str("| engine | precision | threads | p50 ms | p90 | p99 | max | memory MiB | peak | GFLOP/s | of peak | beside fp32 |\n");
    out.push_str("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n");
    for row in &model.rows {
        let c = &row.candidate;
        let times = [c.ms_median, c.ms_p90, c.ms_p99, c.ms_max].map(|ms| number(ms, 2));
        let mib = |bytes: Option<u64>| number(bytes.map(|b| b as f64 / f64::from(1 << 20)), 1);
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            c.engine,
            c.precision,
            row.threads,
            times[0],
            times[1],
            times[2],
            times[3],
            mib(c.memory_bytes),
            mib(c.memory_peak_bytes),
            number(row.gflops, 1),
            row.peak_share.map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0)),
            cell(&beside(row, model.gate)),
        )
        .ok();
    }
}

/// `passes: mask IoU 0.9934 (gate 0.99)`.
fn beside(row: &Row, gate: Option<f64>) -> String {
    let c = &row.candidate;
    let figures: Vec<String> = c.figures.iter().map(|f| f.told(gate)).collect();
    match (c.ms_median, c.passed) {
        (None, _) => format!("not run: {}", line(c.why_not.as_deref().unwrap_or_default())),
        (Some(_), true) => format!("passes: {}", figures.join(", ")),
        (Some(_), false) => format!("**refused**: {}", figures.join(", ")),
    }
}

fn peaks(out: &mut String, matrix: &Matrix) {
    out.push_str("\n## Peak: a matrix product in fp32, the best of 512, 1024 and 2048 rows and columns\n\n| engine | threads | GFLOP/s |\n|---|---:|---:|\n");
    for peak in &matrix.peaks {
        let told = peak.why_not.as_deref().map_or_else(|| number(peak.gflops, 1), |why| cell(line(why)));
        writeln!(out, "| {} | {} | {told} |", peak.engine, peak.threads).ok();
    }
}

fn rates(out: &mut String, matrix: &Matrix) {
    if matrix.rates.is_empty() {
        return;
    }
    out.push_str("\n## The whole pipeline in fp32\n\n| engine | threads | frames at once | frames/s | each run |\n|---|---:|---:|---:|---|\n");
    for rate in &matrix.rates {
        let each: Vec<String> = rate.fps.iter().map(|fps| format!("{fps:.1}")).collect();
        let each = rate.why_not.as_deref().map_or_else(|| each.join(", "), |why| cell(line(why)));
        writeln!(
            out,
            "| {} | {} | {} | {} | {each} |",
            rate.engine,
            rate.threads,
            rate.workers,
            number(rate.median(), 1)
        )
        .ok();
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

fn line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// What would be markup, or end a cell, stands as text.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '|' | '<' | '>' | '[' | ']' | '`' | '_' | '\\' => out.extend(['\\', letter]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{super::tests::matrix, *};

    #[test]
    fn every_candidate_is_a_row_and_nothing_breaks_the_tables() {
        let text = markdown(&matrix());
        for row in [
            "# eyes \\<&\\> on clip.mp4",
            "| tract | fp32 | 2 | 10.00 | 12.00 | 15.00 | 19.00 | 3.0 | 5.0 | 20.0 | 20 % | passes: mask IoU 1.0000 (gate 0.99) |",
            "**refused**: mask IoU 0.9000 (gate 0.99) |",
            "| ort | int8 | 1 | – | – | – | – | 3.0 | 5.0 | – | – | not run: no such operator: A\\|B \\<c\\> & more |",
            "- ort:cuda: not measured: no GPU",
            "| tract | 2 | 100.0 |",
            "| tract | 2 | 1 | 10.0 | 9.5, 10.5, 10.0 |",
        ] {
            assert!(text.contains(row), "{row:?} is not in\n{text}");
        }
        let tables = text.lines().filter(|line| line.starts_with('|'));
        for line in tables {
            let bars = line.replace("\\|", "").matches('|').count();
            assert!([4, 6, 13].contains(&bars), "{bars} bars: {line}");
        }
    }
}
